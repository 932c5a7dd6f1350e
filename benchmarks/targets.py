"""The table of what was aimed at for speed, filled in by one run: one thread, CPU time, medians.

python benchmarks/targets.py                    # half an hour of one core
python benchmarks/targets.py --quick            # without the clip of 33 frames

The aims are set against the released loop, which is not run here: beside them stands how many times as fast as the
naive loop (tests/reference/naive_loop.py) a step is, and no verdict.
"""

import argparse
import statistics
from collections.abc import Sequence

import sampling

import cogstyle
from cogstyle.sampling.options import Options

STEP, LATE = "keyframe step, guided, start", "keyframe step, guided, 4th frame"
PATHS = ("float32", "bfloat16", "int8")
PROMPT = "a red circle moves right"


def naive_clip(found: dict[str, float], tokens: int) -> float:
    """Seconds of the naive loop's steps of a clip of 33 frames, each at the price of the nearest one measured."""
    plain, start, late, group = (
        found[f"naive: {name}, ms"] for name in ("keyframe step, plain, start", STEP, LATE, "interpolation step")
    )
    return tokens * (plain + 2 * start + 2 * late + 2 * (2 + 4 + 8) * group) / 1e3


def shapes_seconds(batch: int, levels: int, rounds: int) -> tuple[float, float]:
    """Seconds a clip of the shapes bundle in float32, sampling alone: one clip, and a batch; in turns."""
    pipe, options = cogstyle.load("shapes", device="cpu"), Options(levels=levels)
    pipe.read_weights(options)

    def seconds(count: int) -> float:
        return sampling.timed(lambda: [*pipe.stream([PROMPT] * count, range(count), options)]) / count

    seconds(1)
    pairs = [(seconds(1), seconds(batch)) for _ in range(rounds)]
    one, many = zip(*pairs, strict=True)
    return statistics.median(one), statistics.median(many)


def verdict(reached: bool) -> str:
    return "reached" if reached else "**missed**"


def rows(found: dict[str, float], arguments: argparse.Namespace) -> list[Sequence[str]]:
    """Target, figure, aim and verdict."""

    def figures(name: str) -> str:
        return " / ".join(f"{found[f'{path}: {STEP}, {name}']:.3g}" for path in PATHS)

    unknown = "not known: the released loop is not run here"
    table = [
        (
            "guided keyframe step, float32 / bfloat16 / int8, times the naive loop",
            figures("times the naive loop"),
            "6 / 10 / 12 times the released loop",
            unknown,
        )
    ]
    if "int8: clip, whole clip, s" in found:
        clip, naive = found["int8: clip, whole clip, s"], naive_clip(found, arguments.side**2)
        text = f"{naive / clip:.1f} ({clip:.0f} s; the naive loop's steps added up: {naive:.0f} s)"
        table.append(
            ("guided clip of 33 frames, int8, times the naive loop", text, "10 times the released loop", unknown)
        )
    shares = [found[f"{path}: {STEP}, % of the bus"] for path in ("float32", "int8")]
    table.append(
        (
            "% of the bus, float32 / int8, guided",
            " / ".join(f"{share:.0f}" for share in shares),
            "70 / 50",
            verdict(shares[0] >= 70 and shares[1] >= 50),
        )
    )
    one, many = shapes_seconds(arguments.batch, arguments.levels, arguments.rounds)
    frames = 4 * 2**arguments.levels + 1
    table.append(
        (f"shapes clip of {frames} frames, sampling alone, float32, s", f"{one:.2f}", "0.5", verdict(one <= 0.5))
    )
    name = f"shapes clips a second, {arguments.batch} side by side against 1"
    return [*table, (name, f"{one / many:.2f}", "4", verdict(one / many >= 4))]


def main(argv: list[str] | None = None) -> list[Sequence[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 12), ("width", 512), ("side", 20), ("codes", 20_000), ("steps", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("batch", 16), ("levels", 3), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default, help="of the shapes bundle")
    parser.add_argument("--quick", action="store_true", help="no clip of 33 frames")
    arguments = parser.parse_args(argv)
    sizes = [f"--{name}={getattr(arguments, name)}" for name in ("layers", "width", "side", "codes", "steps")]
    only = ["naive", STEP, *([] if arguments.quick else ["int8: clip"])]
    found = sampling.main([*sizes, "--paths", *PATHS, "--only", *only, *(["--quick"] if arguments.quick else [])])
    table = rows(found, arguments)
    print("\n| | here | aimed at | |\n|---|---:|---:|---|")
    for row in table:
        print(f"| {' | '.join(row)} |")
    return table


if __name__ == "__main__":
    main()
