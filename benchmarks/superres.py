"""Super-resolution on validation scenes whose tokens are true: `python benchmarks/superres.py shapes --count 16`.

PSNR, and flicker where the truth stands still: the mean absolute difference (8-bit levels) of successive frames
over the pixels that show plain background in both true frames.
"""

import argparse
import time

import numpy as np
import torch
from torch import Tensor

from cogstyle.config import SamplingConfig
from cogstyle.sampling.pipeline import Pipeline, load
from cogstyle.sampling.upscale import frame_bytes, upscale
from cogstyle.shapes_world import world
from cogstyle.video import enlarge, psnr

FIRST_SEED = 1_000_200
DRAWS = {  # name: how tokens are drawn, and whether the frames of a video share their random numbers
    "upscaled, likeliest token": (SamplingConfig(top_k=1), True),
    "upscaled, drawn, numbers shared": (SamplingConfig(), True),
    "upscaled, drawn, each frame its own": (SamplingConfig(), False),
}


def tokens_of(pipe: Pipeline, frames: np.ndarray) -> Tensor:
    return torch.cat([pipe.vqvae.encode(part) for part in torch.from_numpy(frames).permute(0, 3, 1, 2).split(16)])


def versions(pipe: Pipeline, seed: int, frames: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], float]:
    """The true large frames, where they show background, every other version of them, seconds a greedy frame."""
    scene, small = world.draw_scene(seed), pipe.bundle.tokenizer_config.image_size
    size, times = small * pipe.upscaler.factor, list(np.linspace(0.0, scene.duration, frames))
    low, truth = (world.render_clip(scene, times, pixels) for pixels in (small, size))
    background = (truth == world.paint(scene.background, [], 1)[0, 0]).all(-1)
    coarse_FL = tokens_of(pipe, low)
    found = {
        "bicubic, true small frame": enlarge(low, size),
        "bicubic, decoded small frame": enlarge(pipe.decode(coarse_FL), size),
        "tokenizer at the large size": pipe.decode(tokens_of(pipe, truth)),
    }
    text_FS = pipe.text.pad([pipe.text.image_text(world.caption(scene))] * frames)
    seconds = []
    for name, (config, shared) in DRAWS.items():
        seeds = [(3, seed) if shared else (3, seed, k) for k in range(frames)]
        began = time.process_time()
        fine_FM = torch.cat([*upscale(pipe.image_model, pipe.upscaler, text_FS, coarse_FL, seeds, config)])
        seconds.append((time.process_time() - began) / frames)
        found[name] = pipe.decode(fine_FM)
    return truth, background, found, seconds[0]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="PSNR and flicker of super-resolution.")
    parser.add_argument("bundle", nargs="?", default="shapes")
    parser.add_argument("--count", type=int, default=16, help="scenes")
    parser.add_argument("--frames", type=int, default=33, help="frames of a scene, over its whole action")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    pipe = load(arguments.bundle)
    errors, flicker, seconds = {}, {}, []
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.count):
        truth, background, found, took = versions(pipe, seed, arguments.frames)
        still = background[1:] & background[:-1]
        for name, frames in found.items():
            errors.setdefault(name, []).append(10 ** (-psnr(frames, truth) / 10))
            flicker.setdefault(name, []).append(np.abs(np.diff(frames.astype(np.int16), axis=0))[still].mean())
        seconds.append(took)
    print(f"{arguments.count} scenes from seed {FIRST_SEED}, {arguments.frames} frames each\n")
    print("| frames | PSNR dB | flicker |\n|---|---:|---:|")
    for name, values in errors.items():
        print(f"| {name} | {-10 * np.log10(np.mean(values)):.2f} | {np.mean(flicker[name]):.3f} |")
    need = frame_bytes(pipe.upscaler, pipe.bundle.model_config.text_span, 4)
    print(f"\n{1000 * np.median(seconds):.0f} ms of one core and at most {need / 1e6:.1f} MB a frame")


if __name__ == "__main__":
    main()
