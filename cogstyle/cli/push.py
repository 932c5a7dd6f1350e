"""Put a bundle on the Hugging Face hub: its files, checked, and its model card, in one commit."""

import argparse

HELP = "put a bundle on the Hugging Face hub"
EXAMPLE = "cogstyle push bundles/own user/own-videos --private"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="BUNDLE", help="a bundle's name or folder")
    parser.add_argument("repository", metavar="USER/REPO[@BRANCH]", help="made if it is not there")
    parser.add_argument("--private", action="store_true", help="a repository that is made is not for all to see")


def run(arguments: argparse.Namespace) -> int:
    from cogstyle.bundle import open_bundle, push_bundle

    print(push_bundle(open_bundle([arguments.source]), arguments.repository, private=arguments.private))
    return 0
