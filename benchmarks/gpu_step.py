"""Decode steps on one GPU, random weights of the official size: tokens a second, share of the bandwidth, a clip.

python benchmarks/gpu_step.py                        # 17 GB of bfloat16
python benchmarks/gpu_step.py --preset shapes        # a size for any GPU

Without a GPU it says so, in one line. It has not been run on one yet.
"""

import argparse
import os
import time
from collections.abc import Callable
from statistics import median

import torch
from sampling import OPTIONS, TEXT, Models, clip_seconds, ids, step_bytes

from cogstyle.config import MODELS, ModelConfig
from cogstyle.layout import FrameLayout, keyframe_layout
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.sampling.decode import Texts, decode, finish
from cogstyle.sampling.decode_plan import Plan, plan_for
from cogstyle.sampling.logits import sampler
from cogstyle.sampling.schedule import Schedule, sequential
from cogstyle.sampling.static_step import SWITCH

GUIDANCE = 3.0
WAYS = {"captured": ("on", 1), "launched, one at a time": ("off", 1), "launched, 16 tried at once": ("off", 16)}


def random_models(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Models:
    """An image model, a keyframe adapter and an interpolation adapter, made on the device."""
    with torch.device("meta"):
        made = Transformer(config), TemporalAdapter(config), TemporalAdapter(config, window=config.window)
    torch.manual_seed(0)
    for module in made:
        module.to(dtype).to_empty(device=device).requires_grad_(False)
        for parameter in module.parameters():
            parameter.normal_(std=0.02)
    return made


def wait(device: torch.device) -> float:
    """The time, once all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def bandwidth(device: torch.device, numbers: int) -> float:
    """GB/s that the device reads."""
    big, times = torch.ones(numbers, device=device), []
    for _ in range(5):
        began = wait(device)
        big.sum()
        times.append(wait(device) - began)
    return 4e-9 * numbers / median(times)


def frame_seconds(models: Models, layout: FrameLayout, ahead: int) -> float:
    """Seconds of the first new frame behind the known ones, guided, prefill left out."""
    config, device = models[0].config, models[0].embed.weight.device
    texts = Texts(ids(config, 1, TEXT).to(device), ids(config, 1, TEXT).to(device), GUIDANCE)
    tokens_BFL = torch.randint(config.codes, (1, layout.frames, layout.tokens), generator=torch.manual_seed(2))
    pick = sampler(OPTIONS, [(0, 0)], layout, None, device=device)
    frame = Schedule(sequential(layout).steps[: layout.tokens], layout.tokens)
    plan, told = Plan(layout, frame, tuple(models[1].windows), ahead=ahead, device=device), []

    def progress(tokens: int) -> None:
        told.append((time.perf_counter(), tokens))

    finish(decode(models[0], texts, tokens_BFL.to(device), plan, pick, adapter=models[1], progress=progress))
    began, drawn = told[0]  # from the end of the first step on
    return (wait(device) - began) * layout.tokens / (layout.tokens - drawn)


def measure(
    config: ModelConfig, device: torch.device, dtype: torch.dtype, note: Callable[[str, float], None], *, numbers: int
) -> None:
    """Note every figure; `numbers` float32 are read to find the bandwidth."""
    models, read = random_models(config, device, dtype), bandwidth(device, numbers)
    note("memory, GB/s", read)
    for known in (1, 3):
        layout = keyframe_layout(config, TEXT, known=known)
        for name, (switch, ahead) in WAYS.items():
            os.environ[SWITCH] = switch
            frame_seconds(models, layout, ahead)  # what is loaded at the first call
            rate = layout.tokens / median(frame_seconds(models, layout, ahead) for _ in range(3))
            size = step_bytes(models, layout, rows=2, itemsize=dtype.itemsize, cached=dtype.itemsize)
            note(f"keyframe {known + 1}, guided, {name}: tokens/s", rate)
            if ahead == 1:
                note(f"keyframe {known + 1}, guided, {name}: % of the bandwidth", 100 * rate * size / 1e9 / read)
    os.environ[SWITCH] = "on"
    plan_for.cache_clear()
    clip_seconds(models, ahead=1)
    began = wait(device)
    clip_seconds(models, ahead=1)
    note("clip of 33 frames, guided keyframes: s", wait(device) - began)


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = [name for name, config in MODELS.items() if config.family == "sandwich"]
    parser.add_argument("--preset", choices=sizes, default="cogvideo-9b")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    arguments, found = parser.parse_args(argv), dict[str, float]()
    if not torch.cuda.is_available():
        print("gpu_step: PyTorch finds no CUDA device here, so nothing was measured")
        return found

    def note(name: str, value: float) -> None:
        found[name] = float(f"{value:.3g}")
        print(f"{name:<64}{value:10.2f}", flush=True)

    print(f"{torch.cuda.get_device_name()}, {arguments.preset}, {arguments.dtype}, one clip")
    measure(MODELS[arguments.preset], torch.device("cuda"), getattr(torch, arguments.dtype), note, numbers=10**9)
    return found


if __name__ == "__main__":
    main()
