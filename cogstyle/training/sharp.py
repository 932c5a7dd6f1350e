"""Terms beside the squared error that make a tokenizer's pictures sharp: structure, and a critic of patches."""

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor, nn
from torch.func import functional_call

from cogstyle.schema import Share

Weight = Annotated[float, Interval(ge=0.0, le=100.0)]

SCALES, WINDOW = 3, 7  # each half as fine as the one before; pixels along a window
C1, C2 = 0.01**2, 0.03**2  # of pictures from 0 to 1 (Wang et al., 2004)


@dataclass(frozen=True)
class SharpConfig:
    """Weights of terms beside the squared error of pixels from 0 to 1; each is off at 0."""

    perceptual: Weight = 0.0  # of what structure differs: 1 - SSIM, the mean of three scales
    adversarial: Weight = 0.0  # of what a critic of patches, trained beside, holds to be made
    adversarial_from: Share = 0.5  # share of the steps after which the critic is switched on


def unlikeness(made_BCHW: Tensor, true_BCHW: Tensor) -> Tensor:
    """1 - SSIM, the mean of all channels, places and scales; 0 for equal pictures."""
    found = made_BCHW.new_zeros(())
    for _ in range(SCALES):
        a, b = (F.avg_pool2d(x, WINDOW, 1) for x in (made_BCHW, true_BCHW))
        squares = (made_BCHW * made_BCHW, true_BCHW * true_BCHW, made_BCHW * true_BCHW)
        aa, bb, ab = (F.avg_pool2d(x, WINDOW, 1) for x in squares)
        structure = (2 * (ab - a * b) + C2) / ((aa - a * a) + (bb - b * b) + C2)
        found = found + 1.0 - ((2 * a * b + C1) / (a * a + b * b + C1) * structure).mean()
        made_BCHW, true_BCHW = (F.avg_pool2d(x, 2) for x in (made_BCHW, true_BCHW))
    return found / SCALES


class Critic(nn.Module):
    """Says of each patch of a picture how true it looks (Isola et al., 2017): [B, 3, height, width] -> [B, 1, h, w]."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.GroupNorm(8, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 3, 1, 1),
            nn.GroupNorm(8, 4 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 3, 1, 1),
        )

    def forward(self, pictures_BCHW: Tensor) -> Tensor:
        found: Tensor = self.layers(pictures_BCHW)
        return found

    def opinions(self, made_BCHW: Tensor, true_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """What the maker is to lower, without a gradient to the critic, and what the critic is (its hinge loss)."""
        still = {name: parameter.detach() for name, parameter in self.named_parameters()}
        fooled = -functional_call(self, still, (made_BCHW,)).mean()
        caught = F.relu(1.0 - self(true_BCHW)).mean() + F.relu(1.0 + self(made_BCHW.detach())).mean()
        return fooled, caught
