"""What the weights draw from fixed prompts while they train."""

from collections.abc import Sequence

import numpy as np
import torch

from cogstyle.config import SamplingConfig
from cogstyle.sampling.decode import finish
from cogstyle.sampling.keyframes import TextConditions, first_frames, keyframes
from cogstyle.sampling.stage import Stage
from cogstyle.training.transformer import TransformerJob
from cogstyle.video import Video


@torch.no_grad()
def prompt_grid(
    job: TransformerJob, prompts: Sequence[str], *, frame_rate: float, image: SamplingConfig, video: SamplingConfig
) -> Video:
    """Keyframes, or an image, of each prompt, one below the other. The seeds are always the same.

    Args:
        frame_rate: keyframes a second.
        image, video: how to draw the first frame, and those after it.
    """
    conditions = TextConditions(list(prompts), list(range(len(prompts))), job.text, job.device)
    tokens_BFL = first_frames(
        Stage(job.transformer, None, image, hearing=None if job.adapter else job.hearing), conditions
    )
    if job.adapter is not None:
        stage = Stage(job.transformer, job.adapter, video, hearing=job.hearing)
        tokens_BFL = finish(keyframes(stage, tokens_BFL, conditions, frame_rate=frame_rate))
    pixels = job.vqvae.decode(tokens_BFL.flatten(0, 1).cpu()).permute(0, 2, 3, 1).numpy()
    videos = pixels.reshape(len(prompts), -1, *pixels.shape[1:])
    return Video(np.concatenate(list(videos), 1), frame_rate)
