"""The `cogstyle` command: one subcommand a file. Heavy imports wait until a subcommand needs them."""

import argparse
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from cogstyle.cli import (
    bundles,
    check,
    encode,
    evaluate,
    export,
    fvd,
    grow,
    import_,
    inspect,
    interpolate,
    push,
    recipes,
    sample,
    serve,
    start,
    train,
    upscale,
    web,
    world,
)
from cogstyle.errors import CogstyleError, ConfigError
from cogstyle.version import version

SUBCOMMANDS = (
    sample, interpolate, upscale, serve, web, start, encode, train, recipes, world, evaluate, fvd,
    import_, export, grow, push, bundles, check, inspect,
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"cogstyle: {' '.join(message.split())}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = Parser(prog="cogstyle", description="Text to video with autoregressive transformers.")
    parser.add_argument("--version", action="version", version=f"cogstyle {version()}")
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
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows ASCII only
    try:
        arguments = read_arguments(sys.argv[1:] if argv is None else argv)
        status = int(arguments.run(arguments))
        print(end="", flush=True)  # what cannot be written is known now, not when Python ends
        return status
    except BrokenPipeError:  # who read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except (CogstyleError, OSError, MemoryError, RecursionError, RuntimeError) as error:
        if (message := user_message(error)) is None:
            raise
        print(f"cogstyle: {' '.join(message.split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cogstyle: stopped; finished work is kept", file=sys.stderr)
        return 130


def read_arguments(argv: list[str]) -> argparse.Namespace:
    """The arguments, with `~` in paths replaced; a shell leaves it in `--out=~/v.mp4`."""
    for text in argv:
        if not text.isascii() and re.search("[\ud800-\udfff]", text):
            raise ConfigError(f"argument {text!r} is not UTF-8")
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what could come next
        complete(parser)
    arguments = parser.parse_args(argv)
    for name, value in vars(arguments).items():
        if isinstance(value, Path):
            setattr(arguments, name, Path(os.path.expanduser(value)))
        elif isinstance(value, list) and value and isinstance(value[0], Path):
            setattr(arguments, name, [Path(os.path.expanduser(path)) for path in value])
    return arguments


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell and end, by argcomplete (extra `completion`)."""
    with suppress(ImportError):
        import argcomplete

        argcomplete.autocomplete(parser)


def user_message(error: BaseException) -> str | None:
    """What to tell the user of an error that the input or the machine caused; None for one of our own."""
    if isinstance(error, CogstyleError):
        return str(error)
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename is not None else ""
        return f"{named}{error.strerror or error}"
    if isinstance(error, RecursionError):
        return "the input is nested too deeply"
    if isinstance(error, MemoryError) or re.search("can't allocate memory|out of memory", str(error)):
        asked = re.search(r"(?:[Aa]llocate) (\d[\d.]* \w+)(?: for an array with shape [^)]*\))?", str(error))
        return f"out of memory{f': {asked[1]} at once were asked for' if asked else ''}; ask for less at a time"
    return None


if __name__ == "__main__":
    sys.exit(main())
