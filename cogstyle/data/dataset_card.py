"""What a folder of shards holds, for people: a dataset card, and a picture of some clips and their tokens."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cogstyle.data.clips import STILL, Clip
from cogstyle.data.quality import scores_of, table_of
from cogstyle.data.shards import INDEX_KEY, Index, part_path, read_part
from cogstyle.data.workers import spread
from cogstyle.errors import BundleError, ConfigError, FileError, MediaError
from cogstyle.files import read_bytes, write_bytes
from cogstyle.pictures import write_png
from cogstyle.tokenizers.image import ImageTokenizer
from cogstyle.video import open_video

CARD, PICTURE = "README.md", "clips.png"
BY = "cogstyle encode"
SHOWN = 8  # clips in the picture
LISTED = 200  # refused entries that the card names
PIXELS = 96  # frames smaller than this are shown larger


@dataclass(frozen=True)
class Contents:
    """What is in the parts that are there: facts of each row with its part and place in it, and the entries refused."""

    rows: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    parts: int

    @property
    def left_out(self) -> dict[int, float]:
        """Seconds of each entry that lie behind the last frame of its rows, which is shown until a next would follow.

        Only of keyframes: other rows are meant to be a stretch of an entry.
        """
        shown: dict[int, dict[float, float]] = {}
        for facts in self.rows:
            rows = shown.setdefault(facts["entry"], {})
            rows[facts["start"]] = max(rows.get(facts["start"], 0.0), facts["span"])
        lengths = {facts["entry"]: facts["length"] for facts in self.rows}
        return {entry: max(lengths[entry] - sum(rows.values()), 0.0) for entry, rows in shown.items()}


def read_contents(folder: Path, index: Index) -> Contents:
    """Read what every part says about itself; those made with other settings or from other lines are not there."""
    rows, refused, parts = [], [], 0
    for number in range(index.parts):
        path = part_path(folder, number)
        if path.exists():
            try:
                meta = read_part(path, {INDEX_KEY: index.key(number)})[1]
            except BundleError:
                continue
            rows += [
                facts | {"part": number, "row": row, "span": index.frames / facts["rate"]}
                for row, facts in enumerate(json.loads(meta["rows"]))
            ]
            refused += json.loads(meta["refused"])
            parts += 1
    return Contents(rows, refused, parts)


def check_card(folder: Path) -> None:
    """Raise ConfigError if a README.md or clips.png lies in the folder that is not, or no longer, as we wrote it."""
    for path, ours in ((folder / CARD, _is_card), (folder / PICTURE, _is_picture)):
        try:
            if not path.exists() or ours(path):
                continue
        except (FileError, OSError, ValueError):
            pass
        raise ConfigError(f"{path} was not written by {BY}, or was changed since: move it elsewhere first")


def _is_card(path: Path) -> bool:
    text, _, end = read_bytes(path).rpartition(b"\n\n<!-- ")
    return end == _seal(text)


def _seal(text: bytes) -> bytes:
    return f"{BY} {hashlib.sha256(text).hexdigest()[:16]} -->\n".encode()


def _is_picture(path: Path) -> bool:
    with Image.open(io.BytesIO(read_bytes(path)), formats=["PNG"]) as image:
        return image.info.get("Software") == BY


def write_card(folder: Path, index: Index, *, name: str, videos: Path, vqvae: ImageTokenizer) -> Contents:
    """Write README.md and clips.png for the parts that are there, and return what is in them.

    Args:
        name: of the manifest.
        videos: folder of the videos.

    Raises:
        ConfigError: see `check_card`.
    """
    check_card(folder)
    contents = read_contents(folder, index)
    image = picture(folder, contents, index, videos=videos, vqvae=vqvae)
    if image is not None:
        write_png(folder / PICTURE, image, software=BY)
    scores = table_of(scores_of(folder))
    text = card(folder.absolute().name, contents, index, name=name, pictured=image is not None, scores=scores)
    data = text.rstrip().encode("utf-8", "backslashreplace")  # names of files may be anything
    write_bytes(folder / CARD, data + b"\n\n<!-- " + _seal(data))
    return contents


def card(title: str, contents: Contents, index: Index, *, name: str, pictured: bool, scores: Sequence[str] = ()) -> str:
    """The dataset card as Markdown."""
    rows, refused = contents.rows, contents.refused
    entries = len({facts["entry"] for facts in rows})
    lines = [f"# {title}", "", f"Token shards for {index.kind}, written by `cogstyle encode` from `{name}`.", ""]
    if contents.parts < index.parts:
        lines += [f"**Not finished:** {contents.parts} of {index.parts} parts are there.", ""]
    lines += [f"- {entries} of {index.entries} entries encoded, {len(refused)} refused; {len(rows)} rows"]
    if contents.parts == index.parts and (still := index.entries - entries - len(refused)):
        lines += [f"- {still} entries are pictures, which {index.kind} do not train on"]
    if rows:
        mirrored = sum("flipped" in facts for facts in rows)
        lines += [f"- {mirrored} of the rows are mirrored"] if mirrored else []
        lengths = sorted({facts["entry"]: facts["length"] for facts in rows}.values())
        lines += [
            f"- {sum(lengths) / 3600:.2f} hours; an entry lasts {lengths[0]:.2f} to {lengths[-1]:.2f} s, "
            f"median {lengths[len(lengths) // 2]:.2f} s"
        ]
        if index.kind == "keyframes":
            left = contents.left_out
            lines += [
                f"- {sum(left.values()):.1f} s lie behind the last frame of their rows and are left out: "
                f"{max(left.values()):.2f} s of an entry at most"
            ]
        if index.split_long:
            starts = {(facts["entry"], facts["start"]) for facts in rows}
            lines += [f"- entries that no row can show as a whole were split: {len(starts)} stretches"]
    said = Counter(facts["language"] for facts in rows if facts["language"])
    if said:
        lines += ["- rows by language: " + ", ".join(f"{key} {count}" for key, count in said.most_common())]
    lines += [f"- a row is {index.frames} frame{'s' * (index.frames > 1)} of {index.size} x {index.size} px as tokens"]
    lines += [f"- image tokenizer sha256 `{index.tokenizer_sha256}`", ""]
    if index.kind not in STILL and rows:
        lines += ["| frames a second | seconds that a row spans | rows |", "|---:|---:|---:|"]
        rates = Counter(facts["rate"] for facts in rows)
        lines += [f"| {rate:g} | {(index.frames - 1) / rate:g} | {rates[rate]} |" for rate in sorted(rates)] + [""]
    if pictured:
        lines += [f"Above each line of frames as they are tokenised, below decoded again: ![clips]({PICTURE})", ""]
    lines += ["## Scores", "", *scores, ""] if scores else []
    if refused:
        lines += ["## Refused", "", "| where | video | reason |", "|---|---|---|"]
        lines += [f"| {_cell(e['where'])} | {_cell(e['video'])} | {_cell(e['reason'])} |" for e in refused[:LISTED]]
        lines += [f"\nand {len(refused) - LISTED} more" if len(refused) > LISTED else ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def picture(
    folder: Path, contents: Contents, index: Index, *, videos: Path, vqvae: ImageTokenizer
) -> np.ndarray | None:
    """Rows spread over the data, source frames above decoded tokens, uint8 [height, width, 3]; None without rows."""
    count = len(contents.rows)
    chosen = sorted({round(k * (count - 1) / (SHOWN - 1)) for k in range(SHOWN)} if count else ())
    clips = [
        (videos / facts["video"], Clip(facts["start"], facts["rate"], index.frames), index, "flipped" in facts)
        for facts in (contents.rows[place] for place in chosen)
    ]
    seen = {
        chunk[0][0]: frames
        for chunk, frames in spread(_looking, [[clip] for clip in enumerate(clips)], workers=1, lost=_nothing)
    }
    pairs = []
    for number, place in enumerate(chosen):
        facts, source = contents.rows[place], seen[number]
        if source is None:
            continue  # it was there when it was encoded
        tokens_FL = read_part(part_path(folder, facts["part"]), {})[0]["tokens"][facts["row"]].long()
        with torch.no_grad():
            decoded = vqvae.decode(tokens_FL).permute(0, 2, 3, 1).numpy()
        pair = np.concatenate([np.concatenate(list(frames), 1) for frames in (source, decoded)])
        pairs.append(np.pad(pair, ((0, 4), (0, 4), (0, 0)), constant_values=255))
    if not pairs:
        return None
    scale = -(-PIXELS // index.size)
    return np.concatenate(pairs, 1 if index.kind in STILL else 0).repeat(scale, 0).repeat(scale, 1)


Numbered = tuple[int, tuple[Path, Clip, Index, bool]]  # a row of the picture: video, clip, how, whether mirrored


def _looking() -> Any:
    """The work of a process that decodes rows of the picture."""
    return _look


def _look(chunk: Sequence[Numbered]) -> np.ndarray | None:
    ((_, (path, clip, index, flipped)),) = chunk
    try:
        with open_video(path) as video:
            return video.frames_at(clip.times, index.size, letterbox=index.letterbox)[:, :, :: -1 if flipped else 1]
    except MediaError:
        return None


def _nothing(item: Numbered) -> None:
    return None
