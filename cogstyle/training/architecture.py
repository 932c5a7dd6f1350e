"""The sizes of an image model: those that a recipe says, and those that follow from the bundle's tokenizers."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from cogstyle.bundle import Bundle, WeightFile
from cogstyle.config import ModelConfig
from cogstyle.schema import Size, Small
from cogstyle.tokenizers.text import read_pieces


@dataclass(frozen=True)
class ModelSizes:
    """What a recipe's [model] says; grid and vocabulary follow from the tokenizers."""

    layers: Small
    width: Size
    heads: Size
    text_span: Size = 64  # longest text, in tokens
    frames: Small = 5  # that the temporal channel sees
    window: Annotated[int, Interval(ge=0, le=2**12)] = 0  # side of the interpolation adapter's windows; 0: all tokens
    mlp_ratio: Annotated[int, Interval(ge=1, le=64)] = 4

    def config(self, source: Bundle) -> ModelConfig:
        """The image model on the tokenizers of a bundle.

        Raises:
            BundleError: if it lacks one.
            ConfigError: for sizes that do not fit each other.
        """
        tokenizer = source.tokenizer_config
        path = source.file(WeightFile.TEXT)
        pieces = read_pieces(path.read_bytes(), str(path))
        side, codes = tokenizer.image_size // tokenizer.rate, tokenizer.codes
        start_of_image = codes + pieces.get_piece_size()
        return ModelConfig(
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            vocabulary=start_of_image + 1,
            codes=codes,
            start_of_image=start_of_image,
            pad=codes + pieces.pad_id(),
            grid=(side, side),
            frames=self.frames,
            text_span=self.text_span,
            text_positions=self.text_span,
            positions=self.text_span + side * side,
            extra_positions=(self.frames - 1) * side * side,
            window=self.window,
            mlp_ratio=self.mlp_ratio,
        )
