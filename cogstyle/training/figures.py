"""What the loss is made of, and what the weights make of validation rows."""

import numpy as np
import torch
from torch import Tensor

from cogstyle.data.mixing import Group
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.tokenizers.image import ImageTokenizer
from cogstyle.training.batches import Batch, Batches
from cogstyle.training.loss import VideoModel


def loss_figures(batch: Batch, losses_BFL: Tensor, *, by_task: bool) -> dict[str, float]:
    """The loss by task, by frame (the first is 1) and by frame rate."""
    group, losses_B = batch.group, losses_BFL.mean((1, 2)).cpu().numpy()
    parts = np.unique(batch.tasks) if by_task else ()
    figures = {f"loss_{group.tasks[k].name}": losses_B[batch.tasks == k].mean() for k in parts}
    if group.layout.frames > 1:
        figures |= by_frame("loss", group, losses_BFL.mean((0, 2)))
        rates_B = np.array([(group.layout.frames - 1) / batch.data.seconds[pick] for pick in batch.picks])
        figures |= {f"loss_rate_{rate:g}": losses_B[rates_B == rate].mean() for rate in np.unique(rates_B)}
    return {name: float(loss) for name, loss in figures.items()}


def by_frame(name: str, group: Group, losses_F: Tensor) -> dict[str, float]:
    """The loss of each generated frame of a video; the first frame of a video is 1."""
    times = group.layout.times[group.layout.known :] if group.layout.frames > 1 else ()
    return {f"{name}_frame_{time + 1}": loss for time, loss in zip(times, losses_F.tolist(), strict=False)}


def validation_figures(model: VideoModel, batches: Batches, device: torch.device) -> dict[str, float]:
    """The loss of each group on its validation rows."""
    figures = {}
    for group in batches.groups:
        parts = [model.losses(batch, device)[0].mean((0, 2)) for batch in batches.validation(group)]
        losses_F = torch.stack(parts).mean(0)
        if batches.mixed:
            figures[f"validation_loss_{group.name}"] = losses_F.mean().item()
        else:
            figures["validation_loss"] = losses_F.mean().item()
            figures |= by_frame("validation_loss", group, losses_F)
    return figures


def gates(adapter: TemporalAdapter) -> dict[str, float]:
    """How much of each layer's output is the spatial channel's."""
    found = [layer.gate.sigmoid().mean().item() for layer in adapter.layers]  # type: ignore[operator]
    figures = {f"spatial_gate_layer_{k + 1}": gate for k, gate in enumerate(found)}
    return figures | {"spatial_gate_mean": float(np.mean(found))}


def likeliest_picture(model: VideoModel, batch: Batch, device: torch.device) -> np.ndarray:
    """Truth over the most likely token of every place, given the true tokens before it."""
    layout = batch.group.layout
    _, tokens_BFL, h_BPD = model.hidden(batch, device)
    best_BFL = model.transformer.logits(h_BPD).argmax(-1).unflatten(1, (layout.frames, -1))
    best_BFL[:, : layout.known] = tokens_BFL[:, : layout.known]
    order = torch.tensor(layout.times).argsort()
    rows = [strip(model.vqvae, video[order]) for pair in zip(tokens_BFL, best_BFL, strict=True) for video in pair]
    if layout.frames > 1:
        return np.concatenate(rows)
    return np.concatenate([np.concatenate(rows[k::2], 1) for k in (0, 1)])


def strip(vqvae: ImageTokenizer, tokens_FL: Tensor) -> np.ndarray:
    """Frames side by side, uint8 [height, F * width, 3]."""
    return np.concatenate(list(vqvae.decode(tokens_FL.cpu()).permute(0, 2, 3, 1).numpy()), 1)
