"""What each row of a folder of shards is worth: scores, kept as columns beside its part.

`psnr` is of decode(encode(x)) against x, in dB; `sharpness`, `flow`, `text` and `bars` see measures.py; `cuts` counts
where another scene begins inside the row; `read` is what a judge says of decode(encode(x)) and the caption, `scorer`
what a network of the user's says of the frames, if they were given; `look` is what duplicates are known by. Rows whose
video is gone, or is another one now, are scored from what their tokens decode to (`from_video` 0): without psnr and
cuts, and the tokenizer's blur counts as theirs. What does not apply is not a number.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cogstyle.bundle import Bundle, WeightFile
from cogstyle.data.clips import Clip
from cogstyle.data.cuts import RATE, SIDE, jumps
from cogstyle.data.folder import content_of, writing
from cogstyle.data.measures import LETTERS, bars, flow, look, sharpness, text_boxes
from cogstyle.data.shards import (
    INDEX_KEY,
    SCORES_KEY,
    TOKENIZER_KEY,
    Index,
    facts_of,
    part_path,
    read_index,
    read_part,
    read_scores,
    rows_key,
    scores_path,
)
from cogstyle.data.workers import spread
from cogstyle.errors import CogstyleError
from cogstyle.files import write_tensors
from cogstyle.video import open_video, psnr

MEASURED = ("psnr", "sharpness", "flow", "cuts", "text", "bars", "from_video")
OPINIONS = ("read", "scorer")  # columns of somebody's function
COLUMNS = (*MEASURED, *OPINIONS)
NEAR, SHADE = 8, 3  # bits of the hashes that copies may differ by, and levels (of 255) of their mean colours
CLIPS = 4  # that a worker scores at a time


class Opinion(Protocol):
    """What gives a number of a clip: frames uint8 [F, height, width, 3], seconds of each, its caption."""

    digest: str  # of what it depends on

    def __call__(self, frames_FHWC: np.ndarray, times_F: Sequence[float], caption: str) -> float: ...


@dataclass(frozen=True)
class Moments:
    """Rows that show the same moments of a video: the mirrored one too, and those with other captions."""

    part: int
    rows: tuple[int, ...]  # places in the part
    facts: tuple[dict[str, Any], ...]
    captions: tuple[str, ...]
    tokens_NFL: np.ndarray


Scores = list[tuple[int, dict[str, Any]]]  # place in the part, and value by column


class Scorer:
    """Moments -> scores of their rows, with a tokenizer of its own; each worker process has one.

    Args:
        videos: folder of the videos; None: tokens alone.
        opinions: by the column that they fill.
    """

    def __init__(self, bundle: Bundle, index: Index, videos: Path | None, opinions: dict[str, Opinion]) -> None:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        self.index, self.videos, self.opinions, self.vqvae = index, videos, opinions, bundle.vqvae()

    def __call__(self, several: Sequence[Moments]) -> Scores:
        return [scored for moments in several for scored in self._score(moments)]

    def _score(self, moments: Moments) -> Iterator[tuple[int, dict[str, Any]]]:
        first, count = moments.facts[0], self.index.frames
        clip, rate = Clip(first["start"], first["rate"], count), first["rate"]
        seen = self._see(first, clip)
        decoded: list[np.ndarray] = [
            self.vqvae.decode(torch.from_numpy(tokens_FL).long()).permute(0, 2, 3, 1).numpy()
            for tokens_FL in moments.tokens_NFL
        ]
        frames, many, many_rate = (decoded[0], decoded[0], rate) if seen is None else seen
        step = round(many_rate / rate)
        alike = {
            "sharpness": sharpness(frames),
            "flow": flow(many, many_rate),
            "text": float(text_boxes(many[::step])),
            "bars": bars(frames),
            "cuts": math.nan if seen is None or count == 1 else float(len(jumps(_tiny(many)))),
            "from_video": float(seen is not None),
        }
        for row, facts, caption, made in zip(moments.rows, moments.facts, moments.captions, decoded, strict=True):
            turned = np.ascontiguousarray(frames[:, :, ::-1]) if seen is not None and "flipped" in facts else frames
            shown = made if seen is None else turned
            own = {"psnr": math.nan if seen is None else psnr(made, shown), "look": look(shown)}
            times = [k / rate for k in range(count)]
            asked = {"read": made, "scorer": shown}
            own |= {name: say(asked[name], times, caption) for name, say in self.opinions.items()}
            yield row, alike | own

    def _see(self, facts: dict[str, Any], clip: Clip) -> tuple[np.ndarray, np.ndarray, float] | None:
        """The frames as they were tokenised, more and larger ones, and how many of these a second.

        None: the video is not there, or not the one that was encoded.
        """
        path = None if self.videos is None else self.videos / facts["video"]
        try:
            if path is None or content_of(path) != facts["content"]:
                return None
            rate = clip.rate if clip.frames == 1 else max(RATE, clip.rate)
            count = round((clip.frames - 1) / clip.rate * rate) + 1
            more, fit = Clip(clip.start, rate, count), self.index.letterbox
            with open_video(path) as video:
                frames = video.frames_at(clip.times, self.index.size, letterbox=fit)
                return frames, video.frames_at(more.times, max(LETTERS, self.index.size), letterbox=fit), rate
        except (CogstyleError, OSError):
            return None


def _tiny(frames_FHWC: np.ndarray) -> Iterator[np.ndarray]:
    return (cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in frames_FHWC)


def _lost(moments: Moments) -> Scores:
    """Of rows whose video ends the process that decodes it: nothing is known of them."""
    nothing = dict.fromkeys(COLUMNS, math.nan) | {"look": np.zeros(4, np.int64)}
    return [(row, nothing) for row in moments.rows]


@dataclass(frozen=True)
class Quality:
    """Scores of a folder of shards.

    Args:
        videos: folder that the paths of its videos are relative to; None: they are scored from their tokens.
        opinions: what fills the columns of `OPINIONS`; it is sent to worker processes.
    """

    folder: Path
    bundle: Bundle
    videos: Path | None
    opinions: dict[str, Opinion]

    def run(self, *, shard: tuple[int, int] = (1, 1), workers: int = 1, quiet: bool = False) -> int:
        """Score the parts of this machine that are there and have no such scores yet; returns how many rows.

        Args:
            shard, workers: see `data.encode.Encoding.run`.

        Raises:
            ConfigError, BundleError: if the folder holds no shards of this tokenizer; or from an opinion.
        """
        index = read_index(self.folder)
        mine = range(shard[0] - 1, index.parts, shard[1])
        with writing(self.folder, mine):
            todo = {part: meta for part in mine if (meta := self._unscored(index, part)) is not None}
            waiting: dict[int, Scores] = {part: [] for part in todo}
            left = {part: len(facts_of(meta)) for part, meta in todo.items()}
            work = partial(Scorer, self.bundle, index, self.videos, self.opinions)
            total = sum(left.values())
            with tqdm(total=total, desc=f"scoring {self.folder.name}", unit="row", disable=quiet) as bar:
                for part in [part for part, rows in left.items() if not rows]:
                    self._write(part, todo[part], waiting[part])
                chunks = (chunk for part in todo for chunk in self._chunks(part))
                for chunk, scores in spread(work, chunks, workers=workers, lost=_lost) if total else ():
                    part = chunk[0].part
                    waiting[part] += scores
                    left[part] -= len(scores)
                    bar.update(len(scores))
                    if not left[part]:
                        self._write(part, todo[part], waiting.pop(part))
        return total

    def _unscored(self, index: Index, part: int) -> dict[str, str] | None:
        """What a part says of itself, if it is there and its scores are not, or not by these opinions."""
        path = part_path(self.folder, part)
        if not path.exists():
            return None
        tokenizer = self.bundle.sha256(WeightFile.TOKENIZER)
        meta = read_part(path, {TOKENIZER_KEY: tokenizer, INDEX_KEY: index.key(part)})[1]
        columns, said = read_scores(self.folder, part, meta)
        known = all(said.get(name) == opinion.digest for name, opinion in self.opinions.items())
        seen = self.videos is None or "from_video" not in columns or bool(columns["from_video"].all())
        return None if columns and known and seen else meta

    def _chunks(self, part: int) -> Iterator[list[Moments]]:
        tensors, meta = read_part(part_path(self.folder, part), {})
        captions = bytes(tensors["captions"].numpy()).decode().split("\n")
        groups: dict[tuple[Any, ...], list[int]] = {}
        facts = facts_of(meta)
        for row, one in enumerate(facts):
            groups.setdefault((one["video"], one["content"], one["start"], one["rate"]), []).append(row)
        found = [
            Moments(
                part,
                tuple(rows),
                tuple(facts[row] for row in rows),
                tuple(captions[row] for row in rows),
                tensors["tokens"][rows].numpy(),
            )
            for rows in groups.values()
        ]
        yield from (found[first : first + CLIPS] for first in range(0, len(found), CLIPS))

    def _write(self, part: int, meta: dict[str, str], scores: Scores) -> None:
        ordered = [values for _, values in sorted(scores, key=lambda scored: scored[0])]
        names = [*MEASURED, *self.opinions]
        columns = {name: torch.tensor([v[name] for v in ordered], dtype=torch.float32) for name in names}
        columns["look"] = torch.from_numpy(np.array([v["look"] for v in ordered], np.int64).reshape(-1, 4))
        said = {name: opinion.digest for name, opinion in self.opinions.items()}
        kept, before = read_scores(self.folder, part, meta)  # opinions of an earlier run stay
        earlier = [name for name in OPINIONS if name in kept and name not in self.opinions]
        columns |= {name: kept[name].clone() for name in earlier}
        said |= {name: before[name] for name in earlier}
        write_tensors(scores_path(self.folder, part), columns, said | {SCORES_KEY: rows_key(meta)})


def scores_of(folder: Path) -> dict[str, Tensor]:
    """All scores of a folder by column, as far as there are any, and `duplicates`: 1 of a row like an earlier one."""
    index, parts, facts = read_index(folder), list[dict[str, Tensor]](), list[dict[str, Any]]()
    for part in range(index.parts):
        if part_path(folder, part).exists():
            meta = read_part(part_path(folder, part), {INDEX_KEY: index.key(part)})[1]
            if columns := read_scores(folder, part, meta)[0]:
                parts.append(columns)
                looks = columns["look"].tolist()
                facts += [one | {"look": looks[row]} for row, one in enumerate(facts_of(meta))]
    if not parts:
        return {}
    names = [name for name in COLUMNS if all(name in columns for columns in parts)]
    found = {name: torch.cat([columns[name] for columns in parts]) for name in names}
    return found | {"duplicates": torch.from_numpy(duplicates(facts)).float()}


def table_of(scores: dict[str, Tensor]) -> list[str]:
    """The columns as lines of a Markdown table: least, quartiles and greatest of the rows that have them."""
    lines = ["| score | rows | least | quarter | median | three quarters | greatest |", f"|---{'|---:' * 6}|"]
    for name, values in scores.items():
        known = values[values.isfinite()]
        marks = known.quantile(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])).tolist() if len(known) else []
        cells = [f"{mark:.4g}" for mark in marks] or ["-"] * 5
        lines.append(f"| {' | '.join([name, str(len(known)), *cells])} |")
    return lines if scores else []


def duplicates(facts: Sequence[dict[str, Any]]) -> np.ndarray:
    """bool [rows]: which look like an earlier row of another line of the manifest, or of another folder.

    Two of NEAR + 1 or more pieces of their hashes are equal where all of them differ by at most NEAR bits, so only
    rows that share a piece are compared.
    """
    looks = np.array([one["look"] for one in facts], np.int64).reshape(-1, 4)
    pieces = looks[:, :3].copy().view(np.uint16).reshape(len(facts), -1)  # 12
    colours = np.stack([looks[:, 3] >> shift & 255 for shift in (16, 8, 0)], 1)
    copies, known = np.zeros(len(facts), bool), dict[tuple[int, int], list[int]]()
    for row, one in enumerate(facts):
        keys = list(enumerate(pieces[row].tolist()))
        for other in dict.fromkeys(other for key in keys for other in known.get(key, ())):
            before = facts[other]
            own = (before.get("folder"), before["entry"]) == (one.get("folder"), one["entry"])
            bits = int(np.unpackbits((pieces[row] ^ pieces[other]).view(np.uint8)).sum())
            shade = int(np.abs(colours[row] - colours[other]).max())
            if not own and bits <= NEAR and shade <= SHADE:
                copies[row] = True
                break
        if not copies[row]:
            for key in keys:
                known.setdefault(key, []).append(row)
    return copies
