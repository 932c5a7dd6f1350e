"""A small video classifier of the shapes world: the feature extractor that FVD, KVD and IS use there.

It reads 17 frames of one actor, spread over its whole action, and says what moves how. The features are the
layer before its heads; the class that the inception score counts is the motion (action and direction).
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tomli_w
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogstyle.bundle import SHELVES
from cogstyle.config import require
from cogstyle.files import sha256, whole_file, write_bytes
from cogstyle.shapes_world import world

FRAMES, SIZE, FEATURES = 17, 64, 64
MOTIONS = tuple((action, way) for action in world.ACTIONS for way in world.DIRECTIONS.get(action, (None,)))
HEADS: dict[str, tuple[object, ...]] = {
    "motion": MOTIONS,
    "colour": tuple(world.COLOURS),
    "shape": world.SHAPES,
    "background": tuple(world.BACKGROUNDS),
}
_SWAP = {"left": "right", "right": "left", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}
MIRRORED = torch.tensor([MOTIONS.index((action, _SWAP.get(str(way), way))) for action, way in MOTIONS])
CLASSIFIER = "shapes_classifier"  # its folder beside the bundles
FILE = "classifier.pt"


def _norm(width: int) -> list[nn.Module]:
    return [nn.BatchNorm3d(width), nn.SiLU()]


class Classifier(nn.Module):
    """Convolutions over space and time; where and when things are stays in the features, as motion needs it."""

    scale: Tensor  # of the features before they are handed out: KVD's cubic kernel wants them to be about 1

    def __init__(self, widths: tuple[int, int, int] = (24, 48, 96)) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        a, b, c = widths
        self.body = nn.Sequential(
            *(nn.Conv3d(3, a, (1, 4, 4), stride=(1, 4, 4)), *_norm(a)),
            *(nn.Conv3d(a, b, 3, stride=2, padding=1), *_norm(b)),
            *(nn.Conv3d(b, c, 3, stride=2, padding=1), *_norm(c)),
            *(nn.Conv3d(c, 16, 1), *_norm(16)),
            nn.Flatten(),
            nn.LazyLinear(FEATURES),
        )
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, len(classes)) for name, classes in HEADS.items()})

    def logits(self, clips_BCFHW: Tensor) -> dict[str, Tensor]:
        """Clips in 0..1, [B, 3, 17, 64, 64] -> logits of every head."""
        h_BD = F.silu(self.body(clips_BCFHW))
        return {name: head(h_BD) for name, head in self.heads.items()}

    def forward(self, clips_BCFHW: Tensor) -> tuple[Tensor, Tensor]:
        """Clips in 0..1 -> features [B, 64], logits of the motion [B, 15]."""
        features_BD: Tensor = self.body(clips_BCFHW)
        return features_BD / self.scale, self.heads["motion"](F.silu(features_BD))


def true_clip(seed: int) -> tuple[np.ndarray, dict[str, int]]:
    """The one-actor scene of a seed over its whole action, uint8 [17, 64, 64, 3], and its classes by head."""
    scene = world.draw_scene(seed, actors=1)
    actor = scene.actors[0]
    names = {
        "motion": (actor.action, actor.direction),
        "colour": actor.colour,
        "shape": actor.shape,
        "background": scene.background,
    }
    frames = world.render_clip(scene, np.linspace(0.0, scene.duration, FRAMES).tolist(), SIZE)
    return frames, {head: HEADS[head].index(name) for head, name in names.items()}


def _batch(first_seed: int, count: int) -> tuple[Tensor, dict[str, Tensor]]:
    clips, labels = zip(*(true_clip(first_seed + k) for k in range(count)), strict=True)
    pixels_BCFHW = torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3).float() / 255.0
    return pixels_BCFHW, {head: torch.tensor([row[head] for row in labels]) for head in HEADS}


def _with_mirrored(clips: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """A batch and, behind it, the same seen in a mirror, where left is right: cheaper than rendering more."""
    turned = {**labels, "motion": MIRRORED[labels["motion"]]}
    return torch.cat([clips, clips.flip(-1)]), {head: torch.cat([labels[head], turned[head]]) for head in labels}


def train_classifier(
    folder: Path,
    *,
    steps: int = 600,
    batch: int = 32,
    lr: float = 3e-3,
    seed: int = 0,
    progress: Callable[[str], object] = lambda text: None,
) -> dict[str, float]:
    """Train on scenes of training seeds, `batch` new ones a step, and write `classifier.pt` and its settings.

    Returns:
        Accuracy of every head on 512 validation scenes (or as many as were trained on, if fewer).
    """
    require(0 < steps * batch <= world.VALIDATION_SEED, f"{steps} steps of {batch} need more training seeds than exist")
    torch.manual_seed(seed)
    model = Classifier()
    model(torch.zeros(1, 3, FRAMES, SIZE, SIZE))  # makes the lazy layer, before the optimiser looks
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    model.train()
    for step in range(steps):
        clips, labels = _with_mirrored(*_batch(step * batch, batch))
        logits = model.logits(clips)
        loss = torch.stack([F.cross_entropy(logits[head], labels[head]) for head in HEADS]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            progress(f"step {step}: loss {loss.item():.3f}")
    model.eval().requires_grad_(False)
    set_scale(model)
    accuracy = _accuracy(model, min(512, steps * batch))
    write_classifier(folder, model)
    return accuracy


@torch.no_grad()
def set_scale(model: Classifier) -> None:
    """Divide the features by their root mean square over the first 64 training scenes."""
    model.scale.copy_(model.body(_batch(0, 64)[0]).square().mean().sqrt())


@torch.no_grad()
def _accuracy(model: Classifier, count: int) -> dict[str, float]:
    right = dict.fromkeys(HEADS, 0)
    for first in range(0, count, 32):
        clips, labels = _batch(world.VALIDATION_SEED + first, min(32, count - first))
        for head, logits in model.logits(clips).items():
            right[head] += int((logits.argmax(1) == labels[head]).sum())
    return {head: number / count for head, number in right.items()}


def write_classifier(folder: Path, model: Classifier) -> None:
    """Write the network as TorchScript, and beside it what `fvd.Extractor` must know."""
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is what users' extractors are in
        traced = torch.jit.trace(model, torch.zeros(2, 3, FRAMES, SIZE, SIZE))
        with whole_file(folder / FILE) as file:
            torch.jit.save(traced, file)
    settings = {"frames": FRAMES, "size": SIZE, "pick": "even", "outputs": "both", "sha256": sha256(folder / FILE)}
    write_bytes((folder / FILE).with_suffix(".toml"), tomli_w.dumps(settings).encode())


def shapes_classifier() -> Path:
    """The shipped classifier.

    Raises:
        ConfigError: if it is not there.
    """
    places = [shelf / CLASSIFIER / FILE for shelf in SHELVES]
    found = next((place for place in places if place.is_file()), None)
    require(found is not None, f"no {CLASSIFIER}/{FILE} in {', '.join(map(str, SHELVES))}")
    assert found is not None
    return found
