"""Training a small language model that turns any phrasing into the caption that the weights know."""

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sentencepiece import SentencePieceProcessor
from torch import Tensor, nn

from cogstyle.bundle import WeightFile, update_bundle
from cogstyle.data.pairs import Pair
from cogstyle.model.seq2seq import END, PAD, fresh_seq2seq
from cogstyle.sampling.rewriter import padded, rewrite, source_ids
from cogstyle.seq2seq_config import Seq2SeqConfig
from cogstyle.tokenizers.text import read_pieces
from cogstyle.tokenizers.words import plain
from cogstyle.training.job import WHOLE, Share, load_weights
from cogstyle.training.phrased import Pairs, Slips
from cogstyle.training.text import learn_pieces
from cogstyle.training.tokenizer import has_bfloat16

HELD_BACK, SHOWN, PART = 64, 24, 16  # held-back pairs of each kind, those of a picture, those computed at once
CORPUS = 20_000  # texts that the pieces are learned from
UNSPACED = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")
RIGHT, WRONG = (40, 160, 60), (220, 40, 40)


class Learner(nn.Module):
    """The model and its text tokenizer, which a checkpoint keeps together."""

    def __init__(self, config: Seq2SeqConfig, pieces: bytes, seed: int) -> None:
        super().__init__()
        self.model = fresh_seq2seq(config, seed)
        self.register_buffer("pieces", torch.frombuffer(bytearray(pieces), dtype=torch.uint8) if pieces else None)


class LanguageModelJob:
    """Cross entropy of the next token of the caption.

    Args:
        pairs: what to train on; None: nothing, as for an export alone.
        slips: share of the phrasings that get slips of the pen.
        bundle: the folder to write, alone or beside what it holds.
        world: whose captions these are, if it is a known one.
    """

    def __init__(
        self,
        config: Seq2SeqConfig,
        pairs: Pairs | None,
        *,
        batch: int,
        seed: int,
        slips: float,
        bundle: Path,
        world: str = "",
    ) -> None:
        self.config, self.batch, self.seed, self.slips = config, batch, seed, Slips(slips)
        self.bundle, self.world = bundle, world
        self.base: nn.Module | None = None
        self.device = torch.device("cpu")
        if pairs is None:
            self.module: nn.Module = Learner(config, b"\0", seed)  # which the checkpoint replaces
            return
        self.pairs = pairs
        self.module = Learner(config, pieces_of(pairs, config.vocabulary), seed)
        self.held_back = pairs.held_back(HELD_BACK)

    @cached_property
    def pieces(self) -> SentencePieceProcessor:
        return read_pieces(self._pieces, "the language model's pieces")

    @property
    def _pieces(self) -> bytes:
        return bytes(self.module.pieces.cpu().numpy())  # type: ignore[operator]

    def load_initial_weights(self, tensors: dict[str, Tensor]) -> None:
        """Start from trained weights of this task."""
        load_weights(self.module.model, tensors)  # type: ignore[arg-type]

    def trained(self) -> list[nn.Parameter]:
        return list(self.module.parameters())

    def _drawn(self, step: int) -> list[Pair]:
        rng = np.random.default_rng([self.seed, step])
        return [(self.slips(said, rng), caption) for said, caption in self.pairs.draw(rng, self.batch)]

    def _ids(self, pairs: list[Pair]) -> tuple[Tensor, Tensor]:
        """Sources [B, S] and targets [B, T]; what is longer than the span is cut."""
        pieces, span = self.pieces, self.config.span
        sources = [source_ids(pieces, said)[-span:] for said, _ in pairs]
        targets = [[*pieces.encode(caption)[: span - 1], END] for _, caption in pairs]
        return padded(sources).to(self.device), padded(targets).to(self.device)

    def _cross_entropy(self, pairs: list[Pair]) -> tuple[Tensor, int]:
        """The mean over all tokens of the captions; texts of about one length are computed together."""
        pairs = sorted(pairs, key=lambda pair: len(self.pieces.encode(pair[0])))
        losses, tokens = [], 0
        for first in range(0, len(pairs), PART):
            source_BS, target_BT = self._ids(pairs[first : first + PART])
            with torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16(self.device)):
                logits_BTV = self.module.model(source_BS, target_BT)  # type: ignore[operator]
            flat = logits_BTV.float().flatten(0, 1), target_BT.flatten()
            losses.append(F.cross_entropy(*flat, ignore_index=PAD, reduction="sum"))
            tokens += int((target_BT != PAD).sum())
        return torch.stack(losses).sum() / tokens, tokens

    def loss(self, step: int, share: Share = WHOLE) -> tuple[Tensor, dict[str, float]]:
        loss, tokens = self._cross_entropy(share.of(self._drawn(step)))
        return loss, {"tokens": tokens}

    def preview(self) -> np.ndarray:
        """A row a pair: the ids of the source in grey, those of the target in green."""
        source_BS, target_BT = self._ids(self._drawn(0)[:SHOWN])
        return _picture([(source_BS, (1, 1, 1)), (target_BT, (0, 1, 0))], self.config.vocabulary)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The loss, and the share of the held-back pairs of each kind whose caption comes out letter by letter."""
        figures: dict[str, float] = {}
        for kind, pairs in self.held_back.items():
            figures[f"validation_loss_{kind}"] = self._cross_entropy(pairs)[0].item()
            figures[f"exact_{kind}"] = float(np.mean(self._right(pairs)))
        return figures

    def _right(self, pairs: list[Pair]) -> list[bool]:
        sources = [source_ids(self.pieces, said)[-self.config.span :] for said, _ in pairs]
        found = rewrite(self.module.model, self.pieces, sources)  # type: ignore[arg-type]
        return [text == caption for text, (_, caption) in zip(found, pairs, strict=True)]

    @torch.no_grad()
    def picture(self) -> np.ndarray:
        """Squares, a row a kind of held-back pairs: green where the caption comes out, red where not."""
        rows = [self._right(pairs) for pairs in self.held_back.values()]
        page = np.full((len(rows), max(map(len, rows)), 3), 255, np.uint8)
        for k, row in enumerate(rows):
            page[k, : len(row)] = [RIGHT if right else WRONG for right in row]
        return page.repeat(8, 0).repeat(8, 1)

    def export(self) -> None:
        weights: Any = self.module.model.state_dict()  # type: ignore[union-attr]
        files: dict[str, Any] = {WeightFile.LANGUAGE_MODEL: weights, WeightFile.LANGUAGE_PIECES: self._pieces}
        tables: dict[str, Any] = {"world": self.world} if self.world else {}
        update_bundle(self.bundle, files, language_model=self.config, **tables)


def pieces_of(pairs: Pairs, vocabulary: int) -> bytes:
    """The text tokenizer of what people write, and of captions, which keep their capitals and marks.

    Letters that no spaces part into words, such as Chinese ones, stay pieces of their own.
    """
    some = pairs.draw(np.random.default_rng(0), CORPUS)
    texts = [text for said, caption in some for text in (plain(said), caption)]
    letters = "".join(sorted({letter for text in texts for letter in text if UNSPACED.match(letter)}))
    own: dict[str, Any] = {
        "normalization_rule_name": "identity",
        "add_dummy_prefix": True,
        "eos_id": END,
        "required_chars": letters,
    }
    spaced = (UNSPACED.sub(" ", text) for text in texts)
    return learn_pieces(spaced, pieces=vocabulary, symbols=(), **own)


def _picture(parts: list[tuple[Tensor, tuple[int, int, int]]], vocabulary: int) -> np.ndarray:
    grey = [(ids.cpu().numpy() % vocabulary * 255 // vocabulary)[..., None] * np.array(colour) for ids, colour in parts]
    return np.concatenate(grey, 1).astype(np.uint8).repeat(8, 0).repeat(8, 1)
