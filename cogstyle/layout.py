"""Where each token sits: spans, positions, roles and who sees whom.

A sequence is S text tokens followed by F frames of L tokens in *memory order*. Each frame has a time
(its place in the video) and a role. Visibility follows from times and roles alone, so the time order
of training and the given-first order of sampling compute the same numbers.

Source: CogVideo (arXiv 2205.15868), sections 3.2 and 3.3.
"""

from dataclasses import dataclass, replace
from enum import Enum, IntFlag

import torch
from torch import Tensor

from cogstyle.config import ModelConfig
from cogstyle.errors import LayoutError


class Role(Enum):
    """What a frame is to the model."""

    PREFIX = "prefix"  # known, but read in raster order like a generated frame
    GIVEN = "given"  # known and read in both directions; never sees a generated frame
    GENERATED = "generated"  # predicted token by token


class Mark(IntFlag):
    """What a row of text is to a model that reads states, see `model/llama.py`."""

    TEXT = 1  # else padding
    UNCONDITIONAL = 2  # its state gives way to the unconditional embedding


@dataclass(frozen=True)
class Window:
    """Windowed temporal attention: `size` x `size` windows of the grid, moved by `shift` places.

    `wraps` lets the two ends of the grid that share a shifted window see each other, as the released
    sampler does; training never did.
    """

    size: int
    shift: int = 0
    wraps: bool = False


@dataclass(frozen=True)
class FrameLayout:
    """S text tokens, then one frame for each entry of `times`, in memory order."""

    text: int  # S
    grid: tuple[int, int]  # rows, columns of a frame
    times: tuple[int, ...]  # time index of each frame
    roles: tuple[Role, ...]

    def __post_init__(self) -> None:
        if len(self.times) != len(self.roles) or len(set(self.times)) != len(self.times):
            raise LayoutError(f"times {self.times} must be distinct and match the roles, {len(self.roles)} in number")

    @property
    def frames(self) -> int:
        return len(self.times)

    @property
    def tokens(self) -> int:
        """Tokens of one frame (L)."""
        return self.grid[0] * self.grid[1]

    @property
    def known(self) -> int:
        """How many frames at the start of memory are known before sampling."""
        return next((k for k, role in enumerate(self.roles) if role is Role.GENERATED), self.frames)

    def first(self, frames: int) -> "FrameLayout":
        """The layout of the first `frames` frames in memory."""
        return replace(self, times=self.times[:frames], roles=self.roles[:frames])

    def image_positions(self) -> Tensor:
        """Position of every image place, [F * L]: time * L + raster index."""
        return (torch.tensor(self.times, dtype=torch.long)[:, None] * self.tokens + torch.arange(self.tokens)).flatten()

    def spatial_visible(self) -> Tensor:
        """bool [F, L, L]: which places (last axis) of its own frame a place sees."""
        causal_LL = torch.ones(self.tokens, self.tokens).tril().bool()
        given_F = torch.tensor([role is Role.GIVEN for role in self.roles], dtype=torch.bool)
        return causal_LL | given_F[:, None, None]

    def temporal_visible(self, window: Window | None = None) -> Tensor:
        """bool [F * L, F * L]: which image places (last axis) a place sees through the temporal channel."""
        spatial_FLL, frames, length = self.spatial_visible(), self.frames, self.tokens
        sees_FLFL = torch.zeros(frames, length, frames, length, dtype=torch.bool)
        for query in range(frames):
            for key in range(frames):
                if query == key:
                    sees_FLFL[query, :, key] = spatial_FLL[query]
                elif self.roles[key] is Role.GIVEN:
                    sees_FLFL[query, :, key] = True
                elif self.roles[query] is not Role.GIVEN:
                    sees_FLFL[query, :, key] = self.times[key] < self.times[query]
        if window is not None:
            region_L = window_regions(self.grid, window)
            sees_FLFL &= (region_L[:, None] == region_L)[None, :, None, :]
        return sees_FLFL.flatten(2).flatten(0, 1)


def window_regions(grid: tuple[int, int], window: Window) -> Tensor:
    """Region number of every place of a frame, [L]; places of one region see each other."""
    shift = window.shift

    def bands(length: int) -> Tensor:
        places = torch.arange(length)
        return (places - shift) % length // window.size if window.wraps else (places + shift) // window.size

    return (bands(grid[0])[:, None] * (grid[1] + 1) + bands(grid[1])).flatten()


def window_order(grid: tuple[int, int], window: Window) -> Tensor:
    """Places of a frame sorted by shifted window, [windows, size * size]: regions lie inside windows."""
    rows, columns = ((torch.arange(length) - window.shift) % length for length in grid)
    number = rows[:, None] // window.size * (grid[1] // window.size) + columns // window.size
    return number.flatten().argsort(stable=True).view(-1, window.size**2)


def image_layout(config: ModelConfig, text: int) -> FrameLayout:
    """One frame: the image model, or the first frame of a video."""
    return FrameLayout(text, config.grid, (0,), (Role.GENERATED,))


def keyframe_layout(config: ModelConfig, text: int, *, known: int = 1) -> FrameLayout:
    """All frames in time order, the first `known` of them there already."""
    if not 1 <= known < config.frames:
        raise LayoutError(f"{known} known keyframes, must be 1 to {config.frames - 1}")
    roles = (Role.PREFIX,) * known + (Role.GENERATED,) * (config.frames - known)
    return FrameLayout(text, config.grid, tuple(range(config.frames)), roles)


def interpolation_layout(
    config: ModelConfig, text: int, *, given_first: bool = True, gaps: int | None = None
) -> FrameLayout:
    """Every second frame is given; `given_first` puts those ahead in memory, else frames lie in time order.

    Args:
        gaps: generated frames, each between two given ones; default: as many as the model's frames have.
    """
    times = tuple(range(config.frames if gaps is None else 2 * gaps + 1))
    if given_first:
        times = times[::2] + times[1::2]
    roles = tuple(Role.GENERATED if time % 2 else Role.GIVEN for time in times)
    return FrameLayout(text, config.grid, times, roles)


@dataclass(frozen=True)
class Runs:
    """Where keys lie in a memory, so that a generated place reads one contiguous run of it and nothing else.

    A run is a copy of the text, then image places; a place sees its run from the start to its own slot.
    """

    slots_P: Tensor  # slot of every image place, [F * L]
    starts_P: Tensor  # where the run of every image place starts, [F * L]
    texts: tuple[int, ...]  # where the copies of the text start, one a run
    length: int  # slots in all


def spatial_runs(layout: FrameLayout, frames_in_flight: int) -> Runs:
    """One run a frame in flight; a frame takes run `frame % frames_in_flight` from the frame that was there before."""
    length = layout.text + layout.tokens
    frames_F, raster_L = torch.arange(layout.frames), torch.arange(layout.tokens)
    starts_P = (frames_F % frames_in_flight * length).repeat_interleave(layout.tokens)
    slots_P = starts_P + layout.text + raster_L.repeat(layout.frames)
    return Runs(slots_P, starts_P, tuple(range(0, frames_in_flight * length, length)), frames_in_flight * length)


def temporal_runs(layout: FrameLayout, window: Window | None = None) -> Runs:
    """One run a region of the window: given frames first, the others by time, inside a frame by raster."""
    frames, length = layout.frames, layout.tokens
    by_time = sorted(range(frames), key=lambda frame: (layout.roles[frame] is not Role.GIVEN, layout.times[frame]))
    rank_F = torch.tensor(by_time).argsort()
    region_L = torch.zeros(length, dtype=torch.long) if window is None else window_regions(layout.grid, window)
    region_L = region_L.unique(return_inverse=True)[1]
    region_P, rank_P = region_L.repeat(frames), rank_F.repeat_interleave(length)
    order_P = ((region_P * frames + rank_P) * length + torch.arange(length).repeat(frames)).argsort()
    slots_P = torch.empty_like(order_P)
    slots_P[order_P] = torch.arange(frames * length)
    slots_P += (region_P + 1) * layout.text
    counts_R = region_P.bincount() + layout.text
    starts_R = counts_R.cumsum(0) - counts_R
    return Runs(slots_P, starts_R[region_P], tuple(starts_R.tolist()), int(counts_R.sum()))
