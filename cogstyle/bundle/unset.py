"""Modules that are made to be filled."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Unset(TorchFunctionMode):
    """Make modules without initial values: drawing them on "meta" would import for a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))
