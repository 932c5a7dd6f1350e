"""What training samples hear of a language model."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cogstyle.bundle import Bundle
from cogstyle.data.states import CaptionStates, read_rewritten
from cogstyle.interop.huggingface import LanguageModel, digest, find_model
from cogstyle.language_config import LanguageConfig, LanguageTraining
from cogstyle.model.language import Heard, LanguageAdapter, Segment
from cogstyle.training.batches import Batch


class Ear:
    """What the samples of a batch hear.

    Args:
        adapter: which trains.
        states: of the captions and of what they were rewritten to.
        rewritten: of captions.
        alone: share of the samples that lack one of two prompts, for each of them.
    """

    def __init__(
        self, adapter: LanguageAdapter, states: CaptionStates, rewritten: Mapping[str, str], alone: float = 0.0
    ) -> None:
        self.adapter, self.states, self.rewritten, self.alone = adapter, states, rewritten, alone

    def row(self, caption: str, draw: float) -> list[tuple[Segment, Tensor]]:
        """States of a caption; `draw` of 0 to 1 says which of two prompts is left out."""
        other = self.rewritten.get(caption)
        both = [(Segment.REWRITTEN, other), (Segment.ORIGINAL, caption)]
        if other is None or draw < self.alone:
            both = both[1:]
        elif draw < 2 * self.alone:
            both = both[:1]
        return [(segment, self.states(text)) for segment, text in both if text is not None]

    def heard(self, batch: Batch, device: torch.device) -> Heard:
        """States of a batch; a sample whose prompt is left out hears the null row."""
        draws = np.ones(len(batch.picks)) if batch.draws is None else batch.draws
        deaf = np.zeros(len(batch.picks), bool) if batch.deaf is None else batch.deaf
        captions = [batch.data.captions[pick] for pick in batch.picks]
        rows = [
            [] if left else self.row(caption, draw) for caption, left, draw in zip(captions, deaf, draws, strict=True)
        ]
        return Heard.of(rows, self.adapter.language.width).to(device)


def make_ear(
    source: Bundle,
    language: LanguageTraining,
    captions: list[str],
    folders: list[Path],
    *,
    keep: bool = True,
    quiet: bool = False,
) -> Ear:
    """A new adapter, and the states of captions and of what they were rewritten to, which are computed if need be.

    Args:
        folders: where states lie; new ones go to the first.
        keep: write down what is computed.

    Raises:
        FileError, BundleError: if the language model is missing or cannot be read.
        PromptError: for a caption that is too long for it.
    """
    rewritten = read_rewritten(Path(language.rewritten).expanduser()) if language.rewritten else {}
    place = find_model(language.llm, fetch=True)
    states = CaptionStates(folders, language, digest(place))
    texts = [*captions, *(rewritten[caption] for caption in captions if caption in rewritten)]
    states.add(texts, partial(LanguageModel, place), keep=keep, quiet=quiet)
    adapter = LanguageAdapter(source.model_config, config_of(language, place, states.width))
    return Ear(adapter, states, rewritten, language.alone)


def config_of(language: LanguageTraining, place: Path, width: int = 0) -> LanguageConfig:
    """What the bundle will say of the adapter; `width` 0: as the model's config says."""
    return language.config(digest(place), width or LanguageModel(place).width)


def identity_of(language: LanguageTraining) -> dict[str, Any]:
    """What a run depends on: the model and the rewritten captions by their contents, wherever they lie."""
    said = {key: value for key, value in asdict(language).items() if key not in ("llm", "rewritten")}
    rewritten = read_rewritten(Path(language.rewritten).expanduser()) if language.rewritten else {}
    return said | {"sha256": digest(find_model(language.llm, fetch=True)), "rewritten": sorted(rewritten.items())}
