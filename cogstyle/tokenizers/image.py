"""The image tokenizers that a bundle can hold, by the `kind` in its manifest."""

from typing import Any

from cogstyle.config import HierarchicalConfig, LlamaGenVQConfig, TokenizerConfig
from cogstyle.tokenizers.hierarchical import HierarchicalVQVAE
from cogstyle.tokenizers.llamagen import LlamaGenVQ
from cogstyle.tokenizers.vqvae import VQVAE

ImageTokenizer = VQVAE | HierarchicalVQVAE | LlamaGenVQ
KINDS: dict[str, tuple[type[Any], type[Any]]] = {
    "vqvae": (TokenizerConfig, VQVAE),
    "hierarchical": (HierarchicalConfig, HierarchicalVQVAE),
    "llamagen": (LlamaGenVQConfig, LlamaGenVQ),
}
