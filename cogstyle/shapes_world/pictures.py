"""Pictures of the shapes world, for an image tokenizer to learn."""

from dataclasses import dataclass

import numpy as np

from cogstyle.shapes_world import rows, world

CLIP = 5  # frames of a clip
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
