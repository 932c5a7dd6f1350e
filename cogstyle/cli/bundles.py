"""The option that names a bundle, or the adapters of several."""

import argparse

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
        help="a bundle's name or folder; again, as keyframes=, interpolation= or superres=, to take one adapter from "
        "another bundle on the same image model (default: shapes)",
    )


def bundles(arguments: argparse.Namespace) -> list[str]:
    """The bundles that were named."""
    return vars(arguments).get("bundles") or list(DEFAULT)
