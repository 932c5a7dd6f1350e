"""The loss: cross-entropy over the image ids of the frames that a task generates."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cogstyle.model.resized import resized
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.tokenizers.image import ImageTokenizer
from cogstyle.tokenizers.text import TextTokenizer
from cogstyle.training.batches import Batch
from cogstyle.training.ear import Ear


def token_loss(logits_BPV: Tensor, targets_BP: Tensor) -> Tensor:
    """Cross-entropy in nats of each place, [B, P]."""
    return F.cross_entropy(logits_BPV.float().transpose(1, 2), targets_BP.long(), reduction="none")


@dataclass
class VideoModel:
    """An image model, with an adapter if it makes videos, and the tokenizers that its rows are of.

    Args:
        pb_relax: compute the temporal channel in the order that half precision survives.
    """

    transformer: Transformer
    adapter: TemporalAdapter | None
    text: TextTokenizer
    vqvae: ImageTokenizer
    pb_relax: bool = False
    ear: Ear | None = None  # hears a language model

    def hidden(self, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """text_BS, tokens_BFL in memory order and hidden states [B, F * L, D]; images meet no adapter."""
        text_BS, tokens_BFL = batch.texts(self.text).to(device), batch.tokens()
        seen_BFL, tokens_BFL = batch.seen(tokens_BFL).to(device), tokens_BFL.to(device)
        layout = replace(batch.group.layout, text=text_BS.shape[1])
        adapter = self.adapter if layout.frames > 1 else None
        model, adapter = resized(self.transformer, adapter, layout.frames, layout.grid)
        if self.ear is not None:
            model = model.listening(self.ear.adapter.listen(self.ear.heard(batch, device)))
        return text_BS, tokens_BFL, model(text_BS, seen_BFL, layout, adapter, pb_relax=self.pb_relax)

    def losses(self, batch: Batch, device: torch.device) -> tuple[Tensor, dict[str, float]]:
        """Loss of every place of the generated frames, [B, frames, L], and how full the batch is."""
        text_BS, tokens_BFL, h_BPD = self.hidden(batch, device)
        known, length = batch.group.layout.known, batch.group.layout.tokens
        logits_BPV = self.transformer.logits(h_BPD[:, known * length :])
        losses_BP = token_loss(logits_BPV, tokens_BFL[:, known:].flatten(1))
        figures = {
            "tokens": float(tokens_BFL.numel()),
            "text_padding": (~self.transformer.valid(text_BS)).float().mean().item(),
        }
        return losses_BP.unflatten(1, (-1, length)), figures
