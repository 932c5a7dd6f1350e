"""The first frame by the image model, then the other keyframes by the keyframe adapter."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cogstyle.config import require
from cogstyle.errors import LayoutError
from cogstyle.layout import image_layout, keyframe_layout
from cogstyle.sampling.stage import Stage
from cogstyle.tokenizers.text import TextTokenizer

IMAGE_STAGE, KEYFRAME_STAGE, INTERPOLATION_STAGE, SUPERRES_STAGE = range(4)  # first number of every random stream

OVERLAP = 3  # keyframes that a window of a longer video takes over: enough to see how things move


@dataclass(frozen=True)
class TextConditions:
    """What every stage needs of a batch: prompts and seeds (one a sample), the text tokenizer, the device."""

    prompts: list[str]
    seeds: list[int]
    text: TextTokenizer
    device: torch.device = torch.device("cpu")  # noqa: RUF009  (immutable)
    negative: str | None = None  # in place of the unconditional text

    def __post_init__(self) -> None:
        count, wanted = len(self.seeds), len(self.prompts)
        require(count == wanted, f"{count} seeds for {wanted} prompts; give one a prompt")

    def texts(self, seconds: float | None, *, copies: int = 1) -> tuple[Tensor, Tensor]:
        """Left-padded texts and unconditional texts [B * copies, S]; seconds None is the image model's."""

        def ids(prompt: str, out: bool) -> list[int]:
            if seconds is None:
                return self.text.image_text(prompt, unconditional=out)
            return self.text.video_text(prompt, seconds, unconditional=out)

        prompts = [prompt for prompt in self.prompts for _ in range(copies)]
        others = [ids(prompt, True) if self.negative is None else ids(self.negative, False) for prompt in prompts]
        both = self.text.pad([ids(prompt, False) for prompt in prompts] + others).to(self.device)
        return both[: len(prompts)], both[len(prompts) :]

    def told(self, stage: Stage) -> Stage:
        """The stage with a model that hears these prompts, where an adapter of it listens to a language model."""
        if (hearing := stage.hearing) is None:
            return stage
        rows = [hearing.row(prompt) for prompt in self.prompts]
        if stage.config.guidance != 1.0:
            rows += [[] if self.negative is None else hearing.row(self.negative)] * len(rows)
        return replace(stage, model=hearing.listening(stage.model, rows, self.device))


def first_frames(stage: Stage, conditions: TextConditions) -> Tensor:
    """Tokens [B, 1, L] of a first frame for each prompt, by the image model alone."""
    texts, stage = conditions.texts(None), conditions.told(stage)
    layout = image_layout(stage.model.config, texts[0].shape[1])
    blank_BFL = torch.zeros(len(conditions.prompts), 1, layout.tokens, dtype=torch.long, device=conditions.device)
    return stage.fill(blank_BFL, layout, texts, [(IMAGE_STAGE, seed) for seed in conditions.seeds])


def keyframes(
    stage: Stage, known_BFL: Tensor, conditions: TextConditions, *, frame_rate: float, windows: int = 1
) -> Iterator[Tensor]:
    """Known first keyframes [B, 1.., L] -> all keyframes at `frame_rate` frames a second, yielded frame by frame.

    The first window holds F frames; each further one goes on from the last OVERLAP. Going on from what was yielded
    gives the same frames as not stopping: every window and place has its own random numbers.

    Raises:
        LayoutError: if no keyframe is known, or all are.
    """
    stage = conditions.told(stage)
    frames, stride = stage.model.config.frames, stage.model.config.frames - OVERLAP
    texts, total = conditions.texts((frames - 1) / frame_rate), frames + (windows - 1) * stride
    if not 1 <= known_BFL.shape[1] < total:
        raise LayoutError(f"{known_BFL.shape[1]} known keyframes, must be 1 to {total - 1}")
    while (count := known_BFL.shape[1]) < total:
        window = (count - frames) // stride + 1 if count >= frames else 0
        before_BFL, seen_BFL = known_BFL[:, : window * stride], known_BFL[:, window * stride :]
        layout = keyframe_layout(stage.model.config, texts[0].shape[1], known=seen_BFL.shape[1])
        blank_BFL = seen_BFL.new_zeros(len(seen_BFL), frames - seen_BFL.shape[1], layout.tokens)
        seeds = [(KEYFRAME_STAGE, seed, window) if window else (KEYFRAME_STAGE, seed) for seed in conditions.seeds]
        for filled_BFL in stage.frames(torch.cat([seen_BFL, blank_BFL], 1), layout, texts, seeds):
            known_BFL = torch.cat([before_BFL, filled_BFL], 1)
            yield known_BFL
