"""Serve videos over HTTP, by the API that video engines and OpenAI's clients speak; jobs are kept on disk."""

import argparse
import math
import os
import sys
from pathlib import Path

from cogstyle.config import DTYPES, require
from cogstyle.errors import ConfigError

HELP = "a server: POST /v1/videos, a queue on disk"
EXAMPLE = "cogstyle serve --port 8000 --data videos"
TOKEN = "COGSTYLE_TOKEN"  # the environment's: an argument can be seen by other users of the machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="where the queue and the videos are kept"
    )
    add_common_arguments(parser)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """What `serve` and `web` share."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is all of this machine's")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any free one")
    parser.add_argument(
        "--bundle", dest="bundles", action="append", default=argparse.SUPPRESS, metavar="BUNDLE",
        help="a bundle's name or folder; again for more of them, the first is the default model (default: shapes)",
    )  # fmt: skip
    parser.add_argument("--token", default=argparse.SUPPRESS, help=f"ask for this bearer token (default: ${TOKEN})")
    parser.add_argument("--queue", type=int, default=256, help="the most videos that wait")
    parser.add_argument("--longest-prompt", type=int, default=2000, help="the most characters of a prompt")
    parser.add_argument(
        "--largest-body", type=float, default=32.0, metavar="MB", help="the most megabytes of a request"
    )
    parser.add_argument(
        "--time-limit", type=float, default=600.0, metavar="SECONDS", help="the most that one video takes"
    )
    parser.add_argument("--keep", type=float, default=argparse.SUPPRESS, metavar="HOURS",
                        help="delete videos so long after they are done (default: never)")  # fmt: skip
    parser.add_argument("--device", default="auto", help="torch device; auto takes a GPU where there is one")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of the transformer's weights; int8 is for the CPU"
    )


def run(arguments: argparse.Namespace, *, page: bool = False) -> int:
    for name in ("queue", "longest_prompt", "largest_body", "time_limit", "keep"):
        value = getattr(arguments, name, 1)
        require(value > 0 and math.isfinite(value), f"--{name.replace('_', '-')} {value} must be positive")
    require(0 <= arguments.port < 65536, f"port {arguments.port} must be 0 to 65535")
    token = getattr(arguments, "token", os.environ.get(TOKEN))
    require(token is None or (token != "" and token.isprintable()), "the token is empty, or holds control characters")
    try:
        from cogstyle.server.api import Limits
        from cogstyle.server.gate import LOCAL
        from cogstyle.server.run import Address, Place, serve
    except ModuleNotFoundError as error:
        raise ConfigError(f"the server needs {error.name}: pip install 'cogstyle[serve]'") from None
    keep = 3600 * arguments.keep if "keep" in arguments else None
    body = int(arguments.largest_body * 1e6)
    limits = Limits(arguments.queue, arguments.longest_prompt, body, arguments.time_limit, keep)
    place = Place(arguments.data, vars(arguments).get("bundles", ["shapes"]), arguments.device, arguments.dtype)
    address = Address(arguments.host, arguments.port, token)

    def say(place: str) -> None:
        print(f"serving {place}", flush=True)
        if token is None and arguments.host not in LOCAL:
            print("cogstyle: note: without --token whoever reaches this machine can use it", file=sys.stderr)

    serve(place, address, limits, page=page, say=say)
    return 0
