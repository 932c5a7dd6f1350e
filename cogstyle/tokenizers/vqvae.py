"""The VQ image tokenizer: a convolutional encoder, a codebook, a convolutional decoder.

Every layer is local (the norm is taken over the channels of one place), so the same weights code a
64 px frame as 8 x 8 and a 192 px frame as 24 x 24, and what changes in one
corner of a picture changes codes and pixels only within reach of the convolutions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogstyle.config import TokenizerConfig
from cogstyle.errors import LayoutError

SCORES = 1 << 19  # of places with entries, that a CPU keeps close at hand


class PlaceNorm(nn.Module):
    """LayerNorm over the channels of each place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)  # a view of contiguous rows in channels_last memory
        return F.layer_norm(x_BHWC, self.weight.shape, self.weight, self.bias).permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))))))."""

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.norm1 = PlaceNorm(channels)
        self.conv1 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.norm2 = PlaceNorm(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BCHW = self.conv1(F.silu(self.norm1(x_BCHW)))
        return x_BCHW + self.conv2(F.silu(self.norm2(h_BCHW)))


def encoder(config: TokenizerConfig) -> nn.Sequential:
    """Pixels [B, 3, height, width] in -1..1 -> features [B, code_width, height / rate, width / rate]."""
    widths = config.encoder_channels
    layers: list[nn.Module] = [nn.Conv2d(3, widths[0], config.patch, stride=config.patch)]
    for level, width in enumerate(widths):
        if level:
            layers.append(nn.Conv2d(widths[level - 1], width, 2, stride=2))
        layers += [ResBlock(width, config.encoder_kernel) for _ in range(config.encoder_blocks)]
    return nn.Sequential(*layers, PlaceNorm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], config.code_width, 1))


def decoder(config: TokenizerConfig) -> nn.Sequential:
    """Code vectors [B, code_width, h, w] -> pixels [B, 3, h * rate, w * rate], about -1..1."""
    widths = config.decoder_channels[::-1]
    layers: list[nn.Module] = [nn.Conv2d(config.code_width, widths[0], 3, padding=1)]
    for level, width in enumerate(widths):
        if level:
            layers += [nn.Conv2d(widths[level - 1], 4 * width, 1), nn.PixelShuffle(2)]
        layers += [ResBlock(width) for _ in range(config.decoder_blocks)]
    head = nn.Conv2d(widths[-1], 3 * config.patch**2, 3, padding=1)
    return nn.Sequential(*layers, PlaceNorm(widths[-1]), nn.SiLU(), head, nn.PixelShuffle(config.patch))


class Codebook(nn.Module):
    """Nearest-neighbour quantiser. The entries are buffers: they follow running means, not gradients."""

    vectors: Tensor  # [codes, code_width]
    counts: Tensor  # [codes] running mean of how many places chose each entry
    sums: Tensor  # [codes, code_width] running mean of the features that chose it

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.randn(codes, width))
        self.register_buffer("counts", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, width))

    def nearest(self, features_PD: Tensor) -> Tensor:
        """Ids [P] of the entries nearest (squared distance) to each of P features."""
        half_norms_V = 0.5 * self.vectors.square().sum(1)
        rows = max(1, SCORES // len(half_norms_V)) if features_PD.device.type == "cpu" else len(features_PD)
        scores = (torch.addmm(half_norms_V, part_PD, self.vectors.T, beta=-1) for part_PD in features_PD.split(rows))
        return torch.cat([scores_PV.argmax(1) for scores_PV in scores])


class VQVAE(nn.Module):
    """`encode` pixels to ids, `decode` ids to pixels. Source: VQ-VAE (arXiv 1711.00937)."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder(config)
        self.codebook = Codebook(config.codes, config.code_width)
        self.decoder = decoder(config)

    def features(self, pixels_BCHW: Tensor) -> Tensor:
        """Float pixels in -1..1 -> features [B, code_width, h, w] before quantisation."""
        return self.encoder(pixels_BCHW)

    @torch.no_grad()
    def encode(self, images_BCHW: Tensor) -> Tensor:
        """uint8 images [B, 3, height, width] -> ids [B, h * w], raster order.

        Raises:
            LayoutError: for sides that are no multiple of the rate.
        """
        height, width = images_BCHW.shape[-2:]
        if height % self.config.rate or width % self.config.rate:
            raise LayoutError(f"image is {width} x {height} px; both sides must be multiples of {self.config.rate}")
        features_BCHW = self.features(to_float(images_BCHW))
        flat_PD = features_BCHW.permute(0, 2, 3, 1).reshape(-1, self.config.code_width)
        return self.codebook.nearest(flat_PD).view(images_BCHW.shape[0], -1)

    @torch.no_grad()
    def decode(self, ids_BL: Tensor, *, width: int | None = None) -> Tensor:
        """Ids [B, L] in raster order -> uint8 images [B, 3, height, width].

        Args:
            width: places along a row; default: a square grid.

        Raises:
            LayoutError: if L is not a whole number of rows.
        """
        return to_uint8(self.pixels(ids_BL, width=width))

    def pixels(self, ids_BL: Tensor, *, width: int | None = None) -> Tensor:
        """What `decode` rounds: float pixels [B, 3, height, width], about -1..1."""
        length = ids_BL.shape[1]
        width = width or round(length**0.5)
        if length % width:
            raise LayoutError(f"{length} tokens do not fill rows of {width}")
        vectors_BLD = F.embedding(ids_BL, self.codebook.vectors)
        return self.decoder(vectors_BLD.transpose(1, 2).unflatten(2, (-1, width)))


def to_float(images: Tensor) -> Tensor:
    """uint8 0..255 -> float -1..1."""
    return images.float() / 127.5 - 1.0


def to_uint8(pixels: Tensor) -> Tensor:
    """Float -1..1 -> uint8 0..255, clipped."""
    return ((pixels + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
