"""The first frame by the image model, then the other keyframes by the keyframe adapter."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cogstyle.layout import image_layout, keyframe_layout
from cogstyle.sampling.decode import Stage
from cogstyle.tokenizers.text import TextTokenizer

IMAGE_STAGE, KEYFRAME_STAGE, INTERPOLATION_STAGE, SUPERRES_STAGE = range(4)  # first number of every random stream

OVERLAP = 3  # keyframes that a window of a longer video takes over: enough to see how things move


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


def keyframes(stage: Stage, known_BFL: Tensor, conditions: Conditions, *, frame_rate: float, window: int = 0) -> Tensor:
    """Known first keyframes [B, 1.., L] -> all keyframes [B, F, L] at `frame_rate` frames a second.

    Args:
        window: each window of a longer video has its own random numbers.

    Raises:
        LayoutError: if no keyframe is known, or all are.
    """
    batch, known, length = known_BFL.shape
    frames = stage.model.config.frames
    texts = conditions.texts((frames - 1) / frame_rate)
    layout = keyframe_layout(stage.model.config, texts[0].shape[1], known=known)
    tokens_BFL = torch.cat([known_BFL, known_BFL.new_zeros(batch, frames - known, length)], 1)
    seeds = [(KEYFRAME_STAGE, seed, window) if window else (KEYFRAME_STAGE, seed) for seed in conditions.seeds]
    return stage.fill(tokens_BFL, layout, texts, seeds)


def extend(stage: Stage, tokens_BFL: Tensor, conditions: Conditions, *, frame_rate: float, windows: int) -> Tensor:
    """Keyframes [B, K, L] -> [B, K + windows * (F - OVERLAP), L]: each window goes on from the last frames."""
    for window in range(1, windows + 1):
        more_BFL = keyframes(stage, tokens_BFL[:, -OVERLAP:], conditions, frame_rate=frame_rate, window=window)
        tokens_BFL = torch.cat([tokens_BFL, more_BFL[:, OVERLAP:]], 1)
    return tokens_BFL
