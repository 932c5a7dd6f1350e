"""Linear layers for sampling, where a handful of rows meets every weight: what counts is how fast weights are read.

`PackedLinear` keeps its weights packed for the CPU: for the native step where that was compiled, else by PyTorch's own
kernels, in 16 or 32 bits for oneDNN, or in 8 or 16 bits, with float32 rows, for FBGEMM.
"""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogstyle import native
from cogstyle.config import DTYPES, require

STEPS = 63  # an 8-bit row runs from -63 to 63: AVX2 adds two products in 16 bits, which full 8 bits overflow
ONEDNN = ("float32", "bfloat16")
MANY = 64  # rows from which oneDNN is quicker (where it has AMX) with bfloat16 weights that are unpacked first
ROWS = 16  # oneDNN packs for about so many rows; what it then chooses is as quick for 1 row as for 400


def packs(kind: str) -> bool:
    """Whether there are packed kernels for weights of a kind, ours or PyTorch's, and this CPU has what they need."""
    if kind in native.KINDS and native.library() is not None:
        return True
    if kind in ONEDNN:
        there = torch.backends.mkldnn.is_available()
        return there and (kind == "float32" or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.backends.quantized.engine != "none"


class PackedLinear(nn.Module):
    """A linear layer with packed weights, [out, in] in 8 bits (one scale an output), bfloat16, float16 or float32.

    8 bits: a row is scaled by its own largest value, so what a row gives does not depend on the others.
    Rows are float32, or bfloat16 where weights are.

    Raises:
        ConfigError: if this build of PyTorch has no packed kernels.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, kind: str) -> None:
        super().__init__()
        require(kind in DTYPES, f"kind {kind!r} must be one of {', '.join(DTYPES)}")
        require(packs(kind), f"{kind} weights need packed kernels, which this build of PyTorch or this CPU lacks")
        self.kind, self.shape = kind, tuple(weight.shape)
        self.native: native.PackedMatrix | None = None
        dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
        self.bias = None if bias is None else bias.to(dtype)
        weight, library = weight.to(dtype), native.library() if kind in native.KINDS else None
        if library is not None:
            self.native = native.PackedMatrix(library, weight, bias, kind=kind)
            if bias is not None and dtype is torch.float32:
                self.bias = self.native.bias[: len(bias)]  # one and the same
            return
        if kind in ONEDNN:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)
            return
        if kind == "float16":
            self.packed = torch.ops.quantized.linear_prepack_fp16(weight, None)
            return
        scales_O = (weight.abs().amax(1) / 127).clamp(min=1e-12)
        whole = (weight / scales_O[:, None]).round().to(torch.int8)
        zeros_O = torch.zeros(len(scales_O), dtype=torch.long)
        with warnings.catch_warnings():  # PyTorch means to move these kernels elsewhere
            warnings.simplefilter("ignore", UserWarning)
            quantized = torch._make_per_channel_quantized_tensor(whole, scales_O.double(), zeros_O, 0)
        self.packed = torch.ops.quantized.linear_prepack(quantized, None)

    def forward(self, x: Tensor) -> Tensor:
        if self.native is not None:
            return self._native(x)
        if self.kind in ONEDNN:
            return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        ops = torch.ops.quantized
        if self.kind == "float16":
            y = ops.linear_dynamic_fp16(x, self.packed)
            return y if self.bias is None else y + self.bias
        largest = x.abs().amax(-1, keepdim=True).clamp_(min=1e-12)
        y = ops.linear_with_input_q_dq_qweight_dq_output_fp32(x / largest, 1 / STEPS, STEPS + 1, self.packed)
        return y * largest if self.bias is None else torch.addcmul(self.bias, y, largest)

    def _native(self, x: Tensor, *, gelu: bool = False) -> Tensor:
        assert self.native is not None
        if self.kind == "bfloat16" and x.numel() > MANY * x.shape[-1]:
            y = F.linear(x.bfloat16(), self.native.dense(), self.bias).to(x.dtype)
            return F.gelu(y, approximate="tanh") if gelu else y
        return self.native(x, gelu=gelu)


def linear_gelu(layer: nn.Module, x: Tensor) -> Tensor:
    """gelu(layer(x)) as tanh approximates it; one kernel where oneDNN or the native step holds the weights."""
    if isinstance(layer, PackedLinear) and layer.native is not None:
        return layer._native(x, gelu=True)
    if isinstance(layer, PackedLinear) and layer.kind in ONEDNN:
        return torch.ops.mkldnn._linear_pointwise(x, layer.packed, layer.bias, "gelu", [], "tanh")
    return F.gelu(layer(x), approximate="tanh")


def pack(module: nn.Module, tensors: dict[str, Tensor], *, kind: str, prefix: str = "") -> None:
    """Put a PackedLinear in the place of every linear layer, its weights taken out of `tensors`.

    Raises:
        KeyError, RuntimeError: if a weight is missing or has another shape.
    """
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.Linear):
            weight, bias = tensors.pop(f"{path}.weight"), tensors.pop(f"{path}.bias", None)
            if weight.shape != child.weight.shape or (bias is None) != (child.bias is None):
                raise RuntimeError(f"{path} is {tuple(weight.shape)}, must be {tuple(child.weight.shape)}")
            setattr(module, name, PackedLinear(weight, bias, kind=kind))
        else:
            pack(child, tensors, kind=kind, prefix=f"{path}.")
