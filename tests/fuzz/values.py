"""Wrong values of every kind, and damage to bytes."""

import datetime
import json
import math
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LONG = "a" * 300
TEXTS = (
    "", "2", "x", "名前", "a\nb\r", "\x00", "\u2028", "x" * 5000, "{x}", "{prompt!r:>99}", "nan", LONG + ".mp4",
    "~/x", "../x", ".", "..", "/dev/zero", "bundle", "http://127.0.0.1:9/x.mp4", "sub/x.mp4", "p.png",
)  # fmt: skip
NUMBERS = (
    -1, 0, 1, 2, 3, 7, 16, 1.0, 1.5, -0.5, 1e-30, 1e308, math.nan, math.inf, -math.inf,
    10**9, 2**31, 2**63, 2**64, 10**30,
)  # fmt: skip
LISTS = ([], [1], [1, 2], [4, 4], [0.5, -2.0, 3], ["a"], [[[]]], {}, {"a": 1}, {"x": [1]})
VALUES = (*TEXTS, *NUMBERS, True, False, *LISTS)
ARGUMENTS = (
    "", "x", "-1", "0", "1", "2", "1.5", "nan", "inf", "-inf", "1e400", "1000000000", "9" * 30, "٣", "a\nb", "名前",
    "\udcff", "-", ".", "..", LONG, LONG + ".mp4", "x.mp4", "x.png", "x.gif", "x.json", "x.safetensors", "sub/x.mp4",
    "bundle", "bundle/bundle.toml", "bundle/bundle.toml/x.mp4", "none/x", "fifo", "http://127.0.0.1:9/x.mp4",
    "/dev/full", "/dev/zero", "/proc/self/maps", "0.25,0.5", "1/0", "2/1", "50%", "cuda", "meta", "cpu:9",
)  # fmt: skip
DAMAGE = (
    *("cut", "flip", "noise") * 3, "insert", "delete", "zeros", "ones", "empty", "random", "bom", "latin", "nul",
    "newline", "brackets", "twice", "other", "folder", "missing", "fifo", "loop", "zero", "proc",
)  # fmt: skip


def wrong_value(rng: random.Random, *, toml: bool) -> Any:
    special = datetime.date(2026, 1, 2) if toml else None
    return rng.choice([*VALUES, special])


def leaves(table: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value in nested tables and lists, tables themselves too."""
    items = table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from leaves(value, (*path, key))


def spoil_table(rng: random.Random, table: Any, *, toml: bool) -> str:
    """Put one wrong value, an unknown key, or a gap into nested tables; says what was done."""
    path = rng.choice(list(leaves(table)) or [()])
    for key in path[:-1]:
        table = table[key]
    how = rng.choice(("value", "value", "value", "value", "gone", "unknown"))
    if not path or (how == "unknown" and isinstance(table, dict)):
        table["unknown"] = value = wrong_value(rng, toml=toml)
        return f"unknown key = {value!r:.60}"
    if how == "gone":
        del table[path[-1]]
        return f"no {path}"
    table[path[-1]] = value = wrong_value(rng, toml=toml)
    return f"{path} = {value!r:.60}"


def to_toml(value: Any) -> str:
    """A table as TOML, nested ones inline."""

    def text(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{json.dumps(key)} = {text(inner)}" for key, inner in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(text, value)) + "]"
        if isinstance(value, bool | str):
            return json.dumps(value)
        return str(value)

    return "\n".join(f"{json.dumps(key)} = {text(inner)}" for key, inner in value.items()) + "\n"


def spoil_bytes(rng: random.Random, path: Path) -> str:
    """Damage a file, or put something else in its place; says what was done."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data) + 1)
    if rng.random() < 0.5:
        at = min(at, rng.randrange(200))  # the header
    size = rng.choice((1, 4, 64, 1000))
    how = rng.choice(DAMAGE)
    match how:
        case "cut":
            del data[at:]
        case "flip":
            for _ in range(rng.choice((1, 3, 30))):
                if data:
                    data[min(at + rng.randrange(size), len(data) - 1)] ^= 1 << rng.randrange(8)
        case "noise":
            data[at : at + size] = rng.randbytes(size)
        case "insert":
            data[at:at] = rng.randbytes(size)
        case "delete":
            del data[at : at + size]
        case "zeros" | "ones":
            data[at : at + size] = (b"\x00" if how == "zeros" else b"\xff") * size
        case "empty":
            data.clear()
        case "random":
            data[:] = rng.randbytes(rng.randrange(2000))
        case "bom":
            data[:0] = b"\xef\xbb\xbf"
        case "latin":
            data[at:at] = "é".encode("latin-1")
        case "nul":
            data[at:at] = b"\x00"
        case "newline":
            data[at:at] = rng.choice(("\u2028", "\r", "\r\n", "\n\n", "\x0b", "\x85")).encode()
        case "brackets":
            data[:] = rng.choice((b"[", b'{"a":', b"a = [", b"(")) * 100_000
        case "twice":
            data[:] = bytes(data) * 2
        case "other":
            others = [other for other in path.parent.iterdir() if other.is_file()]
            data[:] = rng.choice(sorted(others)).read_bytes()
    if how in ("folder", "missing", "fifo", "loop", "zero", "proc"):
        path.unlink()
        match how:
            case "folder":
                path.mkdir()
            case "fifo":
                os.mkfifo(path)
            case "loop":
                path.symlink_to(path.name)
            case "zero":
                path.symlink_to("/dev/zero")
            case "proc":
                path.symlink_to("/proc/self/environ")
    else:
        path.write_bytes(data)
    return f"{how} at {at} x {size} of {path.name}"
