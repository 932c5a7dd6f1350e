"""Decoding on a GPU: one step in static shapes, captured once a frame and replayed without waiting for anything.

The step reads from the device which places it fills, what they see (masks from their slots) and their random numbers,
draws there, and counts itself on. The host knows how many steps a frame has and the most slots that one of them sees;
it waits once a frame, to hand out its tokens. Without CUDA graphs the same functions run as they are.

Tested on the CPU; not yet run on a GPU.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cogstyle.errors import SamplingError
from cogstyle.model.cache import KeyValues
from cogstyle.model.fast_path import StepChannel
from cogstyle.sampling.decode_plan import ChannelPlan
from cogstyle.sampling.logits import Sampler

if TYPE_CHECKING:
    from cogstyle.sampling.decode import Scorer

SWITCH = "COGSTYLE_GRAPHS"  # "off": GPUs try several steps at once, as CPUs without the native step do


def captures(device: torch.device) -> bool:
    """Whether steps on a device are captured."""
    return device.type == "cuda" and os.environ.get(SWITCH) != "off"


def captured(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """What repeats a step on the same buffers: a CUDA graph, or without CUDA the step itself. It runs once here."""
    if device.type != "cuda":
        step()
        return step
    with torch.cuda.device(device):
        side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # what libraries set up at their first call cannot be captured
            step()
        torch.cuda.current_stream().wait_stream(side)
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                step()
        except RuntimeError as error:
            warnings.warn(f"no CUDA graph, steps are launched one by one: {error}", stacklevel=2)
            return step
    return graph.replay


class StaticSteps:
    """The steps of a plan for all samples of a batch, at the same places.

    Args:
        scorer: its memory is filled with texts and known frames.
        tokens_BP: known tokens; the others are written here.
    """

    def __init__(self, scorer: "Scorer", pick: Sampler, tokens_BP: Tensor) -> None:
        self.scorer, self.pick, self.tokens_BP = scorer, pick, tokens_BP
        ends, device = scorer.plan.ends, tokens_BP.device
        widest = max(end - start for start, end in pairwise(ends))
        # a step of fewer places fills its last one several times, with one and the same token
        rows = [[min(start + k, end - 1) for k in range(widest)] for start, end in pairwise(ends)]
        self.order_TN = torch.tensor(rows, device=device)
        self.step_1 = torch.zeros(1, dtype=torch.long, device=device)  # the next one
        self.finite = torch.ones((), dtype=torch.bool, device=device)

    def frames(self, progress: Callable[[int], None]) -> Iterator[int]:
        """Yield how many frames are finished whenever one is; `progress` is told the places of every step.

        Raises:
            SamplingError: if a logit of the frame is no finite number.
        """
        plan = self.scorer.plan
        for first, end in plan.stretches:
            places = plan.ends[first], plan.ends[end]
            seen = {id(one): one.seen(*places) for one in (plan.spatial, *plan.temporal.values())}
            replay = captured(lambda: self._step(seen), self.tokens_BP.device)  # noqa: B023
            self.step_1.fill_(first)
            for step in range(first, end):
                replay()
                progress(plan.ends[step + 1] - plan.ends[step])
            if not bool(self.finite):  # here the device is waited for
                raise SamplingError("logits are not finite")
            yield plan.finished[end]

    def _step(self, seen: dict[int, int]) -> None:
        """Fill the places of the next step; doing so twice, the counter set back, changes nothing."""
        scorer, tokens_BP = self.scorer, self.tokens_BP
        order_N = self.order_TN.index_select(0, self.step_1)[0]

        def channel_of(one: ChannelPlan, kept: KeyValues) -> StepChannel:
            return one.static_channel(kept, order_N, seen[id(one)], scorer.room)

        logits_NV = scorer.logits(tokens_BP, order_N, channel_of)
        places_N = scorer.plan.places_P[order_N]
        drawn_BN, finite = self.pick.unchecked(logits_NV.unflatten(0, (len(tokens_BP), -1)), places_N)
        tokens_BP.index_copy_(1, places_N, drawn_BN)
        self.finite.logical_and_(finite)
        self.step_1.add_(1)
