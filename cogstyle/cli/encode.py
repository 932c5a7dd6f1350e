"""Turn your own videos and captions into token shards that `cogstyle train` reads."""

import argparse
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogstyle.cli.bundles import add_bundle_argument, bundles
from cogstyle.cli.machines import add_machine_arguments, parse_shard
from cogstyle.config import require

if TYPE_CHECKING:
    from collections.abc import Callable

    from cogstyle.data.dataset_card import Contents
    from cogstyle.data.encode import Encoding
    from cogstyle.data.quality import Opinion
    from cogstyle.data.shards import Index

HELP = "turn videos and captions into token shards to train on"
EXAMPLE = "cogstyle encode clips/captions.csv --to shards --quality"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "manifest",
        type=Path,
        help="a .csv or .jsonl file with video (or file_name, file, path), caption (or text, prompt)[, caption_zh, "
        "start, end, language], paths relative to it; or a folder with metadata.csv or .jsonl, with videos.txt and "
        "prompts.txt, or with the caption of each video or picture in a .txt file beside it; with --quality also a "
        "folder of shards, whose rows are scored from their tokens alone",
    )
    parser.add_argument("--caption", default="", metavar="TEXT", help="caption of whatever has none")
    parser.add_argument("--to", type=Path, help="folder of the shards")
    parser.add_argument(
        "--for",
        dest="kind",
        metavar="TASK",
        default="keyframes",
        help="what the rows will train: keyframes, interpolation, continuation, image or superres",
    )
    add_bundle_argument(parser)
    add_row_arguments(parser)
    add_quality_arguments(parser)
    heard = "also keep the states of all captions by a language model: a Hugging Face folder, .gguf, or name"
    parser.add_argument("--llm", metavar="FOLDER", help=heard)
    told = "in which that model reads a caption, with {prompt} in it (default: the caption alone)"
    parser.add_argument("--template", default="{prompt}", metavar="TEXT", help=told)
    add_machine_arguments(parser, workers="processes; 0: one a core")
    parser.add_argument(
        "--max-bad", default="10%", help="more refused entries than this end in exit status 1: a share or a number"
    )
    parser.add_argument(
        "--retry",
        action="store_true",
        help="encode again what an earlier run refused, and what was changed in the manifest",
    )
    parser.add_argument(
        "--entries-per-part", type=int, default=256, help="lines of the manifest (or files of the folder) in one part"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_row_arguments(parser: argparse.ArgumentParser) -> None:
    """Which rows a video gives, and what their frames are."""
    parser.add_argument(
        "--extra-rates",
        type=int,
        default=0,
        metavar="N",
        help="keyframes, interpolation: take each clip also at the next N higher frame rates",
    )
    parser.add_argument("--size", type=int, metavar="PX", help="side of a frame (default: the bundle's)")
    parser.add_argument("--frames", type=int, metavar="F", help="frames of a row of a video (default: the bundle's)")
    parser.add_argument(
        "--frames-per-video",
        type=int,
        metavar="N",
        help="image and superres: the first frame and N - 1 at random moments (default: 2)",
    )
    parser.add_argument(
        "--factor",
        type=int,
        metavar="N",
        help="superres: so many fine tokens along the side of a coarse one (default: 2)",
    )
    parser.add_argument(
        "--flip",
        choices=("auto", "all", "no"),
        default="auto",
        help="also every row mirrored: those whose captions name no side (default), all, or none",
    )
    parser.add_argument(
        "--fit",
        choices=("crop", "letterbox"),
        default="crop",
        help="frames are the largest square in the middle (default), or the whole picture between bars",
    )
    add_cut_arguments(parser)


def add_cut_arguments(parser: argparse.ArgumentParser) -> None:
    """Where a long video is cut."""
    parser.add_argument(
        "--clip-seconds",
        type=float,
        metavar="S",
        help="cut videos where another scene begins, and into pieces of at most S seconds, each with the whole caption",
    )
    parser.add_argument(
        "--split-cuts",
        action="store_true",
        help="cut videos where TransNetV2 (extra transnet) sees another scene begin, with or without --clip-seconds",
    )
    parser.add_argument(
        "--split-long",
        action="store_true",
        help="split videos that are too long for one row into equal stretches, each with the caption of the whole",
    )


def add_quality_arguments(parser: argparse.ArgumentParser) -> None:
    """What rows are worth, for [data.quality] of a recipe."""
    parser.add_argument(
        "--quality",
        action="store_true",
        help="score every row (decode PSNR, sharpness, flow, cuts, text boxes, black bars, duplicates), also of shards "
        "that are there already",
    )
    parser.add_argument(
        "--judge", metavar="NAME", help="with --quality: shapes, module:function or file.py:function fills column read"
    )
    parser.add_argument(
        "--scorer", type=Path, metavar="FILE.pt", help="with --quality: a TorchScript network fills column scorer"
    )


def parse_limit(text: str, entries: int) -> float:
    """ "5%" of `entries`, or a plain number of them."""
    good = re.fullmatch(r"\d+|\d+(\.\d+)?%", text) is not None
    require(good, f"max-bad {text!r} must be a share such as 5% or a number such as 20")
    return float(text[:-1]) / 100 * entries if text.endswith("%") else int(text)


def check_numbers(arguments: argparse.Namespace) -> None:
    """Validate the numbers, and that each has an effect on this task.

    Raises:
        ConfigError: naming the option, its value and the limit.
    """
    require(arguments.workers >= 0, f"workers {arguments.workers} must be 0 or more")
    require(arguments.entries_per_part >= 1, f"entries-per-part {arguments.entries_per_part} must be 1 or more")
    require(arguments.extra_rates >= 0, f"extra-rates {arguments.extra_rates} must be 0 or more")
    for name, value, kinds in (
        ("extra-rates", arguments.extra_rates or None, ("keyframes", "interpolation")),
        ("size", arguments.size, (arguments.kind,)),
        ("frames", arguments.frames, ("keyframes", "interpolation", "continuation")),
        ("frames-per-video", arguments.frames_per_video, ("image", "superres")),
        ("factor", arguments.factor, ("superres",)),
    ):
        require(value is None or value >= 1, f"{name} {value} must be 1 or more")
        require(value is None or arguments.kind in kinds, f"{name} has no effect with --for {arguments.kind}")
    seconds = arguments.clip_seconds
    require(seconds is None or 0.5 <= seconds <= 1e5, f"clip-seconds {seconds} must be 0.5 to 100000")
    require(seconds is None or not arguments.split_long, "clip-seconds and split-long exclude each other")
    parse_limit(arguments.max_bad, 0)
    for name in ("judge", "scorer"):
        require(arguments.quality or getattr(arguments, name) is None, f"--{name} has no effect without --quality")


def choices(arguments: argparse.Namespace) -> dict[str, Any]:
    """How rows are made, as an index says it."""
    from cogstyle.data.clips import STILL

    return {
        "extra_rates": arguments.extra_rates,
        "split_long": arguments.split_long,
        "clip_seconds": arguments.clip_seconds or 0.0,
        "stills": (arguments.frames_per_video or 2) if arguments.kind in STILL else 1,
        "factor": (arguments.factor or 2) if arguments.kind == "superres" else 1,
        "flip": arguments.flip,
        "cuts": "transnet" if arguments.split_cuts else "jumps",
        "letterbox": arguments.fit == "letterbox",
        **{name: value for name in ("size", "frames") if (value := getattr(arguments, name)) is not None},
    }


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from cogstyle.bundle import open_bundle
    from cogstyle.data.dataset_card import CARD, check_card, write_card
    from cogstyle.data.encode import Encoding, make_index
    from cogstyle.data.folder import check_folder
    from cogstyle.data.manifest import read_manifest
    from cogstyle.data.shards import INDEX
    from cogstyle.data.workers import cores
    from cogstyle.video.transnet import weights_file

    check_numbers(arguments)
    opinions = opinions_of(arguments)
    if arguments.quality and (arguments.manifest / INDEX).is_file():
        require(arguments.to is None, f"--to has no effect: {arguments.manifest} is scored where it is")
        return score(arguments, arguments.manifest, None, opinions)
    require(arguments.to is not None, "missing --to: the folder of the shards")
    if arguments.split_cuts:
        weights_file()  # raises if they are not here
    kind, shard, keep_states = arguments.kind, parse_shard(arguments.shard), states_keeper(arguments)
    check_folder(arguments.to)
    check_card(arguments.to)
    manifest = read_manifest(arguments.manifest, caption=arguments.caption)
    bundle = open_bundle(bundles(arguments))
    vqvae = bundle.vqvae()  # what a bundle lacks is an error now, not in the workers
    if bundle.has_model:
        bundle.text()
    if manifest.taken:
        print(manifest.taken, file=sys.stderr)
    if manifest.unused:
        print(f"columns not used: {', '.join(manifest.unused)}", file=sys.stderr)
    index = make_index(manifest, bundle, kind, entries_per_part=arguments.entries_per_part, **choices(arguments))
    encoding, report = Encoding(manifest, arguments.to, index, bundle), partial(tqdm.write, file=sys.stderr)
    if arguments.engine == "ray":
        mine, refused = on_ray(encoding, shard, arguments, report)
    else:
        how: dict[str, Any] = {"retry": arguments.retry, "quiet": arguments.quiet, "report": report}
        mine, refused = encoding.run(shard=shard, workers=arguments.workers or cores(), **how)
    if arguments.quality:
        score(arguments, arguments.to, manifest.folder, opinions)
    keep_states()
    contents = write_card(arguments.to, index, name=arguments.manifest.name, videos=manifest.folder, vqvae=vqvae)
    print_contents(contents, index, arguments.to / CARD)
    if len(refused) > parse_limit(arguments.max_bad, mine):
        limit = f"more than --max-bad {arguments.max_bad}"
        print(f"cogstyle: {len(refused)} of {mine} entries refused, {limit}; the others are kept", file=sys.stderr)
        return 1
    return 0


def opinions_of(arguments: argparse.Namespace) -> "dict[str, Opinion]":
    """What the judge and the scorer say, by column."""
    from cogstyle.evaluation.opinions import Reads, ScriptScorer

    found: dict[str, Opinion] = {} if arguments.judge is None else {"read": Reads(arguments.judge)}
    return found | ({} if arguments.scorer is None else {"scorer": ScriptScorer(arguments.scorer)})


def score(arguments: argparse.Namespace, folder: Path, videos: Path | None, opinions: "dict[str, Opinion]") -> int:
    """Score the rows of a folder that have no scores yet, and print what all of them are like."""
    from cogstyle.bundle import open_bundle
    from cogstyle.data.quality import Quality, scores_of, table_of
    from cogstyle.data.workers import cores

    shard, workers = parse_shard(arguments.shard), arguments.workers or cores()
    quality = Quality(folder, open_bundle(bundles(arguments)), videos, opinions)
    rows = quality.run(shard=shard, workers=workers, quiet=arguments.quiet)
    print(f"{folder}: {rows} rows scored")
    print("\n".join(table_of(scores_of(folder))))
    return 0


def states_keeper(arguments: argparse.Namespace) -> "Callable[[], object]":
    """What keeps the states of the captions that are encoded, if a language model is named.

    Raises:
        FileError, BundleError, ConfigError: if there is no such model, or the template holds no caption.
    """
    require(arguments.llm is not None or arguments.template == "{prompt}", "--template is how --llm reads a caption")
    if arguments.llm is None:
        return lambda: None
    from cogstyle.data.states import CaptionStates, encoded_captions
    from cogstyle.devices import find_device
    from cogstyle.interop.huggingface import LanguageModel, digest, find_model
    from cogstyle.language_config import Listening

    place, listening = find_model(arguments.llm, fetch=True), Listening(arguments.llm, template=arguments.template)
    model = LanguageModel(place, find_device("auto"))  # what it lacks is an error now

    def keep() -> None:
        states = CaptionStates([arguments.to], listening, digest(place))
        states.add(encoded_captions(arguments.to), lambda: model, quiet=arguments.quiet)

    return keep


def on_ray(
    encoding: "Encoding", shard: tuple[int, int], arguments: argparse.Namespace, report: "Callable[[str], None]"
) -> tuple[int, list[dict[str, Any]]]:
    """As `Encoding.run`, each part by an actor of a cluster.

    Raises:
        ConfigError: if a part could not be written; the others are.
    """
    from tqdm import tqdm

    from cogstyle import cluster
    from cogstyle.data.encode import Parts

    encoding.prepare(retry=arguments.retry)
    rows = [{"id": part} for part in range(shard[0] - 1, encoding.index.parts, shard[1])]
    work = partial(Parts, encoding, retry=arguments.retry)
    refused, errors = [], []
    found = cluster.on_ray(work, rows, workers=arguments.workers, gpus=0, batch=1)
    for result in tqdm(found, total=len(rows), unit="part", disable=arguments.quiet):
        for line in result["notes"]:
            report(line)
        refused += result["refused"]
        errors += [] if result["ok"] else [f"part {result['id']}: {result['error']}"]
    require(not errors, f"{len(errors)} of {len(rows)} parts could not be written; {errors[0] if errors else ''}")
    return sum(encoding.entries_of(row["id"]) for row in rows), sorted(refused, key=lambda entry: entry["entry"])


def print_contents(contents: "Contents", index: "Index", card: Path) -> None:
    """What the folder of shards holds now, and what is still to come or left out."""
    to_come = f"; {index.parts - contents.parts} of {index.parts} parts to come" * (contents.parts < index.parts)
    print(f"{card}: {len(contents.rows)} rows, {len(contents.refused)} refused{to_come}")
    if index.kind == "keyframes" and (seconds := sum(contents.left_out.values())) >= 0.05:
        print(f"{seconds:.1f} s lie behind the last frame of their rows and are left out")
