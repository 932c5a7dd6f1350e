"""The shape legend. Tensors carry their axes as a suffix: ``q_BNTH`` is [batch, heads, sequence, head width].

===  =========================================================
B    batch rows (with guidance: prompts x 2)
S    text tokens (left-padded)
F    frames
L    tokens of a frame
M    fine tokens of a frame (super-resolution)
T    sequence: S + F * L
N    heads
H    width of a head
D    width of the model
V    image vocabulary (ids that can be generated)
W    tokens of an attention window in one frame
C    pixel or feature channels; `height`, `width` are pixels
===  =========================================================
"""

from torch import Tensor

from cogstyle.errors import LayoutError


def expect_shape(tensor: Tensor, name: str, *shape: int | None) -> Tensor:
    """Return `tensor` if its shape is `shape` (None = any length), else raise.

    Raises:
        LayoutError: naming the tensor, its shape and the expected one.
    """
    fits = tensor.dim() == len(shape) and all(
        want is None or want == have for want, have in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("*" if want is None else str(want) for want in shape)
        raise LayoutError(f"{name} has shape {tuple(tensor.shape)}, expected ({wanted})")
    return tensor
