"""Token shards: what training reads. Each part holds tokens, captions and seconds of some rows.

Parts are written whole; a killed encoding goes on after the last part it finished.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cogstyle.data.clips import Row
from cogstyle.errors import BundleError
from cogstyle.files import read_tensors, write_tensors
from cogstyle.tokenizers.image import ImageTokenizer

PART = 1000  # rows a file
TOKENIZER_KEY = "tokenizer_sha256"


@dataclass(frozen=True)
class Shards:
    """All rows in memory: tokens [rows, F, L], captions, seconds [rows], and fine tokens [rows, F, M] or none."""

    tokens: Tensor
    captions: list[str]
    seconds: list[float]
    fine: Tensor | None = None

    def __len__(self) -> int:
        return len(self.captions)


def _ids(vqvae: ImageTokenizer, clips: list[np.ndarray]) -> Tensor:
    """Clips of equal length -> ids int32 [clips, F, L]."""
    images_BCHW = torch.from_numpy(np.concatenate(clips)).permute(0, 3, 1, 2)
    ids_BL = torch.cat([vqvae.encode(chunk) for chunk in images_BCHW.split(64)])
    return ids_BL.view(len(clips), -1, ids_BL.shape[1]).to(torch.int32)


def _encode_part(vqvae: ImageTokenizer, rows: list[Row]) -> dict[str, Tensor]:
    fine = [row.fine for row in rows if row.fine is not None]
    return {
        "tokens": _ids(vqvae, [row.frames for row in rows]),
        **({"fine": _ids(vqvae, fine)} if fine else {}),
        "captions": torch.frombuffer(bytearray("\n".join(row.caption for row in rows).encode()), dtype=torch.uint8),
        "seconds": torch.tensor([row.seconds for row in rows]),
    }


def encode(
    make_row: Callable[[int], Row],
    count: int,
    folder: Path,
    *,
    vqvae: ImageTokenizer,
    tokenizer_sha256: str,
    quiet: bool = False,
) -> Shards:
    """Write rows `make_row(0)` .. `make_row(count - 1)` as parts in `folder`, and load them; parts there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for first in tqdm(range(0, count, PART), desc=f"encoding {folder.name}", disable=quiet):
        path, numbers = folder / f"part-{first // PART:05d}.safetensors", range(first, min(first + PART, count))
        if not path.exists() or len(read_tensors(path)[0]["seconds"]) < len(numbers):
            rows = [make_row(number) for number in numbers]
            write_tensors(path, _encode_part(vqvae, rows), {TOKENIZER_KEY: tokenizer_sha256})
    return load(folder, count, tokenizer_sha256=tokenizer_sha256)


def load(folder: Path, count: int | None = None, *, tokenizer_sha256: str) -> Shards:
    """Read the first `count` rows, or all of them.

    Raises:
        BundleError: if parts are missing or were encoded by another tokenizer.
    """
    tokens, captions, seconds, fine = [], [], [], []
    for path in sorted(folder.glob("part-*.safetensors"))[: None if count is None else -(-count // PART)]:
        part, meta = read_tensors(path)
        if meta.get(TOKENIZER_KEY) != tokenizer_sha256:
            raise BundleError(f"{path} was encoded by another tokenizer; remove {folder} to encode it again")
        tokens.append(part["tokens"])
        fine += [part["fine"]] if "fine" in part else []
        captions += bytes(part["captions"].numpy()).decode().split("\n")
        seconds += part["seconds"].tolist()
    if len(captions) < (wanted := 1 if count is None else count):
        raise BundleError(f"{folder} holds {len(captions)} rows, {wanted} are asked for")
    together = torch.cat(fine)[:count] if fine else None
    return Shards(torch.cat(tokens)[:count], captions[:count], seconds[:count], together)


def shuffled(count: int, batch: int, step: int, seed: int) -> np.ndarray:
    """Row numbers of a step's batch: every row once an epoch, each epoch in its own order."""
    first = step * batch
    picks: list[int] = []
    while len(picks) < batch:
        epoch, offset = divmod(first + len(picks), count)
        order = np.random.default_rng([seed, epoch]).permutation(count)
        picks += order[offset : offset + batch - len(picks)].tolist()
    return np.array(picks)


def fingerprint(*parts: object) -> str:
    """A short name for a data set made by these settings."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:10]
