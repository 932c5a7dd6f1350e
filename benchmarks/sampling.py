"""Decode steps and whole clips at a size that one core feels: medians, beside the naive loop, and against the bus.

python benchmarks/sampling.py                          # 12 layers, width 512, 20 x 20 tokens, random weights
python benchmarks/sampling.py --only guided prefill --paths int8     # a part of it
python benchmarks/sampling.py --layers 2 --width 64 --steps 3 --quick     # to see it run
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

import itertools

from cogstyle import native
from cogstyle.adapter import adapter_from_image
from cogstyle.config import DTYPES, ModelConfig, SamplingConfig
from cogstyle.layout import FrameLayout, image_layout, interpolation_layout, keyframe_layout
from cogstyle.model.native_step import step_name
from cogstyle.model.packed import PackedLinear, pack, packs
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.sampling import decode as decoding
from cogstyle.sampling.decode import Texts, decode, finish
from cogstyle.sampling.decode_plan import Plan, plan_for
from cogstyle.sampling.logits import sampler
from cogstyle.sampling.schedule import Schedule, sequential
from tests.reference import naive_loop

TEXT, UNCONDITIONAL = 16, 6  # tokens of the prompt and of the unconditional text
OPTIONS = SamplingConfig(temperature=1.05, top_k=200)
Models = tuple[Transformer, TemporalAdapter, TemporalAdapter]


def config_of(layers: int, width: int, side: int, codes: int) -> ModelConfig:
    return ModelConfig(
        layers=layers,
        width=width,
        heads=max(1, width // 64),
        vocabulary=codes + 512,
        codes=codes,
        start_of_image=codes + 511,
        pad=codes,
        grid=(side, side),
        window=side // 2,
        text_positions=64,
        positions=64 + side * side,
        extra_positions=4 * side * side,
    )


def random_models(config: ModelConfig) -> Models:
    """An image model, a keyframe adapter and an interpolation adapter."""
    torch.manual_seed(0)
    model = Transformer(config).requires_grad_(False)
    model.embed.weight.mul_(0.05)
    return model, adapter_from_image(model), adapter_from_image(model, window=config.window).requires_grad_(False)


def converted(models: Models, path: str) -> Models:
    """The same weights for one path."""
    config, out = models[0].config, []
    dtype = torch.bfloat16 if path == "bfloat16" else torch.float32
    for module in models:
        with torch.device("meta"):
            window = module.window if isinstance(module, TemporalAdapter) else 0
            new = Transformer(config) if isinstance(module, Transformer) else TemporalAdapter(config, window=window)
        tensors = dict(module.state_dict())
        if packs(path):
            pack(new, tensors, kind=path)
        new.load_state_dict({name: value.to(dtype) for name, value in tensors.items()}, assign=True)
        out.append(new.requires_grad_(False))
    if packs(path):
        out[0].head = PackedLinear(models[0].embed.weight[: config.codes], None, kind=path)
    return out[0], out[1], out[2]  # type: ignore[return-value]


def bus() -> float:
    """GB/s that one thread reads, from large pages where the system has them."""
    big = native.Arena().take(256_000_000).view(torch.float32).fill_(1.0)
    times = [timed(big.sum) for _ in range(7)]
    return big.numel() * 4 / statistics.median(times) / 1e9


def clock() -> float:
    """Seconds: with one thread of this process, so that other work disturbs less; with several of the wall."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def timed(call: Callable[[], object]) -> float:
    began = clock()
    call()
    return clock() - began


def ids(config: ModelConfig, rows: int, length: int) -> Tensor:
    return torch.randint(config.codes + 1, config.codes + 500, (rows, length), generator=torch.manual_seed(1))


def step_ms(models: Models, layout: FrameLayout, *, guided: bool, batch: int, steps: int, windowed: bool) -> float:
    """Median of a step behind the known frames of `layout`, one place a step."""
    model, adapter = models[0], models[2 if windowed else 1]
    config, times = model.config, []
    schedule = Schedule(sequential(layout).steps[: steps + 2], layout.tokens)
    draw = sampler(OPTIONS, [(0, n) for n in range(batch)], layout, None)

    def pick(logits: Tensor, places: Tensor) -> Tensor:
        drawn = draw(logits, places)
        times.append(clock())
        return drawn

    unconditional = torch.cat(
        [torch.full((batch, TEXT - UNCONDITIONAL), config.pad), ids(config, batch, UNCONDITIONAL)], 1
    )
    tokens = torch.randint(config.codes, (batch, layout.frames, layout.tokens), generator=torch.manual_seed(2))
    texts = Texts(ids(config, batch, TEXT), unconditional, 3.0 if guided else 1.0)
    plan = Plan(layout, schedule, tuple(adapter.windows))
    finish(decode(model, texts, tokens, plan, pick, adapter=adapter))
    return 1e3 * statistics.median(b - a for a, b in itertools.pairwise(times[1:]))


def naive_ms(models: Models, layout: FrameLayout, *, guided: bool, steps: int, windowed: bool) -> float:
    """The same by the naive loop, one sample."""
    model, adapter, times = models[0], models[2 if windowed else 1], []
    texts = ids(model.config, 1, TEXT).tolist() + (ids(model.config, 1, UNCONDITIONAL).tolist() if guided else [])
    tokens = torch.randint(model.config.codes, (layout.frames, layout.tokens), generator=torch.manual_seed(2))
    pick = sampler(OPTIONS, [(0, 0)], layout, None)
    naive_loop.decode(
        *(model, texts, tokens, layout, pick),
        adapter=adapter,
        guidance=3.0 if guided else 1.0,
        steps=steps + 2,
        clock=lambda: times.append(clock()),
    )
    return 1e3 * statistics.median(b - a for a, b in itertools.pairwise(times[1:]))


def step_bytes(models: Models, layout: FrameLayout, *, rows: int, itemsize: int, cached: int = 4) -> int:
    """What a step behind the known frames must read: every matrix once, keys and values of every row."""
    config = models[0].config
    weights = config.layers * (4 + 4 + 2 * config.mlp_ratio) * config.width**2 + config.codes * config.width
    places = TEXT + layout.known * layout.tokens
    return weights * itemsize + rows * config.layers * 2 * (TEXT + places) * config.width * cached


def clip_seconds(models: Models, ahead: int) -> dict[str, float]:
    """A clip of 33 frames: first frame, guided keyframes, three levels of interpolation."""
    model, key, fine = models
    config, seconds, device = model.config, {}, model.embed.weight.device
    text, unconditional_text = ids(config, 1, TEXT).to(device), ids(config, 1, TEXT).to(device)

    def fill(tokens: Tensor, layout: FrameLayout, adapter: TemporalAdapter | None, guidance: float) -> Tensor:
        rows, windows = len(tokens), () if adapter is None else tuple(adapter.windows)
        pick = sampler(OPTIONS, [(layout.frames, n) for n in range(rows)], layout, None, device=device)
        texts = Texts(text.expand(rows, -1), unconditional_text.expand(rows, -1), guidance)
        plan = plan_for(layout, windows, ahead=ahead, device=device)
        return finish(decode(model, texts, tokens, plan, pick, adapter=adapter))

    began = clock()
    blank_BFL = torch.zeros(1, 1, config.tokens, dtype=torch.long, device=device)
    first = fill(blank_BFL, image_layout(config, TEXT), None, 1.0)
    seconds["first frame"], began = clock() - began, clock()
    frames = fill(torch.cat([first, first.new_zeros(1, 4, config.tokens)], 1), keyframe_layout(config, TEXT), key, 3.0)
    seconds["keyframes"], began = clock() - began, clock()
    for level in (1, 2, 3):
        known = frames[0].unfold(0, 3, 2).transpose(1, 2)  # groups of three known frames
        blank = known.new_zeros(len(known), 2, config.tokens)
        group = fill(torch.cat([known, blank], 1), interpolation_layout(config, TEXT), fine, 1.0)
        longer = frames.new_zeros(1, 2 * frames.shape[1] - 1, config.tokens)
        longer[:, ::2], longer[:, 1::2] = frames, group[:, 3:].flatten(0, 1)
        frames = longer
        seconds[f"level {level}"], began = clock() - began, clock()
    seconds["whole clip"] = sum(seconds.values())
    return seconds


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 12), ("width", 512), ("side", 20), ("codes", 20_000), ("steps", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--paths", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--quick", action="store_true", help="no prefill and no whole clips")
    parser.add_argument("--only", nargs="+", default=[""], help="measure only what has one of these in its name")
    parser.add_argument("--json", type=Path, help="write every figure with its unit")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, float]:
    arguments = read_arguments(argv)
    torch.set_num_threads(arguments.threads)
    config = config_of(arguments.layers, arguments.width, arguments.side, arguments.codes)
    plain, found, steps = random_models(config), {"bus GB/s": bus()}, arguments.steps
    start, late = keyframe_layout(config, TEXT), keyframe_layout(config, TEXT, known=3)
    groups = interpolation_layout(config, TEXT)
    kinds = (
        ("keyframe step, plain, start", start, False, False),
        ("keyframe step, guided, start", start, True, False),
        ("keyframe step, plain, 4th frame", late, False, False),
        ("keyframe step, guided, 4th frame", late, True, False),
        ("interpolation step", groups, False, True),
    )

    def wanted(name: str) -> bool:
        return any(part in name for part in arguments.only)

    def note(name: str, value: float) -> None:
        found[name] = float(f"{value:.3g}")
        print(f"{name:<64}{value:10.2f}", flush=True)

    note("bus GB/s", found["bus GB/s"])
    for name, layout, guided, windowed in kinds:
        if wanted(f"naive: {name}"):
            note(f"naive: {name}, ms", naive_ms(plain, layout, guided=guided, steps=steps, windowed=windowed))
    for path in arguments.paths:
        models = converted(plain, path)
        print(f"{path}: steps by {step_name(models[0])}")
        itemsize = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}[path]
        for name, layout, guided, windowed in kinds:
            for batch in (1, 4, 8) if windowed else (1,):
                label = f"{path}: {name}" + (f", batch {batch}" if windowed else "")
                if not wanted(label):
                    continue
                ms = step_ms(models, layout, guided=guided, batch=batch, steps=steps, windowed=windowed)
                note(f"{label}, ms", ms)
                if batch == 1 and f"naive: {name}, ms" in found:
                    note(f"{label}, times the naive loop", found[f"naive: {name}, ms"] / ms)
                if not windowed:
                    read = step_bytes(models, layout, rows=1 + guided, itemsize=itemsize)
                    note(f"{label}, % of the bus", 100 * read / ms / 1e6 / found["bus GB/s"])
        for known in () if arguments.quick else (1, 3):
            if not wanted(f"{path}: prefill of {known} frames"):
                continue
            layout = keyframe_layout(config, TEXT, known=known)
            tokens = torch.zeros(1, known, config.tokens, dtype=torch.long)
            times = [timed(lambda: prefill(models, tokens, layout)) for _ in range(3)]  # noqa: B023
            note(f"{path}: prefill of {known} frames, ms", 1e3 * statistics.median(times))
        if not arguments.quick and path in ("float32", "int8") and wanted(f"{path}: clip"):
            for part, seconds in clip_seconds(models, ahead=1).items():
                note(f"{path}: clip, {part}, s", seconds)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1))
    return found


@torch.inference_mode()
def prefill(models: Models, tokens: Tensor, layout: FrameLayout) -> object:
    """What `decode` does before its first step."""
    model, adapter = models[0], models[1]
    plan, texts = plan_for(layout, tuple(adapter.windows)), Texts(ids(model.config, 1, TEXT))
    return decoding.scorer_for(model, texts, tokens, plan, adapter, decoding.prefill)


if __name__ == "__main__":
    main()
