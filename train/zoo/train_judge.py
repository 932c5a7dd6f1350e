"""Train the zoo's judge on frames drawn for it: python train/zoo/train_judge.py [--steps N] [--out FILE]

Frames have backgrounds of their own seeds, any nouns anywhere in any size, and are blurred, made small, noisy and
compressed; no caption, no motion and no model is asked. Twenty minutes of one core.
"""

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from drawing import FONT, Font, background, paste
from judge_networks import CELLS, FILE, SIZE, USUAL, Eye, crop, resized, write
from nouns import NOUNS
from scenes import BACKGROUNDS, SIDES, State, draw_scene

BACKGROUND_SEED, LARGE = 50_000_000, 192
LOOKED = 40  # frames of a step in which actors are looked for; named they are in all
NAMES, PLACES = tuple(NOUNS), tuple(BACKGROUNDS)
SIZES = (48, 64, 80, 96, 96, 128, 192)  # pixels that a frame is made of, on its way


def backgrounds(count: int) -> list[np.ndarray]:
    """`count` backgrounds, each kind in turn, uint8."""
    scene = draw_scene(0)
    made = []
    for n in range(count):
        other = dataclasses.replace(scene, seed=BACKGROUND_SEED + n, background=PLACES[n % len(PLACES)])
        made.append((background(other, LARGE) * 255).astype(np.uint8))
    return made


def draw(rng: np.random.Generator, behind: np.ndarray, font: Font) -> tuple[np.ndarray, list[tuple[str, State, float]]]:
    """A frame uint8 and its actors: noun, state, and the share that no later one covers."""
    canvas = behind.astype(np.float32) / 255 * rng.uniform(0.9, 1.08)
    canvas = np.ascontiguousarray(canvas[:, ::-1] if rng.random() < 0.5 else canvas)
    actors = []
    for noun in rng.choice(NAMES, rng.choice(4, p=(0.04, 0.5, 0.42, 0.04)), replace=False):
        half = float(np.exp(rng.uniform(np.log(0.085), np.log(0.27))))
        edge = half * rng.choice((1.0, 0.75), p=(0.85, 0.15))
        x, y = rng.uniform(edge, 1.0 - edge, 2)
        opacity = 1.0 if rng.random() < 0.8 else float(rng.uniform(0.0, 1.0))
        at = State(float(x), float(y), half, opacity, SIDES[int(rng.integers(2))])
        actors = [(n, s, seen * (1.0 - _covered(s, at))) for n, s, seen in actors]
        actors.append((str(noun), at, 1.0))
        paste(canvas, font.glyph(str(noun), at.faces), at)
    return damaged(rng, canvas), actors


def _covered(under: State, over: State) -> float:
    """Share of one square that another covers."""
    wide, high = (max(0.0, under.half + over.half - abs(a - b)) for a, b in ((under.x, over.x), (under.y, over.y)))
    area = min(wide, 2 * under.half) * min(high, 2 * under.half) / (2 * under.half) ** 2
    return min(1.0, area) * over.opacity


def damaged(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """A frame as it may come out of a codec or a decoder: soft, small, noisy, with blocks; uint8 [96, 96, 3]."""
    size = int(rng.choice(SIZES))
    made = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        made = cv2.GaussianBlur(made, (0, 0), rng.uniform(0.3, 1.3) * size / SIZE)
    if rng.random() < 0.5:
        made = made * rng.uniform(0.85, 1.15, 3).astype(np.float32) + rng.uniform(-0.05, 0.05)
    if rng.random() < 0.5:
        made = made + rng.normal(0.0, rng.uniform(0.0, 0.05), made.shape)
    shown = np.rint(made.clip(0.0, 1.0) * 255).astype(np.uint8)
    if rng.random() < 0.6:
        _, packed = cv2.imencode(".jpg", shown, (cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(12, 95))))
        shown = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    return resized(shown)


def targets(actors: list[tuple[str, State, float]]) -> tuple[Tensor, Tensor, Tensor]:
    """What the maps of a frame should be: values [5, 24, 24], weight of the heat, weight of the others [24, 24]."""
    values, heat_weight, weight = torch.zeros(5, CELLS, CELLS), torch.ones(CELLS, CELLS), torch.zeros(CELLS, CELLS)
    rows, columns = torch.meshgrid(torch.arange(CELLS) + 0.5, torch.arange(CELLS) + 0.5, indexing="ij")
    for _, at, seen in actors:
        dx, dy = at.x * CELLS - columns, at.y * CELLS - rows
        near = torch.exp(-(dx.square() + dy.square()) / (2 * (0.6 + 0.2 * at.half * CELLS) ** 2))
        if at.opacity < 0.25 or seen < 0.4:  # nobody is blamed for either answer
            heat_weight[near > 0.3] = 0.0
            continue
        middle = (dx.abs() <= 1.0) & (dy.abs() <= 1.0)
        peak = (dx.abs() <= 0.5) & (dy.abs() <= 0.5)
        values[0] = torch.maximum(values[0], torch.where(peak, 1.0, near.clamp(max=0.95)))
        others = torch.stack(
            [dx, dy, torch.full_like(dx, float(np.log(at.half / USUAL))), torch.full_like(dx, at.opacity)]
        )
        values[1:, middle] = others[:, middle]
        weight[middle] = 1.0
        heat_weight[middle] = 1.0
    return values, heat_weight, weight


def batch(rng: np.random.Generator, bank: list[np.ndarray], font: Font, count: int) -> tuple[Tensor, ...]:
    """Frames, backgrounds, maps with their two weights, crops and their nouns."""
    frames, places, maps, crops, nouns = [], [], [], [], []
    for _ in range(count):
        number = int(rng.integers(len(bank)))
        frame, actors = draw(rng, bank[number], font)
        frames.append(torch.from_numpy(frame).permute(2, 0, 1).float() / 255.0)
        places.append(number % len(PLACES))
        maps.append(targets(actors))
        for noun, at, seen in actors:
            if at.opacity > 0.3 and seen > 0.5:
                x, y = (centre + rng.normal(0.0, 0.08) * at.half for centre in (at.x, at.y))
                crops.append(crop(frame, x, y, at.half * float(np.exp(rng.normal(0.0, 0.08)))))
                nouns.append(NAMES.index(noun))
    stacked = [torch.stack(column) for column in zip(*maps, strict=True)]
    looked = [column[:LOOKED] for column in (torch.stack(frames), torch.tensor(places), *stacked)]
    return *looked, torch.stack(crops), torch.tensor(nouns)


def loss_of(eye: Eye, made: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, float]]:
    frames, places, values, heat_weight, weight, crops, nouns = made
    frames, crops = (x.contiguous(memory_format=torch.channels_last) for x in (frames, crops))
    with torch.autocast("cpu", torch.bfloat16):
        maps, background = eye.finder(frames)
        named = eye.namer(crops)
    maps, background, named = maps.float(), background.float(), named.float()
    true, share = values[:, 0], maps[:, 0].sigmoid()
    centres = true == 1.0
    log = F.logsigmoid(torch.where(centres, maps[:, 0], -maps[:, 0]))
    focal = torch.where(centres, (1 - share) ** 2, share**2 * (1 - true) ** 4)
    heat = -(focal * log * heat_weight).sum() / centres.sum().clamp(min=1)
    miss = (maps[:, 1:4] - values[:, 1:4]).abs().sum(1) * weight
    fade = F.binary_cross_entropy_with_logits(maps[:, 4], values[:, 4], reduction="none") * weight
    box = (miss.sum() + fade.sum()) / weight.sum().clamp(min=1)
    parts = {
        "heat": heat, "box": box, "background": F.cross_entropy(background, places),
        "noun": F.cross_entropy(named, nouns, label_smoothing=0.05),
    }  # fmt: skip
    figures = {name: part.item() for name, part in parts.items()}
    figures["named"] = (named.argmax(1) == nouns).float().mean().item()
    figures["places"] = (background.argmax(1) == places).float().mean().item()
    return sum(parts.values(), torch.zeros(())), figures


def train(steps: int, out: Path, *, count: int = 64, bank: int = 2000, lr: float = 4e-3, font: Path = FONT) -> None:
    torch.manual_seed(0)
    eye, glyphs, behind = Eye().to(memory_format=torch.channels_last), Font(font), backgrounds(bank)
    optimizer = torch.optim.AdamW(eye.parameters(), lr=lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    began, means = time.time(), {}
    for step in range(1, steps + 1):
        loss, figures = loss_of(eye, batch(np.random.default_rng([17, step]), behind, glyphs, count))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(eye.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        means = {name: 0.95 * means.get(name, value) + 0.05 * value for name, value in figures.items()}
        if step % 25 == 0 or step == steps:
            shown = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
            print(f"step {step} of {steps}, {time.time() - began:.0f} s: {shown}", flush=True)
        if step % 100 == 0 or step == steps:
            write(eye, out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    home = Path(__file__).parents[2] / "pretrained_adapters" / FILE
    parser.add_argument("--steps", type=int, default=800, help="of 64 frames (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=home, help="weights (default: %(default)s)")
    parser.add_argument("--font", type=Path, default=FONT, help="a font with colour emoji (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        train(options.steps, options.out, font=options.font)
    except (ValueError, OSError) as error:
        print(f"train_judge: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
