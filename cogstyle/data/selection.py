"""Which rows of shards are worth training on: `[data.quality]` of a recipe, by the scores that encoding kept."""

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval

from cogstyle.config import require
from cogstyle.data.quality import COLUMNS, duplicates
from cogstyle.data.shards import Shards
from cogstyle.errors import ConfigError

DUPLICATES, RANDOM, HAS = "duplicates", "random", "caption has "
FEWEST = 2  # rows that are worth a run
Facts = dict[str, Any]


@dataclass(frozen=True)
class QualityConfig:
    """The rows to train on: those that have at least these scores, and of each stratum the best share of them."""

    keep: Annotated[float, Interval(gt=0.0, le=1.0)] = 1.0  # share of the rows of a stratum, of those that pass `least`
    by: str = "psnr"  # the score that says which are best; "random": a control
    strata: tuple[str, ...] = ()  # "rate", "length", "caption language", "folder", "caption has REGEX"
    least: dict[str, float | tuple[float, float]] = field(default_factory=dict)  # lowest score, or [lowest, highest]

    def __post_init__(self) -> None:
        known = (*COLUMNS, DUPLICATES)
        for name in (*self.least, *([self.by] if self.by != RANDOM else [])):
            require(name in known, f"unknown score {name!r}; known are {', '.join(known)}")
        for name, limits in self.least.items():
            if isinstance(limits, tuple):
                low, high = limits
                require(low <= high, f"least {name} [{low:g}, {high:g}] must be [lowest, highest]")
        for name in self.strata:
            stratum(name)

    @property
    def scores(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return tuple(dict.fromkeys([*self.least, *([] if self.by == RANDOM or self.keep == 1.0 else [self.by])]))


def stratum(name: str) -> Callable[[Facts, str], str]:
    """What says in which stratum a row lies, by its facts and caption.

    Raises:
        ConfigError: for an unknown name.
    """
    if name.startswith(HAS):
        try:
            wanted = re.compile(name.removeprefix(HAS))
        except re.error as error:
            raise ConfigError(f"strata {name!r}: {error}") from None
        return lambda facts, caption: f"{wanted.pattern}: {'yes' if wanted.search(caption) else 'no'}"
    known: dict[str, Callable[[Facts, str], str]] = {
        "rate": lambda facts, caption: f"{facts['rate']:g} a second",
        "length": lambda facts, caption: _octave(facts["length"]),
        "caption language": lambda facts, caption: facts["language"] or _script(caption),
        "folder": lambda facts, caption: facts["folder"],
    }
    names = ", ".join((*known, f"{HAS}REGEX"))
    require(name in known, f"unknown stratum {name!r}; known are {names}")
    return known[name]


def _octave(seconds: float) -> str:
    low = 2.0 ** math.floor(math.log2(max(seconds, 2.0**-4)))
    return f"{low:g} to {2 * low:g} s"


def _script(caption: str) -> str:
    """The writing of the first letter: latin, cjk, cyrillic, ..."""
    letter = next((letter for letter in caption if letter.isalpha()), "")
    return unicodedata.name(letter, "").partition(" ")[0].lower() or "none"


def select(data: Shards, how: QualityConfig) -> Shards:
    """The rows to train on, in their order; `kept` says how many of each stratum they are.

    Raises:
        ConfigError: if rows have no such scores, or too few are left.
    """
    facts = data.facts or []
    bare = [one for one in facts if "look" not in one]
    where = ", ".join(dict.fromkeys(one["folder"] for one in bare or facts))
    require(
        not bare, f"{len(bare)} of {len(facts)} rows of {where} have no scores; cogstyle encode --quality adds them"
    )
    columns = {name: _column(facts, name, where) for name in how.scores}
    passes = np.ones(len(facts), bool)
    for name, limits in how.least.items():
        low, high = limits if isinstance(limits, tuple) else (limits, math.inf)
        passes &= (columns[name] >= low) & (columns[name] <= high)
    worth = columns.get(how.by, np.random.default_rng(0).random(len(facts)))
    ways = [stratum(name) for name in how.strata]
    groups: dict[str, list[int]] = {}
    for row, (one, caption) in enumerate(zip(facts, data.captions, strict=True)):
        groups.setdefault(", ".join(way(one, caption) for way in ways) or "all", []).append(row)
    chosen: list[int] = []
    kept: dict[str, tuple[int, int]] = {}
    for name in sorted(groups):
        good = [row for row in groups[name] if passes[row]]
        best = sorted(good, key=lambda row: (-np.nan_to_num(worth[row], nan=-np.inf), row))
        best = best[: math.ceil(how.keep * len(good) - 1e-9)]
        kept[name] = (len(groups[name]), len(best))
        chosen += best
    few = f"[data.quality] keeps {len(chosen)} of {len(facts)} rows of {where}: {FEWEST} are the fewest to train on"
    require(len(chosen) >= FEWEST, f"{few}; lower keep or least")
    return replace(data.take(np.array(sorted(chosen))), kept=kept)


def _column(facts: Sequence[Facts], name: str, where: str) -> np.ndarray:
    if name == DUPLICATES:
        return duplicates(facts).astype(float)
    found = np.array([one.get(name, math.nan) for one in facts], float)
    flag = {"read": " --judge", "scorer": " --scorer"}.get(name, "")
    says = f"no row of {where} has a score {name}; cogstyle encode --quality{flag} adds it where it applies"
    require(bool(np.isfinite(found).any()), says)
    return found


def said_of(kept: dict[str, tuple[int, int]]) -> list[str]:
    """How many rows were chosen, a line a stratum."""
    whole, rows = (sum(counts[k] for counts in kept.values()) for k in (0, 1))
    each = [f"  {name}: {chosen} of {count}" for name, (count, chosen) in kept.items()] if len(kept) > 1 else []
    return [f"quality keeps {rows} of {whole} rows", *each]
