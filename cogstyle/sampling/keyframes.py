"""The first frame by the image model, then the other keyframes by the keyframe adapter."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cogstyle.layout import image_layout, keyframe_layout
from cogstyle.sampling.decode import Stage
from cogstyle.tokenizers.text import TextTokenizer

IMAGE_STAGE, KEYFRAME_STAGE, INTERPOLATION_STAGE, SUPERRES_STAGE = range(4)  # first number of every random stream


@dataclass(frozen=True)
class Conditions:
    """What every stage needs of a batch: prompts and seeds (one a sample), the text tokenizer, the device."""

    prompts: list[str]
    seeds: list[int]
    text: TextTokenizer
    device: torch.device = torch.device("cpu")  # noqa: RUF009  (immutable)

    def texts(self, seconds: float | None, *, copies: int = 1) -> tuple[Tensor, Tensor]:
        """Left-padded texts and guides [B * copies, S]; seconds None is the image model's."""

        def ids(prompt: str | None) -> list[int]:
            return self.text.image_text(prompt) if seconds is None else self.text.video_text(prompt, seconds)

        rows = [ids(prompt) for prompt in self.prompts for _ in range(copies)]
        both = self.text.pad(rows + [ids(None)] * len(rows)).to(self.device)
        return both[: len(rows)], both[len(rows) :]


def first_frames(stage: Stage, conditions: Conditions) -> Tensor:
    """Tokens [B, 1, L] of a first frame for each prompt, by the image model alone."""
    texts = conditions.texts(None)
    layout = image_layout(stage.model.config, texts[0].shape[1])
    blank_BFL = texts[0].new_zeros(len(conditions.prompts), 1, layout.tokens)
    return stage.fill(blank_BFL, layout, texts, [(IMAGE_STAGE, seed) for seed in conditions.seeds])


def keyframes(stage: Stage, known_BFL: Tensor, conditions: Conditions, *, frame_rate: float) -> Tensor:
    """Known first keyframes [B, 1.., L] -> all keyframes [B, F, L] at `frame_rate` frames a second.

    Raises:
        LayoutError: if no keyframe is known, or all are.
    """
    batch, known, length = known_BFL.shape
    frames = stage.model.config.frames
    texts = conditions.texts((frames - 1) / frame_rate)
    layout = keyframe_layout(stage.model.config, texts[0].shape[1], known=known)
    tokens_BFL = torch.cat([known_BFL, known_BFL.new_zeros(batch, frames - known, length)], 1)
    return stage.fill(tokens_BFL, layout, texts, [(KEYFRAME_STAGE, seed) for seed in conditions.seeds])
