"""The decode step in C++: found at run time, bound by ctypes, and optional.

`library()` is the best build that is there and that this processor runs, or None: then PyTorch does it all.
`COGSTYLE_NATIVE` names one build (`avx512`, `avx2`, `portable`), or none with `off`.
"""

import ctypes
import mmap
import os
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from cogstyle.config import require
from cogstyle.native.variants import VARIANTS

KINDS = {"float32": 0, "bfloat16": 1, "int8": 2}
SLOTS = 16  # a head's width, and where runs of a memory start, are multiples of it
ALIGNED = 64  # bytes
LARGE_PAGE = 1 << 21  # bytes
CHUNK = 1 << 25  # bytes of weights that are mapped at once


class Matrix(Structure):
    """A packed linear layer; see linear.h."""

    _fields_ = [(name, c_void_p) for name in ("weights", "bias", "scales", "offsets")]
    _fields_ += [(name, c_int32) for name in ("out_features", "in_features", "kind", "unused")]


class Norm(Structure):
    _fields_ = [("weight", c_void_p), ("bias", c_void_p)]


class Layer(Structure):
    """The matrices and norms of a block and of the adapter beside it; see step.cpp."""

    _fields_ = [(name, Matrix) for name in ("qkv", "dense", "up", "down", "own_qkv", "own_dense", "swish")]
    _fields_ += [(f"norm{number}", Norm) for number in (1, 2, 3, 4)]
    _fields_ += [("gate", c_void_p), ("temporal", c_int32), ("unused", c_int32)]


class Model(Structure):
    _fields_ = [("layers", POINTER(Layer)), ("norm", Norm), ("head", Matrix)]
    _fields_ += [(name, c_int32) for name in ("count", "width", "heads", "inner")]
    _fields_ += [("eps", c_float), ("unused", c_int32)]


class Memory(Structure):
    """Keys and values of one layer and channel; see attention.h."""

    _fields_ = [("keys", c_void_p), ("values", c_void_p), ("slots", c_int64), ("half", c_int32), ("unused", c_int32)]


class Channel(Structure):
    """Slot, start and stop of every row, and the starts of all runs; see attention.h."""

    _fields_ = [(name, c_void_p) for name in ("slot", "start", "stop", "starts")]
    _fields_ += [("runs", c_int32), ("unused", c_int32)]


class Call(Structure):
    """One step; see step.cpp."""

    _fields_ = [("x", c_void_p), ("logits", c_void_p), ("channels", POINTER(Channel)), ("memories", POINTER(Memory))]
    _fields_ += [(name, c_void_p) for name in ("turn", "own_turn", "signal", "sequence", "pad")]
    _fields_ += [("text", c_int32), ("unseen", c_int32), ("bias", c_float), ("unused", c_int32)]
    _fields_ += [("rows", c_int32), ("texts", c_int32)]


ABI = 1_000_000 + sum(map(ctypes.sizeof, (Model, Layer, Call, Channel, Memory)))


class Library:
    """A build of step.cpp."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.calls = name, ctypes.CDLL(str(path))
        self.calls.packed_bytes.restype = c_int64
        self.block, self.arena = self.calls.block(), Arena()

    @property
    def runs(self) -> bool:
        """Whether it is a build of these sources, and this processor has what it uses."""
        return self.calls.abi() == ABI and bool(self.calls.supported())

    def step(self, model: Model, call: Call) -> None:
        """Some rows through all layers."""
        self.calls.step(ctypes.byref(model), ctypes.byref(call))


class Arena:
    """Zeros in large pages (which halves the time that reading takes), handed out piece by piece."""

    def __init__(self, chunk: int = CHUNK) -> None:
        self.chunk, self.left = chunk, torch.empty(0, dtype=torch.uint8)

    def take(self, size: int) -> Tensor:
        """So many bytes, uint8, aligned; the memory goes when all that was taken of its chunk has gone."""
        size = -(-size // ALIGNED) * ALIGNED
        if size > len(self.left):
            self.left = _mapped(max(size, self.chunk))
        taken, self.left = self.left.split([size, len(self.left) - size])
        return taken


def _mapped(size: int) -> Tensor:
    """Bytes that the system zeroes when they are first touched."""
    memory = mmap.mmap(-1, size + LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    whole = torch.frombuffer(memory, dtype=torch.uint8)
    return whole[-whole.data_ptr() % LARGE_PAGE :][:size]


@cache
def find(name: str) -> Library | None:
    """The build of this name, None where it was not compiled or cannot run."""
    for path in sorted(Path(__file__).parent.glob(f"_{name}.*")):
        if path.suffix in (".so", ".dylib"):
            try:
                library = Library(name, path)
            except (OSError, AttributeError):
                continue
            if library.runs:
                return library
    return None


def library() -> Library | None:
    """The build that is used.

    Raises:
        ConfigError: if COGSTYLE_NATIVE names one that is unknown, or is not there.
    """
    wanted = os.environ.get("COGSTYLE_NATIVE", "")
    require(wanted in ("", "off", *VARIANTS), f"COGSTYLE_NATIVE {wanted!r} must be off, {', '.join(VARIANTS)}")
    if wanted == "off":
        return None
    found = next(filter(None, map(find, [wanted] if wanted else VARIANTS)), None)
    require(not wanted or found is not None, f"COGSTYLE_NATIVE {wanted!r} was not compiled, or does not run here")
    return found


class PackedMatrix:
    """Weights [out, in] of one linear layer as the native step reads them."""

    def __init__(self, library: Library, weight: Tensor, bias: Tensor | None, *, kind: str) -> None:
        self.library, self.kind, (outputs, inputs) = library, kind, weight.shape
        calls, number, room = library.calls, KINDS[kind], -(-outputs // library.block) * library.block
        self.weights = library.arena.take(calls.packed_bytes(number, outputs, inputs))
        self.bias, self.scales = torch.zeros(room), torch.zeros(room)
        self.offsets = torch.zeros(room, dtype=torch.int32)
        if bias is not None:
            self.bias[:outputs] = bias
        weight = weight.float().contiguous()
        calls.pack(number, pointer(weight), outputs, inputs, *map(pointer, (self.weights, self.scales, self.offsets)))
        tensors = (self.weights, self.bias, self.scales, self.offsets)
        self.matrix = Matrix(*(tensor.data_ptr() for tensor in tensors), outputs, inputs, number, 0)

    def __call__(self, x: Tensor, *, gelu: bool = False) -> Tensor:
        """x W^T + bias of rows [..., in], in float32 inside; then GELU, if wanted."""
        rows = x.detach().float().reshape(-1, self.matrix.in_features).contiguous()
        y = torch.empty(len(rows), self.matrix.out_features)
        self.library.calls.linear(ctypes.byref(self.matrix), pointer(rows), len(rows), pointer(y), int(gelu))
        return y.view(*x.shape[:-1], -1).to(x.dtype)

    def dense(self) -> Tensor:
        """bfloat16 weights [out, in] as they are, for many rows at once."""
        outputs, inputs, block = self.matrix.out_features, self.matrix.in_features, self.library.block
        blocks = self.weights.view(torch.bfloat16).view(-1, -(-inputs // 2), block, 2)
        return blocks.transpose(1, 2).reshape(len(blocks) * block, -1)[:outputs, :inputs]


def pointer(tensor: Tensor) -> c_void_p:
    """Where a tensor's numbers lie."""
    return c_void_p(tensor.data_ptr())
