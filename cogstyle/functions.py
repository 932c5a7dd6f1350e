"""Functions of yours by name: `package.module:function`, `folder/file.py:function`."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cogstyle.config import require
from cogstyle.errors import ConfigError
from cogstyle.files import sha256


def find_function(name: str, kind: str, known: Mapping[str, str]) -> tuple[Callable[..., Any], str]:
    """A function, and the sha256 of the file that it stands in.

    Args:
        kind: what it is, for errors.
        known: names that stand for others.

    Raises:
        ConfigError: if there is none.
    """
    place, colon, function_name = known.get(name, name).rpartition(":")
    require(
        bool(colon and place and function_name),
        f"no {kind} {name!r}; give {', '.join(known)}, module:function or file.py:function",
    )
    try:
        module = _of_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:  # whatever importing somebody's file makes it do
        raise ConfigError(f"cannot load {kind} {name}: {first_line(error)}") from None
    function = getattr(module, function_name, None)
    require(callable(function), f"cannot load {kind} {name}: {place} has no function {function_name}")
    assert function is not None
    source = inspect.getsourcefile(module)
    return function, sha256(Path(source)) if source else ""


def _of_file(path: Path) -> Any:
    """A Python file as a module, which finds its neighbours as a script does."""
    require(path.is_file(), f"no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
