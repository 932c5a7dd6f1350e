"""Training the image model, and the keyframe and interpolation adapters on it."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cogstyle.adapter import adapter_from_image
from cogstyle.bundle import Bundle, update_bundle
from cogstyle.config import ModelConfig, require
from cogstyle.data import clips, shards, world
from cogstyle.layout import FrameLayout, Role, image_layout, interpolation_layout, keyframe_layout
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.training.loss import token_loss
from cogstyle.training.step import WHOLE, Share

TASKS = ("image", "keyframes", "interpolation")


def fresh_transformer(config: ModelConfig) -> Transformer:
    """A Transformer with N(0, 0.02) weights and zero biases."""
    model = Transformer(config)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    return model


class TransformerJob:
    """One task on token shards; the image model trains whole, adapters beside a frozen image model.

    Args:
        task: "image", "keyframes" or "interpolation".
        model: architecture of a new image model; adapters take the bundle's.
        rows: training samples, each another scene.
        caption_dropout: share of the samples whose caption is left out, so that guidance has a guide.
    """

    def __init__(
        self,
        task: str,
        model: ModelConfig,
        *,
        bundle: Path,
        data: Path,
        rows: int,
        validation_rows: int,
        batch: int,
        seed: int,
        caption_dropout: float,
        copy_output: bool = True,
        quiet: bool = False,
    ) -> None:
        require(task in TASKS, f"unknown task {task!r}; known are {', '.join(TASKS)}")
        self.task, self.bundle, self.batch, self.seed, self.dropout = task, bundle, batch, seed, caption_dropout
        source = Bundle(bundle)
        if task == "image":
            source.manifest["model"] = asdict(model)
        self.adapter: TemporalAdapter | None = None
        torch.manual_seed(seed)
        if task == "image":
            self.config = model
            self.transformer = fresh_transformer(self.config)
            self.module: nn.Module = self.transformer
        else:
            self.config = source.model_config
            self.transformer = source.image_model()
            window = self.config.window if task == "interpolation" else 0
            self.adapter = adapter_from_image(self.transformer, window=window, copy_output=copy_output)
            self.module = self.adapter
        self.base: nn.Module | None = None if task == "image" else self.transformer
        self.device = torch.device("cpu")
        self.text, self.vqvae = source.text(), source.vqvae()
        self.train, self.held_back = (
            self._rows(source, data, count, first, quiet)
            for count, first in ((rows, 0), (validation_rows, world.VALIDATION_SEED))
        )

    def _rows(self, source: Bundle, data: Path, count: int, first_seed: int, quiet: bool) -> shards.Shards:
        size, frames = self.vqvae.config.image_size, self.config.frames
        make = {
            "image": partial(clips.image_row, size=size),
            "keyframes": partial(clips.keyframe_row, size=size, frames=frames),
            "interpolation": partial(clips.interpolation_row, size=size, frames=frames),
        }[self.task]
        digest = source.hashes()["tokenizer.safetensors"]
        folder = data / f"{self.task}-{shards.fingerprint(first_seed, size, frames, digest)}"
        return shards.encode(
            lambda number: make(first_seed + number),
            count,
            folder,
            vqvae=self.vqvae,
            tokenizer_sha256=digest,
            quiet=quiet,
        )

    def trained(self) -> list[nn.Parameter]:
        return list(self.module.parameters())

    def _texts(self, data: shards.Shards, picks: np.ndarray, dropped: np.ndarray) -> Tensor:
        texts = []
        for pick, drop in zip(picks, dropped, strict=True):
            caption = None if drop else data.captions[pick]
            image = self.task == "image"
            texts.append(self.text.image_text(caption) if image else self.text.video_text(caption, data.seconds[pick]))
        return self.text.pad(texts).to(self.device)

    def _layout(self, text: int) -> FrameLayout:
        make = {"image": image_layout, "keyframes": keyframe_layout, "interpolation": interpolation_layout}[self.task]
        return make(self.config, text)

    def _frame_losses(self, data: shards.Shards, picks: np.ndarray, dropped: np.ndarray) -> Tensor:
        """Loss of each generated frame, in memory order."""
        text_BS = self._texts(data, picks, dropped)
        layout = self._layout(text_BS.shape[1])
        tokens_BFL = data.tokens[torch.from_numpy(picks)][:, list(layout.times)].long().to(self.device)
        h_BPD = self.transformer(text_BS, tokens_BFL, layout, self.adapter)
        known = layout.roles.count(Role.PREFIX) + layout.roles.count(Role.GIVEN)
        logits_BPV = self.transformer.logits(h_BPD[:, known * layout.tokens :])
        return token_loss(logits_BPV, tokens_BFL[:, known:].flatten(1)).unflatten(1, (-1, layout.tokens)).mean((0, 2))

    def loss(self, step: int, share: Share = WHOLE) -> tuple[Tensor, dict[str, float]]:
        picks = share.of(shards.shuffled(len(self.train), self.batch, step, self.seed))
        dropped = share.of(np.random.default_rng([self.seed, step, 1]).random(self.batch) < self.dropout)
        losses_F = self._frame_losses(self.train, picks, dropped)
        return losses_F.mean(), {"tokens": float(self.train.tokens[0].numel() * len(picks))}

    def preview(self) -> np.ndarray:
        picks = shards.shuffled(len(self.train), self.batch, 0, self.seed)[:8]
        return np.concatenate([self._strip(self.train.tokens[pick].long()) for pick in picks])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        parts = [
            self._frame_losses(self.held_back, picks, np.zeros(len(picks), bool))
            for picks in np.array_split(np.arange(len(self.held_back)), -(-len(self.held_back) // self.batch))
        ]
        losses_F = torch.stack(parts).mean(0)
        figures = {"validation_loss": losses_F.mean().item()}
        if len(losses_F) > 1:
            figures |= {f"validation_loss_frame_{k + 1}": loss for k, loss in enumerate(losses_F.tolist())}
        if self.adapter is not None:
            gates = [layer.gate.sigmoid().mean().item() for layer in self.adapter.layers]  # type: ignore[operator]
            figures |= {f"spatial_gate_layer_{k + 1}": gate for k, gate in enumerate(gates)}
            figures["spatial_gate_mean"] = float(np.mean(gates))
        return figures

    @torch.no_grad()
    def picture(self) -> np.ndarray:
        """Truth over the most likely token of every place, given the true tokens before it."""
        picks = np.arange(8)
        text_BS = self._texts(self.held_back, picks, np.zeros(8, bool))
        layout = self._layout(text_BS.shape[1])
        tokens_BFL = self.held_back.tokens[:8, list(layout.times)].long().to(self.device)
        h_BPD = self.transformer(text_BS, tokens_BFL, layout, self.adapter)
        best_BFL = self.transformer.logits(h_BPD).argmax(-1).unflatten(1, (layout.frames, -1))
        best_BFL[:, : layout.known] = tokens_BFL[:, : layout.known]
        order = torch.tensor(layout.times).argsort()
        rows = [self._strip(video[order]) for pair in zip(tokens_BFL, best_BFL, strict=True) for video in pair]
        return (
            np.concatenate(rows)
            if layout.frames > 1
            else np.concatenate([np.concatenate(rows[k::2], 1) for k in (0, 1)])
        )

    def _strip(self, tokens_FL: Tensor) -> np.ndarray:
        return np.concatenate(list(self.vqvae.decode(tokens_FL.cpu()).permute(0, 2, 3, 1).numpy()), 1)

    @torch.no_grad()
    def _lengthen_unseen(self) -> None:
        """Give text ids that no caption holds the mean length of the others.

        The adapters' prompts bring such ids (the seconds): left as short as they started, they would drown in
        the vectors of their positions.
        """
        captions = set(self.train.captions)
        seen = torch.tensor(sorted({i for caption in captions for i in self.text.image_text(caption)}))
        weight = self.transformer.embed.weight
        unseen = torch.zeros(len(weight), dtype=torch.bool)
        unseen[self.config.codes : self.config.start_of_image] = True
        unseen[torch.cat([seen, torch.tensor(self.text.image_text(None))])] = False
        lengths = weight[unseen].norm(dim=1, keepdim=True)
        weight[unseen] *= weight[seen].norm(dim=1).mean() / lengths

    def export(self) -> None:
        if self.task == "image":
            self._lengthen_unseen()
        tables: dict[str, Any] = {"model": self.config} if self.task == "image" else {}
        update_bundle(self.bundle, {f"{self.task}.safetensors": self.module.state_dict()}, **tables)
