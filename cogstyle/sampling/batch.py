"""Many videos: requests of equal options side by side, each with its files, stopped and resumed.

The command line, a server and Python share this:

    request = from_values({"prompt": "a red circle moves right", "seed": 3, "first_frame": "a.png"})
    request, output = identify(pipe, request), Output(Path("circle.mp4"), sides=(SHEET,))  # all that can be wrong
    request = prepare(pipe, request, output, resume=True)  # tokens of a.png, or of what circle.mp4.part holds
    for batch in batches(pipe, requests):
        errors = make_videos(pipe, [requests[k] for k in batch], [outputs[k] for k in batch], progress=bar.update)

A caller that keeps parts in its own way draws with `Continuous` (or `pipe.sample`) between `begin` and `write`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cogstyle.config import require
from cogstyle.devices import launched
from cogstyle.errors import CogstyleError
from cogstyle.sampling import outputs, partial_video
from cogstyle.sampling.continuous import LARGEST_BATCH, Continuous, Item, batches  # noqa: F401  (for callers)
from cogstyle.sampling.decode import Progress
from cogstyle.sampling.outputs import PREVIEW, Output
from cogstyle.sampling.partial_video import PartialVideo
from cogstyle.sampling.prompts_file import parse_line, read_lines
from cogstyle.sampling.recaption import lines_of
from cogstyle.sampling.request import Request, begin, from_values, identify
from cogstyle.video import Video, check_output, read_last_frames

if TYPE_CHECKING:
    from cogstyle.sampling.pipeline import Pipeline

LONGEST_JOIN = 20_000  # frames of the old video
OnPart = Callable[[Output, PartialVideo], None]


def prepare(pipe: "Pipeline", request: Request, output: Output, *, resume: bool) -> Request:
    """An identified request ready to be sampled: `begin`, once it is known that its video can be written.

    Args:
        resume: go on from the part that a stopped run left beside the video.

    Raises:
        MediaError: if something is in the way, or a given file cannot be read.
        BundleError: if the part is damaged, or belongs to another request.
    """
    check_output(output.path, request.identity["fps"])
    files = [path for value in request.given.values() for path in ([value] if isinstance(value, str) else value)]
    outputs.check_written(output.path, sides=output.sides, inputs=map(Path, files))
    return begin(pipe, request, output.part if resume else None)


def make_videos(
    pipe: "Pipeline",
    requests: Sequence[Request],
    places: Sequence[Output],
    *,
    on_part: OnPart = lambda output, part: None,
    progress: Progress = lambda tokens: None,
    arrivals: Callable[[], Sequence[Item]] = tuple,
) -> list[CogstyleError | None]:
    """Sample requests of one batch (see `batches`); write videos and what goes beside them.

    If a batch fails as a whole, its videos are made one by one, so that each says what is wrong with it.

    Args:
        requests: as `prepare` or `begin` gives them.
        places: where each video goes.
        on_part: shown each part of each video, after it is saved.
        progress: told the number of tokens of every step; `cost.steps` says how many there will be.
        arrivals: asked at every border of a frame for others of equal options, which join the batch there.

    Returns:
        Why each video could not be made, None if it is there; of those that joined too, in their order.
    """
    errors: dict[Path, CogstyleError | None] = {place.path: None for place in places}

    def join() -> Sequence[Item]:
        new = arrivals()
        errors.update(dict.fromkeys(one.output.path for one in new))
        return new

    items = [Item(*pair) for pair in zip(requests, places, strict=True)]
    videos = Continuous(pipe, items, join, budget=math.inf)
    while group := videos.group():
        try:
            made = videos.draw(group, on_part=partial(_keep, pipe, group, on_part), progress=progress)
        except CogstyleError as error:
            if len(group) > 1:
                videos.separate(group)
            else:
                videos.drop(group)
                errors[group[0].output.path] = error
            continue
        for one, video in made:
            errors[one.output.path] = _error_of(write, video, one.request, one.output)
    return list(errors.values())


def _keep(pipe: "Pipeline", group: Sequence[Item], on_part: OnPart, part: PartialVideo) -> None:
    """Save a part of each video, and show it."""
    for one, tokens_FL in zip(group, part.tokens_BFL, strict=True):
        partial_video.write_part(one.output.part, tokens_FL, part, one.request.mark)
        if PREVIEW in one.output.sides:
            outputs.write_preview(one.output.path, pipe.decode(tokens_FL))
        on_part(one.output, replace(part, tokens_BFL=tokens_FL[None]))


def _error_of(act: Callable[..., object], *values: Any) -> CogstyleError | None:
    try:
        act(*values)
    except CogstyleError as error:
        return error
    return None


def write(video: Video, request: Request, output: Output) -> None:
    """Write a sampled video and what goes beside it; its info says what it came from. Its part goes.

    Raises:
        MediaError, FileError: if one cannot be written.
    """
    info = {**video.info, **request.identity, "given": dict(request.given)}
    if not request.known or not {"first_frame", "continue_from"}.isdisjoint(request.given):
        info.pop("given_frames", None)  # it went on from a part: those keyframes were drawn
    video = replace(video, info=info)
    if output.join:
        video = _joined(video, request)
    outputs.write_video(output.path, video, output.sides)
    output.part.unlink(missing_ok=True)


def _joined(video: Video, request: Request) -> Video:
    """The new frames behind the old video, or between the two that they join."""
    size = video.frames.shape[1]

    def old(path: str) -> np.ndarray:
        return read_last_frames(Path(path), LONGEST_JOIN, frame_rate=video.fps, size=size)

    if "videos" in request.given:
        sides = [old(path) for path in request.given["videos"]]
        frames = np.concatenate([sides[0], video.frames[1:-1], sides[1]])
        info = {name: value for name, value in video.info.items() if name != "given_frames"}
        return Video(frames, video.fps, {**info, "joined": [len(side) for side in sides]})
    before, repeated = old(str(request.given["continue_from"])), (request.known - 1) * 2**request.options.levels + 1
    frames = np.concatenate([before, video.frames[repeated:]])
    return Video(frames, video.fps, {**video.info, "joined": len(before)})


# ---------------------------------------------------------------- a file of prompts


@dataclass
class Lines:
    """What a prompts file asks of this process: videos to make, each with its place and line; and the rest."""

    requests: list[Request] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    kept: int = 0  # there already, and the same
    failures: dict[int, str] = field(default_factory=dict)  # what is wrong, by line
    notes: dict[int, list[str]] = field(default_factory=dict)  # why it is made again, what was not trained; by line


Row = dict[str, Any]  # {"id": line, "prompt", "options": others of `from_values`, and "out"}; as JSON has them


def read_prompts(
    pipe: "Pipeline",
    path: Path,
    folder: Output,
    values: Mapping[str, Any],
    *,
    shard: tuple[int, int] = (1, 1),
    resume: bool = False,
) -> Lines:
    """This process's share of the lines of a prompts file, ready to be made; videos that are there are left out.

    Args:
        folder: where videos go, and what goes beside each.
        values: of `from_values`, for lines that do not say otherwise.
        shard: (i, n): this machine is the i-th of n, counted from 1.
        resume: go on from the parts that a stopped run left.

    Raises:
        FileError: if the file cannot be read; what is wrong with a line is in `failures`.
    """
    rows, failures = read_rows(path, folder.path, values, shard=shard)
    found = take_rows(pipe, rows, folder, resume=resume)
    found.failures = dict(sorted({**failures, **found.failures}.items()))
    return found


def read_rows(
    path: Path, folder: Path, values: Mapping[str, Any], *, shard: tuple[int, int] = (1, 1)
) -> tuple[list[Row], dict[int, str]]:
    """As `read_prompts`, but without a pipeline: rows, and what is wrong with the lines that are none."""
    this, rows, failures, taken = launched(), list[Row](), dict[int, str](), dict[Path, int]()
    share, shares = shard
    lines = read_lines(path)
    rewritten = lines_of(values.get("recaption"), len(lines)) or [""] * len(lines)
    for (number, text), drawn in zip(lines, rewritten, strict=True):
        mine = number % shares == share % shares and number // shares % this.size == this.rank
        try:
            line = {**values, **parse_line(text, number, path.parent)} | ({"rewritten": drawn} if drawn else {})
            out = line.pop("out")
            place = outputs.inside(folder, out)
            from_values(line)
            _take(place, number, taken)
            options = {name: str(value) if isinstance(value, Path) else value for name, value in line.items()}
            row = {"id": number, "prompt": options.pop("prompt"), "options": {**options, "out": out}}
            rows += [row] if mine else []
        except CogstyleError as error:
            if mine:
                failures[number] = str(error)
    return rows, failures


def take_rows(pipe: "Pipeline", rows: Sequence[Row], folder: Output, *, resume: bool = False) -> Lines:
    """Rows ready to be made, as `read_prompts` gives them."""
    found = Lines()
    for row in rows:
        line = dict(row["options"])
        try:
            output = replace(folder, path=outputs.inside(folder.path, line.pop("out")))
            _add(pipe, found, row["id"], from_values({**line, "prompt": row["prompt"]}), output, resume)
        except CogstyleError as error:
            found.failures[row["id"]] = str(error)
    return found


class Sampler:
    """Rows -> videos, in batches; a process has one, and so has an actor of a cluster.

    Args:
        folder: where videos go, and what goes beside each.
        budget: as `batches` takes it.
        make: `make_videos`, or what shows more of it.
    """

    def __init__(
        self,
        pipe: "Pipeline",
        folder: Output,
        *,
        resume: bool = False,
        budget: float | None = None,
        make: Callable[..., list[CogstyleError | None]] = make_videos,
    ) -> None:
        self.pipe, self.folder, self.resume, self.budget, self.make = pipe, folder, resume, budget, make

    def __call__(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Yield {id, file, ok, error, made, notes} of each row, when it is known; what is there is not made again."""
        lines = take_rows(self.pipe, rows, self.folder, resume=self.resume)
        files = {row["id"]: str(self.folder.path / row["options"]["out"]) for row in rows}

        def result(number: int, error: object = None, *, made: bool = False) -> Row:
            found = {
                "id": number,
                "file": files[number],
                "ok": error is None,
                "error": "" if error is None else str(error),
            }
            return {**found, "made": made, "notes": lines.notes.get(number, [])}

        todo = set(lines.numbers)
        yield from (result(k, lines.failures.get(k)) for k in files if k not in todo)
        for batch in batches(self.pipe, lines.requests, self.budget):
            errors = self.make(self.pipe, [lines.requests[k] for k in batch], [lines.outputs[k] for k in batch])
            yield from (result(lines.numbers[k], e, made=e is None) for k, e in zip(batch, errors, strict=True))


def _add(pipe: "Pipeline", found: Lines, number: int, request: Request, output: Output, resume: bool) -> None:
    """Add a line to what was found."""
    request = identify(pipe, request)
    changed = outputs.changes(output.path, request.identity, output.sides)
    if changed == []:
        found.kept += 1
        return
    ready = prepare(pipe, request, output, resume=resume)
    again = [f"{output.path} is made again: {', '.join(changed)} changed"] if changed else []
    untrained = pipe.untrained(request.prompt, request.options, whole=request.whole)
    found.notes[number] = [*again, *request.notes, *untrained]
    found.requests.append(ready)
    found.outputs.append(output)
    found.numbers.append(number)


def _take(out: Path, number: int, taken: dict[Path, int]) -> None:
    """Note that a line writes `out`; raise ConfigError if an earlier one writes it, into it, or a folder around it."""
    for other in (out, *out.parents):
        require(other not in taken, f"line {taken.get(other)} writes {other} too; two lines cannot")
    around = next((other for other in taken if out in other.parents), None)
    require(around is None, f"two lines cannot write {out} and {around} (line {taken.get(around or out)})")
    taken[out] = number
