"""A request: one video to make, and what it depends on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogstyle.config import require
from cogstyle.files import fingerprint, sha256
from cogstyle.pictures import naming
from cogstyle.sampling.models import GIVEN
from cogstyle.sampling.options import Options
from cogstyle.sampling.partial_video import PartialVideo, read_part
from cogstyle.sampling.recaption import OFF, How, Recaption, Rewritten

if TYPE_CHECKING:
    from cogstyle.sampling.pipeline import Pipeline

VALUES = ("prompt", "recaption", "rewritten", *GIVEN, *(one.name for one in fields(Options)))


@dataclass(frozen=True)
class Request:
    """One video to make: `from_values`, then `identify`, then `begin`.

    Args:
        options: the seed among them.
        start: tokens of what there is of it, given or left by a stopped run; None: nothing.
        given: names of the files that `start` comes from, by `GIVEN`: for the json beside the video.
        identity: all that the video depends on, as in its json; `identify` finds it.
        known: keyframes that are given; `begin` counts them.
        recaption: what rewrites the prompt, see `find_recaption`; `identify` lets it, and it is "off" then.
        rewritten: the prompt's rewriting, where `recaption` is a file of lines.
        notes: what became of the prompt.
    """

    prompt: str
    options: Options = Options()
    start: PartialVideo | None = None
    given: Mapping[str, str | list[str]] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)
    known: int = 0
    recaption: How | None = None
    rewritten: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether all keyframes are there."""
        return not {"images", "videos"}.isdisjoint(self.given) or (self.start is not None and self.start.whole)

    @property
    def mark(self) -> str:
        """A short name for all that the video depends on."""
        return fingerprint(json.dumps(self.identity, sort_keys=True))


def from_values(values: Mapping[str, Any]) -> Request:
    """A request from a prompt, options and files by their names (`VALUES`); None is as if left out.

    Raises:
        ConfigError: for an unknown name or a value out of range.
    """
    asked = {name: value for name, value in values.items() if value is not None}
    unknown = sorted(set(asked) - set(VALUES))
    require(not unknown, f"unknown key {', '.join(unknown)}; known are {', '.join(VALUES)}")
    require("prompt" in asked, "missing key prompt")
    files = {name: asked.pop(name) for name in GIVEN if name in asked}
    given = {name: [*map(str, it)] if isinstance(it, list | tuple) else str(it) for name, it in files.items()}
    recaption, rewritten = asked.pop("recaption", None), asked.pop("rewritten", None)
    return Request(asked.pop("prompt"), Options(**asked), given=given, recaption=recaption, rewritten=rewritten)


def identify(pipe: "Pipeline", request: Request) -> Request:
    """Rewrite the prompt if that is asked for, validate, and name all that the video depends on; nothing is drawn.

    Raises:
        PromptError, ConfigError, BundleError: see `validate`.
        MediaError: if a given file cannot be read.
    """
    said: dict[str, Any] = {name: request.identity[name] for name in ("recaption",) if name in request.identity}
    if request.recaption != OFF:
        found = _rewritten(pipe.recaption(request.recaption), request)
        said = {"recaption": found.info} if found.info else {}
        notes = (found.note,) if found.note else ()
        request = replace(request, prompt=found.drawn, recaption=OFF, rewritten=None, notes=notes)
    pipe.check(request.prompt, request.options, whole=request.whole)
    contents = {name: _contents(name, value) for name, value in request.given.items()}
    if request.start is not None and not contents:
        start = request.start
        contents["tokens"] = fingerprint(start.level, start.whole, start.numbers, start.tokens_BFL.tolist())
    identity = {**pipe.identity(request.prompt, request.options), "given_sha256": contents, **said}
    return replace(request, identity=json.loads(json.dumps(identity)))  # as the json gives it back


def _rewritten(recaption: Recaption, request: Request) -> Rewritten:
    if request.rewritten is not None:
        recaption = recaption.of_lines([request.rewritten])
    return recaption([request.prompt])[0]


def begin(pipe: "Pipeline", request: Request, part: Path | None = None) -> Request:
    """The request with the tokens of what is given, or of what a stopped run left.

    Args:
        part: what `partial_video.write_part` wrote of this request; a file that is not there is as None.

    Raises:
        MediaError: if a given picture or video cannot be read.
        BundleError: if the part is damaged, or belongs to another request.
    """
    start = pipe.start(request.options, 1, **request.given) if request.given else request.start  # type: ignore[arg-type]
    known = 0 if start is None else start.tokens_BFL.shape[1]
    left = read_part(part, request.mark) if part is not None and part.exists() else start
    return replace(request, start=left, known=known)


def _contents(name: str, value: str | list[str]) -> Any:
    """sha256 of a given file, or of each."""
    if isinstance(value, list):
        return [_contents(name, one) for one in value]
    with naming("video" if name in ("continue_from", "videos") else "image", Path(value)):
        return content_hash(Path(value))


def content_hash(path: Path) -> str:
    """sha256 of a file, or of the names and files in a folder."""
    if path.is_dir():
        return fingerprint([(file.name, content_hash(file)) for file in sorted(path.iterdir()) if file.is_file()])
    status = path.stat() if path.exists() else None
    return sha256(path) if status is None else _hash_of(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _hash_of(path: Path, size: int, mtime: int) -> str:
    """One file is often given to many requests."""
    return sha256(path)
