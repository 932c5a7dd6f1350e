"""Sample the prompts beside this file into demo/, a video and a contact sheet of each."""

import sys
from pathlib import Path

from cogstyle.cli.main import main

HERE = Path(__file__).parent
for file, bundle in (("prompts.jsonl", "shapes"), ("zoo.jsonl", "zoo")):
    if status := main(["sample", "--prompts", str(HERE / file), "--bundle", bundle, "--out", "demo", "--sheet"]):
        sys.exit(status)
