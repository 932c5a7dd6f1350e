"""Training super-resolution beside a frozen image model: every fine token of a frame in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cogstyle.adapter import superres_from_image
from cogstyle.bundle import Bundle, WeightFile, update_bundle
from cogstyle.config import SuperResConfig
from cogstyle.data import shards
from cogstyle.rows import Row
from cogstyle.training.job import WHOLE, Share, load_weights
from cogstyle.training.loss import token_loss
from cogstyle.video import enlarge, psnr

SHOWN = 32  # validation scenes whose pixels are compared


@dataclass(frozen=True)
class FineRows:
    """Rows to train and to validate on, each one moment at both sizes; `shown` are some of the latter as pixels."""

    train: shards.Shards
    held_back: shards.Shards
    shown: Sequence[Row]


class SuperResolutionJob:
    """Cross-entropy of the fine tokens, given the coarse ones and the caption.

    Args:
        source: the bundle that has the image model; `folder` is the one to write.
        rows: None: for an export alone.
        caption_dropout: share of the samples without caption, as an image without one is upscaled.
    """

    def __init__(
        self,
        source: Bundle,
        folder: Path,
        sizes: SuperResConfig,
        rows: FineRows | None,
        *,
        batch: int,
        seed: int,
        caption_dropout: float,
        copy_output: bool = True,
    ) -> None:
        self.folder, self.batch, self.seed, self.dropout = folder, batch, seed, caption_dropout
        torch.manual_seed(seed)
        self.transformer = source.image_model()
        self.sizes = sizes
        self.upscaler = superres_from_image(
            self.transformer,
            factor=self.sizes.factor,
            coarse_offset=self.sizes.coarse_offset,
            copy_output=copy_output,
        )
        self.module: nn.Module = self.upscaler
        self.base: nn.Module | None = self.transformer
        self.device = torch.device("cpu")
        self.text, self.vqvae = source.text(), source.vqvae()
        if rows is not None:
            self.train, self.held_back, self.shown = rows.train, rows.held_back, rows.shown

    @property
    def rows_kept(self) -> dict[str, Any]:
        """How many rows of each stratum were chosen to train on, if some were."""
        return {} if self.train.kept is None else {"superres": self.train.kept}

    def load_initial_weights(self, tensors: dict[str, Tensor]) -> None:
        """Start from trained weights of this task."""
        load_weights(self.upscaler, tensors)

    def trained(self) -> list[nn.Parameter]:
        return list(self.module.parameters())

    def _logits(self, data: shards.Shards, picks: np.ndarray, dropped: np.ndarray) -> Tensor:
        """Logits of all fine places, [B, M, V]."""
        captions = [None if drop else data.captions[pick] for pick, drop in zip(picks, dropped, strict=True)]
        text_BS = self.text.pad([self.text.image_text(caption) for caption in captions]).to(self.device)
        coarse_BL = data.tokens[torch.from_numpy(picks), 0].long().to(self.device)
        h_BMD = self.upscaler(self.transformer, text_BS, coarse_BL)
        return self.transformer.logits(h_BMD)

    def _loss(self, data: shards.Shards, picks: np.ndarray, dropped: np.ndarray) -> Tensor:
        assert data.fine is not None
        targets_BM = data.fine[torch.from_numpy(picks), 0].to(self.device)
        return token_loss(self._logits(data, picks, dropped), targets_BM).mean(1)

    def loss(self, step: int, share: Share = WHOLE) -> tuple[Tensor, dict[str, float]]:
        picks = share.of(shards.shuffled(len(self.train), self.batch, step, self.seed))
        dropped = share.of(np.random.default_rng([self.seed, step, 1]).random(self.batch) < self.dropout)
        tokens = (self.upscaler.factor**2 + 1) * self.transformer.config.tokens * len(picks)
        return self._loss(self.train, picks, dropped).mean(), {"tokens": float(tokens)}

    def preview(self) -> np.ndarray:
        assert self.train.fine is not None
        picks = torch.from_numpy(shards.shuffled(len(self.train), self.batch, 0, self.seed)[:6])
        pictures = self.vqvae.decode(self.train.fine[picks, 0].long()).permute(0, 2, 3, 1)
        return np.concatenate(list(pictures.numpy()), 1)

    def _batches(self, count: int) -> list[np.ndarray]:
        return np.array_split(np.arange(count), -(-count // self.batch))

    @torch.no_grad()
    def _best(self, count: int) -> np.ndarray:
        """The first validation rows upscaled to the likeliest tokens, uint8 [count, height, width, 3]."""
        parts = []
        for picks in self._batches(count):
            best_BM = self._logits(self.held_back, picks, np.zeros(len(picks), bool)).argmax(-1)
            parts.append(self.vqvae.decode(best_BM.cpu()).permute(0, 2, 3, 1).numpy())
        return np.concatenate(parts)

    def _shown(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The true pictures and the small ones enlarged, uint8 [count, height, width, 3]."""
        truth = np.concatenate([row.fine for row in self.shown[:count] if row.fine is not None])
        return truth, enlarge(np.concatenate([row.frames for row in self.shown[:count]]), truth.shape[1])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        picks_of = self._batches(len(self.held_back))
        losses = [self._loss(self.held_back, picks, np.zeros(len(picks), bool)) for picks in picks_of]
        truth, bicubic = self._shown(len(self.shown))
        return {
            "validation_loss": torch.cat(losses).mean().item(),
            "psnr": psnr(self._best(len(truth)), truth),
            "bicubic_psnr": psnr(bicubic, truth),
        }

    def picture(self) -> np.ndarray:
        """Bicubic enlargement over the likeliest tokens over the truth."""
        truth, bicubic = self._shown(6)
        return np.concatenate([np.concatenate(list(row), 1) for row in (bicubic, self._best(len(truth)), truth)])

    def export(self) -> None:
        update_bundle(self.folder, {WeightFile.SUPERRES: self.module.state_dict()}, superres=self.sizes)
