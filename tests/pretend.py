"""A pretended GPU: its tensors lie in the memory of the CPU, say that they do not, and refuse to meet those of the CPU.

It computes what the CPU computes, slowly. What it shows is whether the code brings every tensor to the device it is
asked to compute on, where there is no GPU to try it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from cogstyle.sampling import static_step

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
aten = torch.ops.aten
CARRIES = {aten._to_copy.default, aten.copy_.default}  # from one device to another
INDEXES = {aten.index.Tensor, aten.index_put_.default}  # take places from the CPU


class OnGPU(Tensor):
    """A tensor that says it is on the GPU; `host` has the numbers."""

    host: Tensor

    @staticmethod
    def __new__(cls, host: Tensor) -> "OnGPU":
        with torch.inference_mode(False):
            made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls,
                host.shape,
                strides=host.stride(),
                storage_offset=host.storage_offset(),
                dtype=host.dtype,
                device="meta",  # for torch: a CPU build knows no other that has no numbers
            )
        made.host = host
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        return False

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["host"], None

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.tolist:
            return args[0].host.tolist()
        if func == Tensor.data.__get__:  # type: ignore[attr-defined]
            return OnGPU(args[0].host)
        if func == Tensor.data.__set__:  # type: ignore[attr-defined]
            if not isinstance(args[1], OnGPU):  # back to the CPU
                return torch.utils.swap_tensors(args[0], nn.Parameter(args[1], args[0].requires_grad))
            args[0].host = args[1].host
        return torch._C._disabled_torch_function_impl(func, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Call an operation with the numbers, and put what it makes where the device would have it.

    Raises:
        RuntimeError: if it brings together tensors of the GPU and of the CPU. Single numbers may come from anywhere.
    """
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    there = [value for value in tensors if isinstance(value, OnGPU)]
    here = [value for value in tensors if not isinstance(value, OnGPU) and value.dim() > 0]
    if there and here and func not in CARRIES and not (func in INDEXES and isinstance(args[0], OnGPU)):
        shapes = [[tuple(value.shape) for value in part] for part in (there, here)]
        raise RuntimeError(f"{func} meets tensors {shapes[0]} of the GPU and {shapes[1]} of the CPU")
    gpu = bool(there)
    if kwargs.get("device") is not None:
        derived = torch._C._current_graph_task_id() >= 0  # in formulas for gradients "meta" is the GPU
        gpu = torch.device(kwargs["device"]).type in ("cuda", "meta" if derived else "")
        kwargs = kwargs | {"device": torch.device("cpu") if gpu else kwargs["device"]}
    args, kwargs = tree_map(lambda value: value.host if isinstance(value, OnGPU) else value, (args, kwargs))
    known = {id(value.host if isinstance(value, OnGPU) else value): value for value in tensors}  # changed in place

    def place(value: Any) -> Any:
        if id(value) in known or not isinstance(value, Tensor):
            return known.get(id(value), value)
        return OnGPU(value) if gpu else value

    return tree_map(place, func(*args, **kwargs))


class Operations(TorchDispatchMode):
    """Also those of which no tensor is on the GPU yet."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_inference_mode_enabled():  # hands over operations that are made of others as they are
            with self:
                made = func.decompose(*args, **(kwargs or {}))
            if made is not NotImplemented:
                return made
        return compute(func, args, kwargs or {})


class Names(TorchFunctionMode):
    """ "cuda" is "cuda:0": torch would ask a driver. `torch.tensor` would never come to `Operations`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def number(value: Any) -> Any:
            named = isinstance(value, (str, torch.device)) and str(value) in ("cuda", "cuda:0")
            return GPU if named else value

        kwargs = {name: number(value) for name, value in (kwargs or {}).items()}
        if func is Tensor.__setitem__ and isinstance(args[0], OnGPU) and not isinstance(args[2], Tensor):
            args = (*args[:2], torch.tensor(args[2], dtype=args[0].dtype))  # torch would make one without numbers
        if func is Tensor.to:
            args = tuple(number(value) for value in args)
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == GPU:
            return func(*args, **(kwargs | {"device": "cpu"})).to(GPU)
        return func(*args, **kwargs)


class Recording(TorchDispatchMode):
    """A pretended CUDA graph: `replay` repeats the operations of its block on the same tensors, and nothing else.

    Whatever the host decided meanwhile, a shape or a number, stays as it was.
    """

    def __enter__(self) -> "Recording":
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        return super().__enter__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, made))
        return made

    def replay(self) -> None:
        for func, args, kwargs, made in self.calls:
            for old, new in zip(tree_leaves(made), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():  # neither a view nor changed in place
                    old.copy_(new)


def recorded(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """`static_step.captured` of a pretended graph."""
    step()
    with Recording() as graph:
        step()
    return graph.replay


class Waits(TorchDispatchMode):
    """Notes `where()` the host waits for a device: it looks at a number, or needs one to know a shape."""

    LOOKS = ("item", "is_nonzero", "_local_scalar_dense", "nonzero", "equal", "masked_select", "unique", "allclose")

    def __init__(self, where: Callable[[], object]) -> None:
        super().__init__()
        self.where, self.found = where, list[tuple[object, str]]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        indices = args[1] if func in INDEXES else ()
        by_mask = any(one is not None and one.dtype is torch.bool for one in indices)
        if name in self.LOOKS or name.startswith("_unique") or by_mask:
            self.found.append((self.where(), name))
        return func(*args, **(kwargs or {}))


class Lists(TorchFunctionMode):
    """The same for what comes to no operation."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.to) or func is torch.tensor:
            self.waits.found.append((self.waits.where(), func.__name__))
        return func(*args, **(kwargs or {}))


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """A block in which "cuda" is there."""
    said = {
        "_lazy_init": None,
        "is_available": True,
        "device_count": 1,
        "set_device": None,
        "synchronize": None,
        "mem_get_info": (2**36, 2**36),
        "max_memory_allocated": 2**30,
    }
    swap = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with ExitStack() as stack:
            for name, value in said.items():
                stack.enter_context(patch.object(torch.cuda, name, lambda *_, value=value: value))
            plain = static_step.captured
            stack.enter_context(patch.object(static_step, "captured", lambda step, device: plain(step, CPU)))
            stack.enter_context(Operations())
            stack.enter_context(Names())
            yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swap)
