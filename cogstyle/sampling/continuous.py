"""Continuous batching: videos of equal options are drawn side by side, and others join at the border of a frame.

Who comes later is drawn until it is as far as the others, which wait meanwhile; then all go on together. Every part
goes on as if it had not stopped, so nobody's video depends on who joined it, or in which order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from cogstyle.devices import free_memory
from cogstyle.sampling import cost, partial_video
from cogstyle.sampling.decode import Progress
from cogstyle.sampling.outputs import Output
from cogstyle.sampling.partial_video import PartialVideo
from cogstyle.sampling.request import Request
from cogstyle.video import Video

if TYPE_CHECKING:
    from cogstyle.sampling.pipeline import Pipeline

LARGEST_BATCH = 16  # videos sampled side by side; more gain nothing


@dataclass(frozen=True)
class Item:
    """A video to make: a request as `begin` gives it, and where its files go."""

    request: Request
    output: Output
    alone: bool = False  # drawn by itself, because a batch with it failed


AnyItem = TypeVar("AnyItem", bound=Item)


def far(part: PartialVideo | None) -> tuple[object, ...]:
    """How far a video is; who is less far comes first."""
    return (0, 0) if part is None else (part.level, part.tokens_BFL.shape[1], part.whole, part.numbers or ())


def batches(pipe: "Pipeline", requests: Sequence[Request], budget: float | None = None) -> Iterator[list[int]]:
    """Numbers of requests of equal options (but for the seed) and equally far, to be sampled side by side.

    Args:
        budget: bytes that the keys and values of a batch may take; None: half of what is free beside the weights.
    """
    if budget is None and requests:
        pipe.read_weights(requests[0].options, whole=requests[0].whole)  # which take their share of the memory first
    most_bytes = free_memory(pipe.device) / 2 if budget is None else budget
    groups: dict[object, list[int]] = {}
    for number, request in enumerate(requests):
        groups.setdefault((replace(request.options, seed=0), far(request.start)), []).append(number)
    for group in groups.values():
        one = requests[group[0]]
        most = int(min(LARGEST_BATCH, max(1, most_bytes / cost.memory_of_one(pipe.bundle, one.options, one.start))))
        for first in range(0, len(group), most):
            yield group[first : first + most]


class _Border(Exception):  # noqa: N818
    """Others join here."""


class Continuous(Generic[AnyItem]):
    """Videos of equal options, each from wherever it is.

    while group := videos.group():
        for item, video in videos.draw(group, on_part=..., progress=...):
            write(video, item.request, item.output)

    Args:
        arrivals: asked at every border of a frame for those that join now.
        budget: as `batches` takes it.
    """

    def __init__(
        self,
        pipe: "Pipeline",
        items: Sequence[AnyItem],
        arrivals: Callable[[], Sequence[AnyItem]] = tuple,
        *,
        budget: float | None = None,
    ) -> None:
        self.pipe, self.items, self.arrivals, self.budget = pipe, list(items), arrivals, budget

    def group(self) -> list[AnyItem]:
        """Who is drawn next, those least far; none when all are made."""
        if not self.items:
            return []
        first = min(self.items, key=lambda one: far(one.request.start))
        if first.alone:
            return [first]
        there = far(first.request.start)
        equal = [one for one in self.items if far(one.request.start) == there and not one.alone]
        return [equal[number] for number in next(batches(self.pipe, [one.request for one in equal], self.budget))]

    def draw(
        self, group: Sequence[AnyItem], *, on_part: Callable[[PartialVideo], None], progress: Progress
    ) -> list[tuple[AnyItem, Video]]:
        """Draw a group until its videos are there, which are given back; or until others join it: nothing is.

        If this raises, the group is as far as the last part that `on_part` was shown.
        """
        requests, own = [one.request for one in group], {id(one) for one in group}
        self.items = [one for one in self.items if id(one) not in own]
        ahead, now = {far(one.request.start) for one in self.items if not one.alone}, list(group)

        def keep(part: PartialVideo) -> None:
            for place, tokens_FL in enumerate(part.tokens_BFL):
                start = replace(part, tokens_BFL=tokens_FL[None])
                now[place] = replace(now[place], request=replace(now[place].request, start=start))
            on_part(part)
            if (part.whole and part.level == requests[0].options.levels) or group[0].alone:
                return
            self.items += (new := self.arrivals())
            if new or far(part) in ahead:
                raise _Border

        starts = [request.start for request in requests if request.start is not None]
        try:
            videos = self.pipe.sample(
                [request.prompt for request in requests],
                [request.options.seed for request in requests],
                requests[0].options,
                start=partial_video.together(starts) if starts else None,
                on_part=keep,
                progress=progress,
            )
        except _Border:
            videos = None
        finally:
            self.items += now
        if videos is None:
            return []
        self.drop(now)
        return list(zip(now, videos, strict=True))

    def drop(self, group: Sequence[AnyItem]) -> None:
        """Draw these no more."""
        gone = {one.output for one in group}
        self.items = [one for one in self.items if one.output not in gone]

    def separate(self, group: Sequence[AnyItem]) -> None:
        """Draw each of these by itself from now on."""
        apart = {one.output for one in group}
        self.items = [replace(one, alone=True) if one.output in apart else one for one in self.items]
