"""The first frame by the image model, then the other keyframes by the keyframe adapter."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cogstyle.config import SamplingConfig
from cogstyle.errors import LayoutError
from cogstyle.layout import image_layout, keyframe_layout
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.sampling.decode import Progress, decode, sampler
from cogstyle.tokenizers.text import TextTokenizer

IMAGE_STAGE, KEYFRAME_STAGE, INTERPOLATION_STAGE = range(3)  # first number of every random stream


@dataclass(frozen=True)
class Conditions:
    """What every stage needs of a batch: prompts and seeds (one a sample), and the text tokenizer."""

    prompts: list[str]
    seeds: list[int]
    text: TextTokenizer

    def texts(self, seconds: float | None, *, copies: int = 1) -> tuple[Tensor, Tensor]:
        """Left-padded texts and guides [B * copies, S]; seconds None is the image model's."""

        def ids(prompt: str | None) -> list[int]:
            return self.text.image_text(prompt) if seconds is None else self.text.video_text(prompt, seconds)

        rows = [ids(prompt) for prompt in self.prompts for _ in range(copies)]
        both = self.text.pad(rows + [ids(None)] * len(rows))
        return both[: len(rows)], both[len(rows) :]


def first_frames(
    model: Transformer, conditions: Conditions, config: SamplingConfig, labels_V: Tensor | None, progress: Progress
) -> Tensor:
    """Tokens [B, 1, L] of a first frame for each prompt, by the image model alone."""
    texts_BS, guides_BS = conditions.texts(None)
    layout = image_layout(model.config, texts_BS.shape[1])
    blank = torch.zeros(len(texts_BS), 1, layout.tokens, dtype=torch.long)
    seeds = [(IMAGE_STAGE, seed) for seed in conditions.seeds]
    return decode(
        *(model, texts_BS, blank, layout, sampler(config, seeds, layout, labels_V)),
        guides_BS=guides_BS,
        guidance=config.guidance,
        text_bias=config.text_bias,
        progress=progress,
    )


def keyframes(
    model: Transformer,
    adapter: TemporalAdapter,
    known_BFL: Tensor,
    conditions: Conditions,
    config: SamplingConfig,
    labels_V: Tensor | None,
    progress: Progress,
    *,
    frame_rate: float,
) -> Tensor:
    """Known first frames [B, 1.., L] -> all keyframes [B, F, L] at `frame_rate` frames a second."""
    frames = model.config.frames
    known = known_BFL.shape[1]
    if not 1 <= known < frames:
        raise LayoutError(f"{known} known keyframes, must be 1 to {frames - 1}")
    texts_BS, guides_BS = conditions.texts((frames - 1) / frame_rate)
    layout = keyframe_layout(model.config, texts_BS.shape[1], known=known)
    blank = known_BFL.new_zeros(len(known_BFL), frames - known, layout.tokens)
    seeds = [(KEYFRAME_STAGE, seed) for seed in conditions.seeds]
    return decode(
        *(model, texts_BS, torch.cat([known_BFL, blank], 1), layout, sampler(config, seeds, layout, labels_V)),
        adapter=adapter,
        guides_BS=guides_BS,
        guidance=config.guidance,
        text_bias=config.text_bias,
        progress=progress,
    )
