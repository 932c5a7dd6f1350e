"""Check that a bundle computes what it should: whole files, equal numbers by every way, room in memory."""

import argparse
from typing import TYPE_CHECKING

from cogstyle.cli.bundles import add_bundle_argument, bundles
from cogstyle.config import DTYPES, require

if TYPE_CHECKING:
    from cogstyle.sampling.consistency import Finding
    from cogstyle.sampling.pipeline import Pipeline

HELP = "check that a bundle computes what it should"
EXAMPLE = "cogstyle check shapes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", nargs="?", metavar="BUNDLE", help="a bundle's name or folder")
    add_bundle_argument(parser)
    parser.add_argument("--device", default="auto", help="torch device; auto takes a GPU where there is one")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of the transformer's weights; int8 is for the CPU"
    )
    parser.add_argument("--memory", type=float, help="gigabytes that it must fit into (default: all of the device's)")


def run(arguments: argparse.Namespace) -> int:
    from cogstyle.sampling.consistency import check_bundle
    from cogstyle.sampling.pipeline import load

    memory = arguments.memory
    require(memory is None or memory > 0, f"memory {memory} must be positive")
    pipe = load(bundles(arguments), device=arguments.device, dtype=arguments.dtype)
    print(f"{pipe.bundle.folder}, {pipe.dtype} on {pipe.device}")
    good = True
    for finding in check_bundle(pipe):
        good &= show(finding)
    good &= show(fits(pipe, memory))
    return 0 if good else 1


def show(finding: "Finding") -> bool:
    """Print a line of the table; whether it is fine."""
    said = {True: "ok", False: "NOT OK", None: "-"}[finding.ok]
    print(f"{finding.name:<26}{said:<8}{' '.join(finding.detail.split())}", flush=True)
    return finding.ok is not False


def fits(pipe: "Pipeline", gigabytes: float | None) -> "Finding":
    """How many videos side by side the memory holds."""
    from cogstyle.bundle import WeightFile
    from cogstyle.cli.inspect import capacity, needed
    from cogstyle.errors import CogstyleError
    from cogstyle.files import human, read_tensors
    from cogstyle.sampling.consistency import Finding

    name, bundle = "fits in memory", pipe.bundle
    if not bundle.has(WeightFile.IMAGE):
        return Finding(name, None, f"the bundle has no {WeightFile.IMAGE}")
    try:
        files = [file for file in bundle.hashes() if file.endswith(".safetensors")]
        parts = {file.removesuffix(".safetensors"): read_tensors(bundle.path(file))[0] for file in files}
    except CogstyleError as error:
        return Finding(name, False, str(error))
    size = {"float32": 4, "int8": 1}.get(pipe.dtype, 2)
    need = needed(bundle.model_config, parts, 1, size, bundle)
    room, weights = capacity(str(pipe.device)) if gigabytes is None else gigabytes * 1e9, need.pop("weights")
    one = sum(need.values())
    count = max(0, int((room - weights) // one))
    return Finding(name, count > 0, f"{human(weights)} and {human(one)} a video: {count} side by side in {human(room)}")
