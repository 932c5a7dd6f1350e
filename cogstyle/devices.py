"""What the machine offers: devices, memory, threads, and which of several processes this is."""

import os

import torch

from cogstyle.config import ModelConfig
from cogstyle.errors import ConfigError

FEW_WEIGHTS = 2_000_000  # of a layer: below, a second thread costs more than it computes


def find_device(name: str) -> torch.device:
    """The torch device of that name.

    Raises:
        ConfigError: if it is not there.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} is not available: {str(error).splitlines()[0]}") from None
    return device


def free_memory(device: torch.device) -> int:
    """Bytes that a device has free."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def rank_and_world() -> tuple[int, int]:
    """Which process this is, of how many, as torchrun says it; (0, 1) without."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def own_device(name: str) -> str:
    """`name`, or under torchrun, for "cuda", the GPU of this process."""
    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if name == "cuda" and local is not None else name


def choose_threads(config: ModelConfig, *, packed: str | None) -> int:
    """Threads for decoding on the CPU: one where steps are short, else what PyTorch would take.

    OMP_NUM_THREADS, if set, is kept.
    """
    layer = (4 + 4 + 2 * config.mlp_ratio) * config.width**2  # both channels and the MLP
    short = packed in ("float16", "int8") or layer < FEW_WEIGHTS
    return 1 if short and "OMP_NUM_THREADS" not in os.environ else torch.get_num_threads()
