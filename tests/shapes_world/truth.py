"""A pipeline that renders the scene a caption belongs to: what an evaluation of perfect weights would say."""

from dataclasses import asdict, dataclass
from types import SimpleNamespace

import numpy as np
import torch

from cogstyle.config import SamplingConfig
from cogstyle.sampling.recaption import Recaption
from cogstyle.shapes_world import world
from cogstyle.video import Video

KEYFRAMES, SIZE, FACTOR = 5, 64, 3


@dataclass
class Bundle:
    manifest = {"name": "truth"}  # noqa: RUF012
    model_config = SimpleNamespace(frames=KEYFRAMES)
    tokenizer_config = SimpleNamespace(image_size=SIZE)
    superres_config = SimpleNamespace(factor=FACTOR)

    def hashes(self):
        return {"image.safetensors": "0" * 64}

    def sampling(self, stage):
        return SamplingConfig()


class Truth:
    """Samples what it is told the captions mean; a frame is one token: its number among all that it has seen.

    Args:
        scenes: (seed, scene) of everything that will be asked for.
        shown: scene -> the scene that is shown instead.
    """

    def __init__(self, scenes, shown=lambda scene: scene):
        self.bundle, self.device = Bundle(), torch.device("cpu")
        self.scenes = {world.caption(scene): scene for _, scene in scenes}
        self.shown, self.seen, self.calls = shown, [], []

    def _video(self, caption, rate, levels, size=SIZE):
        fps = rate * 2**levels
        times = [k / fps for k in range((KEYFRAMES - 1) * 2**levels + 1)]
        return Video(world.render_clip(self.shown(self.scenes[caption]), times, size), fps)

    def check(self, prompt, options):
        assert prompt in self.scenes

    def recaption(self, how):
        return Recaption("off", str)

    def sample(self, prompts, seeds, options):
        self.calls.append(asdict(options))
        videos = []
        for prompt in prompts:
            video = self._video(prompt, options.frame_rate, options.levels, SIZE * (FACTOR if options.upscale else 1))
            videos.append(Video(video.frames, video.fps, {}, np.zeros((len(video.frames), 4), int)))
        return videos

    def encode(self, frames):
        first = len(self.seen)
        self.seen += list(frames)
        return torch.arange(first, first + len(frames))[:, None]

    def decode(self, tokens):
        return np.stack([self.seen[int(token)] for token in tokens[:, 0]])

    def keyframes(self, prompts, seeds, options, *, first_BFL):
        known = [self.decode(tokens) for tokens in first_BFL]
        made = [self._video(prompt, options.frame_rate, 0).frames for prompt in prompts]
        return torch.stack([self.encode(np.concatenate([a, b[len(a) :]])) for a, b in zip(known, made, strict=True)])

    def interpolate(self, tokens_BFL, prompts, seeds, options):
        made = []
        for prompt, tokens in zip(prompts, tokens_BFL, strict=True):
            frames = self._video(prompt, options.frame_rate, options.levels).frames
            frames[:: 2**options.levels] = self.decode(tokens)
            made.append(self.encode(frames))
        return torch.stack(made)

    def upscale(self, tokens_BFL, prompts, seeds, options):
        size = SIZE * FACTOR
        videos = [self._video(prompt, options.frame_rate, options.levels, size) for prompt in prompts]
        return torch.stack([self.encode(video.frames) for video in videos])
