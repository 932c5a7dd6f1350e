"""Plain values from outside (TOML, JSON) as frozen dataclasses, checked.

The annotations of a dataclass say the types and the ranges of its values: `from_dict` checks against them,
`__post_init__` what values must be to each other. The ranges lie far above any model or run that exists; what is over
them is a slip, refused before anything that large is begun.
"""

from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from annotated_types import Interval, Len

from cogstyle.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

C = TypeVar("C")
LARGEST_SEED = 2**32 - 1

Picture = Annotated[int, Interval(ge=1, le=2**14)]  # pixels along the side of a picture
Size = Annotated[int, Interval(ge=1, le=2**20)]  # a width, a side, a length in tokens
Small = Annotated[int, Interval(ge=1, le=2**12)]  # layers, frames, the side of a grid
Blocks = Annotated[int, Interval(ge=0, le=256)]  # residual blocks
Rows = Annotated[int, Interval(ge=1, le=2**28)]  # of an embedding
Id = Annotated[int, Interval(ge=0, le=2**28)]  # of a token
Count = Annotated[int, Interval(ge=1, le=10**8)]  # steps, entries of a manifest
Temperature = Annotated[float, Interval(ge=1e-6, le=1e4)]
Seed = Annotated[int, Interval(ge=0, le=LARGEST_SEED)]
Weight = Annotated[float, Interval(gt=0.0, le=1e6)]
Share = Annotated[float, Interval(ge=0.0, le=1.0)]
Channels = Annotated[tuple[Size, ...], Len(1, 12)]  # one a level


def require(condition: bool, message: str) -> None:
    """Raise ConfigError(message) unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def from_dict(cls: type[C], values: dict[str, Any], where: str) -> C:
    """Build the dataclass `cls` from the plain values of a TOML or JSON table.

    Lists become tuples, tables the dataclasses that `cls` asks for; 1 may stand for 1.0 and 1.0 for 1.

    Args:
        where: names the table in errors.

    Raises:
        ConfigError: for unknown and missing keys, and values of a wrong type or out of range.
    """
    require(isinstance(values, dict), f"{where} must be a table, not {values!r:.60}")
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    require(not unknown, f"{where}: unknown key {', '.join(unknown)}; known are {', '.join(known)}")
    missing = [name for name in _needed(cls) if name not in values]
    require(not missing, f"{where}: missing key {', '.join(missing)}")
    hints = get_type_hints(cls, include_extras=True)
    checked = {name: _checked(hints[name], name, value, where) for name, value in values.items()}
    try:
        return cls(**checked)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _needed(cls: type) -> list[str]:
    """The keys of a table that have no default."""
    return [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]


def _checked(hint: Any, name: str, value: Any, where: str) -> Any:
    """The value of one key, if it is what the annotation `hint` asks for."""
    from pydantic import ValidationError

    if tables := tables_of(hint, value):
        inner = f"{where} [{name}]"
        if get_origin(hint) is tuple:
            require(isinstance(value, list), f"{inner} must be a list of tables, [[{name}]]")
            return tuple(from_dict(tables[0], one, inner) for one in value)
        require(isinstance(value, dict), f"{inner} must be a table, not {value!r:.60}")
        return from_dict(tables[0], value, inner)
    try:
        return _adapter(hint).validate_python(_plain(value))
    except ValidationError as error:
        wrong = max(error.errors(include_url=False, include_context=False), key=lambda one: len(one["loc"]))
    for step in wrong["loc"]:  # of unions it also names the kind that was tried
        if isinstance(value, list) and isinstance(step, int) and step < len(value):
            name, value = f"{name}[{step}]", value[step]
        elif isinstance(value, dict) and step in value:
            name, value = f"{name}.{step}", value[step]
    limit = wrong["msg"].replace("tuple", "list").replace("dictionary", "table")
    limit = limit.replace("Input should", "must") if limit.startswith("Input should") else f"is wrong: {limit}"
    raise ConfigError(f"{where}: {name} {value!r:.60} {limit}")


def tables_of(hint: Any, value: Any) -> list[Any]:
    """The dataclasses that an annotation asks for; of several, those that the keys of `value` fit, if any do."""
    tables = [table for table in (hint, *get_args(hint)) if isinstance(table, type) and is_dataclass(table)]
    if not isinstance(value, dict):
        return tables
    kind = value.get("kind")  # one is of this kind, or has its needed keys in this value
    chosen = [t for t in tables if (t.kind == kind if hasattr(t, "kind") else set(_needed(t)) <= set(value))]
    return chosen or tables


@cache
def _adapter(hint: Any) -> "TypeAdapter[Any]":
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False))


def _plain(value: Any) -> Any:
    """Lists as tuples, whole floats as ints (which a float may be given as)."""
    if isinstance(value, list):
        return tuple(map(_plain, value))
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
