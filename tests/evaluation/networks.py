"""A small video network with a fixed seed, as a TorchScript file and its settings."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

FEATURES, CLASSES = 6, 4


class Net(nn.Module):
    """Clips [B, 3, F, 8, 8] -> features [B, 6], logits [B, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, FEATURES, 3, stride=2)
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.tanh(self.conv(x)).mean((2, 3, 4))
        return features, self.head(features)


class Only(nn.Module):
    """One of the two outputs."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.net, self.number = Net(), number

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[self.number]


def write_network(folder: Path, *, seed: int = 0, outputs: str = "both", settings: str = "") -> Path:
    """net.pt and net.toml in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    net = Net() if outputs == "both" else Only(0 if outputs == "features" else 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(net.eval(), torch.zeros(2, 3, 16, 8, 8))
        torch.jit.save(traced, str(folder / "net.pt"))
    (folder / "net.toml").write_text(settings or f'frames = 16\nsize = 8\noutputs = "{outputs}"\n')
    return folder / "net.pt"
