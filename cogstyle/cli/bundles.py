"""The option that names a bundle, or the adapters of several."""

import argparse

from cogstyle.config import require

DEFAULT = ("shapes",)


def add_bundle_argument(parser: argparse.ArgumentParser) -> None:
    """`--bundle`, also called `--adapter`, which may be given several times."""
    parser.add_argument(
        "--bundle",
        "--adapter",
        dest="bundles",
        action="append",
        default=argparse.SUPPRESS,
        metavar="[ROLE=]BUNDLE",
        help="a bundle's name, folder or place on the hub (user/repo[@revision]); again, as keyframes=, interpolation= or superres=, to take one adapter from "
        "another bundle on the same image model (default: shapes)",
    )


def bundles(arguments: argparse.Namespace) -> list[str]:
    """The bundles that were named, by the option or (of commands that have it) as the argument `source`.

    Raises:
        ConfigError: if both are given.
    """
    source = getattr(arguments, "source", None)
    require(source is None or "bundles" not in arguments, "give either BUNDLE or --bundle")
    return [source] if source is not None else vars(arguments).get("bundles") or list(DEFAULT)
