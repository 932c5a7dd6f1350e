"""Which cogstyle this is: what samples and reports say they were made by."""

import importlib
import subprocess
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


def version() -> str:
    """The package's version."""
    return str(importlib.import_module("cogstyle").__version__)


@lru_cache(maxsize=1)
def commit() -> str | None:
    """The commit of a checkout that the package runs from, marked "+" if files of the package changed; else None."""
    if not (ROOT / ".git").exists():
        return None
    try:
        head, changed = (
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=10, check=True).stdout
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no", "cogstyle"))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.strip() + "+" * bool(changed.strip())
