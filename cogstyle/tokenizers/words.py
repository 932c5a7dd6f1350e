"""The words of the captions that a bundle's weights were trained with."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

LETTERS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
WORD = re.compile(r"\w+(?:['’-]\w+)*")


def plain(text: str) -> str:
    """A text as captions are compared: NFKC, without upper case."""
    return unicodedata.normalize("NFKC", text).casefold()


@dataclass(frozen=True)
class Words:
    """Lists of words (or phrases, as in Chinese, which has no spaces) by what they name; empty: nothing is known.

    Args:
        openings: the words that captions begin with, where words are parted by spaces.
    """

    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    openings: Sequence[str] = ()

    @classmethod
    def of(cls, table: Mapping[str, Sequence[str]]) -> "Words":
        """From a [words] table: lists by name, one of them `openings`."""
        groups = {name: tuple(words) for name, words in table.items() if name != "openings"}
        return cls(groups, tuple(map(plain, table.get("openings", ()))))

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(map(plain, (word for words in self.groups.values() for word in words)))

    @cached_property
    def _unspaced(self) -> re.Pattern[str]:
        """Any of the phrases that are written without spaces, the longest first."""
        phrases = sorted((word for word in self._known if not word.isascii()), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, phrases)) or r"(?!)")

    @cached_property
    def _spaced(self) -> frozenset[str]:
        return frozenset(word for phrase in self._known if phrase.isascii() for word in WORD.findall(phrase))

    def unknown(self, text: str) -> list[str]:
        """The words of `text` that no caption had, in order, each once; none where nothing is known."""
        if not self.groups:
            return []
        left = self._unspaced.sub(" ", plain(text))
        return list(dict.fromkeys(word for word in WORD.findall(left) if word not in self._spaced))

    def opens_anew(self, text: str) -> bool:
        """Whether `text` begins with a word that began no caption."""
        first = LETTERS.match(plain(text).lstrip())
        return bool(self.openings) and first is not None and first.group() not in self.openings


NO_WORDS = Words()
