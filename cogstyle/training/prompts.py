"""Prompts to draw while training: what preference asks for."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval

from cogstyle.config import require
from cogstyle.files import fingerprint, read_text
from cogstyle.training.footage import CaptionData

Held = Annotated[int, Interval(ge=1, le=10**5)]


@dataclass(frozen=True)
class Prompts:
    """Prompts by number, each with the keyframe rate that suits it; None: the usual one."""

    count: int
    at: Callable[[int], tuple[str, float | None]]
    own: Sequence[str] = ()  # those that people wrote: they may be too long


def split(captions: Sequence[str], most: int) -> tuple[Prompts, Prompts]:
    """Prompts to train on, and those that are held back: a tenth, `most` at most; a single one is both."""
    held = min(most, max(1, len(captions) // 10))
    return _listed(captions[:-held] or captions), _listed(captions[-held:])


def _listed(captions: Sequence[str]) -> Prompts:
    return Prompts(len(captions), lambda number: (captions[number], None), captions)


@dataclass(frozen=True)
class PromptData:
    """Prompts in a file."""

    prompts: str  # a prompt a line; of .jsonl an object with `prompt`
    validation_prompts: Held = 32  # at most a tenth of them

    def read(self) -> tuple[Prompts, Prompts]:
        """
        Raises:
            FileError, ConfigError: if the file cannot be read, holds none, or a line is wrong.
        """
        return split(self._lines(), self.validation_prompts)

    def identity(self) -> dict[str, Any]:
        """What is drawn beside the keys."""
        return {"prompts": fingerprint(self._lines())}

    def _lines(self) -> list[str]:
        path, found = Path(self.prompts).expanduser(), []
        for number, line in enumerate(read_text(path).splitlines(), 1):
            text: Any = line.strip()
            if text and path.suffix == ".jsonl":
                try:
                    text = json.loads(text)["prompt"]
                except (ValueError, TypeError, KeyError):
                    text = None
                good = isinstance(text, str) and bool(text.strip())
                require(good, f"{path}, line {number}: must be an object with a text under prompt")
            found += [text.strip()] if text else []
        require(bool(found), f"{path} holds no prompts")
        return list(dict.fromkeys(found))


@dataclass(frozen=True)
class PromptCaptions(CaptionData):
    """The captions of footage as prompts."""

    validation_prompts: Held = 32  # at most a tenth of them

    def read(self) -> tuple[Prompts, Prompts]:
        """
        Raises:
            ConfigError, FileError, BundleError: see `captions_of`.
        """
        return split(self.captions_of(), self.validation_prompts)

    def identity(self) -> dict[str, Any]:
        """What is drawn beside the keys."""
        return {"captions": fingerprint(self.captions_of())}
