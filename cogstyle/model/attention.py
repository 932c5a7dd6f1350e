"""Attention of one channel over a whole sequence: training and prefill. Steps of sampling: `fast_path.py`.

A channel is called as ``channel(layer, q_BTNH, k_BTNH, v_BTNH) -> context_BTNH``. Text rows come first.
Which keys a row sees is prepared once a forward pass, not once a layer.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from cogstyle.layout import FrameLayout, Window, window_order
from cogstyle.model.cache import KeyValues
from cogstyle.model.llama import rotate

RELAX = 16.0  # PB-relax: scores are divided by this before the maximum is taken off


class Channel(Protocol):
    """How queries of one layer meet keys and values."""

    def __call__(self, layer: int, q_BTNH: Tensor, k_BTNH: Tensor, v_BTNH: Tensor) -> Tensor: ...


def attend(q_BNQH: Tensor, k_BNKH: Tensor, v_BNKH: Tensor, bias: Tensor, *, pb_relax: bool = False) -> Tensor:
    """softmax(q k / sqrt(H) + bias) v; `bias` broadcasts to [B, N, Q, K] and is -inf where a key is hidden.

    `pb_relax` computes the same in an order that half precision survives (CogView, arXiv 2105.13290).
    """
    bias = bias.to(q_BNQH.dtype)
    if not pb_relax:
        if q_BNQH.device.type == "cpu" and q_BNQH.dtype is torch.bfloat16:
            return _attend_in_products(q_BNQH, k_BNKH, v_BNKH, bias)
        return F.scaled_dot_product_attention(q_BNQH, k_BNKH, v_BNKH, attn_mask=bias)
    scores = (q_BNQH / (RELAX * q_BNQH.shape[-1] ** 0.5)) @ k_BNKH.transpose(-1, -2)
    largest = scores.masked_fill(bias == -torch.inf, -torch.inf).amax((-1, -2), keepdim=True).detach()
    return ((scores - largest) * RELAX + bias).softmax(-1) @ v_BNKH


def _attend_in_products(q_BNQH: Tensor, k_BNKH: Tensor, v_BNKH: Tensor, bias: Tensor) -> Tensor:
    """`attend` by batched products: in bfloat16 on a CPU two to four times as fast as the other way, with gradients."""
    batch_heads = q_BNQH.shape[:2]
    q, k, v = (x.flatten(0, 1) for x in (q_BNQH * q_BNQH.shape[-1] ** -0.5, k_BNKH, v_BNKH))
    scores = torch.baddbmm(bias.expand(*batch_heads, q.shape[1], k.shape[1]).flatten(0, 1), q, k.transpose(1, 2))
    return (scores.softmax(-1) @ v).unflatten(0, batch_heads)


def hidden(visible: Tensor) -> Tensor:
    """bool -> additive bias: 0 where visible, -inf where not."""
    return torch.zeros(visible.shape, device=visible.device).masked_fill(~visible, -torch.inf)


def text_bias(valid_BS: Tensor, bias: float = 0.0) -> Tensor:
    """[B, 1, 1, S]: -inf at padding, `bias` (the text-attention bias) at text."""
    return (hidden(valid_BS) + bias)[:, None, None]


class BlockChannel:
    """A whole sequence at once: image places in groups that see only themselves and the text.

    Spatial: one group a frame. Temporal: one group (full attention) or one a window.
    With `memory`, keys and values are kept there for later steps. With `rotary` image places are turned to where they
    stand, text queries and keys vanish, and text is read from left to right.
    """

    def __init__(
        self,
        text_B11S: Tensor,
        visible_GQQ: Tensor,
        *,
        order_P: Tensor | None = None,
        memory: KeyValues | None = None,
        keep_images: bool = True,
        pb_relax: bool = False,
        rotary: Tensor | None = None,
    ) -> None:
        groups, size, _ = visible_GQQ.shape
        batch, text = text_B11S.shape[0], text_B11S.shape[-1]
        self.text, self.groups, self.order_P, self.pb_relax = text, groups, order_P, pb_relax
        self.back_P = None if order_P is None else order_P.argsort()
        self.memory, self.keep_images = memory, keep_images
        self.text_bias, self.rotary = text_B11S, rotary
        if rotary is not None:
            self.rotary = F.pad(rotary, (0, 0, 0, 0, text, 0))[:, None]
            own_SS = torch.eye(text, device=text_B11S.device).bool()
            self.text_bias = (text_B11S + hidden(torch.ones_like(own_SS).tril())).masked_fill(own_SS, 0.0)
        images = hidden(visible_GQQ).expand(batch, -1, -1, -1)
        texts = text_B11S.expand(batch, groups, size, text)
        self.bias = torch.cat([texts, images], -1).flatten(0, 1)[:, None]

    def _grouped(self, x_BNPH: Tensor) -> Tensor:
        """[B, N, P, H] -> [B * groups, N, P / groups, H]."""
        if self.order_P is not None:
            x_BNPH = x_BNPH.index_select(2, self.order_P)
        return x_BNPH.unflatten(2, (self.groups, -1)).transpose(1, 2).flatten(0, 1)

    def __call__(self, layer: int, q_BTNH: Tensor, k_BTNH: Tensor, v_BTNH: Tensor) -> Tensor:
        if self.rotary is not None:
            q_BTNH, k_BTNH = rotate(q_BTNH, self.rotary[-q_BTNH.shape[1] :]), rotate(k_BTNH, self.rotary)
        q, k, v = (x.transpose(1, 2) for x in (q_BTNH, k_BTNH, v_BTNH))
        if self.memory is not None:
            self.memory.write_text(layer, k[:, :, : self.text], v[:, :, : self.text])
            if self.keep_images:
                self.memory.write_images(layer, k[:, :, self.text :], v[:, :, self.text :])
        rows = []
        if q.shape[2] == k.shape[2]:  # text rows see text only; the temporal channel has none
            rows.append(attend(q[:, :, : self.text], k[:, :, : self.text], v[:, :, : self.text], self.text_bias))
            q = q[:, :, self.text :]

        if not q.shape[2]:
            return rows[0].transpose(1, 2)

        def with_text(x_BNTH: Tensor) -> Tensor:
            text = x_BNTH[:, :, : self.text].repeat_interleave(self.groups, 0)
            return torch.cat([text, self._grouped(x_BNTH[:, :, self.text :])], 2)

        context = attend(self._grouped(q), with_text(k), with_text(v), self.bias, pb_relax=self.pb_relax)
        context = context.unflatten(0, (-1, self.groups)).transpose(1, 2).flatten(2, 3)
        rows.append(context if self.back_P is None else context.index_select(2, self.back_P))
        return torch.cat(rows, 2).transpose(1, 2)


def spatial_blocks(
    layout: FrameLayout,
    valid_BS: Tensor,
    *,
    bias: float = 0.0,
    memory: KeyValues | None = None,
    rotary: Tensor | None = None,
) -> BlockChannel:
    """Own frame + text."""
    visible = layout.spatial_visible().to(valid_BS.device)
    return BlockChannel(text_bias(valid_BS, bias), visible, memory=memory, keep_images=False, rotary=rotary)


def temporal_blocks(
    layout: FrameLayout,
    valid_BS: Tensor,
    *,
    window: Window | None = None,
    bias: float = 0.0,
    memory: KeyValues | None = None,
    pb_relax: bool = False,
    rotary: Tensor | None = None,
) -> BlockChannel:
    """All frames + text, in full or inside windows of the grid."""
    visible_PP = layout.temporal_visible(window).to(valid_BS.device)
    text = text_bias(valid_BS, bias)
    if window is None:
        return BlockChannel(text, visible_PP[None], memory=memory, pb_relax=pb_relax, rotary=rotary)
    places = window_order(layout.grid, window)[:, None] + torch.arange(layout.frames)[:, None] * layout.tokens
    order_GQ = places.flatten(1).to(valid_BS.device)
    visible_GQQ = visible_PP[order_GQ[:, :, None], order_GQ[:, None, :]]
    order_P = order_GQ.flatten()
    return BlockChannel(text, visible_GQQ, order_P=order_P, memory=memory, pb_relax=pb_relax, rotary=rotary)
