"""A page in the browser: the server of `cogstyle serve`, and a page on it for people who would rather look."""

import argparse
from pathlib import Path

from cogstyle.cli import serve

HELP = "a page to try prompts on, in the browser"
EXAMPLE = "cogstyle web --port 8000"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, default=Path("cogstyle-web"), metavar="DIR", help="where the queue and the videos are kept"
    )
    serve.add_common_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    return serve.run(arguments, page=True)
