"""Training the image model, and the keyframe and interpolation adapters on it."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cogstyle.config import ModelConfig
from cogstyle.model.grown import GrownAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.sampling.hearing import Hearing
from cogstyle.training.batches import Batches
from cogstyle.training.export import Target
from cogstyle.training.figures import gates, likeliest_picture, loss_figures, strip, validation_figures
from cogstyle.training.job import WHOLE, Share, load_weights
from cogstyle.training.loss import VideoModel


def fresh_transformer(config: ModelConfig) -> Transformer:
    """A Transformer with N(0, 0.02) weights and zero biases."""
    model = Transformer(config)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return model


class TransformerJob:
    """One task, or a mix of them, on token shards.

    The image model trains whole, an adapter beside a frozen image model, or both together.

    Args:
        batches: of rows; None: there are none, as for an export alone.
        target: the bundle to write.
        train_all: train the image model too.
        new_only: of what has grown, train the new layers alone: the rest is exported as it came.
    """

    hearing: Hearing | None = None  # what listens to a language model

    def __init__(
        self,
        model: VideoModel,
        batches: Batches | None,
        target: Target | None,
        *,
        train_all: bool = False,
        new_only: bool = False,
    ) -> None:
        self.model, self.target = model, target
        self.transformer, self.adapter = model.transformer, model.adapter
        self.text, self.vqvae, self.config = model.text, model.vqvae, model.transformer.config
        self.base: nn.Module | None = None
        if self.adapter is None:
            self.module: nn.Module = self.transformer
        elif train_all:
            self.module = nn.ModuleDict({"image": self.transformer.requires_grad_(), "adapter": self.adapter})
        else:
            self.module, self.base = self.adapter, self.transformer
        self.new: nn.Module | None = None
        if new_only:
            self.new = self.adapter.new if isinstance(self.adapter, GrownAdapter) else self.transformer.new
        self._keep()
        self.device = torch.device("cpu")
        if batches is not None:
            self.batches = batches

    @cached_property
    def seen(self) -> dict[str, Any]:
        """What the export needs to know of the rows: text ids of the captions, or frame rates that the adapter met."""
        if self.adapter is None:
            captions = set(self.batches.train.captions)
            return {"text": sorted({i for caption in captions for i in self.text.image_text(caption)})}
        return {"rates": self.batches.trained_rates()}

    @property
    def rows_kept(self) -> dict[str, Any]:
        """How many rows of each stratum were chosen to train on, by kind, where some were."""
        return {kind: train.kept for kind, (train, _) in self.batches.rows.items() if train.kept is not None}

    def load_initial_weights(self, tensors: dict[str, Tensor]) -> None:
        """Start from trained weights of this task."""
        load_weights(self.transformer if self.adapter is None else self.adapter, tensors)
        self._keep()

    def _keep(self) -> None:
        """Remember what does not train of what has grown."""
        moving = {id(parameter) for parameter in self.trained()}
        model = self.transformer if self.adapter is None else self.adapter
        self.kept = {n: p.detach().clone() for n, p in model.named_parameters() if id(p) not in moving}

    def trained(self) -> Iterator[nn.Parameter]:
        return (self.module if self.new is None else self.new).parameters()

    def loss(self, step: int, share: Share = WHOLE) -> tuple[Tensor, dict[str, float]]:
        batch = self.batches.at(step, share)
        losses_BFL, figures = self.model.losses(batch, self.device)
        figures |= loss_figures(batch, losses_BFL.detach(), by_task=self.batches.mixed)
        return losses_BFL.mean((0, 2)).mean(), figures

    def preview(self) -> np.ndarray:
        batch = self.batches.at(0)
        return np.concatenate([strip(self.vqvae, batch.data.tokens[pick].long()) for pick in batch.picks[:8]])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        figures = validation_figures(self.model, self.batches, self.device)
        return figures | ({} if self.adapter is None else gates(self.adapter))

    @torch.no_grad()
    def picture(self) -> np.ndarray:
        """Truth over the most likely token of every place."""
        batch = next(self.batches.validation(self.batches.shown, 8))
        return likeliest_picture(self.model, batch, self.device)

    def export(self) -> None:
        assert self.target is not None
        model = self.transformer if self.adapter is None else self.adapter
        model.load_state_dict(self.kept, strict=False)  # in half precision a frozen weight was rounded
        self.target.write(self.model, self.seen.get("text", ()) if self.new is None else ())
