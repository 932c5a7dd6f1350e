"""Import a checkpoint of CogVideo's sizes (random weights, few layers): seconds and peak memory, then a few tokens.

python benchmarks/official_size.py --layers 7          # about 3 GB of float16
"""

import argparse
import json
import resource
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cogstyle.bundle import Bundle
from cogstyle.config import MODELS, SamplingConfig, SuperResConfig
from cogstyle.interop.sat_bundle import import_sat
from cogstyle.interop.sat_checkpoint import describe, sat_name
from cogstyle.layout import image_layout, keyframe_layout
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.sampling.decode import Texts, decode, finish
from cogstyle.sampling.decode_plan import Plan
from cogstyle.sampling.logits import sampler
from cogstyle.sampling.schedule import Schedule, sequential


def write_checkpoint(folder: Path, layers: int) -> int:
    """A keyframe checkpoint in SAT's format; returns its bytes."""
    config = replace(MODELS["cogvideo-9b"], layers=layers, vocabulary=150_010)
    noise = (torch.randn(1 << 20) * 0.02).half()

    def filled(shape: torch.Size) -> Tensor:
        count = shape.numel()
        return noise.repeat(-(-count // len(noise)))[:count].view(shape)

    with torch.device("meta"):
        sides = {"base": Transformer(config), "adapter": TemporalAdapter(config)}
    weights = {
        sat_name(side, name): filled(value.shape)
        for side, module in sides.items()
        for name, value in module.state_dict().items()
    }
    (folder / "1").mkdir(parents=True)
    (folder / "latest").write_text("1")
    (folder / "model_config.json").write_text(json.dumps(describe(config, "keyframes", SuperResConfig())))
    path = folder / "1" / "mp_rank_00_model_states.pt"
    torch.save({"module": weights}, path)
    return path.stat().st_size


class Peak:
    """The most anonymous memory that a block takes, seen every 10 ms; mapped files can be given back at any time."""

    def __enter__(self) -> "Peak":
        self.start, self.largest, self.running = self._now(), 0, True
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _now(self) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    def _watch(self) -> None:
        while self.running:
            self.largest = max(self.largest, self._now() - self.start)
            time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        self.running = False
        self.thread.join()


@torch.inference_mode()
def draw(bundle: Bundle, count: int) -> tuple[Tensor, float]:
    """`count` tokens of a first frame, then of the next keyframe; and the seconds of one token."""
    model, adapter, config = bundle.image_model(), bundle.adapter("keyframes"), bundle.model_config
    texts = torch.tensor([[config.codes + 100 + k for k in range(12)]])
    tokens = torch.zeros(1, config.frames, config.tokens, dtype=torch.long)
    found = []
    began = time.perf_counter()
    for layout, used in ((image_layout(config, 12), None), (keyframe_layout(config, 12), adapter)):
        pick = sampler(SamplingConfig(top_k=50), [(0,)], layout, None)
        steps = Schedule(sequential(layout).steps[:count], layout.tokens)
        plan = Plan(layout, steps, () if used is None else tuple(used.windows))
        out = finish(decode(model, Texts(texts), tokens[:, : layout.frames], plan, pick, adapter=used))
        found.append(out.flatten(1)[:, steps.steps[0] : steps.steps[-1] + 1])
    return torch.cat(found, 1), (time.perf_counter() - began) / (2 * count)


def main(layers: int, count: int, folder: Path) -> dict[str, float]:
    size = write_checkpoint(folder / "sat", layers)
    began = time.perf_counter()
    with Peak() as peak:
        import_sat(folder / "sat", folder / "bundle")
    seconds = time.perf_counter() - began
    tokens, each = draw(Bundle(folder / "bundle", dtype=torch.bfloat16), count)
    assert tokens.shape == (1, 2 * count) and int(tokens.min()) >= 0 and int(tokens.max()) < 20_000
    return {
        "checkpoint, GB": size / 1e9,
        "import, seconds": seconds,
        "import, peak of anonymous memory, GB": peak.largest / 1e9,
        "whole process, peak resident memory, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "one token in bfloat16, prefill included, seconds": each,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=4, help="tokens to draw of each of two frames")
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        for name, value in main(arguments.layers, arguments.tokens, Path(scratch)).items():
            print(f"{name:<52}{value:8.2f}")
