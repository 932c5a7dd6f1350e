"""Training the image model, and the keyframe and interpolation adapters on it."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cogstyle.adapter import adapter_from_image
from cogstyle.bundle import ADAPTERS, MANIFEST, Bundle, check_shared_files, share_files, update_bundle
from cogstyle.config import ModelConfig, require
from cogstyle.data import shards
from cogstyle.data.mixing import Group, MixConfig, draw_group, draw_rows, make_groups, make_tasks, rows_at, shares
from cogstyle.files import fingerprint
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.shapes_world import rows as scene_rows
from cogstyle.shapes_world import world
from cogstyle.training.job import WHOLE, Share, load_weights
from cogstyle.training.loss import token_loss

TASKS = ("image", "keyframes", "interpolation")
TOKENIZERS = ("tokenizer.safetensors", "clusters.safetensors", "text.model")


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
    """One task, or a mix of them, on token shards.

    The image model trains whole, adapters beside a frozen image model, or both together.

    Args:
        task: "image", "keyframes" or "interpolation".
        model: architecture of a new image model; adapters take the bundle's.
        bundle: where the weights go, and what the task stands on unless `base` names another bundle.
        rows: training samples of each kind, each another scene.
        batch: samples a step, unless `mix` is given.
        caption_dropout: share of the samples whose caption is left out, so that guidance has a guide.
        emphasis: scenes to train on more often.
        base: bundle whose image model and tokenizers are taken.
        train_all: train the image model too.
        pb_relax: compute the temporal channel in the order that half precision survives.
        mix: tasks that take turns; `steps` is the length of the run, which has two phases.
        folders: shards of own videos, in place of scenes.
        encode: gives the rows of scenes as `shards.encode` does; None: there are no rows, as for an export alone.
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
        emphasis: scene_rows.Emphasis = scene_rows.EVEN,
        copy_output: bool = True,
        base: str | None = None,
        train_all: bool = False,
        pb_relax: bool = False,
        mix: MixConfig | None = None,
        steps: int = 1,
        folders: Sequence[Path] = (),
        encode: shards.Encode | None = shards.encode,
        quiet: bool = False,
    ) -> None:
        require(task in TASKS, f"unknown task {task!r}; known are {', '.join(TASKS)}")
        self.task, self.bundle, self.seed, self.dropout = task, bundle, seed, caption_dropout
        self.pb_relax, self.steps = pb_relax, steps
        self.train_all = train_all or task == "image"
        self.source = source = Bundle(base or bundle)
        self._check_target()
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
            if train_all:
                self.module = nn.ModuleDict({"image": self.transformer.requires_grad_(), "adapter": self.adapter})
        self.base: nn.Module | None = None if self.train_all else self.transformer
        self.device = torch.device("cpu")
        self.text, self.vqvae = source.text(), source.vqvae()
        self.mixed, self.images = mix is not None, None if mix is None else mix.images
        single = [Group(tuple(make_tasks(task, self.config)), batch)]
        self.groups = single if mix is None else make_groups(mix, self.config)
        kinds = tuple(dict.fromkeys(group.rows for group in self.groups))
        if encode is None:
            return
        if folders:
            own = [self._own_rows(kind, source, folders) for kind in kinds]
            self.rows = dict(zip(kinds, shards.split_validation(own, validation_rows), strict=True))
        else:
            get = partial(self._rows, source=source, data=data, encode=encode, quiet=quiet)
            self.rows = {
                kind: (
                    get(kind, count=rows, first_seed=0, emphasis=emphasis),
                    get(kind, count=validation_rows, first_seed=world.VALIDATION_SEED, emphasis=scene_rows.EVEN),
                )
                for kind in kinds
            }
        self.shown = next((group for group in self.groups if group.layout.frames > 1), self.groups[0])
        self.train, self.held_back = self.rows[self.shown.rows]
        self.pools = [[rows_at(self.rows[group.rows][0], member) for member in group.tasks] for group in self.groups]

    @cached_property
    def seen(self) -> dict[str, Any]:
        """What the export needs to know of the rows: text ids of the captions, or frame rates that the adapter met."""
        if self.adapter is None:
            return {"text": sorted({i for caption in set(self.train.captions) for i in self.text.image_text(caption)})}
        seconds = {
            self.rows[group.rows][0].seconds[row]
            for group, pools in zip(self.groups, self.pools, strict=True)
            for row in np.concatenate(pools).tolist()
            if group.layout.frames > 1
        }
        return {"rates": sorted(round((self.config.frames - 1) / span, 4) for span in seconds)}

    def _taken(self) -> tuple[str, ...]:
        """Files that the bundle has in common with the one that the task stands on."""
        return TOKENIZERS if self.train_all else (*TOKENIZERS, "image.safetensors")

    def _check_target(self) -> None:
        """Refuse a bundle that the new weights would not fit, before anything is computed."""
        if self.source.folder.resolve() != self.bundle.resolve():
            check_shared_files(self.source, self.bundle, self._taken())
        if self.task != "image" and self.train_all and (self.bundle / MANIFEST).is_file():
            others = [name for name in ADAPTERS if name != self.task and Bundle(self.bundle).has(f"{name}.safetensors")]
            require(
                not others,
                f'train = "all" changes the image model, and in {self.bundle} {", ".join(others)} stand on it; '
                "name a new folder as bundle, and this one as base",
            )

    def _rows(
        self,
        kind: str,
        *,
        source: Bundle,
        data: Path,
        count: int,
        first_seed: int,
        emphasis: scene_rows.Emphasis,
        encode: shards.Encode,
        quiet: bool,
    ) -> shards.Shards:
        size, frames = self.vqvae.config.image_size, self.config.frames
        make = {
            "image": partial(scene_rows.image_row, size=size, emphasis=emphasis),
            "keyframes": partial(scene_rows.keyframe_row, size=size, frames=frames, emphasis=emphasis),
            "continuation": partial(scene_rows.continuation_row, size=size, frames=frames, emphasis=emphasis),
            "interpolation": partial(scene_rows.interpolation_row, size=size, frames=frames, emphasis=emphasis),
        }[kind]
        digest = source.hashes()["tokenizer.safetensors"]
        folder = data / f"{kind}-{fingerprint(scene_rows.RULES, first_seed, size, frames, emphasis, digest)}"
        return encode(
            lambda number: make(first_seed + number),
            count,
            folder,
            vqvae=self.vqvae,
            tokenizer_sha256=digest,
            quiet=quiet,
        )

    def _own_rows(self, kind: str, source: Bundle, folders: Sequence[Path]) -> shards.Shards:
        data = shards.load_videos(
            folders,
            kind,
            frames=1 if kind == "image" else self.config.frames,
            size=self.vqvae.config.image_size,
            tokenizer_sha256=source.hashes()["tokenizer.safetensors"],
        )
        for caption, seconds in zip(data.captions, data.seconds, strict=True):  # one that is too long is an error now
            _ = self.text.image_text(caption) if kind == "image" else self.text.video_text(caption, seconds)
        return data

    def load_initial_weights(self, tensors: dict[str, Tensor]) -> None:
        """Start from trained weights of this task."""
        load_weights(self.transformer if self.adapter is None else self.adapter, tensors)

    def trained(self) -> list[nn.Parameter]:
        return list(self.module.parameters())

    def _texts(self, group: Group, data: shards.Shards, picks: np.ndarray, dropped: np.ndarray) -> Tensor:
        texts = []
        for pick, drop in zip(picks, dropped, strict=True):
            caption = None if drop else data.captions[pick]
            image = group.layout.frames == 1
            texts.append(self.text.image_text(caption) if image else self.text.video_text(caption, data.seconds[pick]))
        return self.text.pad(texts).to(self.device)

    def _hidden(
        self, group: Group, data: shards.Shards, picks: np.ndarray, dropped: np.ndarray
    ) -> tuple[Tensor, Tensor, Tensor]:
        """text_BS, tokens_BFL in memory order and hidden states [B, F * L, D] of some rows; images meet no adapter."""
        text_BS = self._texts(group, data, picks, dropped)
        layout = replace(group.layout, text=text_BS.shape[1])
        tokens_BFL = data.tokens[torch.from_numpy(picks)][:, list(layout.times)].long().to(self.device)
        adapter = self.adapter if layout.frames > 1 else None
        return text_BS, tokens_BFL, self.transformer(text_BS, tokens_BFL, layout, adapter, pb_relax=self.pb_relax)

    def _losses(
        self, group: Group, data: shards.Shards, picks: np.ndarray, dropped: np.ndarray
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss of every place of the generated frames, [B, frames, L], and how full the batch is."""
        text_BS, tokens_BFL, h_BPD = self._hidden(group, data, picks, dropped)
        known = group.layout.known
        logits_BPV = self.transformer.logits(h_BPD[:, known * group.layout.tokens :])
        losses_BP = token_loss(logits_BPV, tokens_BFL[:, known:].flatten(1))
        figures = {
            "tokens": float(tokens_BFL.numel()),
            "text_padding": (text_BS == self.config.pad).float().mean().item(),
        }
        return losses_BP.unflatten(1, (-1, group.layout.tokens)), figures

    def group(self, step: int) -> int:
        """Number of the group that a step trains, the same in every process."""
        return draw_group(shares(self.groups, step, steps=self.steps, images=self.images), step, self.seed)

    def _batch(self, step: int) -> tuple[Group, shards.Shards, np.ndarray, np.ndarray]:
        """The group of a step, its rows, and the task (its place in the group) and row of every sample."""
        number = self.group(step)
        group = self.groups[number]
        return group, self.rows[group.rows][0], *draw_rows(group, self.pools[number], step, self.seed)

    def loss(self, step: int, share: Share = WHOLE) -> tuple[Tensor, dict[str, float]]:
        group, data, tasks_B, picks = self._batch(step)
        dropped = np.random.default_rng([self.seed, step, 1]).random(group.samples) < self.dropout
        dropped |= np.array([not task.captioned for task in group.tasks])[tasks_B]
        rest = group.samples % share.count if self.mixed else 0  # a token budget leaves out what does not divide
        whole = slice(group.samples - rest)
        tasks_B, picks, dropped = (share.of(rows[whole]) for rows in (tasks_B, picks, dropped))
        losses_BFL, figures = self._losses(group, data, picks, dropped)
        return losses_BFL.mean((0, 2)).mean(), figures | self._parts(group, data, picks, tasks_B, losses_BFL.detach())

    def _parts(
        self, group: Group, data: shards.Shards, picks: np.ndarray, tasks_B: np.ndarray, losses_BFL: Tensor
    ) -> dict[str, float]:
        """The loss by task, by frame (the first is 1) and by frame rate."""
        losses_B = losses_BFL.mean((1, 2)).cpu().numpy()
        parts = np.unique(tasks_B) if self.mixed else ()
        figures = {f"loss_{group.tasks[k].name}": losses_B[tasks_B == k].mean() for k in parts}
        if group.layout.frames > 1:
            figures |= self._by_frame("loss", group, losses_BFL.mean((0, 2)))
            rates_B = np.array([(group.layout.frames - 1) / data.seconds[pick] for pick in picks])
            figures |= {f"loss_rate_{rate:g}": losses_B[rates_B == rate].mean() for rate in np.unique(rates_B)}
        return {name: float(loss) for name, loss in figures.items()}

    @staticmethod
    def _by_frame(name: str, group: Group, losses_F: Tensor) -> dict[str, float]:
        """The loss of each generated frame of a video; the first frame of a video is 1."""
        times = group.layout.times[group.layout.known :] if group.layout.frames > 1 else ()
        return {f"{name}_frame_{time + 1}": loss for time, loss in zip(times, losses_F.tolist(), strict=False)}

    def preview(self) -> np.ndarray:
        _, data, _, picks = self._batch(0)
        return np.concatenate([self._strip(data.tokens[pick].long()) for pick in picks[:8]])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        figures = {}
        for group in self.groups:
            data = self.rows[group.rows][1]
            parts = [
                self._losses(group, data, picks, np.zeros(len(picks), bool))[0].mean((0, 2))
                for picks in np.array_split(np.arange(len(data)), -(-len(data) // group.samples))
            ]
            losses_F = torch.stack(parts).mean(0)
            if self.mixed:
                figures[f"validation_loss_{group.name}"] = losses_F.mean().item()
            else:
                figures["validation_loss"] = losses_F.mean().item()
                figures |= self._by_frame("validation_loss", group, losses_F)
        if self.adapter is not None:
            gates = [layer.gate.sigmoid().mean().item() for layer in self.adapter.layers]  # type: ignore[operator]
            figures |= {f"spatial_gate_layer_{k + 1}": gate for k, gate in enumerate(gates)}
            figures["spatial_gate_mean"] = float(np.mean(gates))
        return figures

    @torch.no_grad()
    def picture(self) -> np.ndarray:
        """Truth over the most likely token of every place, given the true tokens before it."""
        layout, picks = self.shown.layout, np.arange(min(8, len(self.held_back)))
        _, tokens_BFL, h_BPD = self._hidden(self.shown, self.held_back, picks, np.zeros(len(picks), bool))
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
        seen = torch.tensor(self.seen["text"])
        weight = self.transformer.embed.weight
        unseen = torch.zeros(len(weight), dtype=torch.bool)
        unseen[self.config.codes : self.config.start_of_image] = True
        unseen[torch.cat([seen, torch.tensor(self.text.image_text(None))])] = False
        lengths = weight[unseen].norm(dim=1, keepdim=True)
        weight[unseen] *= weight[seen].norm(dim=1).mean() / lengths

    def export(self) -> None:
        image = {"image.safetensors": self.transformer.state_dict()}
        if self.adapter is None:
            self._lengthen_unseen()
            update_bundle(self.bundle, image, model=self.config)
            return
        if self.source.folder.resolve() != self.bundle.resolve():
            share_files(self.source, self.bundle, self._taken())
        adapter = {f"{self.task}.safetensors": self.adapter.state_dict()}
        update_bundle(self.bundle, {**image, **adapter} if self.train_all else adapter)  # an adapter names its base
