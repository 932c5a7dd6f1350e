"""LlamaGen's image tokenizer: convolutions with GroupNorm, attention at the deepest level, a codebook of unit vectors.

Modules are called as in the released weights. Source: LlamaGen (arXiv 2406.06525), after VQGAN (arXiv 2012.09841).
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogstyle.errors import LayoutError
from cogstyle.tokenizer_config import LlamaGenVQConfig
from cogstyle.tokenizers.blocks import AttnBlock, ResBlock, norm
from cogstyle.tokenizers.vqvae import to_float, to_uint8


class Downsample(nn.Module):
    """Half the sides; zeros are added at the right and the bottom alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(F.pad(x_BCHW, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the sides, nearest neighbours first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(F.interpolate(x_BCHW, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks, each followed by attention if there is any, then another size if there is."""

    def __init__(self, inside: int, outside: int, *, blocks: int, attends: bool, **resize: nn.Module) -> None:
        super().__init__()
        self.res = nn.ModuleList(ResBlock(outside if index else inside, outside) for index in range(blocks))
        self.attn = nn.ModuleList(AttnBlock(outside) for _ in range(blocks if attends else 0))
        for name, module in resize.items():
            setattr(self, name, module)
        self.resize = next(iter(resize), None)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        for index, block in enumerate(self.res):
            x_BCHW = block(x_BCHW)
            if self.attn:
                x_BCHW = self.attn[index](x_BCHW)
        return x_BCHW if self.resize is None else getattr(self, self.resize)(x_BCHW)


def middle(channels: int) -> nn.Sequential:
    return nn.Sequential(ResBlock(channels, channels), AttnBlock(channels), ResBlock(channels, channels))


class Encoder(nn.Module):
    """Pixels -> features [B, latent, h, w]."""

    def __init__(self, config: LlamaGenVQConfig) -> None:
        super().__init__()
        widths, last = (config.channels, *config.encoder_channels), len(config.encoder_channels) - 1
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.conv_blocks = nn.Sequential()
        for level, (inside, outside) in enumerate(pairwise(widths)):
            resize = {} if level == last else {"downsample": Downsample(outside)}
            self.conv_blocks.append(Level(inside, outside, blocks=config.blocks, attends=level == last, **resize))
        self.mid, self.norm_out = middle(widths[-1]), norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.latent, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.mid(self.conv_blocks(self.conv_in(x_BCHW)))
        return self.conv_out(F.silu(self.norm_out(x_BCHW)))


class Decoder(nn.Module):
    """Features [B, latent, h, w] -> pixels."""

    def __init__(self, config: LlamaGenVQConfig) -> None:
        super().__init__()
        widths = config.decoder_channels[::-1]
        self.conv_in, self.mid = nn.Conv2d(config.latent, widths[0], 3, padding=1), middle(widths[0])
        self.conv_blocks = nn.Sequential()
        for level, (inside, outside) in enumerate(zip((widths[0], *widths[:-1]), widths, strict=True)):
            resize = {} if level == len(widths) - 1 else {"upsample": Upsample(outside)}
            self.conv_blocks.append(Level(inside, outside, blocks=config.blocks + 1, attends=level == 0, **resize))
        self.norm_out, self.conv_out = norm(widths[-1]), nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.conv_blocks(self.mid(self.conv_in(x_BCHW)))
        return self.conv_out(F.silu(self.norm_out(x_BCHW)))


class Quantize(nn.Module):
    """The codebook; entries count by their direction alone, whatever their lengths."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, width)

    def unit(self) -> Tensor:
        return F.normalize(self.embedding.weight, dim=-1)


class LlamaGenVQ(nn.Module):
    """`encode` images to ids, `decode` ids to images."""

    def __init__(self, config: LlamaGenVQConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quantize = Quantize(config.codes, config.code_width)
        self.quant_conv = nn.Conv2d(config.latent, config.code_width, 1)
        self.post_quant_conv = nn.Conv2d(config.code_width, config.latent, 1)

    def features(self, pixels_BCHW: Tensor) -> Tensor:
        """Float pixels in -1..1 -> features [B, code_width, h, w] before quantisation."""
        return self.quant_conv(self.encoder(pixels_BCHW))

    def nearest(self, features_BDHW: Tensor) -> Tensor:
        """Ids [B, h * w] of the entries of nearest direction, raster order."""
        z_BPD = F.normalize(features_BDHW.flatten(2).transpose(1, 2), dim=-1)
        return torch.stack([(z_PD @ self.quantize.unit().T).argmax(1) for z_PD in z_BPD])

    @torch.no_grad()
    def encode(self, images_BCHW: Tensor) -> Tensor:
        """uint8 images [B, 3, height, width] -> ids [B, h * w], raster order.

        Raises:
            LayoutError: for sides that are no multiple of the rate.
        """
        height, width = images_BCHW.shape[-2:]
        if height % self.config.rate or width % self.config.rate:
            raise LayoutError(f"image is {width} x {height} px; both sides must be multiples of {self.config.rate}")
        return self.nearest(self.features(to_float(images_BCHW)))

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
        width = width or round(ids_BL.shape[1] ** 0.5)
        if ids_BL.shape[1] % width:
            raise LayoutError(f"{ids_BL.shape[1]} tokens do not fill rows of {width}")
        vectors_BDL = F.embedding(ids_BL, self.quantize.unit()).transpose(1, 2)
        return self.decoder(self.post_quant_conv(vectors_BDL.unflatten(2, (-1, width))))
