"""What a folder of shards holds, for people: a dataset card, and a picture of some clips and their tokens."""

import io
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cogstyle.data.clips import Clip
from cogstyle.data.encode import publish
from cogstyle.data.shards import INDEX_KEY, Index, part_path, read_part
from cogstyle.errors import MediaError
from cogstyle.files import fingerprint
from cogstyle.tokenizers.image import ImageTokenizer
from cogstyle.video import open_video

CARD, PICTURE = "README.md", "clips.png"
SHOWN = 8  # clips in the picture
LISTED = 200  # refused entries that the card names
PIXELS = 96  # frames smaller than this are shown larger


@dataclass(frozen=True)
class Contents:
    """What is in the parts that are there: facts of each row with its part and place in it, and the entries refused."""

    rows: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    parts: int


def read_contents(folder: Path, index: Index) -> Contents:
    """Read what every part says about itself."""
    rows, refused, parts = [], [], 0
    for number in range(index.parts):
        path = part_path(folder, number)
        if path.exists():
            meta = read_part(path, {INDEX_KEY: fingerprint(index)})[1]
            rows += [facts | {"part": number, "row": row} for row, facts in enumerate(json.loads(meta["rows"]))]
            refused += json.loads(meta["refused"])
            parts += 1
    return Contents(rows, refused, parts)


def write_card(folder: Path, index: Index, *, name: str, videos: Path, vqvae: ImageTokenizer) -> Contents:
    """Write README.md and clips.png for the parts that are there, and return what is in them.

    Args:
        name: of the manifest.
        videos: folder of the videos.
    """
    contents = read_contents(folder, index)
    image = picture(folder, contents, index, videos=videos, vqvae=vqvae)
    if image is not None:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "png")
        publish(folder / PICTURE, file.getvalue())
    publish(folder / CARD, card(folder.name, contents, index, name=name, pictured=image is not None).encode())
    return contents


def card(title: str, contents: Contents, index: Index, *, name: str, pictured: bool) -> str:
    """The dataset card as Markdown."""
    rows, refused = contents.rows, contents.refused
    entries = len({facts["entry"] for facts in rows})
    lines = [f"# {title}", "", f"Token shards for {index.kind}, written by `cogstyle encode` from `{name}`.", ""]
    if contents.parts < index.parts:
        lines += [f"**Not finished:** {contents.parts} of {index.parts} parts are there.", ""]
    lines += [f"- {entries} of {index.entries} entries encoded, {len(refused)} refused; {len(rows)} rows"]
    if rows:
        lengths = sorted({facts["entry"]: facts["length"] for facts in rows}.values())
        lines += [
            f"- {sum(lengths) / 3600:.2f} hours; an entry lasts {lengths[0]:.2f} to {lengths[-1]:.2f} s, "
            f"median {lengths[len(lengths) // 2]:.2f} s"
        ]
    said = Counter(facts["language"] for facts in rows if facts["language"])
    if said:
        lines += ["- rows by language: " + ", ".join(f"{key} {count}" for key, count in said.most_common())]
    lines += [f"- a row is {index.frames} frame{'s' * (index.frames > 1)} of {index.size} x {index.size} px as tokens"]
    lines += [f"- image tokenizer sha256 `{index.tokenizer_sha256}`", ""]
    if index.kind != "image" and rows:
        lines += ["| frames a second | seconds that a row spans | rows |", "|---:|---:|---:|"]
        rates = Counter(facts["rate"] for facts in rows)
        lines += [f"| {rate:g} | {(index.frames - 1) / rate:g} | {rates[rate]} |" for rate in sorted(rates)] + [""]
    if pictured:
        lines += [f"Above each line of frames as they are tokenised, below decoded again: ![clips]({PICTURE})", ""]
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
    pairs = []
    for place in sorted({round(k * (count - 1) / (SHOWN - 1)) for k in range(SHOWN)} if count else ()):
        facts = contents.rows[place]
        clip = Clip(facts["start"], facts["rate"], index.frames)
        try:
            with open_video(videos / facts["video"]) as video:
                source = video.frames_at(clip.times, index.size)
        except MediaError:
            continue  # it was there when it was encoded
        tokens_FL = read_part(part_path(folder, facts["part"]), {})[0]["tokens"][facts["row"]].long()
        with torch.no_grad():
            decoded = vqvae.decode(tokens_FL).permute(0, 2, 3, 1).numpy()
        pair = np.concatenate([np.concatenate(list(frames), 1) for frames in (source, decoded)])
        pairs.append(np.pad(pair, ((0, 4), (0, 4), (0, 0)), constant_values=255))
    if not pairs:
        return None
    scale = -(-PIXELS // index.size)
    return np.concatenate(pairs, 1 if index.kind == "image" else 0).repeat(scale, 0).repeat(scale, 1)
