"""icetk's assets: `ice_text.model` (sentencepiece), `ice_image.pt` ({"module": weights}), cluster labels (numpy)."""

import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cogstyle.bundle import WeightFile, update_bundle
from cogstyle.config import HierarchicalConfig
from cogstyle.errors import BundleError
from cogstyle.files import LARGEST_TEXT, expect_regular, is_file, read_bytes
from cogstyle.interop.torch_file import read_weights
from cogstyle.tokenizers.hierarchical import HierarchicalVQVAE
from cogstyle.tokenizers.text import read_pieces

TEXT, IMAGE, CLUSTERS = "ice_text.model", "ice_image.pt", "cluster_label2.npy"


def read_image_tokenizer(path: Path) -> HierarchicalVQVAE:
    """Load `ice_image.pt`.

    Raises:
        BundleError: if it is no such asset: no `module`, other names, or shapes that do not fit together.
    """
    weights = read_weights(path)
    try:
        channels = weights["enc.conv_in.weight"].shape[0]
        codes, width = weights["quantize.embed.weight"].shape
    except (LookupError, ValueError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else "its weights have other axes"
        raise BundleError(f"{path} is no icetk image tokenizer: {what}") from None
    with torch.device("meta"):
        model = HierarchicalVQVAE(HierarchicalConfig(channels=channels, code_width=width, codes=codes))
    try:
        model.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
    except RuntimeError as error:
        raise BundleError(f"{path} is no icetk image tokenizer: {str(error).splitlines()[-1].strip()}") from None
    return model.eval().requires_grad_(False)


def read_clusters(path: Path, codes: int) -> Tensor:
    """Cluster labels of all image ids, int32 [codes], from a numpy file.

    Raises:
        BundleError: if the file is damaged, holds another number of labels, or labels below 0.
    """
    try:
        labels = np.load(expect_regular(path), mmap_mode="r", allow_pickle=False)  # mapped: no larger than its file
    except (OSError, ValueError, EOFError, OverflowError, SyntaxError, tokenize.TokenError) as error:
        raise BundleError(f"cannot read cluster labels {path}: {error}") from None
    if not isinstance(labels, np.ndarray):
        raise BundleError(f"{path} holds several arrays, needed is one of cluster labels")
    if labels.shape != (codes,) or not np.issubdtype(labels.dtype, np.integer):
        raise BundleError(
            f"{path} holds {labels.dtype} {labels.shape}, needed is one integer for each of {codes} codes"
        )
    if labels.min() < 0 or labels.max() >= codes:
        raise BundleError(f"{path} has labels {labels.min()} to {labels.max()}, they must lie in 0 to {codes - 1}")
    return torch.from_numpy(labels.astype(np.int32))


def import_icetk(folder: Path, bundle: Path, *, progress: Callable[[int], None] = lambda size: None) -> list[str]:
    """Bring the assets that `folder` holds into a bundle; returns the names of the bundle's files.

    Raises:
        BundleError: if the folder has neither asset, or one is damaged; the bundle is left as it was.
    """
    files: dict[str, bytes | dict[str, Tensor]] = {}
    tables: dict[str, Any] = {}
    if is_file(folder / TEXT):
        data = read_bytes(folder / TEXT, LARGEST_TEXT)
        read_pieces(data, str(folder / TEXT))
        files[WeightFile.TEXT] = data
    codes = HierarchicalConfig.codes
    if is_file(folder / IMAGE):
        model = read_image_tokenizer(folder / IMAGE)
        files[WeightFile.TOKENIZER], tables["tokenizer"] = model.state_dict(), model.config
        codes = model.config.codes
    if not files:
        raise BundleError(f"{folder} holds neither {TEXT} nor {IMAGE}")
    if is_file(folder / CLUSTERS):
        files[WeightFile.CLUSTERS] = {"labels": read_clusters(folder / CLUSTERS, codes)}
    update_bundle(bundle, files, half=False, progress=progress, **tables)
    return list(files)
