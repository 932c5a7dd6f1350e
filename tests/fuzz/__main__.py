"""Thousands of cases: `python -m tests.fuzz --cases 5000 --seed 1`; one of them again: `--seed 1 --case 17`."""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.conftest import TASKS, debug_recipe, train
from tests.fuzz.ground import make_ground
from tests.fuzz.run import run_case


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--case", type=int, help="this one alone; its folder is kept")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cogstyle-fuzz-"))
    (folder / "debug").mkdir()
    for task in TASKS:
        train(debug_recipe(folder / "debug", task), runs=folder / "debug" / "runs", quiet=True)
    (folder / "ground").mkdir()
    ground = make_ground(folder / "ground", folder / "debug")
    one = arguments.case is not None
    first = arguments.case if one else arguments.first
    counts: Counter[str] = Counter()
    for number in range(first, first + (1 if one else arguments.cases)):
        wrong, said = run_case(arguments.seed, number, ground, folder / "case")
        if wrong or one:
            counts[wrong.split(":")[0]] += 1
            print(f"--seed {arguments.seed} --case {number}: {wrong or 'right'}\n    {said}", flush=True)
    print(f"{counts.total() if not one else 1} of {1 if one else arguments.cases}: {dict(counts)}")
    if one:
        print(f"{folder / 'case'}: stderr, stdout, here/")
    return 1 if counts and any(counts) else 0


if __name__ == "__main__":
    sys.exit(main())
