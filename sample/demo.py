"""Sample the three prompts beside this file into demo/, a video and a contact sheet of each."""

import sys
from pathlib import Path

from cogstyle.cli.main import main

PROMPTS = Path(__file__).with_name("prompts.jsonl")
sys.exit(main(["sample", "--prompts", str(PROMPTS), "--out", "demo", "--sheet"]))
