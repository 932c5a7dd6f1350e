"""Write an image model and one of its adapters as a SwissArmyTransformer checkpoint folder."""

import argparse

from cogstyle.cli.import_ import new_path

HELP = "export a bundle for SwissArmyTransformer"
EXAMPLE = "cogstyle export sat shapes --role keyframes --to checkpoints/shapes-keyframes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("format", choices=("sat",), help="the format to write")
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle's name or folder")
    parser.add_argument("--to", type=new_path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--role", choices=("keyframes", "interpolation", "superres"), default="keyframes", help="which adapter"
    )


def run(arguments: argparse.Namespace) -> int:
    from cogstyle.bundle import Bundle
    from cogstyle.interop.sat_bundle import export_sat

    export_sat(Bundle(arguments.bundle), arguments.to, role=arguments.role)
    print(arguments.to)
    return 0
