"""A pytest plugin: the native step is the build that NATIVE_BUILD=NAME:PATH names; see test_sanitizers.py."""

import os
from pathlib import Path

from cogstyle import native

name, _, path = os.environ["NATIVE_BUILD"].partition(":")
library = native.Library(name, Path(path))
native.find = lambda wanted: library if wanted == name else None
