"""Prompts rewritten before they are drawn: by a language model, a function, or a file of rewritings.

On a world whose words are known a rewriting that loses what the prompt says is refused, and a caption is left alone.
"""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogstyle.bundle import Bundle, WeightFile, holds_bundle
from cogstyle.bundle.read import places
from cogstyle.config import require
from cogstyle.errors import ConfigError, PromptError
from cogstyle.files import is_file, read_text, sha256
from cogstyle.functions import find_function, first_line
from cogstyle.sampling.hearing import Prompt
from cogstyle.sampling.rewriter import Rewriter

AUTO, OFF = "auto", "off"
KEYS = ("prompt", "rewritten")  # of a line of a .jsonl file
# modules with `canonical(text)`, `restated(text)` and `lost(asked, drawn)`
WORLDS = {"shapes": "cogstyle.shapes_world.restating"}
How = str | Path | Callable[[str], str]


@dataclass(frozen=True)
class Rewritten:
    """A prompt and what is drawn instead.

    Args:
        by: what rewrote it.
        refused: why its rewriting is not drawn; empty: it is.
    """

    asked: str
    drawn: str
    by: str
    digest: str = ""
    refused: str = ""

    @property
    def info(self) -> dict[str, str]:
        """For the json beside the video; nothing of a prompt that is drawn as it is, and was to be."""
        if self.drawn == self.asked and not self.refused:
            return {}
        found = {"asked": self.asked, "drawn": self.drawn, "by": self.by, "sha256": self.digest}
        return {**found, "refused": self.refused} if self.refused else found

    @property
    def note(self) -> str:
        """What happened, in one line; empty: nothing did."""
        if self.refused:
            return f"{self.asked!r:.80} is drawn as it is, not as {self.by} rewrites it: {self.refused}"
        return f"{self.asked!r:.80} is drawn as {self.drawn!r:.160}, says {self.by}" if self.info else ""


class Recaption:
    """What rewrites prompts.

    Args:
        name: of the language model, the function or the file.
        rewrite: a prompt -> its rewriting; raises PromptError if it has none. `str`: there is none but by words.
        lines: rewritings of prompts by their order, instead.
        world: whose words are known, one of `WORLDS`, or none.
        makes_captions: all that it gives should be captions.
    """

    def __init__(
        self,
        name: str,
        rewrite: Callable[[str], str] | None = None,
        *,
        lines: Sequence[str] = (),
        digest: str = "",
        world: str = "",
        makes_captions: bool = False,
    ) -> None:
        self.makes_captions = makes_captions
        self.name, self.rewrite, self.lines, self.digest = name, rewrite, lines, digest
        self.world: Any = importlib.import_module(WORLDS[world]) if world else None

    def __call__(self, prompts: Sequence[str]) -> list[Rewritten]:
        """Rewrite prompts.

        Raises:
            ConfigError: if a function fails or gives no text, or a file is of other prompts.
        """
        if self.rewrite is not None:
            return [self._one(prompt, self.rewrite) for prompt in prompts]
        count, ours = len(self.lines), len(prompts)
        require(count == ours, f"recaption {self.name} has {count} lines for {ours} prompts; give one a prompt")
        return [self._one(prompt, lambda _, line=line: line) for prompt, line in zip(prompts, self.lines, strict=True)]  # type: ignore[misc]

    def of_lines(self, lines: Sequence[str]) -> "Recaption":
        """The same for some of its lines."""
        some = copy(self)
        some.lines = lines
        return some

    def _one(self, prompt: str, rewrite: Callable[[str], str]) -> Rewritten:
        require(isinstance(prompt, str), f"prompt must be a text, not {prompt!r:.60}")
        asked = prompt.strip()
        if not asked or (self.world is not None and self.world.canonical(asked)):
            return Rewritten(asked, asked, self.name)
        if self.makes_captions and self.world is not None and (read := self.world.restated(asked)) is not None:
            return Rewritten(asked, Prompt.of(read, asked), self.world.__name__)  # no model reads it more surely
        if rewrite is str:
            return Rewritten(asked, asked, self.name)
        try:
            drawn = rewrite(asked)
        except PromptError as error:
            return Rewritten(asked, asked, self.name, self.digest, refused=str(error))
        drawn = drawn.strip()
        refused = self.world.lost(asked, drawn) if self.world is not None and drawn != asked else ""
        if self.makes_captions and self.world is not None and not refused and not self.world.canonical(drawn):
            refused = f"{drawn!r:.120} is no caption of its world"
        return Rewritten(asked, asked if refused else Prompt.of(drawn, asked), self.name, self.digest, refused)


def find_recaption(how: How | None, bundle: Bundle) -> Recaption:
    """What rewrites the prompts of a bundle.

    Args:
        how: "auto" (the language model that the bundle has or names), "off", the folder of a language model, a file of
            rewritings (.jsonl: objects with `prompt` and `rewritten`; any other: a line a prompt), `module:function`,
            `file.py:function`, or in Python a function, which takes a prompt and gives its rewriting; None: "auto" if
            that language model is there or the bundle's world is known, whose words are read; else "off".

    Raises:
        ConfigError: if there is none.
        FileError: for a file or folder that cannot be read, or holds no language model.
    """
    world = str(bundle.manifest.get("world", ""))
    if callable(how):
        return Recaption(getattr(how, "__qualname__", type(how).__name__), _checked(how, "function"), world=world)
    named = _named(bundle)
    if how is None and named is not None and not named.exists():
        named, how = None, None if world else OFF
    name = (AUTO if named is not None or world else OFF) if how is None else str(how)
    if name == OFF:
        return Recaption(OFF, str)
    require(bool(name.strip()), "recaption is empty; give auto, a folder, a file or a function")
    if name == AUTO and named is None and world:
        return Recaption(WORLDS[world], str, world=world, makes_captions=True)
    if name == AUTO:
        lacks = "names no language model that rewrites prompts; give a folder, a function or a file"
        require(named is not None, f"bundle {bundle.name} {lacks}")
        name = str(named)
    path = Path(name).expanduser()
    if is_file(path):
        return _of_file(path, world)
    if ":" in name and not path.exists():
        function, digest = find_function(name, "recaption", {AUTO: ""})
        return Recaption(name, _checked(function, name), digest=digest, world=world)
    model = Rewriter(path if path.exists() else name)
    world = world or model.world
    return Recaption(model.name, model, digest=model.digest, world=world, makes_captions=bool(model.world))


def _named(bundle: Bundle) -> Path | None:
    """The folder of the language model that a bundle has, or names."""
    if bundle.has(WeightFile.LANGUAGE_MODEL):
        return bundle.folder
    named = str(bundle.manifest.get("recaption", ""))
    beside = bundle.folder / Path(named).expanduser()
    return next((place for place in (beside, *places(named)) if holds_bundle(place)), beside) if named else None


def _checked(function: Callable[[str], Any], name: str) -> Callable[[str], str]:
    """A function of somebody's, whose errors and other values are said."""

    def rewrite(prompt: str) -> str:
        try:
            found = function(prompt)
        except Exception as error:  # whatever somebody's function stumbles on
            raise ConfigError(f"recaption {name} fails on {prompt!r:.60}: {first_line(error)}") from None
        good = isinstance(found, str) and bool(found.strip())
        require(good, f"recaption {name} must give a text for {prompt!r:.60}, not {found!r:.60}")
        return found

    return rewrite


def _of_file(path: Path, world: str) -> Recaption:
    """Rewritings that a file holds."""
    text, name, digest = read_text(path), str(path), sha256(path)
    lines = [line.strip() for line in text.split("\n")]
    lines = lines[:-1] if lines[-1] == "" else lines
    if path.suffix != ".jsonl":
        for number, line in enumerate(lines, 1):
            require(bool(line), f"recaption {path}:{number} is empty")
        return Recaption(name, lines=lines, digest=digest, world=world)
    table: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        for prompt, rewritten in [_pair(line, f"recaption {path}:{number}")] if line else ():
            same = table.setdefault(prompt, rewritten) == rewritten
            require(same, f"recaption {path}:{number} rewrites {prompt!r:.60} anew and otherwise")

    def rewrite(prompt: str) -> str:
        require(prompt in table, f"recaption {path} has no line for the prompt {prompt!r:.80}")
        return table[prompt]

    return Recaption(name, rewrite, digest=digest, world=world)


def _pair(line: str, where: str) -> tuple[str, str]:
    """Prompt and rewriting of a line."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: no JSON: {error}") from None
    table = found if isinstance(found, Mapping) else {}
    prompt, rewritten = (str(text).strip() if isinstance(text := table.get(key), str) else "" for key in KEYS)
    require(bool(prompt and rewritten), f'{where} must be {{"prompt": a text, "rewritten": a text}}, not {line[:60]}')
    return prompt, rewritten


def lines_of(how: Any, prompts: int) -> list[str] | None:
    """The lines of a file of rewritings by order, one for each of so many prompts; None: `how` is something else.

    Raises:
        ConfigError, FileError: see `find_recaption`; for more or fewer lines.
    """
    path = Path(str(how)).expanduser()
    if how is None or callable(how) or path.suffix == ".jsonl" or not is_file(path):
        return None
    lines = [*_of_file(path, "").lines]
    require(len(lines) == prompts, f"recaption {path} has {len(lines)} lines for {prompts} prompts; give one a prompt")
    return lines
