"""Markdown tables and curves of whatever the claims' runs have found so far."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from claims_arms import ARMS, DRAWING

from cogstyle.pictures import write_png
from cogstyle.shapes_report.markdown import table
from cogstyle.training.curves import Line, draw_arms

Rows = Mapping[int, dict[str, Any]]  # what one arm found, by seed
Found = Mapping[str, Rows]


def spread(values: Sequence[float], digits: int | str) -> str:
    """Mean and standard deviation over the seeds, with so many digits, or as a share ("%")."""
    there, percent = np.array([value for value in values if np.isfinite(value)], float), digits == "%"
    if not there.size:
        return "-"
    there, digits = (100 * there, 0) if percent else (there, digits)
    deviation = f" ± {there.std(ddof=1):.{digits}f}" if there.size > 1 else ""
    return f"{there.mean():.{digits}f}{deviation}{' %' if percent else ''}"


def at(row: dict[str, Any], *path: str) -> float:
    """A figure inside a result; no number if it is not there."""
    value: Any = row
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return float("nan") if value is None else float(value)


def lines(head: Sequence[str], rows: Mapping[str, Rows], paths: Sequence[tuple[Any, ...]]) -> str:
    """A table with a row for each arm that has results; a path ends with the digits, or "%"."""
    body = []
    for name, seeds in rows.items():
        if seeds:
            cells = [spread([at(row, *path[:-1]) for row in seeds.values()], path[-1]) for path in paths]
            body.append([name, str(len(seeds)), *cells])
    return table(["", "seeds", *head], body) if body else "nothing found yet"


def arms(found: Found, names: Sequence[str]) -> dict[str, Rows]:
    return {ARMS[name].says: found.get(name, {}) for name in names}


def inside(rows: Rows) -> dict[str, Rows]:
    """Results that hold a table of several ways, turned round: way -> seed -> figures."""
    ways = dict.fromkeys(way for row in rows.values() for way in row)
    return {way: {seed: row[way] for seed, row in rows.items() if way in row} for way in ways}


SHOWN = [("look", "%"), ("last frame", "%"), ("motion", "%"), ("all", "%"), ("distance", 3)]
SHOWN_HEAD = ["look", "look of the last frame", "action and direction", "all", "distance from the motion"]


def claim_a(found: Found) -> str:
    names = ("copied", "random", "all", "scratch")
    firsts = ("copied", "all", "scratch")
    head, paths = ["loss", *SHOWN_HEAD, "s a step"], [("loss", 3), *SHOWN, ("step seconds", 2)]
    first = [("first frame", "loss", 3), ("first frame", "read right", "%"), ("first frame", "equal tokens", "%")]
    left = lines(["loss on images", "first frames read right", "tokens as before"], arms(found, firsts), first)
    return lines(head, arms(found, names), paths) + "\n\n" + left


def claim_b(found: Found) -> str:
    rates = ("1", "2", "4", "8")
    rows = arms(found, ("copied", "one_rate"))
    paths = [("loss", 3), *(("loss by rate", rate, 3) for rate in rates), *SHOWN]
    losses = lines(["loss", *(f"at {rate}" for rate in rates), *SHOWN_HEAD], rows, paths)
    moves = lines([f"movement / true at {rate}" for rate in rates[:3]], rows, [("movement", r, 2) for r in rates[:3]])
    return losses + "\n\n" + moves


def claim_c(found: Found) -> str:
    head = [*SHOWN_HEAD, "flicker", "steps in a row", "s a clip"]
    paths = [*SHOWN, ("flicker", 3), ("steps", 0), ("seconds", 1)]
    return lines(head, inside(found.get("clips", {})), paths)


def claim_d(found: Found) -> str:
    return lines(["loss", *SHOWN_HEAD], arms(found, ("copied", "released")), [("loss", 3), *SHOWN])


def claim_e(found: Found) -> str:
    losses = lines(["loss"], arms(found, ("window_2", "window_4", "window_full")), [("loss", 3)])
    head = ["steps a level", "side by side", "s a level", "side by side"]
    paths = [
        (key, way, digits) for key, digits in (("steps", 0), ("seconds", 2)) for way in ("sequential", "wavefront")
    ]
    return losses + "\n\n" + lines(head, inside(found.get("parallel", {})), paths)


def claim_f(found: Found) -> str:
    rows = {name.replace("_", " "): found.get(name, {}) for name in DRAWING}
    return lines([*SHOWN_HEAD, "flicker"], rows, [*SHOWN, ("flicker", 3)])


CLAIMS: dict[str, Callable[[Found], str]] = {
    "a": claim_a, "b": claim_b, "c": claim_c, "d": claim_d, "e": claim_e, "f": claim_f,
}  # fmt: skip


def tables(found: Found, claims: Sequence[str]) -> str:
    """The tables of some claims, as far as there are results."""
    return "\n\n".join(f"### ({claim})\n\n{CLAIMS[claim](found)}" for claim in sorted(claims))


def curve(path: Path) -> Line:
    """Validation loss after so many steps, from a log that may still grow; a panel counts steps from 0."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return [(row["step"] - 1, row["validation_loss"]) for row in rows if "validation_loss" in row]


def draw(claims: Mapping[str, Sequence[str]], runs: Path, seeds: Sequence[int], folder: Path) -> list[Path]:
    """Validation loss of every claim's arms, claims-a.png and so on; the paths that were written.

    Losses of (c) are not on the same frames, so there is no panel of them; (a) has one more without its worst arm.
    """
    written = []
    for claim, names in claims.items():
        curves = {
            ARMS[name].says: [line for seed in seeds if len(line := curve(runs / f"{name}-{seed}" / "log.jsonl")) > 1]
            for name in names
            if name in ARMS
        }
        curves = {says: found for says, found in curves.items() if found}
        if claim == "c" or not curves:
            continue
        title = f"({claim}) validation loss, nats a token, after so many steps"
        panels = [draw_arms(title, curves)]
        if claim == "a" and len(curves) == len(names):
            panels.append(draw_arms("(a) without the last", dict(list(curves.items())[:-1])))
        folder.mkdir(parents=True, exist_ok=True)
        written.append(folder / f"claims-{claim}.png")
        write_png(written[-1], np.concatenate(panels))
    return written
