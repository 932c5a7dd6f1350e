"""Captions as states of a frozen language model: the text of a Llama-like image model (`model/llama.py`)."""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from cogstyle.config import ModelConfig, Prompts, TextEncoderConfig
from cogstyle.errors import BundleError, PromptError
from cogstyle.language_config import LanguageConfig
from cogstyle.layout import Mark
from cogstyle.tokenizers.text import TextTokenizer
from cogstyle.tokenizers.words import NO_WORDS, Words

KEPT = 1 << 13  # captions whose states stay in memory


class Encoder(Protocol):
    """A frozen language model."""

    width: int  # of a state

    def ids(self, text: str) -> list[int]:
        """Ids of a text, those that end it included."""

    def states(self, ids: Sequence[int]) -> Tensor:
        """The last hidden states [n, width] of n ids."""


def encoder_opener(named: TextEncoderConfig, folder: Path) -> Callable[[], Encoder]:
    """What opens the language model that a bundle in `folder` names.

    What reads it is found by its name: it stands above, on a package of its own.
    """

    def opener() -> Encoder:
        plugin = import_module("cogstyle.interop.huggingface")
        encoder: Encoder = plugin.open_model(named.t5, wanted=named.sha256, beside=folder)
        return encoder

    return opener


class PromptEncoder(Protocol):
    """A frozen language model whose states are kept, see `model/language.py`."""

    @property
    def width(self) -> int:
        """Of a state."""

    @property
    def sha256(self) -> str:
        """Of all that the states depend on."""

    def prompts(self, texts: Sequence[str], template: str, longest: int) -> list[Tensor]:
        """States of each text as the model reads it in a template, float16 [its own tokens, width]."""


def open_prompts(llm: str | Path, device: torch.device) -> PromptEncoder:
    """The language model that adapters listen to, found as `encoder_opener` finds its own.

    Raises:
        BundleError, FileError: if there is none, or it cannot be read.
    """
    plugin = import_module("cogstyle.interop.huggingface")
    encoder: PromptEncoder = plugin.open_model(llm, fetch=True, device=device)
    return encoder


class PromptStates:
    """States of prompts, computed when they are first asked for, and kept."""

    def __init__(self, open_encoder: Callable[[], PromptEncoder], config: LanguageConfig) -> None:
        self.open_encoder, self.config = open_encoder, config
        self._kept = lru_cache(KEPT)(self._read)

    @cached_property
    def encoder(self) -> PromptEncoder:
        encoder = self.open_encoder()
        expect_model(encoder, self.config)
        return encoder

    def _read(self, prompt: str) -> Tensor:
        states = self.encoder.prompts([prompt], self.config.template, self.config.longest)[0]
        expect_width(states.shape[1], self.config)
        return states

    def __call__(self, prompt: str) -> Tensor:
        """Float16 [tokens, width].

        Raises:
            PromptError: if it is empty or too long.
        """
        return self._kept(prompt)


def expect_width(width: int, config: LanguageConfig) -> None:
    """Raise BundleError unless states are as wide as a language adapter reads them."""
    if width != config.width:
        raise BundleError(
            f"the language model's states are {width} wide, the language adapter reads {config.width}: it was trained "
            f"with another one ({config.llm})"
        )


def expect_model(encoder: PromptEncoder, config: LanguageConfig) -> None:
    """Raise BundleError unless a language model is the one that an adapter was trained with."""
    expect_width(encoder.width, config)
    if config.sha256 and encoder.sha256 != config.sha256:
        hashes = f"sha256 {encoder.sha256[:12]}..., not {config.sha256[:12]}..."
        raise BundleError(f"another language model than the adapter was trained with ({config.llm}): {hashes}")


class Caption(list[int]):
    """Ids of a caption for the language model, with what else the rows of the text say."""

    seconds = 0.0  # that the video spans; 0: a picture
    unconditional = False  # stands for the text that guidance leads away from


class StateText(TextTokenizer):
    """Does for states what `TextTokenizer` does for text ids.

    The states of a caption are computed when it is first padded, and kept.

    Args:
        open_encoder: reads the language model when it is first needed.
    """

    def __init__(
        self, open_encoder: Callable[[], Encoder], config: ModelConfig, prompts: Prompts, words: Words = NO_WORDS
    ) -> None:
        self.config, self.prompts, self.words = config, prompts, words
        self.open_encoder = open_encoder
        self._states = lru_cache(KEPT)(lambda ids: self.encoder.states(ids))

    @cached_property
    def encoder(self) -> Encoder:
        encoder = self.open_encoder()
        if encoder.width != self.config.caption_width:
            raise BundleError(
                f"the language model's states are {encoder.width} wide, the image model reads "
                f"{self.config.caption_width}: it is another one than the model was trained with"
            )
        return encoder

    def read(self) -> None:
        """Read the language model now."""
        _ = self.encoder

    def encode(self, text: str, *, linebreaks: bool = False) -> list[int]:
        """Ids of a text of the language model, which has no line breaks.

        Raises:
            PromptError: if it is no text, or has more tokens than the text span holds.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise PromptError(f"prompt is not UTF-8: character {error.start + 1} of {text!a:.60}") from None
        ids = self.encoder.ids(text)
        if not 0 < len(ids) <= self.config.text_span:
            raise PromptError(f"prompt has {len(ids)} tokens, the text span holds {self.config.text_span}: {text!r}")
        return ids

    def image_text(self, prompt: str | None, *, unconditional: bool = False) -> Caption:
        """Ids for the image model.

        Args:
            unconditional: what guidance leads away from: the unconditional embedding, as long as this prompt; no
                prompt (None) is that too.
        """
        return self._caption(self.prompts.image.format(prompt=prompt or ""), unconditional or prompt is None)

    def video_text(self, prompt: str | None, seconds: float, *, unconditional: bool = False) -> Caption:
        """Ids for a video adapter; `seconds` is the time the frames span."""
        text = self.prompts.video.format(prompt=prompt or "", seconds=float(seconds))
        caption = self._caption(text, unconditional or prompt is None)
        caption.seconds = float(seconds)
        return caption

    def _caption(self, text: str, unconditional: bool) -> Caption:
        caption = Caption(self.encode(text))
        caption.unconditional = unconditional
        return caption

    def pad(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Texts -> text_BSE, S the text span; the caption comes last, what is before it is zero and padding."""
        text_BSE = torch.zeros(len(texts), self.config.text_span, self.config.caption_width + 2)
        for row_SE, caption in zip(text_BSE, texts, strict=True):
            row_SE[-len(caption) :, :-2] = self._states(tuple(caption))
            row_SE[-len(caption) :, -2] = Mark.TEXT
            if isinstance(caption, Caption):
                row_SE[:, -2] += Mark.UNCONDITIONAL * caption.unconditional
                row_SE[:, -1] = caption.seconds
        return text_BSE
