"""Pictures of the shapes world, for an image tokenizer to learn."""

from dataclasses import dataclass

import numpy as np

from cogstyle.shapes_world import rows, world

CLIP = 5  # frames of a clip
TWO_ACTORS = 0.6  # share of the moving clips with two actors: more edges meet there
LEVELS = (0.1, 0.2, 0.3, 0.4)  # share of the moving clips at keyframe rate, and refined one, two, three times
CLOSE_UP = 0.25  # share of the pictures that are cut out of a render at three times the size


@dataclass(frozen=True)
class ScenePictures:
    """Scenes at random moments, some of them close up around an actor."""

    size: int  # pixels along the side

    def draw(self, rng: np.random.Generator, count: int, *, held_back: bool = False) -> np.ndarray:
        """uint8 [count, size, size, 3]: random pictures, of validation seeds if `held_back`."""
        size = self.size
        pictures: list[np.ndarray] = []
        while len(pictures) < count:
            first_seed = world.VALIDATION_SEED if held_back else 0
            scene = world.draw_scene(first_seed + int(rng.integers(world.VALIDATION_SEED)))
            for _ in range(2):
                t = float(rng.uniform(0.0, scene.duration))
                if rng.random() >= CLOSE_UP:
                    pictures.append(world.render(scene, t, size))
                    continue
                place = world.state(scene.actors[0], t, scene.duration)
                corner = np.array([place.x, place.y]) * 3 * size - size / 2 + rng.uniform(-0.5, 0.5, 2) * size
                x, y = np.clip(corner, 0, 2 * size).astype(int)
                pictures.append(world.render(scene, t, 3 * size)[y : y + size, x : x + size])
        return np.stack(pictures[:count])

    def clips(self, count: int) -> np.ndarray:
        """uint8 [count, F, size, size, 3]: clips of validation seeds."""
        seeds = range(world.VALIDATION_SEED, world.VALIDATION_SEED + count)
        return np.stack([rows.keyframe_row(seed, self.size, CLIP).frames for seed in seeds])

    def moving(
        self, rng: np.random.Generator, count: int, frames: int, *, held_back: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Clips, uint8 [count, frames, size, size, 3], and the frames a second of each, as sampled videos have."""
        clips, rates_B = [], np.zeros(count)
        for b in range(count):
            first_seed = world.VALIDATION_SEED if held_back else 0
            actors = 2 if rng.random() < TWO_ACTORS else 1
            scene = world.draw_scene(first_seed + int(rng.integers(world.VALIDATION_SEED)), actors=actors)
            whole = world.keyframe_rates(scene)
            rates_B[b] = whole[int(rng.integers(len(whole)))] * 2 ** int(rng.choice(4, p=LEVELS))
            spare = max(0.0, scene.duration - (frames - 1) / rates_B[b])
            start = float(rng.integers(int(spare * rates_B[b]) + 1)) / rates_B[b]
            clips.append(world.render_clip(scene, [start + k / rates_B[b] for k in range(frames)], self.size))
        return np.stack(clips), rates_B
