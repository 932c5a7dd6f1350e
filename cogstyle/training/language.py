"""Training what listens to a language model: connector and cross-attention, beside a frozen model."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cogstyle.bundle import Bundle, WeightFile, holds_bundle, said_of, share_files, update_bundle
from cogstyle.bundle import check_shared_files as expect_same
from cogstyle.sampling.hearing import Hearing
from cogstyle.training.batches import Batches
from cogstyle.training.ear import Ear
from cogstyle.training.figures import validation_figures
from cogstyle.training.job import load_weights
from cogstyle.training.loss import VideoModel
from cogstyle.training.transformer import TransformerJob


class LanguageJob(TransformerJob):
    """Cross-attention to a language model; all else is frozen.

    Args:
        target: the bundle to write. One that is not there yet becomes a copy of `source`.
    """

    def __init__(self, model: VideoModel, batches: Batches | None, target: Path, source: Bundle, ear: Ear) -> None:
        super().__init__(model, batches, None)
        self.ear, self.folder, self.source = ear, target, source
        self.module, self.hearing = ear.adapter, Hearing(ear.adapter, ear.states)
        frozen: list[nn.Module] = [model.transformer, *([] if model.adapter is None else [model.adapter])]
        self.base = nn.ModuleList(frozen).requires_grad_(False)
        self.file = WeightFile.of(f"language_{self.stage}")
        self.kept_files = [name for name in source.hashes() if name != self.file]
        if target.resolve() != source.folder.resolve():
            expect_same(source, target, self.kept_files)

    @property
    def stage(self) -> str:
        return "image" if self.adapter is None else "keyframes"

    @property
    def seen(self) -> dict[str, Any]:
        return {}

    @seen.setter
    def seen(self, value: dict[str, Any]) -> None:
        """Nothing that the export needs."""

    def load_initial_weights(self, tensors: dict[str, Tensor]) -> None:
        load_weights(self.module, tensors)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        return validation_figures(self.model, self.batches, self.device)

    def export(self) -> None:
        if not holds_bundle(self.folder):
            share_files(self.source, self.folder, self.kept_files)
            update_bundle(self.folder, {}, **said_of(self.source, self.folder))
        tables = {self.stage: asdict(self.ear.adapter.language)}
        update_bundle(self.folder, {self.file: self.module.state_dict()}, language=tables)
