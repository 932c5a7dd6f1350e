"""Seconds of a training step in every precision: `python benchmarks/training_speed.py [--batch 12] [--rounds 7]`.

The keyframe adapter beside the frozen image model of the preset "shapes", random tokens, Muon, one thread. The
precisions take turns, so that other work on the machine hits all of them; medians.
"""

import argparse
import time
from statistics import median

import torch
from training_memory import RandomJob

from cogstyle.config import MODELS
from cogstyle.training.engine import EngineConfig, start
from cogstyle.training.job import OptimConfig
from cogstyle.training.processes import Processes


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    optim = OptimConfig(2 + arguments.rounds, optimizer="muon", warmup=0, batch=arguments.batch)
    engines = {}
    for precision in ("fp32", "bf16"):
        job = RandomJob(MODELS["shapes"], full=False, batch=arguments.batch)
        engines[precision] = start(EngineConfig(precision=precision), job, optim, Processes())  # type: ignore[arg-type]
    seconds: dict[str, list[float]] = {precision: [] for precision in engines}
    for step in range(1 + arguments.rounds):  # the first is not counted
        for precision, engine in engines.items():
            began = time.perf_counter()
            engine.backward(step)
            engine.update(step, skip=False)
            seconds[precision].append(time.perf_counter() - began)
    found = {precision: median(times[1:]) for precision, times in seconds.items()}
    print("| precision | s a step |\n|---|---:|")
    for precision, value in found.items():
        print(f"| {precision} | {value:.2f} |")
    return found


if __name__ == "__main__":
    main()
