"""What a decode loop reads at each step, computed once: which places, into which slots, and what they see.

A plan belongs to a layout and a schedule; texts and weights come later, so no step copies anything to the device.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from cogstyle.layout import FrameLayout, Runs, Window, spatial_runs, temporal_runs
from cogstyle.model.attention import hidden
from cogstyle.model.cache import KeyValues
from cogstyle.model.fast_path import KeyRange, StepChannel
from cogstyle.model.native_step import NativePlan
from cogstyle.model.transformer import Memory, Transformer
from cogstyle.sampling.schedule import Schedule, quickest


@dataclass(frozen=True)
class ChannelPlan:
    """A channel's side of a schedule: slot and start of the run of every place, in the order of filling."""

    runs: Runs
    slots: list[int]
    starts: list[int]
    slots_P: Tensor  # the same on the device
    starts_P: Tensor
    kept: dict[tuple[int, int], list[KeyRange]] = field(default_factory=dict)  # ranges, by first and last place

    @classmethod
    def of(cls, runs: Runs, order_P: Tensor, device: torch.device) -> "ChannelPlan":
        slots_P, starts_P = runs.slots_P[order_P], runs.starts_P[order_P]
        return cls(runs, slots_P.tolist(), starts_P.tolist(), slots_P.to(device), starts_P.to(device))

    def channel(self, memory: KeyValues, first: int, last: int, text_X1K: Tensor | None) -> StepChannel:
        """The channel of the places `first` up to `last` in the order of filling.

        Args:
            text_X1K: bias of a run, [B * N, 1, longest run]: what the text needs, then zeros; None: nothing.
        """
        if (first, last) not in self.kept:
            self.kept[first, last] = self._ranges(first, last)
        ranges = self.kept[first, last]
        if text_X1K is not None:
            biases = [text_X1K[..., : keys.stop - keys.start] for keys in ranges]
            ranges = [
                replace(keys, bias=bias if keys.bias is None else bias + keys.bias)
                for keys, bias in zip(ranges, biases, strict=True)
            ]
        return StepChannel(memory, self.slots_P[first:last], ranges)

    def seen(self, first: int, last: int) -> int:
        """The most slots that one of these places sees."""
        return (
            max(slot - start for slot, start in zip(self.slots[first:last], self.starts[first:last], strict=True)) + 1
        )

    def static_channel(self, memory: KeyValues, order_N: Tensor, seen: int, text_X1K: Tensor | None) -> StepChannel:
        """The channel of places that only the device knows, in shapes that follow from `seen`, the most they see.

        Args:
            text_X1K: as `channel` takes it.
        """
        slots_N, starts_N = self.slots_P[order_N], self.starts_P[order_N]
        seen_K = torch.arange(seen, device=slots_N.device)
        bias_1NK = hidden(seen_K <= (slots_N - starts_N)[:, None])[None]
        slots_NK = (starts_N[:, None] + seen_K).clamp(max=self.runs.length - 1)
        ranges = []
        for row in range(len(order_N)):
            bias = bias_1NK[:, row : row + 1]
            bias = (bias if text_X1K is None else bias + text_X1K[..., :seen]).to(memory.keys[0].dtype)
            slots_K = slots_NK[row] if len(self.runs.texts) > 1 else None  # the only run begins with the memory
            ranges.append(KeyRange(slice(row, row + 1), 0, seen, bias, slots_K))
        return StepChannel(memory, slots_N, ranges)

    def _ranges(self, first: int, last: int) -> list[KeyRange]:
        """Places of one run read together; each sees as far as its own slot."""
        together: dict[int, list[int]] = {}
        for place in range(first, last):
            together.setdefault(self.starts[place], []).append(place)
        ranges, device = [], self.slots_P.device
        for start, places in together.items():
            stop, bias = max(self.slots[place] for place in places) + 1, None
            side_by_side = places[-1] - places[0] == len(places) - 1
            rows_P = torch.tensor(places, device=device) - first
            if len(places) > 1:
                own_P = self.slots_P[first:last][rows_P]
                bias = hidden(torch.arange(start, stop, device=device) <= own_P[:, None])
            rows = slice(places[0] - first, places[-1] - first + 1) if side_by_side else rows_P
            ranges.append(KeyRange(rows, start, stop, bias))
        return ranges


class Plan:
    """A schedule over a layout, ready to be followed.

    Args:
        windows: one a layer that runs beside the adapter, see `TemporalAdapter.stack`; empty without an adapter.
        ahead: the most steps that are tried at once.
    """

    def __init__(
        self,
        layout: FrameLayout,
        schedule: Schedule,
        windows: tuple[Window | None, ...],
        *,
        ahead: int = 1,
        device: torch.device | None = None,
    ) -> None:
        order_P, length, device = torch.cat(schedule.steps), layout.tokens, device or torch.device("cpu")
        self.layout, self.windows, self.ahead = layout, windows, ahead
        self.ends = [0, *torch.tensor([len(step) for step in schedule.steps]).cumsum(0).tolist()]
        filled_S = torch.stack([(order_P[:end] // length).bincount(minlength=layout.frames) for end in self.ends])
        whole_SF = filled_S[:, layout.known :] == length
        self.finished = whole_SF.long().cumprod(1).sum(1).tolist()  # new frames that are done after so many steps
        self.places_P = order_P.to(device)
        self.input_place_P = (order_P - 1).clamp(min=0).to(device)  # the place whose token is the input
        self.starts_frame_P = (order_P % length == 0).to(device)  # first places of frames, which have none
        self.draft_place_P = _draft_places(layout)[order_P].to(device)  # the place whose token is the first guess
        self.positions_P = layout.image_positions()[order_P].to(device)
        flight = max(schedule.frames_in_flight(ahead), layout.known)  # a prefill has all known frames in flight
        self.spatial = ChannelPlan.of(spatial_runs(layout, flight), order_P, device)
        self.temporal = {window: ChannelPlan.of(temporal_runs(layout, window), order_P, device) for window in windows}

    @property
    def steps(self) -> int:
        return len(self.ends) - 1

    @property
    def stretches(self) -> list[tuple[int, int]]:
        """The steps from one finished frame to the next: first and end of each stretch."""
        borders = [step for step in range(1, self.steps + 1) if self.finished[step] > self.finished[step - 1]]
        return list(pairwise([0, *borders]))

    def memory(self, model: Transformer, rows: int) -> Memory:
        """Empty keys and values of every layer for `rows` sequences."""
        config = model.config
        layers = len(self.windows) or config.layers
        runs = [self.spatial.runs] * layers, [self.temporal[window].runs for window in self.windows]
        size = (rows, config.heads, config.head_width)
        return Memory(*(KeyValues(one, *size, like=model.embed.weight) for one in runs))

    @cached_property
    def native(self) -> NativePlan:
        """Where all places, known ones too, lie for the native step."""
        return NativePlan(self.layout, [self.spatial.runs, *(one.runs for one in self.temporal.values())])

    @property
    def longest(self) -> int:
        """Slots of the longest run."""
        orders = (self.spatial, *self.temporal.values())
        return max(int((order.runs.slots_P - order.runs.starts_P).max()) + 1 for order in orders)


def _draft_places(layout: FrameLayout) -> Tensor:
    """For every place the same place of the frame before in time; in the very first frame the place above."""
    raster_L = torch.arange(layout.tokens)
    above_L = (raster_L - layout.grid[1]).clamp(min=0)
    rows = []
    for time in layout.times:
        earlier = [other for other in layout.times if other < time]
        rows.append(layout.times.index(max(earlier)) * layout.tokens + raster_L if earlier else above_L)
    return torch.cat(rows)


@lru_cache(maxsize=16)
def plan_for(
    layout: FrameLayout, windows: tuple[Window | None, ...], *, ahead: int = 1, device: torch.device | None = None
) -> Plan:
    """The plan of the quickest schedule that gives the same tokens as one place after the other."""
    schedule = quickest(replace(layout, text=0), frozenset(windows))
    return Plan(layout, schedule, windows, ahead=ahead, device=device)
