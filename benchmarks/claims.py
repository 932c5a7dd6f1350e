"""The paper's claims as experiments: `python benchmarks/claims.py --runs runs/claims [--only a b] [--seeds 0 1 2]`.

(a) dual-channel adapter / random temporal channel / everything trained / everything from scratch; (b) several frame
rates / one; (c) keyframes and interpolation / one sliding window; (d) copied / released start; (e) windows of the
interpolation; (f) guidance and ways to draw. What each arm changes stands in claims_arms.py. Every arm and seed has a
folder with log.jsonl, weights and result.json; what is there is not computed again, and what is missing is left out of
the tables and curves. `--draw` computes nothing.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from claims_arms import ARMS, DRAWING, LEVELS, Recipe, make_job, read_rows, train
from claims_figures import draw, tables
from claims_measure import (
    DRAWN,
    REFINED,
    Judge,
    by_rate,
    first_frame_figures,
    level_seconds,
    rate_control,
    row_losses,
    schedules,
    shares,
    slide,
    whole_clip,
)

from cogstyle.adapter import adapter_from_image
from cogstyle.bundle import Bundle, WeightFile
from cogstyle.data.shards import Shards
from cogstyle.files import read_tensors, whole_file, write_tensors
from cogstyle.layout import image_layout
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.sampling.stage import Stage
from cogstyle.shapes_report.protocol import TUNING_SEED, draw_scenes, slow_movers
from cogstyle.shapes_world import world
from cogstyle.training.transformer import TransformerJob

CLAIMS = {
    "a": ("copied", "random", "all", "scratch"),
    "d": ("copied", "released"),
    "b": ("copied", "one_rate"),
    "e": ("parallel", "window_4", "window_2", "window_full"),
    "f": tuple(DRAWING),
    "c": ("copied", "window_full", "one_stage", "clips"),
}
CURVE = 10  # points of a curve of validation losses, after the start
AHEAD = 16  # steps of decoding tried at once; the tokens do not depend on it


@dataclass(frozen=True)
class Lab:
    """Where everything lies, and how much of it is looked at."""

    bundle: Bundle
    runs: Path
    data: Path
    recipe: Recipe
    captions: int  # of one seed, (c) takes half of them

    def judge(self, seed: int, count: int | None = None) -> Judge:
        return Judge(self.bundle, draw_scenes(TUNING_SEED + 1000 * seed, count or self.captions))

    def folder(self, name: str, seed: int) -> Path:
        return self.runs / f"{name}-{seed}"

    @property
    def settings(self) -> dict[str, Any]:
        return asdict(self.recipe) | {"captions": self.captions, "bundle": self.bundle.sha256(WeightFile.IMAGE)}

    def trained(self, name: str, seed: int) -> TemporalAdapter:
        """The adapter of an arm whose image model is frozen."""
        adapter = adapter_from_image(self.bundle.image_model(), window=ARMS[name].window)
        adapter.load_state_dict(read_tensors(self.folder(name, seed) / "weights.safetensors")[0])
        return adapter.requires_grad_(False)


def validation(job: TransformerJob, rows: int | None = None) -> tuple[np.ndarray, Shards]:
    """Losses [rows, frames] of the job's own validation rows, and these rows."""
    data = (
        job.batches.held_back
        if rows is None
        else job.batches.held_back.take(np.arange(min(rows, len(job.batches.held_back))))
    )
    return row_losses(job.transformer, job.adapter, job.text, data, job.batches.shown.layout), data


def run_arm(lab: Lab, name: str, seed: int) -> dict[str, Any]:
    """Train one arm with one seed, and measure it."""
    arm, folder = ARMS[name], lab.folder(name, seed)
    job = make_job(arm, lab.recipe, lab.bundle, lab.data, seed)
    every = max(1, arm.length * lab.recipe.steps // CURVE)
    with (folder / "log.jsonl").open("w") as log:

        def on_step(done: int, job: TransformerJob, figures: dict[str, float]) -> None:
            row: dict[str, float] = {"step": done, **({"loss": figures["loss"]} if figures else {})}
            if done % every == 0:
                row["validation_loss"] = float(validation(job, 16)[0].mean())
            log.write(json.dumps(row) + "\n")
            log.flush()

        on_step(0, job, {})
        seconds = train(job, arm, lab.recipe, seed=seed, on_step=on_step)
    if not arm.train_all:
        job.transformer = lab.bundle.image_model()  # as it was before the precision of training rounded it
    weights = {key: value.detach().contiguous() for key, value in job.module.state_dict().items()}
    write_tensors(folder / "weights.safetensors", weights)
    return {"step seconds": seconds / (arm.length * lab.recipe.steps), **measure(lab, name, job, seed)}


def measure(lab: Lab, name: str, job: TransformerJob, seed: int) -> dict[str, Any]:
    """What an arm is judged by, as far as its claims ask for it."""
    arm, losses, data = ARMS[name], *validation(job)
    found: dict[str, Any] = {"loss": float(losses.mean()), "loss by rate": by_rate(losses, data)}
    assert job.adapter is not None
    for module in (job.transformer, job.adapter):
        module.eval().requires_grad_(False)
    if arm.task == "keyframes" and arm.rows != "windows":
        stage, judge = Stage(job.transformer, job.adapter, DRAWN, ahead=AHEAD), lab.judge(seed)
        found |= shares(judge.clips(judge.keyframes(stage)))
        if name in ("copied", "all", "scratch"):
            images = read_rows(lab.bundle, "image", lab.data, lab.recipe.validation_rows, world.VALIDATION_SEED)
            original, layout = lab.bundle.image_model(), image_layout(job.config, 0)
            found["first frame"] = first_frame_figures(job.transformer, original, judge, job.text, images, layout)
        if name in CLAIMS["b"]:
            slow = slow_movers(TUNING_SEED + 1000 * seed, max(1, lab.captions // 2))
            rates = [1.0, 2.0, 4.0]
            judge = Judge(lab.bundle, [item for item in slow for _ in rates], rates * len(slow))
            found["movement"] = rate_control(judge, stage)
    return found


def run_parallel(lab: Lab, seed: int) -> dict[str, Any]:
    """Steps and seconds of a level of refinement; neither depends on the weights, so they are the start's."""
    judge, model, found = lab.judge(seed, 8), lab.bundle.image_model(), {}
    for name in ("window_2", "window_4", "window_full"):
        adapter = adapter_from_image(model, window=ARMS[name].window).requires_grad_(False)
        steps = {key: len(made.steps) for key, made in schedules(model.config, ARMS[name].window).items()}
        found[ARMS[name].says] = {"steps": steps, "seconds": level_seconds(judge, Stage(model, adapter, REFINED))}
    return found


def run_drawing(lab: Lab, name: str, seed: int) -> dict[str, Any]:
    """The bundle's keyframe adapter after the image model's first frames, the same for every way of drawing."""
    judge, model = lab.judge(seed), lab.bundle.image_model()
    stage = Stage(model, lab.bundle.adapter("keyframes"), DRAWING[name], lab.bundle.cluster_labels(), ahead=AHEAD)
    return shares(judge.clips(judge.keyframes(stage, judge.first_frames(model))))


def run_clips(lab: Lab, seed: int) -> dict[str, Any]:
    """Whole clips from true first frames: keyframes and refinement, or one window that slides."""
    judge, model = lab.judge(seed, max(1, lab.captions // 2)), lab.bundle.image_model()
    steps = [0]

    def count(tokens: int) -> None:
        steps[0] += 1

    copied, window, one = (lab.trained(name, seed) for name in ("copied", "window_full", "one_stage"))
    stage = partial(Stage, model, progress=count)
    slider = stage(one, DRAWN)
    ways: dict[str, Callable[[], Any]] = {
        "keyframes and interpolation": partial(whole_clip, judge, stage(copied, DRAWN), stage(window, REFINED), LEVELS),
        "sliding window, overlap 1": partial(slide, judge, slider, overlap=1, levels=LEVELS),
        "sliding window, overlap 2": partial(slide, judge, slider, overlap=2, levels=LEVELS),
    }
    found = {}
    for name, way in ways.items():
        steps[0], began = 0, time.process_time()
        tokens_BFL = way()
        cost = {"steps": steps[0], "seconds": (time.process_time() - began) / len(tokens_BFL)}
        found[name] = shares(judge.clips(tokens_BFL, 2.0**LEVELS)) | cost
    return found


def result(lab: Lab, name: str, seed: int) -> dict[str, Any] | None:
    """What was found, or None if it was not looked for yet.

    Raises:
        SystemExit: if it belongs to other settings.
    """
    path = lab.folder(name, seed) / "result.json"
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    if found["settings"] != lab.settings:
        raise SystemExit(f"{path} was made with {found['settings']}, this run has {lab.settings}; name another --runs")
    return found["found"]


def run(lab: Lab, name: str, seed: int) -> None:
    """Compute what is missing of one arm and seed."""
    if result(lab, name, seed) is not None:
        return
    began, folder = time.time(), lab.folder(name, seed)
    folder.mkdir(parents=True, exist_ok=True)
    others = {"parallel": run_parallel, "clips": run_clips}
    if name in others:
        found = others[name](lab, seed)
    else:
        found = (run_drawing if name in DRAWING else run_arm)(lab, name, seed)
    with whole_file(folder / "result.json") as file:
        file.write(json.dumps({"settings": lab.settings, "found": found}, indent=1).encode())
    print(f"{name}, seed {seed}: {time.time() - began:.0f} s", flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The paper's claims on a small bundle.")
    parser.add_argument("bundle", nargs="?", default="shapes")
    parser.add_argument("--runs", type=Path, default=Path("runs/claims"))
    parser.add_argument("--data", type=Path, help="where encoded scenes are kept (RUNS/data)")
    parser.add_argument("--only", nargs="+", choices=list(CLAIMS), default=list(CLAIMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    for name, default in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--captions", type=int, default=40, help="sampled for each seed")
    parser.add_argument("--images", type=Path, default=Path("docs/images"), help="where curves are drawn")
    parser.add_argument("--draw", action="store_true", help="tables and curves of what is there, nothing else")
    arguments = parser.parse_args(argv)
    recipe = Recipe(**{name: getattr(arguments, name) for name in asdict(Recipe())})
    data = arguments.data or arguments.runs / "data"
    lab = Lab(Bundle(arguments.bundle), arguments.runs, data, recipe, arguments.captions)
    names = list(dict.fromkeys(name for claim in arguments.only for name in CLAIMS[claim]))
    if not arguments.draw:
        for claim in arguments.only:
            for name in CLAIMS[claim]:
                for seed in arguments.seeds:
                    run(lab, name, seed)
    found = {name: {seed: result(lab, name, seed) for seed in arguments.seeds} for name in names}
    there = {name: {seed: row for seed, row in rows.items() if row is not None} for name, rows in found.items()}
    print(tables(there, arguments.only))
    draw({claim: CLAIMS[claim] for claim in arguments.only}, arguments.runs, arguments.seeds, arguments.images)


if __name__ == "__main__":
    main()
