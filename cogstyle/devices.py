"""What the machine offers: devices, memory, threads, and which of several processes this is."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from cogstyle.config import ModelConfig, require
from cogstyle.errors import ConfigError

FEW_WEIGHTS = 2_000_000  # of a layer: below, a second thread costs more than it computes


class Launched(NamedTuple):
    """This process among those that torchrun or deepspeed started."""

    rank: int = 0
    size: int = 1
    local: int = 0  # its number on this machine


def launched() -> Launched:
    """What the launcher left in the environment; alone without one.

    Raises:
        ConfigError: if that is no number, or the numbers contradict each other.
    """
    rank, size, local = _number("RANK", 0), _number("WORLD_SIZE", 1), _number("LOCAL_RANK", 0)
    require(rank < size, f"the environment's RANK {rank} must be below its WORLD_SIZE {size}")
    return Launched(rank, size, local)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    require(text.isdecimal() and text.isascii() and len(text) < 9, f"the environment's {name} is {text!r}: no number")
    return int(text)


def find_device(name: str) -> torch.device:
    """The torch device of that name: "cpu", "cuda:1", ...; "auto" takes a GPU where there is one.

    Of several processes that a launcher started, each takes a GPU of its own for "cuda" and "auto".

    Raises:
        ConfigError: if it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        local, count = launched().local, torch.cuda.device_count()
        require(local < count, f"device 'cuda': process {local} of this machine has no GPU: there are {count}")
        return torch.device("cuda", local)
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()  # "meta" has no numbers
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} is not available: {str(error).splitlines()[0]}") from None
    return device


_computing, _own = threading.Lock(), threading.local()
_inside, _outside = 0, 1  # how many blocks of `computing_threads` there are; threads before the first of them


@contextmanager
def computing_threads(count: int) -> Iterator[None]:
    """A block that computes on the CPU with so many threads; what there was before comes back with its end.

    Blocks may lie in each other, and run side by side in Python threads.
    """
    global _inside, _outside
    nested = getattr(_own, "nested", 0)
    with _computing:
        _outside = _outside if _inside else torch.get_num_threads()
        before = torch.get_num_threads() if nested else _outside  # a new thread begins with what another one set
        _inside, _own.nested = _inside + 1, nested + 1
        torch.set_num_threads(count)
    try:
        yield
    finally:
        with _computing:
            _inside, _own.nested = _inside - 1, nested
            torch.set_num_threads(before)


def free_memory(device: torch.device) -> int:
    """Bytes that a device has free."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def choose_threads(config: ModelConfig, *, packed: str | None) -> int:
    """Threads for decoding on the CPU: one where steps are short, else what PyTorch would take.

    OMP_NUM_THREADS, if set, is kept.
    """
    layer = (4 + 4 + 2 * config.mlp_ratio) * config.width**2  # both channels and the MLP
    short = packed in ("float16", "int8") or layer < FEW_WEIGHTS
    return 1 if short and "OMP_NUM_THREADS" not in os.environ else torch.get_num_threads()
