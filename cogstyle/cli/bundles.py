"""List the bundles that a name finds: those of the package, and those fetched from the hub.

Here is also the option of other commands that names a bundle, or the adapters of several.
"""

import argparse
from pathlib import Path

from cogstyle.config import require

HELP = "list the bundles that are shipped or cached"
EXAMPLE = "cogstyle bundles"
DEFAULT = ("shapes",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # it takes none


def run(arguments: argparse.Namespace) -> int:
    del arguments
    from cogstyle import hub
    from cogstyle.bundle import SHELVES, holds_bundle
    from cogstyle.errors import CogstyleError
    from cogstyle.files import human

    shelf = next((shelf for shelf in SHELVES if shelf.is_dir()), None)
    found = [(path.name, path, "shipped") for path in sorted(shelf.iterdir())] if shelf is not None else []
    found = [row for row in found + [(*one, "cached") for one in hub.cached()] if holds_bundle(row[1])]
    width = max((len(name) for name, _, _ in found), default=0) + 2
    for name, folder, where in found:
        try:
            holds, size = _contents(folder)
            print(f"{name:<{width}}{where:<9}{human(size):>9}  {', '.join(holds)}")
        except CogstyleError as error:
            print(f"{name:<{width}}{where:<9}{'damaged':>9}  {error}")
    return 0


def _contents(folder: Path) -> tuple[list[str], int]:
    """What a bundle holds, and the bytes of all its files."""
    from cogstyle.bundle import Bundle

    bundle = Bundle(folder)
    sizes = {name: bundle.path(name).stat().st_size for name in bundle.hashes() if bundle.path(name).is_file()}
    return list(dict.fromkeys(Path(name).stem for name in sizes)), sum(sizes.values())


def add_bundle_argument(parser: argparse.ArgumentParser) -> None:
    """`--bundle`, also called `--adapter`, which may be given several times."""
    parser.add_argument(
        "--bundle",
        "--adapter",
        dest="bundles",
        action="append",
        default=argparse.SUPPRESS,
        metavar="[ROLE=]BUNDLE",
        help="a bundle's name, folder or place on the hub (user/repo[@revision]); again, as keyframes=, interpolation= "
        "or superres=, to take one adapter from another bundle on the same image model (default: shapes)",
    )


def bundles(arguments: argparse.Namespace) -> list[str]:
    """The bundles that were named, by the option or (of commands that have it) as the argument `source`.

    Raises:
        ConfigError: if both are given.
    """
    source = getattr(arguments, "source", None)
    require(source is None or "bundles" not in arguments, "give either BUNDLE or --bundle")
    return [source] if source is not None else vars(arguments).get("bundles") or list(DEFAULT)
