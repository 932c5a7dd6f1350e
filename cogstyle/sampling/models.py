"""The weights of a bundle, read when they are first needed; and pixels to tokens and back."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from cogstyle.bundle import LANGUAGE, Bundle, WeightFile
from cogstyle.config import require
from cogstyle.devices import choose_threads, computing_threads
from cogstyle.model.native_step import step_name
from cogstyle.model.superres import SuperResolution
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.sampling.hearing import Hearing
from cogstyle.sampling.interpolate import frame_numbers
from cogstyle.sampling.keyframes import OVERLAP
from cogstyle.sampling.options import Options
from cogstyle.sampling.partial_video import PartialVideo
from cogstyle.sampling.recaption import How, Recaption, find_recaption
from cogstyle.sampling.static_step import captures
from cogstyle.sampling.upscale import BUDGET
from cogstyle.sampling.validate import needed_files
from cogstyle.tokenizers.flow import FlowDecoder, decode_clip
from cogstyle.tokenizers.image import ImageTokenizer
from cogstyle.tokenizers.states import PromptEncoder, PromptStates, open_prompts
from cogstyle.tokenizers.text import TextTokenizer
from cogstyle.tokenizers.vqvae import VQVAE
from cogstyle.video import open_video, read_image, read_last_frames

GIVEN = ("first_frame", "continue_from", "images", "videos")  # files that a video can start from, as in `Models.start`
Step = TypeVar("Step")
AHEAD = 16  # steps tried at once: more are rarely guessed right


@dataclass
class Models:
    """A bundle's weights on a device.

    Args:
        bundle: where the weights come from.
        device: torch device of the models.
        budget: bytes that one pass of super-resolution may take beside the weights.
        ahead: the most steps of decoding that are tried at once; the tokens do not depend on it.
        llm: a language model that the bundle's language adapters listen to (a folder, a GGUF file, a name on the hub);
            None: they are left out.
    """

    bundle: Bundle
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    budget: int = BUDGET
    ahead: int = AHEAD
    llm: str | Path | None = None
    _hearings: dict[str, Hearing] = field(default_factory=dict, init=False, repr=False)
    _adapters: dict[str, TemporalAdapter] = field(default_factory=dict, init=False, repr=False)
    _recaptions: dict[How | None, Recaption] = field(default_factory=dict, init=False, repr=False)
    _reading: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)

    @cached_property
    def text(self) -> TextTokenizer:
        return self.bundle.text()

    @cached_property
    def vqvae(self) -> ImageTokenizer:
        return self.bundle.vqvae().to(self.device)

    @cached_property
    def image_model(self) -> Transformer:
        return self.bundle.image_model().to(self.device)

    def recaption(self, how: How | None) -> Recaption:
        """What rewrites prompts, see `find_recaption`; found once."""
        if how not in self._recaptions:
            self._recaptions[how] = find_recaption(how, self.bundle)
        return self._recaptions[how]

    def adapter(self, stage: str) -> TemporalAdapter:
        """The adapter of "keyframes" or "interpolation"."""
        if stage not in self._adapters:
            self._adapters[stage] = self.bundle.adapter(stage).to(self.device)
        return self._adapters[stage]

    @cached_property
    def language_model(self) -> PromptEncoder:
        assert self.llm is not None
        return open_prompts(self.llm, self.device)

    def hearing(self, stage: str) -> Hearing | None:
        """What listens to the language model in a stage; None: nothing does.

        Raises:
            BundleError: if no adapter of the bundle listens, or the language model is another one.
        """
        if self.llm is None or stage == "interpolation":
            return None
        if not any(map(self.bundle.has, LANGUAGE)):
            self.bundle.language(stage)  # raises
        if not self.bundle.has(WeightFile.of(f"language_{stage}")):
            return None
        if stage not in self._hearings:
            adapter = self.bundle.language(stage).to(self.device)
            states = PromptStates(lambda: self.language_model, adapter.language)
            _ = states.encoder  # raises
            self._hearings[stage] = Hearing(adapter, states)
        return self._hearings[stage]

    def hearings(self) -> dict[str, Hearing]:
        """What listens in each stage, as far as something does."""
        found = {stage: self.hearing(stage) for stage in ("image", "keyframes")}
        return {stage: one for stage, one in found.items() if one is not None}

    def hear(self, *prompts: str | None) -> None:
        """Read prompts by the language model; raises what it cannot read."""
        for hearing in self.hearings().values():
            for prompt in filter(None, prompts):
                hearing.row(prompt)

    def heard(self) -> dict[str, Any]:
        """The language model that is heard, by stage, as an entry of what a video depends on; empty if none is."""
        found = {stage: asdict(hearing.adapter.language) for stage, hearing in self.hearings().items()}
        return {"language": found} if found else {}

    @cached_property
    def upscaler(self) -> SuperResolution:
        return self.bundle.superres().to(self.device)

    @cached_property
    def flow(self) -> FlowDecoder:
        return self.bundle.flow().to(self.device)

    @cached_property
    def labels(self) -> Tensor | None:
        labels = self.bundle.cluster_labels()
        return None if labels is None else labels.to(self.device)

    @property
    def step(self) -> str:
        """What computes the steps of decoding."""
        name = "static" if captures(self.device) else step_name(self.image_model)
        return f"{name}, torch where a language model is heard" if self.hearings() and "native" in name else name

    @property
    def dtype(self) -> str:
        """Of the transformer's weights."""
        return self.bundle.packed or str(self.bundle.dtype).removeprefix("torch.")

    def read_weights(self, options: Options, *, whole: bool = False) -> None:
        """Read the weights that these options go through, which would be read when they are first needed.

        Args:
            whole: all keyframes are given.
        """
        with self._reading:  # once, if several threads need them
            self.text.read()
            _ = self.vqvae, self.image_model, self.labels
            self.hearings()
            for stage in needed_files(options, whole=whole):
                _ = self.upscaler if stage == "superres" else self.adapter(stage)

    def computed(self, steps: Iterable[Step]) -> Iterator[Step]:
        """The same, each computed with as many threads as suit these weights, if that is the CPU's work."""
        threads = None
        if self.device.type == "cpu":
            threads = choose_threads(self.bundle.model_config, packed=self.bundle.packed)
        upcoming = iter(steps)
        while True:
            with nullcontext() if threads is None else computing_threads(threads):
                step = next(upcoming, None)
            if step is None:
                return
            yield step

    def encode(self, frames: np.ndarray) -> Tensor:
        """uint8 frames [F, height, width, 3] -> tokens [F, L]."""
        return self.vqvae.encode(torch.from_numpy(frames).permute(0, 3, 1, 2).to(self.device))

    def encode_image(self, path: str | Path) -> Tensor:
        """An image file as the tokens of one frame, [1, L]."""
        return self.encode(read_image(Path(path), self.bundle.tokenizer_config.image_size)[None])

    def encode_end(self, path: str | Path, frame_rate: float) -> Tensor:
        """The last keyframes of a video file, as many as a window goes on from, as tokens [1.., L]."""
        size = self.bundle.tokenizer_config.image_size
        return self.encode(read_last_frames(Path(path), OVERLAP, frame_rate=frame_rate, size=size))

    def start(
        self,
        options: Options,
        batch: int,
        *,
        first_frame: str | Path | None = None,
        continue_from: str | Path | None = None,
        images: Sequence[str | Path] = (),
        videos: Sequence[str | Path] = (),
    ) -> PartialVideo | None:
        """What files say about the frames of a batch of videos; None: nothing.

        Args:
            first_frame: an image.
            continue_from: a video; its last keyframes are the first.
            images: two or more, at `options.times` or one a keyframe.
            videos: two to join: the end of the first and the beginning of the second, at `options.times`.

        Raises:
            ConfigError: if they contradict each other.
            MediaError: if one cannot be read.
        """
        given = {
            "first_frame": first_frame,
            "continue_from": continue_from,
            "images": images or None,
            "videos": videos or None,
        }
        several = [name for name, value in given.items() if value is not None]
        require(len(several) <= 1, f"{' and '.join(several)} exclude each other; give one")
        require(not isinstance(images, str | Path), f"images must be a list of files, not {str(images)!r}")
        require(len(images) != 1, "one image has nothing to interpolate to; give two or more")
        require(len(videos) in (0, 2), f"{len(videos)} videos to join; give two")
        count, times = len(images or videos), options.times
        require(times is None or not count or len(times) == count, f"{len(times or ())} times for {count} images")
        if not several:
            return None
        if videos:
            size = self.bundle.tokenizer_config.image_size
            known_FL = self.encode(np.concatenate(read_ends(Path(videos[0]), Path(videos[1]), size)))
        elif continue_from is not None:
            known_FL = self.encode_end(continue_from, options.frame_rate or self.bundle.frame_rate)
        else:
            known_FL = torch.cat([self.encode_image(path) for path in images or [first_frame]])  # type: ignore[list-item]
        fps = (options.frame_rate or self.bundle.frame_rate) * 2**options.levels
        numbers = None if times is None else frame_numbers(times, fps)
        return PartialVideo(known_FL[None].expand(batch, -1, -1), whole=bool(count), numbers=numbers)

    def decode_video(self, tokens_FL: Tensor, options: Options) -> np.ndarray:
        """A sampled video as these options decode it, uint8 frames [F, height, width, 3]."""
        if self.decoder(options) == "plain":
            return self.decode(tokens_FL)
        rate = (options.frame_rate or self.bundle.frame_rate) * 2**options.levels
        steps = options.flow_steps or self.flow.config.steps
        assert isinstance(self.vqvae, VQVAE)
        frames = decode_clip(self.flow, self.vqvae, tokens_FL, rate=rate, seed=options.seed, steps=steps)
        return frames.permute(0, 2, 3, 1).cpu().numpy()

    def decoder(self, options: Options) -> str:
        """Which decoder these options use: "plain" or "flow"."""
        return "plain" if options.upscale else options.decoder or self.bundle.decoder

    def decode(self, tokens_FL: Tensor) -> np.ndarray:
        """Tokens of one video -> uint8 frames [F, height, width, 3]."""
        frames = torch.cat([self.vqvae.decode(chunk) for chunk in tokens_FL.split(16)])
        return frames.permute(0, 2, 3, 1).cpu().numpy()


def read_ends(first: Path, second: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The last frame of one video and the first of another, uint8 [1, size, size, 3] each.

    Raises:
        MediaError: if one cannot be read.
    """
    with open_video(second) as video:
        return read_last_frames(first, 1, frame_rate=1.0, size=size), video.frames_at([0.0], size)
