"""The loss: cross-entropy over the image ids of the frames that a task generates."""

import torch.nn.functional as F
from torch import Tensor


def token_loss(logits_BPV: Tensor, targets_BP: Tensor) -> Tensor:
    """Cross-entropy in nats of each place, [B, P]."""
    return F.cross_entropy(logits_BPV.float().transpose(1, 2), targets_BP.long(), reduction="none")
