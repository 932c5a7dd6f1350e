"""The small language model that rewrites prompts, as a frozen dataclass."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from cogstyle.schema import Rows, Size, Small, require


@dataclass(frozen=True)
class Seq2SeqConfig:
    """An encoder-decoder of the T5 kind: text in, text out."""

    layers: Small = 4  # of the encoder, and as many of the decoder
    width: Size = 192
    heads: Size = 6
    inner: Size = 512  # width inside the MLPs
    vocabulary: Rows = 1024  # pieces of text; fewer may be learned
    span: Annotated[int, Interval(ge=4, le=4096)] = 96  # longest text, in tokens

    def __post_init__(self) -> None:
        whole = self.width % (2 * self.heads) == 0
        require(whole, f"width {self.width} is no multiple of twice heads {self.heads}: positions turn pairs")
        require(self.vocabulary >= 300, f"vocabulary {self.vocabulary} must be 300 or more: 256 pieces are bytes")
