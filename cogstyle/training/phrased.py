"""Pairs of texts to train a language model on, and the slips that people make when they write."""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cogstyle.config import require
from cogstyle.data.pairs import Pair, Phrased, read_phrasings
from cogstyle.files import sha256
from cogstyle.training.encoding import Validation

ARTICLES = ("a", "an", "the")
MARKS = ",.;:!?，。；：！？、"  # fmt: skip
LEAST_WORD = 4  # letters of a word that is misspelt


class Pairs(Protocol):
    """Where pairs come from."""

    def draw(self, rng: np.random.Generator, count: int) -> list[Pair]:
        """Pairs to train on."""

    def held_back(self, count: int) -> dict[str, list[Pair]]:
        """Pairs that training never shows, at most `count` of each kind."""


@dataclass(frozen=True)
class FilePairs:
    """Pairs of captions that somebody has."""

    train: Sequence[Pair]
    validation: Sequence[Pair]

    def draw(self, rng: np.random.Generator, count: int) -> list[Pair]:
        return [self.train[k] for k in rng.integers(len(self.train), size=count)]

    def held_back(self, count: int) -> dict[str, list[Pair]]:
        step = max(1, len(self.validation) // count)
        return {"pairs": list(self.validation[::step][:count])}


@dataclass(frozen=True)
class PairData:
    """Tables (CSV, JSONL) of captions and phrasings, as `read_phrasings` reads them."""

    pairs: str | tuple[str, ...]
    validation_rows: Validation = 256  # captions to validate on, at most a tenth; with fewer than ten: all that train

    @property
    def _paths(self) -> list[Path]:
        return [Path(name).expanduser() for name in ((self.pairs,) if isinstance(self.pairs, str) else self.pairs)]

    def read(self) -> FilePairs:
        """
        Raises:
            ConfigError, FileError: see `read_phrasings`; for two captions that the same words mean.
        """
        rows = [row for path in self._paths for row in read_phrasings(path)]
        _check_meanings(rows)
        few = min(self.validation_rows, len(rows) // 10)
        order = np.random.default_rng(0).permutation(len(rows))
        held, rest = ([pair for k in part for pair in rows[k].pairs] for part in (order[:few], order[few:]))
        return FilePairs(rest, held or rest)

    def identity(self) -> dict[str, Any]:
        """What the rows depend on beside the keys: the contents of the files."""
        return {"contents": [sha256(path) for path in self._paths]}


def _check_meanings(rows: Sequence[Phrased]) -> None:
    meant: dict[str, str] = {}
    for row in rows:
        for said, caption in row.pairs:
            other = meant.setdefault(said, caption)
            require(other == caption, f"pairs: {said!r:.80} stands for both {other!r:.80} and {caption!r:.80}")


@dataclass(frozen=True)
class Slips:
    """Slips that a text gets, each with its own chance; the chance that a text gets any is `share`."""

    share: float

    @cached_property
    def _kinds(self) -> tuple[Any, ...]:
        return (_without_articles, _other_marks, _misspelt, _with_strange_word)

    def __call__(self, text: str, rng: np.random.Generator) -> str:
        """The text, perhaps with one or two slips."""
        if rng.random() >= self.share:
            return text
        for k in rng.integers(len(self._kinds), size=1 + int(rng.integers(2))):
            text = self._kinds[k](text, rng) or text
        return text


def _without_articles(text: str, rng: np.random.Generator) -> str:
    return " ".join(word for word in text.split() if word.lower() not in ARTICLES)


def _other_marks(text: str, rng: np.random.Generator) -> str:
    bare = "".join(letter for letter in text if letter not in MARKS)
    return bare if rng.random() < 0.5 else text.rstrip(MARKS) + MARKS[int(rng.integers(len(MARKS)))]


def _misspelt(text: str, rng: np.random.Generator) -> str:
    """One letter of a word is left out, doubled, another one, or in the wrong place."""
    words = text.split()
    long = [k for k, word in enumerate(words) if len(word) >= LEAST_WORD and word.isascii()]
    if not long:
        return text
    k = long[int(rng.integers(len(long)))]
    word, at = words[k], 1 + int(rng.integers(len(words[k]) - 2))
    middle = word[at]
    changed = ("", middle * 2, string.ascii_lowercase[int(rng.integers(26))], word[at + 1] + middle)
    kind = int(rng.integers(4))
    words[k] = word[:at] + changed[kind] + word[at + 1 + (kind == 3) :]
    return " ".join(words)


def _with_strange_word(text: str, rng: np.random.Generator) -> str:
    """A word that says nothing, at the beginning or the end or between two others."""
    strange = "".join(string.ascii_lowercase[k] for k in rng.integers(26, size=int(rng.integers(3, 9))))
    words = text.split()
    words.insert(int(rng.integers(len(words) + 1)), strange)
    return " ".join(words)
