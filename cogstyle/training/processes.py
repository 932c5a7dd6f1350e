"""The processes of a run: who they are, what they agree on, and what is said when one is lost."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from cogstyle.devices import find_device, launched
from cogstyle.errors import TrainingError

T = TypeVar("T")
PATIENCE = timedelta(minutes=30)  # longest wait for the gradients of other processes
PREPARING = timedelta(days=7)  # longest wait for the first process: it encodes the data
LOST = ("closed by peer", "reset by peer", "Broken pipe", "Timed out", "timeout", "Connection refused", "NCCL")


@dataclass(frozen=True)
class Processes:
    """This process among all of the run. Alone, every answer is its own."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009  (immutable)
    control: Any = None  # a group on the CPU, for a few figures a step

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """What every process gives, in the order of their ranks: the same list in each."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Whether a flag is set in any process, flag by flag."""
        return tuple(any(answers) for answers in zip(*self.gather(flags), strict=True))

    def wait(self) -> None:
        """Until every process is here."""
        self.gather(None)


@contextmanager
def join(device: str = "auto", *, group: bool = False) -> Iterator[Processes]:
    """Join the processes that torchrun or deepspeed started; alone when nothing did.

    Args:
        device: "cpu", "cuda" or "auto".
        group: make a process group even of one process (DeepSpeed wants one).

    Raises:
        ConfigError: if there is no GPU for this process.
        TrainingError: if another process is lost on the way.
    """
    (rank, size, local), where = launched(), find_device(device)
    if size == 1 and not group:
        yield Processes(device=where)
        return
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(local), "WORLD_SIZE": str(size)}  # DeepSpeed reads them
    if where.type == "cuda":
        torch.cuda.set_device(where)
    backend = "nccl" if where.type == "cuda" else "gloo"
    store = None if size > 1 else dist.HashStore()
    try:
        dist.init_process_group(backend, timeout=PATIENCE, store=store, rank=rank, world_size=size)
        yield Processes(rank, size, where, dist.new_group(backend="gloo", timeout=PREPARING))
    except ValueError as error:
        if "environment variable" not in str(error):
            raise
        raise TrainingError(f"process {rank} of {size} cannot find the others: {error}; use torchrun") from None
    except RuntimeError as error:
        if size > 1 and (isinstance(error, dist.DistError) or any(words in str(error) for words in LOST)):
            reason = re.sub(r"^\[.*?\] ", "", str(error).strip().splitlines()[-1].strip()).split(". ")[0]
            raise TrainingError(
                f"process {rank} of {size} lost another one ({reason}); its own message says why. "
                "Start the run again: it goes on from the last checkpoint"
            ) from None
        raise
    dist.destroy_process_group()
