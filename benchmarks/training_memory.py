"""What a training step keeps in memory: a frozen image model beside a full run, and the official sizes computed.

python benchmarks/training_memory.py                   # measures the first table, about a minute of CPU time
python benchmarks/training_memory.py --computed        # the second table alone
"""

import argparse
import resource
import subprocess
import sys
from dataclasses import replace

import torch
from torch import Tensor, nn

from cogstyle.adapter import adapter_from_image
from cogstyle.config import MODELS, ModelConfig
from cogstyle.layout import keyframe_layout
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.training.dry_run import state_memory
from cogstyle.training.engine import EngineConfig, start
from cogstyle.training.job import WHOLE, OptimConfig, Share
from cogstyle.training.loss import token_loss
from cogstyle.training.processes import Processes
from cogstyle.training.transformer import fresh_transformer

MIDDLE = replace(MODELS["shapes"], layers=12, width=512, heads=8)
OPTIM = OptimConfig(steps=2, batch=1, warmup=0)


class RandomJob:
    """Keyframes of random tokens: the adapter beside a frozen image model, or (`full`) both."""

    def __init__(self, config: ModelConfig, *, full: bool, batch: int = 1) -> None:
        self.image = fresh_transformer(config)
        self.adapter = adapter_from_image(self.image)
        self.module: nn.Module = nn.ModuleList([self.image, self.adapter]) if full else self.adapter
        self.base = None if full else self.image
        self.device = torch.device("cpu")
        self.tokens_BFL = torch.randint(config.codes, (batch, config.frames, config.tokens))
        self.text_BS = torch.randint(config.codes + 8, config.start_of_image, (batch, 16))

    def trained(self) -> list[nn.Parameter]:
        return list(self.module.parameters())

    def loss(self, step: int, share: Share = WHOLE) -> tuple[Tensor, dict[str, float]]:
        h_BPD = self.image(self.text_BS, self.tokens_BFL, keyframe_layout(self.image.config, 16), self.adapter)
        return token_loss(self.image.logits(h_BPD), self.tokens_BFL.flatten(1)).mean(), {}


def measure(*, full: bool, again: bool) -> str:
    """Two steps in this process: megabytes of each part, and the most that the process held beyond its start."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    job = RandomJob(MIDDLE, full=full)
    engine = start(EngineConfig(activation_checkpointing=again), job, OPTIM, Processes())  # type: ignore[arg-type]
    for step in range(2):
        engine.backward(step)
        gradients = sum(gradient.nbytes for gradient in engine.gradients if gradient is not None)  # type: ignore[attr-defined]
        engine.update(step, skip=False)
    states = engine.optimizer.state.values()  # type: ignore[attr-defined]
    modules = [module for module in (job.module, job.base) if module is not None]
    frozen = sum(p.nbytes for m in modules for p in m.parameters() if not p.requires_grad)
    trained = sum(p.nbytes for m in modules for p in m.parameters() if p.requires_grad)
    moments = sum(value.nbytes for state in states for value in state.values())
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return " | ".join(f"{size / 1e6:,.0f}" for size in (frozen, trained, gradients, moments, peak))


def computed(name: str) -> None:
    """The second table: gigabytes of one process between two steps, bf16, by ZeRO stage and processes."""
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in module.parameters())
            for module in (TemporalAdapter(MODELS[name]), Transformer(MODELS[name]))
        ]
    print(f"{name}: image model {sizes[1] / 1e9:.2f} G, adapter {sizes[0] / 1e9:.2f} G parameters\n")
    print("| GB a process | frozen, 1 | frozen, 8 | frozen, 64 | full, 1 | full, 8 | full, 64 |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for zero in range(4):
        cells = []
        for trained, frozen in ((sizes[0], sizes[1]), (sum(sizes), 0)):
            for processes in (1, 8, 64):
                config = EngineConfig(zero=zero, precision="bf16")
                memory, _ = state_memory(trained, frozen, 2 * trained, config, Processes(size=processes), ema=False)
                cells.append(f"{sum(memory.values()) / 1e9:,.1f}")
        print(f"| zero {zero} | {' | '.join(cells)} |")


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--computed", action="store_true", help="the second table alone")
    parser.add_argument("--measure", choices=["frozen", "full"], help="one row of the first table, in this process")
    parser.add_argument("--again", action="store_true", help="with activation checkpointing")
    arguments = parser.parse_args(argv)
    if arguments.measure:
        torch.set_num_threads(1)
        print(measure(full=arguments.measure == "full", again=arguments.again))
        return
    if not arguments.computed:
        print("| MB | frozen weights | trained weights | gradients | optimiser | peak of the process |")
        print("|---|---:|---:|---:|---:|---:|")
        for which in ("frozen", "full"):
            for again in (False, True):
                options = ["--measure", which, *(["--again"] if again else [])]
                row = subprocess.run([sys.executable, __file__, *options], check=True, capture_output=True, text=True)
                print(f"| {which}{', layers again' if again else ''} | {row.stdout.strip()} |", flush=True)
        print()
    computed("cogvideo-9b")


if __name__ == "__main__":
    main(sys.argv[1:])
