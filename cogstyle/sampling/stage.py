"""A stage of sampling: weights and options of one step from prompt to video, around the decode loop."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cogstyle.config import SamplingConfig, require
from cogstyle.errors import SamplingError
from cogstyle.layout import FrameLayout
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.sampling.decode import Prefill, Progress, Texts, decode, finish, prefill
from cogstyle.sampling.decode_plan import plan_for
from cogstyle.sampling.hearing import Hearing
from cogstyle.sampling.logits import Pick, sampler


@dataclass(frozen=True)
class Stage:
    """One step of the way from prompt to video: a model, maybe an adapter, and how to draw."""

    model: Transformer
    adapter: TemporalAdapter | None
    config: SamplingConfig
    labels_V: Tensor | None = None  # cluster of every image id
    progress: Progress = lambda tokens: None
    ahead: int = 1  # steps that are tried at once
    name: str = ""  # for errors
    prefill: Prefill = field(default=prefill, kw_only=True)
    hearing: Hearing | None = field(default=None, kw_only=True)  # what listens to a language model

    def picker(self, seeds: Sequence[tuple[int, ...]], layout: FrameLayout, device: torch.device) -> Pick:
        """How this stage draws tokens; a seed a sample."""
        return sampler(self.config, seeds, layout, self.labels_V, device=device)

    def frames(
        self,
        tokens_BFL: Tensor,
        layout: FrameLayout,
        texts: tuple[Tensor, Tensor],
        seeds: Sequence[tuple[int, ...]],
    ) -> Iterator[Tensor]:
        """`decode` with this stage's weights and options; `texts` are prompts and unconditional texts, [B, S] each."""
        require(len(seeds) == len(tokens_BFL), f"{len(seeds)} seeds for {len(tokens_BFL)} samples; give one a sample")
        device, windows = tokens_BFL.device, () if self.adapter is None else tuple(self.adapter.windows)
        try:
            yield from decode(
                self.model,
                Texts(*texts, guidance=self.config.guidance, bias=self.config.text_bias),
                tokens_BFL,
                plan_for(layout, windows, ahead=self.ahead, device=device),
                self.picker(seeds, layout, device),
                adapter=self.adapter,
                prefill=self.prefill,
                progress=self.progress,
            )
        except SamplingError as error:
            raise SamplingError(
                f"{self.name or 'sampling'}: {error}; are the weights whole, and the options sane?"
            ) from None

    def fill(
        self,
        tokens_BFL: Tensor,
        layout: FrameLayout,
        texts: tuple[Tensor, Tensor],
        seeds: Sequence[tuple[int, ...]],
    ) -> Tensor:
        """The tokens of `frames` when all are filled."""
        return finish(self.frames(tokens_BFL, layout, texts, seeds))
