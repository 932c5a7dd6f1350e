"""FVD, KVD, MMD and IS between two folders of videos, on the features of an extractor."""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

HELP = "FVD, KVD and IS between folders of videos"
EXAMPLE = "cogstyle fvd --real clips --fake samples --extractor i3d.pt --out fvd.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--real", type=Path, required=True, metavar="DIR|STATS", help="videos, or their statistics")
    parser.add_argument("--fake", type=Path, metavar="DIR|STATS", help="videos, or their statistics, to compare")
    parser.add_argument(
        "--extractor",
        type=Path,
        metavar="FILE.pt|transnetv2",
        help="TorchScript file with a .toml beside it, or transnetv2, a public network for any videos (default: the "
        "classifier of the shapes world)",
    )
    parser.add_argument("--save-stats", type=Path, metavar="STATS", help="write the statistics of --real: .safetensors")
    parser.add_argument("--any-balance", action="store_true", help="accept sides whose classes differ in their shares")
    parser.add_argument("--batch", type=int, default=8, help="clips of one pass")
    parser.add_argument("--device", default="auto", help="torch device; auto takes a GPU where there is one")
    parser.add_argument("--out", type=Path, help="write the figures and all they depend on: .json")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from cogstyle.devices import find_device
    from cogstyle.evaluation import fvd
    from cogstyle.evaluation.transnet import NAME, TransNetExtractor
    from cogstyle.files import write_bytes
    from cogstyle.shapes_report.classifier import shapes_classifier
    from cogstyle.video.extractor import Extractor

    check(arguments)
    path, device = arguments.extractor or shapes_classifier(), find_device(arguments.device)
    public = str(path) == NAME and not path.exists()
    extractor = (TransNetExtractor if public else partial(Extractor, path))(device=device, batch=arguments.batch)

    def measured(source: Path) -> fvd.Statistics:
        if source.is_file():
            return fvd.load_statistics(source, extractor)
        bar = partial(tqdm, desc=source.name, unit="video", disable=arguments.quiet)
        return fvd.of_folder(source, extractor, progress=lambda clips, of: bar(clips, total=of))

    real = measured(arguments.real)
    if arguments.save_stats is not None:
        fvd.save_statistics(arguments.save_stats, real)
        print(f"{real.count} videos, {len(real.mean)} features: {arguments.save_stats}")
    if arguments.fake is None:
        return 0
    result = fvd.compare(real, measured(arguments.fake), any_balance=arguments.any_balance)
    print_figures(result)
    if arguments.out is not None:
        write_bytes(arguments.out, json.dumps(result, ensure_ascii=False, indent=1).encode())
    return 0


def check(arguments: argparse.Namespace) -> None:
    """What can be known before anything is computed.

    Raises:
        ConfigError: naming what does not fit.
    """
    from cogstyle.config import require
    from cogstyle.video import check_place

    require(
        arguments.fake is not None or arguments.save_stats is not None,
        "give --fake to compare with, or --save-stats to write statistics of --real",
    )
    require(arguments.out is None or arguments.fake is not None, "--out needs --fake: there is nothing to write")
    for path in (arguments.out, arguments.save_stats):
        if path is not None:
            check_place(path)
            require(path.parent.is_dir(), f"cannot write {path}: there is no folder {path.parent}")
            require(path not in (arguments.real, arguments.fake), f"{path} is read, and must not be written over")
    require(arguments.out is None or arguments.out != arguments.save_stats, "--out and --save-stats are the same file")
    for path in (arguments.real, arguments.fake):
        require(path is None or path.is_file() or path.is_dir(), f"no folder or statistics file {path}")


def print_figures(result: dict[str, Any]) -> None:
    kvd, score = result["kvd"], result["is"]
    print(f"FVD {result['fvd']:.4g} ({result['real']['count']} real, {result['fake']['count']} fake videos)")
    print(f"KVD {kvd['mean']:.4g} +- {kvd['std']:.2g} ({kvd['subsets']} subsets of {kvd['size']})")
    print(f"MMD {result['mmd']:.4g} (as JEDi takes it, on these features)")
    if score is not None:
        print(f"IS  {score['mean']:.4g} +- {score['std']:.2g} (of the real {result['is_of_real']['mean']:.4g})")
    for side in ("real", "fake"):
        about = result[side]
        met = [f"{key} {', '.join(about[key])}" for key in ("fps", "codecs", "sizes", "frames") if about.get(key)]
        print(f"{side}: {about['count']} videos; {'; '.join(met)}")
    for note in result["notes"]:
        print(f"note: {note}")
