"""The `cogstyle` command: one subcommand a file. Heavy imports wait until a subcommand needs them."""

import argparse
import os
import sys

from cogstyle.cli import encode, evaluate, export, fvd, import_, inspect, interpolate, sample, train, upscale, world
from cogstyle.errors import CogstyleError

SUBCOMMANDS = (sample, interpolate, upscale, encode, train, world, evaluate, fvd, import_, export, inspect)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(prog="cogstyle", description="Text to video with autoregressive transformers.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in SUBCOMMANDS:
        name = module.__name__.rsplit(".", 1)[-1].rstrip("_")
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            epilog=f"example: {module.EXAMPLE}",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; a user's error is one line on stderr and exit status 2."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads fight on small machines
    arguments = build_parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except CogstyleError as error:
        print(f"cogstyle: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cogstyle: stopped; finished work is kept", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
