"""List the recipes of the package, or copy one to change it."""

import argparse
from pathlib import Path

HELP = "list the shipped recipes, or copy one"
EXAMPLE = "cogstyle recipes copy own_videos.toml --to mine.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "copy"), default="list", help="what to do")
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the recipe to copy, as the list has it")
    parser.add_argument("--to", type=Path, metavar="FILE", help="the copy (default: the recipe's own name, here)")


def run(arguments: argparse.Namespace) -> int:
    import os

    from cogstyle.config import require
    from cogstyle.errors import ConfigError
    from cogstyle.files import read_bytes, read_text, write_bytes
    from cogstyle.shipped import recipes

    found, name = recipes(), arguments.name
    if arguments.action == "list":
        require(name is None and arguments.to is None, "a NAME and --to are for `recipes copy`")
        width = max(map(len, found), default=0) + 2
        for one, path in found.items():
            print(f"{one:<{width}}{read_text(path).partition(chr(10))[0].lstrip('# ')}")
        return 0
    require(name is not None, "name the recipe to copy; `cogstyle recipes` lists them")
    source = found.get(name) or found.get(f"{name}.toml")
    if source is None:
        raise ConfigError(f"no recipe {name!r}; there are {', '.join(found)}")
    to = arguments.to or Path(source.name)
    require(not os.path.lexists(to), f"{to} is there already; name another file with --to")
    write_bytes(to, read_bytes(source))
    print(to)
    return 0
