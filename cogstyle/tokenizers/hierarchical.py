"""icetk's image tokenizer: the hierarchical VQ-VAE of CogView2.

One encoder works at 1/4; averaging convolutions take its features on to 1/8 and 1/16, and each rate has a
decoder of its own over one shared codebook. Module and parameter names are those of the released weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogstyle.config import HierarchicalConfig
from cogstyle.errors import LayoutError
from cogstyle.tokenizers.blocks import AttnBlock, ResBlock, norm

MEAN, STD = (0.79093, 0.76271, 0.75340), (0.30379, 0.32279, 0.32800)
RATES = (4, 8, 16)
ATTENTION_SIDE, NOMINAL_SIDE = 16, 256  # decoders attend where a picture of 256 px has shrunk to 16


class Downsample(nn.Module):
    """Stride 2; padded on the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(F.pad(x_BCHW, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(F.interpolate(x_BCHW, scale_factor=2.0, mode="nearest"))


class Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1, self.block_2 = ResBlock(channels, channels), ResBlock(channels, channels)
        self.attn_1 = AttnBlock(channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x_BCHW)))


class Level(nn.Module):
    """Blocks, attention after each where there is any, then a change of size."""

    def __init__(self, blocks: list[ResBlock], attention: list[AttnBlock], resize: dict[str, nn.Module]) -> None:
        super().__init__()
        self.block, self.attn = nn.ModuleList(blocks), nn.ModuleList(attention)
        for name, module in resize.items():
            self.add_module(name, module)
        self.resize = list(resize)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        for index, block in enumerate(self.block):
            x_BCHW = block(x_BCHW)
            if self.attn:
                x_BCHW = self.attn[index](x_BCHW)
        for name in self.resize:
            x_BCHW = self.get_submodule(name)(x_BCHW)
        return x_BCHW


class Encoder(nn.Module):
    def __init__(self, channels: int, width: int, *, multipliers: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        widths = [channels, *(channels * factor for factor in multipliers)]
        self.conv_in = nn.Conv2d(3, channels, 3, padding=1)
        self.down = nn.ModuleList(
            Level(
                [ResBlock(widths[level] if index == 0 else outer, outer) for index in range(blocks)],
                [],
                {"downsample": Downsample(outer)} if level < len(multipliers) - 1 else {},
            )
            for level, outer in enumerate(widths[1:])
        )
        self.mid = Middle(widths[-1])
        self.norm_out, self.conv_out = norm(widths[-1]), nn.Conv2d(widths[-1], width, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.conv_in(x_BCHW)
        for level in self.down:
            x_BCHW = level(x_BCHW)
        return self.conv_out(F.silu(self.norm_out(self.mid(x_BCHW))))


class Decoder(nn.Module):
    def __init__(self, channels: int, width: int, *, multipliers: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        widths = [channels * factor for factor in (*multipliers, multipliers[-1])]
        self.conv_in = nn.Conv2d(width, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        levels = []
        for level, outer in enumerate(widths[:-1]):
            attends = NOMINAL_SIDE // 2**level == ATTENTION_SIDE
            levels.append(
                Level(
                    [ResBlock(widths[level + 1] if index == 0 else outer, outer) for index in range(blocks)],
                    [AttnBlock(outer) for _ in range(blocks)] if attends else [],
                    {"upsample": Upsample(outer)} if level else {},
                )
            )
        self.up = nn.ModuleList(levels)
        self.norm_out, self.conv_out = norm(widths[0]), nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z_BDHW: Tensor) -> Tensor:
        x_BCHW = self.mid(self.conv_in(z_BDHW))
        for level in reversed(self.up):
            x_BCHW = level(x_BCHW)
        return self.conv_out(F.silu(self.norm_out(x_BCHW)))


class DownSampler(nn.Module):
    """Half the sides: the average of four places plus a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_down_sampler = Downsample(width)

    def forward(self, z_BDHW: Tensor) -> Tensor:
        return F.avg_pool2d(z_BDHW, 2) + self.conv_down_sampler(z_BDHW)


class Quantize(nn.Module):
    """A projection and the codebook; `cluster_size` and `embed_avg` are left over from its training."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.proj, self.embed = nn.Conv2d(width, width, 1), nn.Embedding(codes, width)
        self.register_buffer("cluster_size", torch.zeros(codes))
        self.register_buffer("embed_avg", torch.zeros(codes, width))

    def forward(self, z_BDHW: Tensor) -> Tensor:
        """Nearest entry of every place, [B, h * w]."""
        z_BPD = self.proj(z_BDHW).flatten(2).transpose(1, 2)
        scores_BPV = z_BPD @ self.embed.weight.T - 0.5 * self.embed.weight.square().sum(1)
        return scores_BPV.argmax(2)


class HierarchicalVQVAE(nn.Module):
    """`encode` images to ids at 1/8, `decode` them; `encode_at` and `decode_at` serve every rate, on floats.

    Source: CogView2 (arXiv 2204.14217).
    """

    def __init__(self, config: HierarchicalConfig) -> None:
        super().__init__()
        self.config = config
        channels, width = config.channels, config.code_width
        self.enc = Encoder(channels, width, multipliers=(1, 2, 4), blocks=2)
        self.decs = nn.ModuleList(
            Decoder(channels, width, multipliers=multipliers, blocks=1)
            for multipliers in ((1, 1, 1, 2, 4), (1, 1, 2, 4), (1, 2, 4))
        )
        self.quantize = Quantize(config.codes, width)
        self.down_samplers = nn.ModuleList(DownSampler(width) for _ in RATES[1:])

    def _scale(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        return tuple(x_BCHW.new_tensor(values)[:, None, None] for values in (MEAN, STD))  # type: ignore[return-value]

    @torch.no_grad()
    def encode_at(self, pixels_BCHW: Tensor, rate: int) -> Tensor:
        """Pixels in 0..1 [B, 3, height, width] -> ids [B, height / rate * width / rate], raster order.

        Raises:
            LayoutError: for another rate than 4, 8 or 16, or sides that are no multiple of it.
        """
        level = _level(rate)
        if pixels_BCHW.shape[2] % rate or pixels_BCHW.shape[3] % rate:
            raise LayoutError(f"image sides {tuple(pixels_BCHW.shape[2:])} must be multiples of the rate {rate}")
        mean, std = self._scale(pixels_BCHW)
        z_BDHW = self.enc((pixels_BCHW - mean) / std)
        for down_sampler in self.down_samplers[:level]:
            z_BDHW = down_sampler(z_BDHW)
        return self.quantize(z_BDHW)

    @torch.no_grad()
    def decode_at(self, ids_BL: Tensor, rate: int, *, width: int | None = None) -> Tensor:
        """Ids [B, L] -> pixels in 0..1, unclipped, [B, 3, height, width]; `width` places a row, default square."""
        level, width = _level(rate), width or round(ids_BL.shape[1] ** 0.5)
        if ids_BL.shape[1] % width:
            raise LayoutError(f"{ids_BL.shape[1]} tokens do not fill rows of {width}")
        z_BDHW = self.quantize.embed(ids_BL).transpose(1, 2).unflatten(2, (-1, width))
        pixels_BCHW = self.decs[len(RATES) - 1 - level](z_BDHW)
        mean, std = self._scale(pixels_BCHW)
        return pixels_BCHW * std + mean

    def encode(self, images_BCHW: Tensor) -> Tensor:
        """uint8 images [B, 3, height, width] -> ids [B, h * w] at the config's rate."""
        return self.encode_at(images_BCHW.to(self.quantize.embed.weight.dtype) / 255.0, self.config.rate)

    def decode(self, ids_BL: Tensor, *, width: int | None = None) -> Tensor:
        """Ids [B, L] at the config's rate -> uint8 images [B, 3, height, width]."""
        pixels_BCHW = self.decode_at(ids_BL, self.config.rate, width=width)
        return (pixels_BCHW * 255.0).round().clamp(0, 255).to(torch.uint8)


def _level(rate: int) -> int:
    if rate not in RATES:
        raise LayoutError(f"rate {rate} must be one of {RATES}")
    return RATES.index(rate)
