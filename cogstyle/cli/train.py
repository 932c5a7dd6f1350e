"""Train one weight from a recipe, or a bundle from a folder of recipes, resuming where an earlier run stopped."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cogstyle.training.dry_run import DryRun

HELP = "train one weight from a TOML recipe, or a bundle from a folder of them"
EXAMPLE = "cogstyle train train/shapes/keyframes.toml --dry-run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, help="a recipe, see train/; or a folder of them: all, in order")
    parser.add_argument(
        "--runs", type=Path, help="where checkpoints, logs and data are kept (default: runs; of a folder FOLDER/runs)"
    )
    parser.add_argument(
        "--run", dest="name", metavar="NAME", help="the run's folder in RUNS (default: the recipe's name)"
    )
    parser.add_argument(
        "--set",
        dest="changes",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="lay a value over the recipe's, such as optim.steps=4000; may be said again",
    )
    parser.add_argument(
        "--continue-run", action="store_true", help="go on from the run's weights and optimiser with a changed recipe"
    )
    parser.add_argument("--encode-only", action="store_true", help="encode the recipe's data, then stop")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan of the run, then stop; a few rows are encoded at most"
    )
    parser.add_argument("--processes", type=int, default=1, help="with --dry-run: how many would train")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each process; one is exactly repeatable")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    import torch

    from cogstyle.config import require
    from cogstyle.devices import launched
    from cogstyle.shipped import shipped_recipe
    from cogstyle.training.run import dry_run

    require(arguments.threads > 0, f"--threads {arguments.threads} must be 1 or more")
    require(arguments.processes > 0, f"--processes {arguments.processes} must be 1 or more")
    require(arguments.dry_run or arguments.processes == 1, "--processes has no effect without --dry-run")
    torch.set_num_threads(arguments.threads)
    runs, is_folder = arguments.runs or Path("runs"), shipped_recipe(arguments.recipe).is_dir()
    for flag in ("--run", "--continue-run", "--encode-only", "--dry-run") if is_folder else ():
        name = "name" if flag == "--run" else flag[2:].replace("-", "_")
        require(not getattr(arguments, name), f"{flag} is for one recipe, not for a folder")
    if arguments.dry_run:
        common = {"runs": runs, "name": arguments.name, "changes": arguments.changes}
        plan, picture = dry_run(arguments.recipe, processes=arguments.processes, **common)
        print_plan(plan)
        print(f"first batch          {picture}")
        return 0
    first = launched().rank == 0  # one of many processes that a launcher started speaks for all
    try:
        for said in train_folder_of(arguments) if is_folder else [train_one(arguments, runs)]:
            if first:
                print(f"done: {said}", flush=True)
    except KeyboardInterrupt as stop:
        if first:
            hint = "the same command resumes it, `cogstyle export checkpoint` makes a bundle of what there is"
            print(f"cogstyle: {str(stop) or 'stopped'}; {hint}", file=sys.stderr)
        return 130
    return 0


def train_one(arguments: argparse.Namespace, runs: Path) -> str:
    """Train a recipe; says what came of it."""
    from cogstyle.training.run import train

    return train(
        arguments.recipe,
        runs=runs,
        name=arguments.name,
        changes=arguments.changes,
        continue_run=arguments.continue_run,
        encode_only=arguments.encode_only,
        quiet=arguments.quiet,
    )


def train_folder_of(arguments: argparse.Namespace) -> Iterator[str]:
    """Train the recipes of a folder; says what came of each."""
    from cogstyle.training.folder import train_folder

    return train_folder(arguments.recipe, runs=arguments.runs, changes=arguments.changes, quiet=arguments.quiet)


def print_plan(plan: "DryRun") -> None:
    """One line a figure."""
    print(f"steps                {plan.steps:,} in {plan.processes} processes")
    for number, stage in enumerate(plan.stages, 1):
        print(f"{f'stage {number}':<20} {stage}")
    if plan.rows:
        print(f"to encode first      {plan.rows:,} rows, about {duration(plan.encoding_seconds)}")
    print(f"parameters           {plan.trained:,} trained, {plan.frozen:,} frozen")
    if plan.tokens is not None:
        print(f"image tokens a step  {plan.tokens:,}")
    for title, parts in (("memory a process", plan.memory), ("host memory", plan.host)):
        if parts:
            named = ", ".join(f"{name} {size / 1e6:,.1f}" for name, size in parts.items() if size)
            print(f"{title:<20} {sum(parts.values()) / 1e6:,.1f} MB: {named}")


def duration(seconds: float) -> str:
    """`3 s`, `5 min`, `2.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
