"""Somebody's own videos -> token shards: decode, choose moments, crop, tokenise, write; again after a kill.

A part covers a fixed stretch of the manifest, so what is done is known from the files alone, on any number of
machines that share the folder.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from cogstyle.bundle import Bundle, WeightFile
from cogstyle.config import require
from cogstyle.data.clips import KINDS, STILL, Clip, clips_of, names_side, stretches_of
from cogstyle.data.cuts import find_cuts, network_cuts, pieces
from cogstyle.data.folder import content_of, ensure_index, stamp, writing
from cogstyle.data.manifest import Entry, Manifest
from cogstyle.data.shards import (
    INDEX_KEY,
    TOKENIZER_KEY,
    Index,
    image_ids,
    pack,
    part_path,
    read_part,
)
from cogstyle.data.workers import spread
from cogstyle.errors import BundleError, CogstyleError, MediaError
from cogstyle.files import fingerprint, write_tensors
from cogstyle.video import PictureReader, VideoReader, open_video, square
from cogstyle.video.transnet import TransNet

BATCH = 8  # entries that a worker decodes before it tokenises them together

Numbered = tuple[int, Entry]  # an entry and its place in the manifest


@dataclass(frozen=True)
class Encoded:
    """Rows of some entries, each with its facts, caption and int32 tokens by name; and the entries refused.

    The names are "tokens" [F, L], and for super-resolution "fine" [F, M].
    """

    rows: list[tuple[dict[str, Any], str, dict[str, np.ndarray]]]
    refused: list[dict[str, Any]]


def make_index(
    manifest: Manifest,
    bundle: Bundle,
    kind: str,
    *,
    entries_per_part: int = 256,
    **choices: Any,
) -> Index:
    """What encoding this manifest with this bundle will make.

    Args:
        choices: further fields of the index.

    Raises:
        ConfigError: for an unknown kind.
    """
    require(kind in KINDS, f"unknown task {kind!r} to encode for; known are {', '.join(KINDS)}")
    tokenizer = bundle.tokenizer_config
    sizes = {"frames": 1 if kind in STILL else bundle.frames, "size": tokenizer.image_size} | choices
    whole = sizes["size"] % tokenizer.rate == 0 and sizes["size"] <= 2**14
    require(whole, f"size {sizes['size']} must be a multiple of {tokenizer.rate}, the pixels of a token, up to 16384")
    least = kind in STILL or 2 <= sizes["frames"] <= 2**12
    require(least, f"frames {sizes['frames']} must be 2 to 4096")
    entries = [(e.video, e.texts, e.start, e.end, e.problem) for e in manifest.entries]
    firsts = range(0, len(entries), entries_per_part)
    return Index(
        kind=kind,
        contents=tuple(fingerprint(entries[first : first + entries_per_part]) for first in firsts),
        entries=len(entries),
        entries_per_part=entries_per_part,
        tokenizer_sha256=bundle.sha256(WeightFile.TOKENIZER),
        **sizes,
    )


class Encoder:
    """Entries -> samples, with a tokenizer of its own; each worker process has one."""

    def __init__(self, bundle: Bundle, index: Index, folder: Path) -> None:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        self.index, self.folder, self.vqvae = index, folder, bundle.vqvae()
        self.network = TransNet() if index.cuts == "transnet" else None
        self.text = bundle.text() if bundle.has_model else None  # its training comes later

    def __call__(self, numbered: Sequence[Numbered]) -> Encoded:
        made: list[tuple[Entry, dict[str, Any], np.ndarray]] = []
        refused: list[dict[str, Any]] = []
        for number, entry in numbered:
            try:
                made += [(entry, facts, frames) for facts, frames in self._clips(number, entry)]
            except CogstyleError as error:
                refused.append(refusal(number, entry, str(error)))
            except Exception as error:  # one strange file must not end a long run
                refused.append(refusal(number, entry, f"{type(error).__name__}: {error}"))
        found = self._tokens([frames for *_, frames in made]) if made else {}
        rows = [
            (facts | {"language": language}, caption, {name: ids[number] for name, ids in found.items()})
            for number, (entry, facts, _) in enumerate(made)
            for language, caption in entry.texts
        ]
        return Encoded(rows, refused)

    def _tokens(self, clips: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Token ids by name, each [clips, F, places]."""
        if self.index.kind != "superres":
            return {"tokens": image_ids(self.vqvae, clips).numpy()}
        small = [np.stack([square(frame, self.index.size) for frame in frames]) for frames in clips]
        return {name: image_ids(self.vqvae, part).numpy() for name, part in (("tokens", small), ("fine", clips))}

    def _clips(self, number: int, entry: Entry) -> list[tuple[dict[str, Any], np.ndarray]]:
        if entry.problem:
            raise MediaError(entry.problem)
        path = self.folder / entry.video
        with open_video(path) as video:
            if video.last <= 0 and self.index.kind not in STILL:
                return []  # a picture: it has no part in what moves
            self._check_sides(video)
            end = video.duration if entry.end is None else min(entry.end, video.duration)
            if entry.start >= end:
                raise MediaError(f"start {entry.start:g} lies after the end of {entry.video}, {end:.3g} s")
            length = end - entry.start
            facts = {"entry": number, "video": entry.video, "content": content_of(path), "language": entry.language}
            facts["length"] = round(length, 3)
            found, choice = [], self.index.flip
            flip = choice == "all" or (choice == "auto" and not names_side(text for _, text in entry.texts))
            for clip in self._moments(number, entry, length, video):
                size = self.index.size * self.index.factor
                frames = video.frames_at(clip.times, size, letterbox=self.index.letterbox)
                said = facts | {"start": clip.start, "rate": clip.rate}
                found.append((said, frames))
                if flip:
                    found.append((said | {"flipped": True}, np.ascontiguousarray(frames[:, :, ::-1])))
            return found

    def _pieces(self, video: VideoReader | PictureReader, start: float, length: float) -> list[tuple[float, float]]:
        """Beginnings and lengths of what rows are taken from: the whole, or pieces between cuts."""
        longest, end = self.index.clip_seconds or (math.inf if self.network else 0.0), start + length
        if not longest or video.last <= 0:
            return [(start, length)]
        cuts = network_cuts(self.network, video, start, end) if self.network else find_cuts(video, start, end)
        found = pieces(start, end, cuts, longest)
        return [(first, last - first) for first, last in found]

    def _check_sides(self, video: VideoReader | PictureReader) -> None:
        """Raise MediaError if there are fewer pixels than a frame has."""
        size = self.index.size * self.index.factor
        if (max if self.index.letterbox else min)(video.sides) < size:
            height, width = video.sides
            raise MediaError(f"{width:.0f} x {height:.0f} px are smaller than a frame of {size} x {size} px")

    def _moments(self, number: int, entry: Entry, duration: float, video: VideoReader | PictureReader) -> list[Clip]:
        index = self.index
        options = {"frames": index.frames, "extra_rates": index.extra_rates, "seed": number}
        options["stills"] = index.stills if video.last > 0 else 1  # a picture has no other moments
        clips = [
            clip
            for first, length in self._pieces(video, entry.start, duration)
            for start, span in stretches_of(index.kind, length, frames=index.frames, split=index.split_long)
            for clip in clips_of(index.kind, span, start=first + start, own_rate=video.rate or math.inf, **options)
        ]
        if self.text is not None:
            for clip in clips:  # raises if the caption is too long
                image = index.kind in STILL
                for _, text in entry.texts:
                    _ = self.text.image_text(text) if image else self.text.video_text(text, clip.seconds)
        return clips


def refusal(number: int, entry: Entry, reason: str) -> dict[str, Any]:
    """Why an entry gives no rows."""
    return {"entry": number, "where": entry.where, "video": entry.video, "reason": reason}


def _lost(numbered: Numbered) -> Encoded:
    return Encoded([], [refusal(*numbered, "decoding it ended the worker process")])


class Parts:
    """Rows that name a part each -> its shards: what an actor of a cluster does; a part that is there is left alone."""

    def __init__(self, encoding: "Encoding", *, retry: bool = False) -> None:
        self.encoding, self.retry = encoding, retry

    def __call__(self, rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield {id, file, ok, error, refused, notes} of each row: entries that are refused, lines of the report."""
        for row in rows:
            part, notes, refused, error = row["id"], list[str](), list[dict[str, Any]](), ""
            share = (part + 1, self.encoding.index.parts)
            try:
                refused = self.encoding.run(shard=share, workers=1, retry=self.retry, quiet=True, report=notes.append)[
                    1
                ]
            except CogstyleError as fault:
                error = str(fault)
            found = {"id": part, "file": str(part_path(self.encoding.folder, part)), "ok": not error, "error": error}
            yield {**found, "refused": refused, "notes": notes}


@dataclass(frozen=True)
class Encoding:
    """Entries of a manifest that become shards in a folder, as `index` says, with the tokenizers of a bundle."""

    manifest: Manifest
    folder: Path
    index: Index
    bundle: Bundle

    def run(
        self,
        *,
        shard: tuple[int, int] = (1, 1),
        workers: int = 1,
        retry: bool = False,
        quiet: bool = False,
        report: Callable[[str], None] = lambda line: None,
    ) -> tuple[int, list[dict[str, Any]]]:
        """Write the parts of this machine that are not there yet, and again those whose videos were replaced.

        Args:
            shard: (i, n): this machine is the i-th of n, counted from 1, and writes every n-th part.
            workers: processes; 0: this one, which a decoder that crashes ends.
            retry: encode parts with refused entries again, and those whose lines of the manifest changed.
            report: called with a line for each refused entry, and each part that is encoded again.

        Returns:
            How many entries are this machine's, and which of them are refused, those of earlier runs included.
        """
        index, folder, entries = self.index, self.folder, self.manifest.entries
        mine = range(shard[0] - 1, index.parts, shard[1])
        with writing(folder, mine):
            ensure_index(folder, index, retry=retry)
            refused: list[dict[str, Any]] = []
            todo: dict[int, list[str]] = {}  # parts, and the stamps of their videos
            for part in mine:
                stamps = [stamp(self.manifest.folder / entries[k].video) for k in _stretch(index, part)]
                try:
                    found = _refused_before(part_path(folder, part), index, part, stamps)
                except BundleError as error:
                    found = None
                    report(f"again {error}")
                if found is None or (retry and found):
                    todo[part] = stamps
                else:
                    refused += found
            refused += self._encode_parts(todo, workers, quiet, report)
        return sum(len(_stretch(index, part)) for part in mine), sorted(refused, key=lambda entry: entry["entry"])

    def entries_of(self, part: int) -> int:
        """How many entries a part covers."""
        return len(_stretch(self.index, part))

    def prepare(self, *, retry: bool = False) -> None:
        """Make the folder and its index, or check them, before workers of a cluster run one part each.

        Raises:
            ConfigError, FileError: see `run`.
        """
        with writing(self.folder, range(0)):
            ensure_index(self.folder, self.index, retry=retry)

    def _encode_parts(
        self, todo: dict[int, list[str]], workers: int, quiet: bool, report: Callable[[str], None]
    ) -> list[dict[str, Any]]:
        """Write some parts, and return the entries that are refused."""
        index, folder = self.index, self.folder
        stretch = {part: _stretch(index, part) for part in todo}
        workers = min(workers, sum(-(-len(places) // BATCH) for places in stretch.values()))  # no idle ones
        numbered = list(enumerate(self.manifest.entries))
        chunks = (
            numbered[first : min(first + BATCH, places.stop)]
            for places in stretch.values()
            for first in places[::BATCH]
        )
        work = partial(Encoder, self.bundle, index, self.manifest.folder)
        waiting: dict[int, list[Encoded]] = {part: [] for part in todo}
        missing = {part: len(places) for part, places in stretch.items()}
        refused = []
        with tqdm(total=sum(missing.values()), desc=f"encoding {folder.name}", unit="row", disable=quiet) as bar:
            for chunk, encoded in spread(work, chunks, workers=workers, lost=_lost) if todo else ():
                part = chunk[0][0] // index.entries_per_part
                waiting[part].append(encoded)
                missing[part] -= len(chunk)
                for entry in encoded.refused:
                    report(f"refused {' '.join(dict.fromkeys((entry['where'], entry['video'])))}: {entry['reason']}")
                refused += encoded.refused
                bar.update(len(chunk))
                if not missing[part]:
                    _write_part(part_path(folder, part), index, waiting.pop(part), part=part, stamps=todo[part])
        return refused


def _refused_before(path: Path, index: Index, part: int, stamps: list[str]) -> list[dict[str, Any]] | None:
    """The refused entries of a part; None if it is not there.

    Raises:
        BundleError: saying why it must be encoded again.
    """
    if not path.exists():
        return None
    meta = read_part(path, {TOKENIZER_KEY: index.tokenizer_sha256, INDEX_KEY: index.key(part)})[1]
    if json.loads(meta["stamps"]) != stamps:
        raise BundleError(f"{path}: videos of it were replaced")
    found: list[dict[str, Any]] = json.loads(meta["refused"])
    return found


def _stretch(index: Index, part: int) -> range:
    """Places in the manifest that a part covers."""
    first = part * index.entries_per_part
    return range(first, min(first + index.entries_per_part, index.entries))


def _write_part(path: Path, index: Index, results: list[Encoded], *, part: int, stamps: list[str]) -> None:
    rows = [row for encoded in results for row in encoded.rows]
    rows.sort(key=lambda row: row[0]["entry"])  # stable: the rates of an entry keep their order
    refused = sorted((entry for encoded in results for entry in encoded.refused), key=lambda entry: entry["entry"])
    empty = {"tokens": np.zeros((0, index.frames, 0), np.int32)}
    tokens = {name: np.stack([ids[name] for *_, ids in rows]) for name in rows[0][2]} if rows else empty
    tensors = pack(
        [caption for _, caption, _ in rows],
        [(index.frames - 1) / facts["rate"] for facts, *_ in rows],
        **{name: torch.from_numpy(ids) for name, ids in tokens.items()},
    )
    meta = {TOKENIZER_KEY: index.tokenizer_sha256, INDEX_KEY: index.key(part), "stamps": json.dumps(stamps)}
    meta |= {"rows": json.dumps([facts for facts, *_ in rows]), "refused": json.dumps(refused)}
    write_tensors(path, tensors, meta)
