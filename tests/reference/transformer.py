"""The dual-channel transformer written out place by place: slow, obvious, in float64.

Written from the formulas alone: visibility is decided by `sees` for every pair of places, attention by
plain sums. Nothing of the package's attention, layout or cache code is used.
"""

import math

import torch

from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer


def sees_temporal(query, key, kind, window, shift) -> bool:
    """`query` and `key` are (time, row, column)."""
    if window:

        def band(place):
            return (place[1] + shift) // window, (place[2] + shift) // window

        if band(query) != band(key):
            return False
    return sees_in_time(query, key, kind)


def sees_in_time(query, key, kind) -> bool:
    order_q, order_k = (query[1], query[2]), (key[1], key[2])
    if kind in ("image", "keyframes"):
        return key[0] < query[0] or (key[0] == query[0] and order_k <= order_q)
    given_q, given_k = query[0] % 2 == 0, key[0] % 2 == 0
    if given_k:
        return True
    if given_q:
        return False
    return key[0] < query[0] or (key[0] == query[0] and order_k <= order_q)


def attention(q, keys, values):
    scores = torch.stack([(q * k).sum() / math.sqrt(len(q)) for k in keys])
    return (scores.softmax(0)[:, None] * torch.stack(values)).sum(0)


def linear(layer, x):
    return x @ layer.weight.double().T + layer.bias.double()


def norm(layer, x):
    x = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, correction=0) + layer.eps)
    return x * layer.weight.double() + layer.bias.double()


def gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def logits(model: Transformer, text: list[int], frames: list[list[int]], adapter: TemporalAdapter | None, kind: str):
    """Logits [F * L, V] of one sample; `frames` in time order; `kind` is image, keyframes or interpolation."""
    config = model.config
    rows, columns = config.grid
    length, span = rows * columns, len(text)
    embed, positions = model.embed.weight.double(), model.positions.weight.double()
    x = [embed[token] + positions[i] for i, token in enumerate(text)]
    places = []
    for time, frame in enumerate(frames):
        for j in range(length):
            token = config.start_of_image if j == 0 else frame[j - 1]
            if time == 0:
                position = positions[config.text_positions + j]
            else:
                position = adapter.positions.weight.double()[(time - 1) * length + j]
            x.append(embed[token] + position)
            places.append((time, j // columns, j % columns))
    x = torch.stack(x)
    heads, width = config.heads, config.head_width
    for index, block in enumerate(model.layers):
        beside = adapter.layers[index] if adapter is not None else None
        own = adapter.windows[index] if adapter is not None else None
        window, shift = (own.size, own.shift) if own else (0, 0)
        h = norm(block.norm1, x)

        def channel(qkv, sees, h=h):
            q, k, v = linear(qkv, h).split(config.width, -1)
            out = torch.zeros_like(h)
            for i in range(len(h)):
                if i < span:
                    seen = list(range(span))
                else:
                    seen = list(range(span)) + [span + n for n, key in enumerate(places) if sees(places[i - span], key)]
                for head in range(heads):
                    cut = slice(head * width, (head + 1) * width)
                    out[i, cut] = attention(q[i, cut], [k[n, cut] for n in seen], [v[n, cut] for n in seen])
            return out

        def spatial_sees(query, key):
            return query[0] == key[0] and sees_in_time(query, key, kind)

        a = linear(block.dense, channel(block.qkv, spatial_sees))
        if beside is not None:

            def temporal_sees(query, key, window=window, shift=shift):
                return sees_temporal(query, key, kind, window, shift)

            t = linear(beside.dense, channel(beside.qkv, temporal_sees))
            gate = 1 / (1 + torch.exp(-beside.gate.double()))
            a = torch.cat([a[:span], gate * a[span:] + (1 - gate) * t[span:]])
        x = x + norm(block.norm3, a)
        x = x + norm(block.norm4, linear(block.down, gelu(linear(block.up, norm(block.norm2, x)))))
    return norm(model.norm, x)[span:] @ embed[: config.codes].T
