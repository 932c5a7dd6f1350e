"""Somebody's own videos -> token shards: decode, choose moments, crop, tokenise, write; again after a kill.

A part covers a fixed stretch of the manifest, so what is done is known from the files alone, on any number of
machines that share the folder.
"""

import json
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from cogstyle.bundle import Bundle
from cogstyle.config import require
from cogstyle.data.clips import KINDS, Clip, clips_of
from cogstyle.data.manifest import Entry, Manifest
from cogstyle.data.shards import (
    INDEX,
    INDEX_KEY,
    TOKENIZER_KEY,
    Index,
    image_ids,
    pack,
    part_path,
    read_index,
    read_part,
)
from cogstyle.data.workers import spread
from cogstyle.errors import CogstyleError, ConfigError, MediaError
from cogstyle.files import fingerprint, write_bytes, write_tensors
from cogstyle.video import open_video

BATCH = 8  # entries that a worker decodes before it tokenises them together

Numbered = tuple[int, Entry]  # an entry and its place in the manifest


@dataclass(frozen=True)
class Encoded:
    """Rows of some entries, each with its facts, caption and int32 tokens [F, L]; and the entries refused."""

    rows: list[tuple[dict[str, Any], str, np.ndarray]]
    refused: list[dict[str, Any]]


def make_index(
    manifest: Manifest, bundle: Bundle, kind: str, *, extra_rates: int = 0, entries_per_part: int = 256
) -> Index:
    """What encoding this manifest with this bundle will make.

    Raises:
        ConfigError: for an unknown kind.
    """
    require(kind in KINDS, f"unknown task {kind!r} to encode for; known are {', '.join(KINDS)}")
    entries = [(e.video, e.caption, e.start, e.end, e.problem) for e in manifest.entries]
    return Index(
        kind=kind,
        manifest=fingerprint(entries),
        entries=len(entries),
        entries_per_part=entries_per_part,
        extra_rates=extra_rates,
        frames=1 if kind == "image" else bundle.frames,
        size=bundle.tokenizer_config.image_size,
        tokenizer_sha256=bundle.hashes()["tokenizer.safetensors"],
    )


class Encoder:
    """Entries -> samples, with a tokenizer of its own; each worker process has one."""

    def __init__(self, bundle: str | Path, index: Index, folder: Path) -> None:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        source = Bundle(bundle)
        self.index, self.folder, self.vqvae = index, folder, source.vqvae()
        self.text = source.text() if source.has_model else None  # its training comes later

    def __call__(self, numbered: Sequence[Numbered]) -> Encoded:
        made: list[tuple[dict[str, Any], str, np.ndarray]] = []  # with frames in the place of tokens
        refused: list[dict[str, Any]] = []
        for number, entry in numbered:
            try:
                made += [(facts, entry.caption, frames) for facts, frames in self._clips(number, entry)]
            except CogstyleError as error:
                refused.append(refusal(number, entry, str(error)))
            except Exception as error:  # one strange file must not end a long run
                refused.append(refusal(number, entry, f"{type(error).__name__}: {error}"))
        tokens: Any = image_ids(self.vqvae, [frames for *_, frames in made]).numpy() if made else []
        return Encoded([(facts, caption, ids) for (facts, caption, _), ids in zip(made, tokens, strict=True)], refused)

    def _clips(self, number: int, entry: Entry) -> list[tuple[dict[str, Any], np.ndarray]]:
        if entry.problem:
            raise MediaError(entry.problem)
        with open_video(self.folder / entry.video) as video:
            end = video.duration if entry.end is None else min(entry.end, video.duration)
            if entry.start >= end:
                raise MediaError(f"start {entry.start:g} lies after the end of {entry.video}, {end:.3g} s")
            length = end - entry.start
            facts = {"entry": number, "video": entry.video, "length": round(length, 3), "language": entry.language}
            return [
                (facts | {"start": clip.start, "rate": clip.rate}, video.frames_at(clip.times, self.index.size))
                for clip in self._moments(number, entry, length)
            ]

    def _moments(self, number: int, entry: Entry, duration: float) -> list[Clip]:
        index = self.index
        options = {"start": entry.start, "frames": index.frames, "extra_rates": index.extra_rates, "seed": number}
        clips = clips_of(index.kind, duration, **options)  # type: ignore[arg-type]
        if self.text is not None:
            for clip in clips:  # raises if the caption is too long
                image = index.kind == "image"
                _ = self.text.image_text(entry.caption) if image else self.text.video_text(entry.caption, clip.seconds)
        return clips


def refusal(number: int, entry: Entry, reason: str) -> dict[str, Any]:
    """Why an entry gives no rows."""
    return {"entry": number, "where": entry.where, "video": entry.video, "reason": reason}


def _lost(numbered: Numbered) -> Encoded:
    return Encoded([], [refusal(*numbered, "decoding it ended the worker process")])


def publish(path: Path, data: bytes) -> None:
    """Write a file that several machines may write at the same time; the last one wins, whole."""
    own = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    write_bytes(own, data)
    os.replace(own, path)


def settle(folder: Path, index: Index) -> None:
    """Write the index, or check that the one in the folder is the same.

    Raises:
        ConfigError: naming the setting that differs, or the folder if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error}") from None
    if not (folder / INDEX).exists():
        publish(folder / INDEX, json.dumps(asdict(index), indent=2).encode())
    there = read_index(folder)
    for field in fields(Index):
        old, new = getattr(there, field.name), getattr(index, field.name)
        if old != new:
            said = "were made from another manifest (or it was changed)"
            said = said if field.name == "manifest" else f"have {field.name} {old}, this run {new}"
            raise ConfigError(f"the shards in {folder} {said}; encode to another folder")


def encode_videos(
    manifest: Manifest,
    folder: Path,
    index: Index,
    *,
    bundle: str | Path,
    shard: tuple[int, int] = (1, 1),
    workers: int = 1,
    retry: bool = False,
    quiet: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[int, list[dict[str, Any]]]:
    """Write the parts of this machine that are not there yet.

    Args:
        shard: (i, n): this machine is the i-th of n, counted from 1, and writes every n-th part.
        retry: encode parts with refused entries again.
        report: told each refused entry as a line.

    Returns:
        How many entries are this machine's, and which of them are refused, those of earlier runs included.
    """
    settle(folder, index)
    mine = range(shard[0] - 1, index.parts, shard[1])
    stretch = {part: _stretch(index, part) for part in mine}
    refused: list[dict[str, Any]] = []
    todo = []
    for part in mine:
        path = part_path(folder, part)
        found = json.loads(_meta(path, index)["refused"]) if path.exists() else None
        if found is None or (retry and found):
            todo.append(part)
        else:
            refused += found
    total, left = (sum(len(stretch[part]) for part in parts) for parts in (mine, todo))
    workers = min(workers, max(sum(-(-len(stretch[part]) // BATCH) for part in todo), 1))  # no idle ones
    numbered = list(enumerate(manifest.entries))
    chunks = (
        numbered[first : min(first + BATCH, stretch[part].stop)] for part in todo for first in stretch[part][::BATCH]
    )
    work = partial(Encoder, bundle, index, manifest.folder)
    waiting: dict[int, list[Encoded]] = {part: [] for part in todo}
    missing = {part: len(stretch[part]) for part in todo}
    with tqdm(total=total, initial=total - left, desc=f"encoding {folder.name}", unit="row", disable=quiet) as bar:
        for chunk, encoded in spread(work, chunks, workers=workers, lost=_lost) if todo else ():
            part = chunk[0][0] // index.entries_per_part
            waiting[part].append(encoded)
            missing[part] -= len(chunk)
            for entry in encoded.refused:
                report(f"{' '.join(dict.fromkeys((entry['where'], entry['video'])))}: {entry['reason']}")
            refused += encoded.refused
            bar.update(len(chunk))
            if not missing[part]:
                _write_part(part_path(folder, part), index, waiting.pop(part))
    return total, sorted(refused, key=lambda entry: entry["entry"])


def _stretch(index: Index, part: int) -> range:
    """Places in the manifest that a part covers."""
    first = part * index.entries_per_part
    return range(first, min(first + index.entries_per_part, index.entries))


def _meta(path: Path, index: Index) -> dict[str, str]:
    return read_part(path, {TOKENIZER_KEY: index.tokenizer_sha256, INDEX_KEY: fingerprint(index)})[1]


def _write_part(path: Path, index: Index, results: list[Encoded]) -> None:
    rows = [row for encoded in results for row in encoded.rows]
    rows.sort(key=lambda row: row[0]["entry"])  # stable: the rates of an entry keep their order
    refused = sorted((entry for encoded in results for entry in encoded.refused), key=lambda entry: entry["entry"])
    tokens = np.stack([ids for *_, ids in rows]) if rows else np.zeros((0, index.frames, 0), np.int32)
    tensors = pack(
        [caption for _, caption, _ in rows],
        [(index.frames - 1) / facts["rate"] for facts, *_ in rows],
        tokens=torch.from_numpy(tokens),
    )
    meta = {TOKENIZER_KEY: index.tokenizer_sha256, INDEX_KEY: fingerprint(index)}
    meta |= {"rows": json.dumps([facts for facts, *_ in rows]), "refused": json.dumps(refused)}
    write_tensors(path, tensors, meta)
