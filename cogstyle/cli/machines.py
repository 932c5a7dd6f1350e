"""Options of commands whose work many machines share."""

import argparse
import os

from cogstyle.config import require

ENGINES = ("local", "ray")


def add_machine_arguments(parser: argparse.ArgumentParser, *, workers: str) -> None:
    """Args: workers: what `--workers` means without Ray."""
    parser.add_argument("--workers", type=int, default=0, help=f"{workers}; with --engine ray actors, 0: all that fit")
    of_shard = "i/n: do the i-th of n shares, one a machine (default: the task of a SLURM array, else all)"
    parser.add_argument("--shard", help=of_shard)
    parser.add_argument("--engine", choices=ENGINES, default="local", help="ray: on a Ray cluster, docs/cluster.md")


def parse_shard(text: str | None) -> tuple[int, int]:
    """ "2/8" -> (2, 8); None: the task of a SLURM array, counted from its first one; (1, 1) without an array.

    Raises:
        ConfigError: if it is none of n shares, or the tasks of the array are not evenly numbered.
    """
    if text is None and (task := os.environ.get("SLURM_ARRAY_TASK_ID")) and "SLURM_ARRAY_TASK_COUNT" in os.environ:
        count, first, step = (os.environ.get(f"SLURM_ARRAY_TASK_{name}", "1") for name in ("COUNT", "MIN", "STEP"))
        numbers = (task, count, first, step)
        good = all(number.isdecimal() for number in numbers) and int(step) > 0
        place, rest = divmod(int(task) - int(first), int(step)) if good else (0, 1)
        good = good and not rest and 0 <= place < int(count)
        require(good, f"SLURM's task {task} is none of {count} from {first} in steps of {step}: give --shard i/n")
        return place + 1, int(count)
    number, _, total = (text or "1/1").partition("/")
    good = number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)
    require(good, f"shard {text!r} must be i/n with i from 1 to n, such as 1/4")
    return int(number), int(total)
