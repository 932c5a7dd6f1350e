"""Measure an image tokenizer: python train/pictures/measure.py --bundle pictures --footage data/pictures/photographs

What is held back of the footage (nothing trains on it) and, with --clips, frames of videos that are not part of it.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from cogstyle.bundle import Bundle
from cogstyle.data.footage import Footage, files_of
from cogstyle.errors import CogstyleError
from cogstyle.pictures import write_png
from cogstyle.training.tokenizer import ssim, to_arrays, to_tensor
from cogstyle.video import open_video, psnr

FRAMES, VIEWS, COLUMNS = 8, 128, 12  # of a clip; random crops of what is held back; of the page


def clip_frames(folder: Path, size: int) -> Iterator[np.ndarray]:
    """Evenly spaced frames of every video that can be read."""
    for path in files_of(folder):
        try:
            with open_video(path) as video:
                yield video.frames_at(np.linspace(0.0, video.last, FRAMES).tolist(), size)
        except CogstyleError as error:
            print(f"left out: {error}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="pictures")
    parser.add_argument("--footage", type=Path, nargs="+", required=True, help="what it was trained on")
    parser.add_argument("--clips", type=Path, help="a folder of videos that it was not trained on")
    parser.add_argument("--cache", type=Path, default=Path("runs/data"))
    parser.add_argument("--page", type=Path, help="write pictures and below each what its codes give, as a PNG file")
    options = parser.parse_args()
    try:
        bundle = Bundle(options.bundle)
        vqvae, size = bundle.vqvae(), bundle.tokenizer_config.image_size
        sets: dict[str, np.ndarray] = {}
        for source in options.footage:
            footage = Footage([source], size=size, cache=options.cache)
            sets[f"{source.name}, whole"] = footage.whole(VIEWS)
            sets[f"{source.name}, crops"] = footage.draw(np.random.default_rng(1), VIEWS, held_back=True)
        if options.clips:
            sets["clips"] = np.concatenate(list(clip_frames(options.clips, size)))
        rows = []
        print("| held back | pictures | PSNR of all | mean PSNR | SSIM |\n|---|---:|---:|---:|---:|")
        for name, pictures in sets.items():
            with torch.no_grad():
                made = [to_arrays(vqvae.decode(vqvae.encode(part))) for part in to_tensor(pictures).split(16)]
            decoded = np.concatenate(made)
            each = [psnr(one, other) for one, other in zip(decoded, pictures, strict=True)]
            alike = np.mean([ssim(*pair) for pair in zip(decoded, pictures, strict=True)])
            print(f"| {name} | {len(pictures)} | {psnr(decoded, pictures):.2f} | {np.mean(each):.2f} | {alike:.3f} |")
            chosen = np.linspace(0, len(pictures) - 1, COLUMNS).astype(int)
            rows += [np.concatenate(list(found[chosen]), 1) for found in (pictures, decoded)]
        if options.page:
            write_png(options.page, np.concatenate(rows))
    except CogstyleError as error:
        print(f"measure: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
