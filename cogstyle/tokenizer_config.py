"""The image tokenizers that a bundle can hold, as frozen dataclasses, with presets."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from cogstyle.schema import Blocks, Channels, Picture, Rows, Size, require


@dataclass(frozen=True)
class TokenizerConfig:
    """A VQ-VAE: pixels [height, width] <-> codes [height / rate, width / rate]."""

    kind: Literal["vqvae"] = "vqvae"
    codes: Rows = 1024  # entries of the codebook
    code_width: Size = 64  # width of one entry
    clusters: Rows = 64  # groups of similar entries, for cluster sampling
    encoder_channels: Channels = (64, 128)  # one a level, finest first; a factor 2 between levels
    decoder_channels: Channels = (64, 128)  # one a level, finest first
    # side of the encoder's convolutions; 1: a code depends on its own patch of pixels only
    encoder_kernel: Annotated[int, Interval(ge=1, le=31)] = 3
    encoder_blocks: Blocks = 1  # residual blocks a level
    decoder_blocks: Blocks = 2  # residual blocks a level
    # pixels along the side of a patch that the finest level sees as one place
    patch: Annotated[int, Interval(ge=1, le=256)] = 4
    image_size: Picture = 64  # pixels of a frame that the shipped weights were trained at

    def __post_init__(self) -> None:
        require(
            len(self.encoder_channels) == len(self.decoder_channels) > 0,
            f"encoder has {len(self.encoder_channels)} levels, decoder {len(self.decoder_channels)}",
        )
        require(0 < self.clusters <= self.codes, f"clusters {self.clusters} must be 1 to {self.codes} codes")
        require(self.encoder_kernel % 2 == 1, f"encoder_kernel {self.encoder_kernel} must be odd")
        require(
            self.image_size % self.rate == 0,
            f"image_size {self.image_size} is no multiple of the rate {self.rate}",
        )

    @property
    def rate(self) -> int:
        """Pixels along the side of one code."""
        return self.patch * 2 ** (len(self.encoder_channels) - 1)


@dataclass(frozen=True)
class HierarchicalConfig:
    """icetk's image tokenizer at the sizes of its weights."""

    kind: Literal["hierarchical"] = "hierarchical"
    codes: Rows = 20_000  # entries of the codebook
    code_width: Size = 256  # width of one entry
    channels: Size = 128  # of the finest level
    rate: Literal[4, 8, 16] = 8  # pixels along the side of one code: 4, 8 or 16
    image_size: Picture = 160  # pixels of a frame that the transformer reads


@dataclass(frozen=True)
class LlamaGenVQConfig:
    """LlamaGen's image tokenizer; its sizes are those of its weights."""

    kind: Literal["llamagen"] = "llamagen"
    codes: Rows = 16_384  # entries of the codebook
    code_width: Size = 8  # width of one entry
    latent: Size = 256  # channels between the convolutions and the codes
    channels: Size = 128  # of the convolutions next to pixels
    encoder_channels: Channels = (128, 128, 256, 256, 512)  # one a level, finest first; a factor 2 between levels
    decoder_channels: Channels = (128, 128, 256, 256, 512)  # likewise
    blocks: Blocks = 2  # residual blocks a level of the encoder; the decoder has one more
    image_size: Picture = 256  # pixels of a frame that the transformer reads

    def __post_init__(self) -> None:
        levels, others = len(self.encoder_channels), len(self.decoder_channels)
        require(levels == others, f"encoder has {levels} levels, decoder {others}")
        odd = [w for w in (self.channels, *self.encoder_channels, *self.decoder_channels) if w % 32]
        require(not odd, f"channels {odd[:1]} must be multiples of 32, the groups of the norms")
        require(
            self.image_size % self.rate == 0, f"image_size {self.image_size} is no multiple of the rate {self.rate}"
        )

    @property
    def rate(self) -> int:
        """Pixels along the side of one code."""
        return int(2 ** (len(self.encoder_channels) - 1))


TOKENIZERS = {
    "debug": TokenizerConfig(
        codes=32,
        code_width=8,
        clusters=4,
        encoder_channels=(8, 16),
        decoder_channels=(8, 16),
        decoder_blocks=1,
        image_size=32,
    ),
    "shapes": TokenizerConfig(encoder_channels=(96, 192), encoder_kernel=1),
    "pictures": TokenizerConfig(
        codes=8192,
        code_width=32,
        clusters=256,
        encoder_channels=(96, 192),
        decoder_channels=(96, 192),
        image_size=128,
    ),
}
