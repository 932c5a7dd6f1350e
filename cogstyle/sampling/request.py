"""A request: one video to make, what it depends on, and what there is of it already."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogstyle.files import fingerprint, sha256
from cogstyle.pictures import naming
from cogstyle.sampling.options import Options
from cogstyle.sampling.partial_video import PartialVideo, read_part

if TYPE_CHECKING:
    from cogstyle.sampling.pipeline import Pipeline

LARGEST_BATCH = 16  # videos sampled side by side; more gain nothing


@dataclass(frozen=True)
class Request:
    """One video to make, and where it goes."""

    prompt: str
    out: Path
    options: Options
    given: Mapping[str, Any] = field(default_factory=dict)  # files it starts from, by the names of `Models.start`
    identity: Mapping[str, Any] = field(default_factory=dict)  # all that the video depends on, as in its json
    start: PartialVideo | None = None  # what is given of it, or a stopped run left
    known: int = 0  # keyframes that are given

    @property
    def part(self) -> Path:
        """What is there of the video while it is made."""
        return self.out.with_name(self.out.name + ".part")

    @property
    def whole(self) -> bool:
        """Whether all keyframes are given."""
        return "images" in self.given

    @property
    def mark(self) -> str:
        """A short name for all that the video depends on."""
        return fingerprint(json.dumps(self.identity, sort_keys=True))


def identify(pipe: "Pipeline", request: Request) -> Request:
    """The request with its identity; raises what sampling it would raise, before anything is drawn.

    Raises:
        PromptError, ConfigError, BundleError: see `validate`.
        MediaError: if a given file cannot be read.
    """
    pipe.check(request.prompt, request.options, whole=request.whole)
    contents = {}
    for name, value in request.given.items():
        with naming("video" if name == "continue_from" else "image", value):
            contents[name] = content_hash(value)
    identity = {**pipe.identity(request.prompt, request.options), "given_sha256": contents}
    return replace(request, identity=json.loads(json.dumps(identity)))  # as the json gives it back


def begin(pipe: "Pipeline", request: Request, *, resume: bool) -> Request:
    """The request with what is given of it, or with what a stopped run left.

    Raises:
        MediaError: if a given picture or video cannot be read.
        BundleError: if what a run left is damaged, or belongs to another request.
    """
    given = pipe.start(request.options, 1, **request.given)
    known = 0 if given is None else given.tokens_BFL.shape[1]
    left = read_part(request.part, request.mark) if resume and request.part.exists() else given
    return replace(request, start=left, known=known)


def content_hash(path: Path | Sequence[Path]) -> Any:
    """sha256 of a file, of the names and files in a folder, or a list of such."""
    if not isinstance(path, Path):
        return [content_hash(one) for one in path]
    if path.is_dir():
        return fingerprint([(file.name, content_hash(file)) for file in sorted(path.iterdir()) if file.is_file()])
    status = path.stat() if path.exists() else None
    return sha256(path) if status is None else _hash_of(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _hash_of(path: Path, size: int, mtime: int) -> str:
    """One file is often given to many requests."""
    return sha256(path)


def batches(pipe: "Pipeline", requests: Sequence[Request], budget: float) -> Iterator[list[Request]]:
    """Requests of equal options (but for the seed) and equally far, side by side, as many as `budget` bytes hold."""
    groups: dict[object, list[Request]] = {}
    for request in requests:
        start = request.start
        far = None if start is None else (start.level, start.whole, start.tokens_BFL.shape[1])
        groups.setdefault((replace(request.options, seed=0), far), []).append(request)
    for group in groups.values():
        one = pipe.memory_of_one(group[0].options, start=group[0].start)
        most = int(min(LARGEST_BATCH, max(1, budget // one)))
        for first in range(0, len(group), most):
            yield group[first : first + most]
