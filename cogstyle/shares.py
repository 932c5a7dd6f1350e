"""Shares of so many, with their intervals, and tables of them."""

import math
from collections.abc import Iterable, Sequence


def wilson(successes: int, n: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval for a share (95 % by default); (0, 1) when nothing was counted."""
    if n == 0:
        return 0.0, 1.0
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def share(successes: int, n: int) -> dict[str, float]:
    """{"share", "n", "low", "high"}; low and high are the 95 % Wilson interval."""
    low, high = wilson(successes, n)
    return {"share": successes / max(n, 1), "n": n, "low": low, "high": high}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def percent(row: dict[str, float]) -> str:
    """A share with its interval: "85 % (64-95)"."""
    if not row["n"]:
        return "-"
    return f"{100 * row['share']:.0f} % ({100 * row['low']:.0f}-{100 * row['high']:.0f})"
