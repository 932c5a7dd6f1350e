"""Linear layers for sampling, where a handful of rows meets every weight: what counts is how fast weights are read.

`Linear` is nn.Linear with the product turned round for few rows, which a CPU computes faster. `PackedLinear` keeps
its weights in 8 or 16 bits, packed for the CPU by PyTorch's own kernels; rows stay float32.
"""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogstyle.config import require

FEW = 8  # rows up to which weight @ rows beats rows @ weight
STEPS = 63  # an 8-bit row runs from -63 to 63: AVX2 adds two products in 16 bits, which full 8 bits overflow
PACKED = ("int8", "float16")


class Linear(nn.Linear):
    """nn.Linear, faster for 2 to 8 rows on a CPU; its weight may be shared or trained as ever."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numel() // self.in_features
        if x.is_cuda or not 1 < rows <= FEW or torch.is_grad_enabled():
            return super().forward(x)
        return skinny(x, self.weight, self.bias)


def skinny(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias, written as (weight @ x.T + bias).T."""
    flat_DR = x.reshape(-1, x.shape[-1]).t()
    y_OR = weight @ flat_DR if bias is None else torch.addmm(bias[:, None], weight, flat_DR)
    return y_OR.t().contiguous().view(*x.shape[:-1], -1)


class PackedLinear(nn.Module):
    """A linear layer with packed weights, [out, in] in 8 bits (one scale an output) or float16.

    8 bits: a row is scaled by its own largest value, so what a row gives does not depend on the others.

    Raises:
        ConfigError: if this build of PyTorch has no packed kernels.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, kind: str) -> None:
        super().__init__()
        require(kind in PACKED, f"kind {kind!r} must be one of {', '.join(PACKED)}")
        engine = torch.backends.quantized.engine
        require(engine != "none", f"{kind} weights need PyTorch's quantized kernels, which this build lacks")
        self.kind, self.shape = kind, tuple(weight.shape)
        self.bias = None if bias is None else bias.float()
        weight = weight.float()
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
        ops = torch.ops.quantized
        if self.kind == "float16":
            y = ops.linear_dynamic_fp16(x, self.packed)
            return y if self.bias is None else y + self.bias
        largest = torch.linalg.vector_norm(x, float("inf"), -1, keepdim=True).clamp(min=1e-12)
        y = ops.linear_with_input_q_dq_qweight_dq_output_fp32(x / largest, 1 / STEPS, STEPS + 1, self.packed)
        return y * largest if self.bias is None else torch.addcmul(self.bias, y, largest)


def head(h: Tensor, weight: Tensor) -> Tensor:
    """h @ weight.T, quick for few rows on a CPU."""
    few = not h.is_cuda and 1 < h.numel() // h.shape[-1] <= FEW and not torch.is_grad_enabled()
    return skinny(h, weight) if few else F.linear(h, weight)


def pack(module: nn.Module, tensors: dict[str, Tensor], *, kind: str, prefix: str = "") -> None:
    """Put a PackedLinear in the place of every linear layer, its weights taken out of `tensors`."""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.Linear):
            weight, bias = tensors.pop(f"{path}.weight"), tensors.pop(f"{path}.bias", None)
            setattr(module, name, PackedLinear(weight, bias, kind=kind))
        else:
            pack(child, tensors, kind=kind, prefix=f"{path}.")
