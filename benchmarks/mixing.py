"""Keyframes alone beside keyframes with continuation: `python benchmarks/mixing.py shapes --steps 100`.

Two keyframe adapters start as copies of the image model's attention and train for equal steps and tokens. The table
is the loss (nats a token) on validation scenes: keyframes from the start of the action, and continuation after two,
three or four known frames of a clip from inside the action.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from cogstyle.adapter import adapter_from_image
from cogstyle.bundle import Bundle
from cogstyle.data.mixing import MixConfig, make_groups
from cogstyle.training.batches import Batches, kinds_of
from cogstyle.training.engine import EngineConfig, start
from cogstyle.training.guard import Guard
from cogstyle.training.job import OptimConfig
from cogstyle.training.jobs import encoding
from cogstyle.training.loop import train_step
from cogstyle.training.loss import VideoModel
from cogstyle.training.processes import Processes
from cogstyle.training.sources import SceneData
from cogstyle.training.transformer import TransformerJob

ARMS = {"keyframes": {"keyframes": 1.0}, "keyframes and continuation": {"keyframes": 1.0, "continuation": 1.0}}


def make(tasks: dict[str, float], arguments: argparse.Namespace) -> TransformerJob:
    bundle, mix = Bundle(arguments.bundle), MixConfig(arguments.tokens, tasks)
    image = bundle.image_model()
    model = VideoModel(image, adapter_from_image(image), bundle.text(), bundle.vqvae())
    groups = make_groups(mix, image.config)
    how = encoding(bundle, model.vqvae, frames=image.config.frames, folder=arguments.runs / "data", quiet=True)
    rows = SceneData(arguments.rows, arguments.validation_rows).read(kinds_of(groups), how)
    options = {"caption_dropout": 0.1, "mix": mix, "steps": arguments.steps}
    return TransformerJob(model, Batches(groups, rows, seed=arguments.seed, **options), None)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What continuation in the mix does to a keyframe adapter.")
    parser.add_argument("bundle", nargs="?", default="shapes")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=1280, help="image tokens a step")
    parser.add_argument("--rows", type=int, default=400, help="training scenes of each kind")
    parser.add_argument("--validation-rows", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where encoded scenes are kept")
    arguments = parser.parse_args(argv)
    judge = make(ARMS["keyframes and continuation"], arguments)
    assert judge.adapter is not None

    def row(name: str) -> None:
        figures = judge.validate()
        losses = [figures[f"validation_loss_{group.name}"] for group in judge.batches.groups]
        print(f"| {name} |" + "".join(f" {loss:.3f} |" for loss in losses), flush=True)

    print("| adapter |" + "".join(f" {group.name} |" for group in judge.batches.groups))
    print("|---|" + "---:|" * len(judge.batches.groups))
    row("at the start")
    logs = {}
    for name, tasks in ARMS.items():
        job, began = make(tasks, arguments), time.process_time()
        optim = OptimConfig(arguments.steps, optimizer="muon", lr=2e-3, warmup=max(1, arguments.steps // 10))
        engine, guard, logs[name] = start(EngineConfig(device="cpu"), job, optim, Processes()), Guard(0.0, 1), []
        for step in range(arguments.steps):
            logs[name].append(train_step(engine, optim, guard, seed=arguments.seed, step=step)[0])
        seconds = (time.process_time() - began) / arguments.steps
        judge.adapter.load_state_dict(job.module.state_dict())
        row(f"{name}, {seconds:.2f} s of one core a step")
    for name, log in logs.items():
        text = 100 * np.mean([step["text_padding"] for step in log])
        print(f"\n{name}: {text:.1f} % of the text places are padding; no image place is")


if __name__ == "__main__":
    main()
