"""Token shards: what training reads. Each part holds tokens, captions and seconds of some rows.

Parts are written whole; a killed encoding resumes after the last part it finished. A folder of somebody's own
videos has an index beside its parts, which says how they were made.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor
from tqdm import tqdm

from cogstyle.config import from_dict
from cogstyle.errors import BundleError, ConfigError
from cogstyle.files import fingerprint, read_bytes, read_tensors, write_tensors
from cogstyle.rows import Row
from cogstyle.schema import Count, Picture, Small
from cogstyle.tokenizers.image import ImageTokenizer

PART = 1000  # rows a file
TOKENIZER_KEY = "tokenizer_sha256"
INDEX = "index.json"
INDEX_KEY = "index"  # of a part's metadata: `Index.key`
SCORES_KEY = "scores_of"  # of the metadata of a part's scores: `rows_key` of the part
FORMAT = 4  # of parts of somebody's videos, and of the rules by which their moments are chosen
Encode = Callable[..., "Shards"]  # takes what `encode` takes


@dataclass(frozen=True)
class Shards:
    """All rows in memory: tokens [rows, F, L], captions, seconds [rows], and fine tokens [rows, F, M] or none.

    `sources` says of each row from which video it is, if the rows come from videos: by content, as one video may lie
    under several names. `facts` are what the part says of each row, and its scores, if they were asked for; `kept`
    says how many rows of each stratum were chosen to train on.
    """

    tokens: Tensor
    captions: list[str]
    seconds: list[float]
    fine: Tensor | None = None
    sources: list[str] | None = None
    facts: list[dict[str, Any]] | None = None
    kept: dict[str, tuple[int, int]] | None = None  # rows, and those of them that are kept, by stratum

    def __len__(self) -> int:
        return len(self.captions)

    def take(self, rows: np.ndarray) -> "Shards":
        """These rows alone."""
        picks = torch.from_numpy(rows)
        return Shards(
            self.tokens[picks],
            [self.captions[row] for row in rows],
            [self.seconds[row] for row in rows],
            None if self.fine is None else self.fine[picks],
            None if self.sources is None else [self.sources[row] for row in rows],
            None if self.facts is None else [self.facts[row] for row in rows],
            self.kept,
        )


@dataclass(frozen=True)
class Index:
    """How the parts of a folder were made; index.json holds it, and parts made otherwise are never mixed in."""

    kind: str  # one of clips.KINDS
    contents: tuple[str, ...]  # fingerprint of the lines of the manifest that each part is of
    entries: Count  # of the manifest
    entries_per_part: Count
    frames: Small  # F
    size: Picture  # pixels along the side of a frame
    tokenizer_sha256: str
    extra_rates: Annotated[int, Interval(ge=0, le=100)] = 0  # rates above the lowest that keyframes are also taken at
    split_long: bool = False  # whether videos that no row can show as a whole give several
    clip_seconds: Annotated[float, Interval(ge=0.0, le=1e5)] = 0.0  # longest piece that a video is cut into; 0: whole
    stills: Count = 1  # rows of a video for "image" and "superres"
    factor: Annotated[int, Interval(ge=1, le=64)] = 1  # fine tokens along the side of a coarse one, for "superres"
    flip: Literal["no", "auto", "all"] = "no"  # which rows come mirrored too; auto: those whose texts name no side
    letterbox: bool = False  # whether a frame is the whole picture between bars, not the square in its middle
    cuts: Literal["jumps", "transnet"] = field(default="jumps", repr=False)  # what finds where another scene begins
    format: int = FORMAT

    @property
    def parts(self) -> int:
        return -(-self.entries // self.entries_per_part)

    def key(self, part: int) -> str:
        """What a part says in its metadata if it was made with these settings and from these lines."""
        found = [] if self.cuts == "jumps" else [self.cuts]  # as parts said it before there was a choice
        return fingerprint(replace(self, contents=(), entries=0), self.contents[part], *found)


def part_path(folder: Path, number: int) -> Path:
    """Where part `number` of a folder lies."""
    return folder / f"part-{number:05d}.safetensors"


def scores_path(folder: Path, number: int) -> Path:
    """Where the scores of the rows of part `number` lie, if they have any."""
    return folder / f"scores-{number:05d}.safetensors"


def rows_key(meta: dict[str, str]) -> str:
    """What the rows of a part are known by: changes when it is encoded again."""
    return fingerprint(meta.get("stamps"), meta.get("rows"))


def facts_of(meta: dict[str, str]) -> list[dict[str, Any]]:
    """What the metadata of a part say of each of its rows."""
    facts: list[dict[str, Any]] = json.loads(meta.get("rows", "[]"))
    return facts


def read_scores(folder: Path, number: int, meta: dict[str, str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Score of every row of a part by column, and what else is said of them; nothing if it was not scored, or encoded
    again since.

    Args:
        meta: of the part.

    Raises:
        FileError: if they are damaged.
    """
    path = scores_path(folder, number)
    columns, said = read_tensors(path) if path.exists() else ({}, {})
    return (columns, said) if said.get(SCORES_KEY) == rows_key(meta) else ({}, {})


def read_index(folder: Path) -> Index:
    """How the shards of a folder were made.

    Raises:
        BundleError: if there is no index, a damaged one, or one of another version.
    """
    path = folder / INDEX
    if not path.exists():
        raise BundleError(f"{folder} holds no shards with an {INDEX}; cogstyle encode writes them")
    try:
        table = json.loads(read_bytes(path))
        if (found := table.get("format", table.get("rules"))) != FORMAT:
            said = f"the shards in {folder} are of format {found}, this version writes and reads {FORMAT}"
            raise BundleError(f"{said}: encode the videos to another folder")
        index = from_dict(Index, table, str(path))
        if index.parts != len(index.contents):
            raise ValueError(f"{index.parts} parts, {len(index.contents)} fingerprints")
    except (ValueError, AttributeError, TypeError, ZeroDivisionError, RecursionError, ConfigError) as error:
        raise BundleError(f"cannot read {path}: {error}") from None
    return index


def image_ids(vqvae: ImageTokenizer, clips: list[np.ndarray]) -> Tensor:
    """Clips of equal length -> ids int32 [clips, F, L]."""
    images_BCHW = torch.from_numpy(np.concatenate(clips)).permute(0, 3, 1, 2)
    ids_BL = torch.cat([vqvae.encode(chunk) for chunk in images_BCHW.split(64)])
    return ids_BL.view(len(clips), -1, ids_BL.shape[1]).to(torch.int32)


def pack(captions: list[str], seconds: list[float], **tokens: Tensor) -> dict[str, Tensor]:
    """What a part holds: token tensors [rows, F, L], captions and seconds."""
    text = np.frombuffer(bytearray("\n".join(captions).encode()), np.uint8)
    return {**tokens, "captions": torch.from_numpy(text), "seconds": torch.tensor(seconds, dtype=torch.float32)}


def _encode_part(vqvae: ImageTokenizer, rows: list[Row]) -> dict[str, Tensor]:
    fine = [row.fine for row in rows if row.fine is not None]
    tokens = {"tokens": image_ids(vqvae, [row.frames for row in rows])}
    tokens |= {"fine": image_ids(vqvae, fine)} if fine else {}
    return pack([row.caption for row in rows], [row.seconds for row in rows], **tokens)


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
        path, numbers = part_path(folder, first // PART), range(first, min(first + PART, count))
        if _lacks(path, len(numbers)):
            rows = [make_row(number) for number in numbers]
            write_tensors(path, _encode_part(vqvae, rows), {TOKENIZER_KEY: tokenizer_sha256})
    return load(folder, count, tokenizer_sha256=tokenizer_sha256)


def encode_few(vqvae: ImageTokenizer, rows: list[Row]) -> Shards:
    """Rows as shards that are kept nowhere."""
    return _join([(_encode_part(vqvae, rows), {})], "", len(rows))


def _lacks(path: Path, rows: int) -> bool:
    return not path.exists() or len(read_tensors(path)[0]["seconds"]) < rows


def rows_missing(folder: Path, count: int) -> int:
    """How many rows `encode` would have to make."""
    sizes = {part_path(folder, first // PART): min(PART, count - first) for first in range(0, count, PART)}
    return sum(size for path, size in sizes.items() if _lacks(path, size))


def load(folder: Path, count: int | None = None, *, tokenizer_sha256: str) -> Shards:
    """Read the first `count` rows, or all of them.

    Raises:
        BundleError: if parts are missing or were encoded by another tokenizer.
    """
    paths = sorted(folder.glob("part-*.safetensors"))[: None if count is None else -(-count // PART)]
    parts = [read_part(path, {TOKENIZER_KEY: tokenizer_sha256}) for path in paths]
    return _join(parts, str(folder), count)


def load_videos(
    folders: Sequence[Path],
    kind: str,
    *,
    frames: int,
    size: int,
    tokenizer_sha256: str,
    factor: int = 1,
    scored: bool = False,
) -> Shards:
    """Read everything that `cogstyle encode` wrote for `kind` to any of some folders.

    Args:
        scored: also the facts of the rows, with their scores.

    Raises:
        BundleError: if nothing there is for `kind`, or of another shape or tokenizer, or not encoded to the end.
    """
    indices = {folder: read_index(folder) for folder in folders}
    if not (chosen := {folder: index for folder, index in indices.items() if index.kind == kind}):
        found = ", ".join(f"{folder} is for {index.kind}" for folder, index in indices.items())
        raise BundleError(f"no shards for {kind}: {found}; write some with cogstyle encode --for {kind}")
    parts, facts = [], list[dict[str, Any]]()
    for folder, index in chosen.items():
        sizes = {"frames": (index.frames, frames), "pixels a side": (index.size, size)}
        for name, (has, wants) in (sizes | {"times finer tokens": (index.factor, factor)}).items():
            if has != wants:
                raise BundleError(f"{folder} was encoded with {has} {name}, the model takes {wants}")
        paths = [part_path(folder, number) for number in range(index.parts)]
        if missing := sum(not path.exists() for path in paths):
            raise BundleError(f"{folder} lacks {missing} of {len(paths)} parts; run cogstyle encode again to finish it")
        for number, path in enumerate(paths):
            parts.append(read_part(path, {TOKENIZER_KEY: tokenizer_sha256, INDEX_KEY: index.key(number)}))
            facts += _facts(folder, number, parts[-1][1]) if scored else []
    rows = _join(parts, ", ".join(map(str, chosen)), None)
    return replace(rows, facts=facts) if scored else rows


def _facts(folder: Path, number: int, meta: dict[str, str]) -> list[dict[str, Any]]:
    """What is known of each row of a part: what it says itself, and its scores."""
    columns = {name: values.tolist() for name, values in read_scores(folder, number, meta)[0].items()}
    told = {"folder": str(folder)}
    return [
        facts | told | {name: values[row] for name, values in columns.items()}
        for row, facts in enumerate(facts_of(meta))
    ]


def read_captions(folder: Path) -> list[str]:
    """The captions of what `cogstyle encode` has written to a folder, for any task."""
    parts = [read_tensors(part_path(folder, number)) for number in range(read_index(folder).parts)]
    return _join(parts, str(folder), None).captions


def read_part(path: Path, expected: dict[str, str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of one part; the metadata must say what is `expected`.

    Raises:
        BundleError: if it was encoded by another tokenizer, with other settings or from other lines.
    """
    part, meta = read_tensors(path)
    for key, value in expected.items():
        if meta.get(key) != value:
            if key == TOKENIZER_KEY:
                raise BundleError(f"{path} was encoded by another tokenizer; remove {path.parent} to encode it again")
            raise BundleError(f"{path} was encoded with other settings or from other lines; run cogstyle encode again")
    return part, meta


def _join(parts: list[tuple[dict[str, Tensor], dict[str, str]]], where: str, count: int | None) -> Shards:
    tokens, captions, seconds, fine, sources = [], [], [], [], []
    for part, meta in parts:
        try:
            if len(part["seconds"]):
                tokens.append(part["tokens"])
                fine += [part["fine"]] if "fine" in part else []
                captions += bytes(part["captions"].numpy()).decode().split("\n")
                seconds += part["seconds"].tolist()
                sources += [facts["content"] for facts in facts_of(meta)]
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"a part of {where} is damaged ({error}); remove it and encode again") from None
    if len(captions) < (wanted := 1 if count is None else count):
        raise BundleError(f"{where} holds {len(captions)} rows, {wanted} are asked for")
    together = torch.cat(fine)[:count] if fine else None
    return Shards(torch.cat(tokens)[:count], captions[:count], seconds[:count], together, sources[:count] or None)


def split_validation(data: Sequence[Shards], count: int) -> list[tuple[Shards, Shards]]:
    """Split each into rows to train on and about `count` rows, a tenth at most, of videos that none of them trains on.

    A video is known by its content: under a second name, or in another folder, it is on the same side.

    Raises:
        BundleError: if the rows are of too few videos for that.
    """
    rows = [Counter(shard.sources) for shard in data]
    wanted, videos = [min(count, max(len(shard) // 10, 1)) for shard in data], [len(names) for names in rows]
    held = set()
    for name in sorted(set().union(*rows), key=lambda name: hashlib.sha256(name.encode()).digest()):
        inside = [k for k, names in enumerate(rows) if name in names]
        if any(wanted[k] > 0 for k in inside) and all(videos[k] > 1 for k in inside):
            held.add(name)
            for k in inside:
                wanted[k], videos[k] = wanted[k] - rows[k][name], videos[k] - 1
    masks = [np.array([name in held for name in shard.sources or ()], bool) for shard in data]
    for names, mask in zip(rows, masks, strict=True):
        if not mask.any():
            raise BundleError(f"{len(mask)} rows of {len(names)} videos leave none to check on")
    return [
        (shard.take(np.flatnonzero(~mask)), shard.take(np.flatnonzero(mask)))
        for shard, mask in zip(data, masks, strict=True)
    ]


def shuffled(count: int, batch: int, step: int, seed: int) -> np.ndarray:
    """Row numbers of a step's batch: every row once an epoch, each epoch in its own order."""
    first = step * batch
    picks: list[int] = []
    while len(picks) < batch:
        epoch, offset = divmod(first + len(picks), count)
        order = np.random.default_rng([seed, epoch]).permutation(count)
        picks += order[offset : offset + batch - len(picks)].tolist()
    return np.array(picks)
