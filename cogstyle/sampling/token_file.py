"""The coarse tokens of a video in a file, so that it can be upscaled later; bound to the tokenizer they belong to."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cogstyle.bundle import Bundle, WeightFile
from cogstyle.errors import BundleError, LayoutError
from cogstyle.files import read_tensors, write_tensors
from cogstyle.video import Video

SUFFIX = ".tokens.safetensors"
TOKENIZER = WeightFile.TOKENIZER
KEYS = ("tokenizer_sha256", "prompt", "seed", "fps")


@dataclass(frozen=True)
class TokenFile:
    """Tokens int64 [F, L], what they were sampled with, and frames a second."""

    tokens_FL: Tensor
    prompt: str
    seed: int
    fps: float


def write_tokens(path: Path, video: Video) -> None:
    """Write the tokens of a sampled video, whole or not at all."""
    assert video.tokens is not None
    info = video.info
    values = (info["files"][TOKENIZER], info["prompt"], info["options"]["seed"], video.fps)
    meta = dict(zip(KEYS, map(str, values), strict=True))
    write_tensors(path, {"tokens": torch.from_numpy(video.tokens).to(torch.int32)}, meta)


def read_tokens(path: Path, bundle: Bundle) -> TokenFile:
    """Read what write_tokens wrote.

    Raises:
        BundleError: if the file is damaged, no token file, or of another tokenizer than the bundle's.
        LayoutError: if the tokens do not fill the bundle's grid, or are none of its codes.
    """
    tensors, meta = read_tensors(path)
    if "tokens" not in tensors or any(key not in meta for key in KEYS):
        raise BundleError(f"{path} is no token file")
    if meta["tokenizer_sha256"] != (ours := bundle.hashes().get(TOKENIZER)):
        raise BundleError(
            f"{path} belongs to another tokenizer (sha256 {meta['tokenizer_sha256'][:12]}...) than the bundle "
            f"{bundle.folder} ({str(ours)[:12]}...)"
        )
    tokens, config = tensors["tokens"], bundle.model_config
    if tokens.dim() != 2 or tokens.shape[1] != config.tokens or not len(tokens) or tokens.dtype != torch.int32:
        kind = str(tokens.dtype).removeprefix("torch.")
        raise LayoutError(f"{path} holds tokens {kind} {list(tokens.shape)}, expected int32 [frames, {config.tokens}]")
    if int(tokens.min()) < 0 or int(tokens.max()) >= config.codes:
        raise LayoutError(f"{path} holds ids from {tokens.min()} to {tokens.max()}, expected 0 to {config.codes - 1}")
    try:
        return TokenFile(tokens.long(), meta["prompt"], int(meta["seed"]), float(meta["fps"]))
    except ValueError as error:
        raise BundleError(f"{path} is damaged: {error}") from None
