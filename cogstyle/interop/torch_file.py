"""Read weights from files of `torch.save` as data: no unpickler runs, and nothing in a file is called.

The file is a zip of one pickle (`data.pkl`) and one member a storage. A machine of our own executes the few opcodes
that such a pickle needs, over plain containers and numbers; tensors become descriptions, and those that are asked for
are mapped from the file once their bounds and checksums fit. What DeepSpeed and SAT write beside weights (states of
random generators) becomes an `Inert`, which has no value. TorchScript programs are refused.
"""

import pickletools
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cogstyle.errors import BundleError
from cogstyle.files import expect_regular

LARGEST_PICKLE = 1 << 24  # bytes; that of CogVideo's 9 billion weights has 0.2 million
MOST_OPCODES = 2_000_000
MOST_MEMBERS = 1 << 20  # storages of a file
MOST_AXES = 16
LOCAL_HEADER, SIGNATURE = 30, b"PK\3\4"  # of a member of a zip: bytes before its name, and how they begin
BLOCK = 1 << 24  # bytes that are checked at a time

STORAGES = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool,
}  # fmt: skip
INERT = {
    "torch device",
    "numpy ndarray",
    "numpy dtype",
    "numpy.core.multiarray _reconstruct",
    "numpy._core.multiarray _reconstruct",
    "_codecs encode",
    "argparse Namespace",
}


@dataclass(frozen=True)
class Storage:
    """A member of the zip: `count` numbers."""

    member: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True)
class Stored:
    """A tensor that was not read yet."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Inert:
    """Something that no reader of weights needs; it takes any state and keeps none."""


class OrderedDict(dict[Any, Any]):
    """`collections.OrderedDict` of the pickle; its attributes (`_metadata`) are dropped."""


class _Mark:
    pass


def read_weights(path: Path, *keys: str) -> dict[str, Tensor]:
    """The tensors under the first of `keys` ("module") that was saved, or "": all of it, by name, memory-mapped.

    Raises:
        FileError: if the file is missing or damaged, is no such file, or asks for anything but weights.
    """
    expect_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            root, members = _members(archive, path.stat().st_size)
            loaded = _Machine(archive.read(f"{root}/data.pkl")).run()
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None
    except DAMAGE as error:
        raise BundleError(f"cannot read checkpoint {path}: it is damaged, or none ({_first_line(error)})") from None
    keys, table = keys or ("module",), loaded if isinstance(loaded, dict) else {}
    key = next((key for key in keys if key in table), keys[-1])
    weights = table.get(key) if key else table
    if not isinstance(weights, dict) or not all(
        isinstance(k, str) and isinstance(v, Stored) for k, v in weights.items()
    ):
        raise BundleError(f"{path} holds no weights under the key {' or '.join(repr(key) for key in keys if key)}")
    try:
        whole = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)
        assert isinstance(whole, torch.UntypedStorage)
        storages: dict[Storage, torch.UntypedStorage] = {}
        for stored in weights.values():
            if stored.storage not in storages:
                storages[stored.storage] = _storage(whole, members, f"{root}/data/", stored.storage)
        return {name: _tensor(stored, storages[stored.storage]) for name, stored in weights.items()}
    except BundleError as error:
        raise BundleError(f"cannot read checkpoint {path}: {error}") from None
    except (OSError, RuntimeError) as error:
        raise BundleError(f"cannot read checkpoint {path}: {_first_line(error)}") from None


# What reading a damaged zip or pickle raises.
DAMAGE = (OSError, EOFError, zipfile.BadZipFile, struct.error, ValueError, LookupError, TypeError, RuntimeError)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _members(archive: zipfile.ZipFile, length: int) -> tuple[str, dict[str, zipfile.ZipInfo]]:
    """The folder that a file of torch.save has inside, and its members by name.

    Raises:
        BundleError: for a program, a compressed or encrypted file, or another kind of zip.
    """
    members = {info.filename: info for info in archive.infolist()}
    if len(archive.infolist()) != len(members) or len(members) > MOST_MEMBERS:
        raise BundleError(f"a zip of {len(archive.infolist())} members with {len(members)} names is no checkpoint")
    if (total := sum(info.file_size for info in members.values())) > length:
        raise BundleError(f"its members have {total:,} bytes in all, the file {length:,}")
    root = next(iter(members), "").split("/")[0]
    inside = [name.removeprefix(f"{root}/") for name in members]
    if any(name == "constants.pkl" or name.startswith("code/") for name in inside):
        raise BundleError("it is a TorchScript program, not a checkpoint of weights; refused")
    if f"{root}/data.pkl" not in members:
        raise BundleError("it is no file of torch.save: it holds no data.pkl")
    size = members[f"{root}/data.pkl"].file_size
    if size > LARGEST_PICKLE:
        raise BundleError(f"its data.pkl has {size:,} bytes, at most {LARGEST_PICKLE:,} are read")
    if odd := [name for name, info in members.items() if info.compress_type or info.flag_bits & 1]:
        raise BundleError(f"its member {odd[0]!r} is compressed or encrypted, which torch.save does not do")
    order = f"{root}/byteorder"
    if order in members and archive.read(members[order]) != sys.byteorder.encode():
        raise BundleError(f"its byte order is not this machine's ({sys.byteorder})")
    return root, members


def _storage(
    whole: torch.UntypedStorage, members: dict[str, zipfile.ZipInfo], folder: str, storage: Storage
) -> torch.UntypedStorage:
    """The bytes of a storage, mapped, after their checksum was compared.

    Raises:
        BundleError: if they are damaged, missing, or of another number.
    """
    info = members.get(folder + storage.member)
    length = storage.count * storage.dtype.itemsize
    if info is None or info.file_size != length:
        found = "is missing" if info is None else f"has {info.file_size} bytes"
        raise BundleError(f"its member {folder + storage.member} {found}, the weights need {length}")
    header = bytes(whole[info.header_offset : info.header_offset + LOCAL_HEADER])
    if len(header) < LOCAL_HEADER or header[:4] != SIGNATURE:
        raise BundleError(f"its member {info.filename} is not where its list says")
    start = info.header_offset + LOCAL_HEADER + sum(struct.unpack("<HH", header[26:]))  # behind name and extra field
    if start + length > len(whole):
        raise BundleError(f"its member {info.filename} is cut")
    mapped = whole[start : start + length]
    found_crc = 0
    for block in torch.empty(0, dtype=torch.uint8).set_(mapped).split(BLOCK):
        found_crc = zlib.crc32(block.numpy().data, found_crc)
    if found_crc != info.CRC:
        raise BundleError(f"its member {info.filename} is damaged: its checksum is {found_crc:08x}, not {info.CRC:08x}")
    return mapped


def _tensor(stored: Stored, storage: torch.UntypedStorage) -> Tensor:
    empty = torch.empty(0, dtype=stored.storage.dtype)
    return empty.set_(storage, stored.offset, stored.size, stored.stride)


# ------------------------------------------------------------------- the pickle


def _hashable(key: Any) -> Any:
    if not isinstance(key, str | int | float | bytes | None):
        raise BundleError(f"a key of its tables is a {type(key).__name__}, not a name or number; refused")
    return key


def _named(name: str) -> Any:
    """What a global of the pickle stands for.

    Raises:
        BundleError: for one that no checkpoint of weights needs.
    """
    if name in CALLS:
        return CALLS[name]
    if name in INERT:
        return Inert
    kind = name.removeprefix("torch ").removesuffix("Storage")
    if name == f"torch {kind}Storage" and kind in STORAGES:
        return STORAGES[kind]
    raise BundleError(
        f"the checkpoint asks for {'.'.join(name.split(' ', 1))}, which no checkpoint of weights needs; refused"
    )


def _tensor_of(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Stored:
    """`torch._utils._rebuild_tensor_v2`: a description, once it fits its storage."""
    tuples = isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= MOST_AXES
    if not (tuples and isinstance(storage, Storage)) or any(
        type(number) is not int or number < 0 for number in (offset, *size, *stride)
    ):
        raise BundleError("the size or strides of a tensor make no sense")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if prod(size) > storage.count or (prod(size) and last >= storage.count):
        raise BundleError(f"a tensor {list(size)} reaches beyond the {storage.count} numbers of its storage")
    return Stored(storage, offset, size, stride)


def _size_of(axes: Any) -> tuple[Any, ...]:
    if len(axes) > MOST_AXES:
        raise BundleError(f"a tensor has {len(axes)} axes, at most {MOST_AXES} are read")
    return tuple(axes)


CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": lambda: OrderedDict(),
    "torch._utils _rebuild_tensor_v2": _tensor_of,
    "torch._utils _rebuild_parameter": lambda data, *_: data,
    "torch Size": _size_of,
}


class _Machine:
    """Executes a pickle of weights over plain values; opcodes that such a pickle does not have are refused."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(self.data)):
            if number == MOST_OPCODES:
                raise BundleError(f"its pickle has more than {MOST_OPCODES:,} opcodes")
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name in LITERALS:
                self.stack.append(argument)
            elif opcode.name in EMPTY:
                self.stack.append(EMPTY[opcode.name]())
            elif opcode.name in ACTIONS:
                ACTIONS[opcode.name](self, argument)
            else:
                raise BundleError(f"its pickle has the opcode {opcode.name}, which no checkpoint needs; refused")
        raise AssertionError("genops ends with STOP or an error")

    def take(self) -> list[Any]:
        """What lies above the last mark."""
        above = []
        while not isinstance(top := self.stack.pop(), _Mark):
            above.append(top)
        return above[::-1]

    def tuple_of(self, count: int) -> None:
        self.stack[len(self.stack) - count :] = [tuple(self.stack[-count:])]

    def set_items(self, flat: list[Any]) -> None:
        table = self.stack[-1]
        if not isinstance(table, dict) or len(flat) % 2:
            raise BundleError(f"its pickle sets items of a {type(table).__name__}; refused")
        table.update((_hashable(key), value) for key, value in zip(flat[::2], flat[1::2], strict=True))

    def append(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise BundleError(f"its pickle appends to a {type(self.stack[-1]).__name__}; refused")
        self.stack[-1] += values

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(arguments, tuple):
            raise BundleError("its pickle calls with what are no arguments; refused")
        if function is Inert:
            self.stack.append(Inert())
        elif function in CALLS.values():
            self.stack.append(function(*arguments))
        else:
            raise BundleError(f"its pickle calls a {type(function).__name__}; refused")

    def make(self) -> None:
        if self.stack[-2] is not Inert:
            raise BundleError("its pickle has the opcode NEWOBJ, which no checkpoint needs but for what is dropped")
        self.call()

    def build(self) -> None:
        """Drop the state of an object that keeps none."""
        self.stack.pop()
        if not isinstance(self.stack[-1], Inert | OrderedDict):
            raise BundleError(f"its pickle gives a {type(self.stack[-1]).__name__} a state; refused")

    def load_storage(self) -> None:
        kind, *rest = self.stack.pop()
        dtype, member, _, count = rest
        if kind != "storage" or not isinstance(dtype, torch.dtype) or type(member) is not str or type(count) is not int:
            raise BundleError("its pickle names something that is no storage; refused")
        self.stack.append(Storage(member, dtype, count))

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]


def _of_two(machine: _Machine) -> list[Any]:
    return [machine.stack.pop() for _ in range(2)][::-1]


Action = Callable[[_Machine, Any], object]
LITERALS = {
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE",
    "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES",
}  # fmt: skip
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "MARK": _Mark}
ACTIONS: dict[str, Action] = {
    "PROTO": lambda machine, version: None,
    "FRAME": lambda machine, length: None,
    "GLOBAL": lambda machine, name: machine.stack.append(_named(name)),
    "STACK_GLOBAL": lambda machine, _: machine.stack.append(_named(" ".join(_of_two(machine)))),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.take())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "SETITEM": lambda machine, _: machine.set_items(_of_two(machine)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.take()),
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.take()),
    "REDUCE": lambda machine, _: machine.call(),
    "NEWOBJ": lambda machine, _: machine.make(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.load_storage(),
    "BINPUT": lambda machine, index: machine.remember(index),
    "LONG_BINPUT": lambda machine, index: machine.remember(index),
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    "BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
}
