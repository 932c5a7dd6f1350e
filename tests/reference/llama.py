"""LlamaGen's image model with a temporal channel beside it, written out place by place in float64.

Written from the formulas alone (Llama block, rotary positions in the plane, captions as states); nothing of the
package's attention, layout or cache code is used.
"""

import torch
from torch import Tensor

from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from tests.reference.transformer import attention, gelu, sees_in_time, sees_temporal


def linear(layer, x):
    return x @ layer.weight.double().T


def rms(layer, x):
    return x / (x.square().mean(-1, keepdim=True) + layer.eps).sqrt() * layer.weight.double()


def turned(vector: Tensor, place: tuple[int, int] | None, base: float) -> Tensor:
    """A head's query or key at (row, column); None: it vanishes."""
    out = torch.zeros_like(vector)
    if place is None:
        return out
    quarter = len(vector) // 4
    for pair in range(2 * quarter):
        number, frequency = place[pair // quarter], base ** (-2 * (pair % quarter) / (2 * quarter))
        angle = torch.tensor(number * frequency, dtype=torch.double)
        x, y = vector[2 * pair], vector[2 * pair + 1]
        out[2 * pair], out[2 * pair + 1] = x * angle.cos() - y * angle.sin(), y * angle.cos() + x * angle.sin()
    return out


def logits(
    model: Transformer,
    states: Tensor,
    frames: list[list[int]],
    adapter: TemporalAdapter | None = None,
    kind: str = "image",
    *,
    rate: int = 0,
) -> Tensor:
    """Logits [F * L, V] of one sample; `states` [n, C] are the caption's alone, `frames` are in time order.

    Args:
        rate: number of the frame rate.
    """
    config, span = model.config, len(states) - 1
    rows, columns = config.grid
    length, base = rows * columns, config.rope_base
    caption = linear(model.caption.fc2, gelu(linear(model.caption.fc1, states.double())))
    x, places, inputs = list(caption[:-1]), [], []
    for time, frame in enumerate(frames):
        for j in range(length):
            x.append(caption[-1] if j == 0 else model.embed.weight[frame[j - 1]].double())
            places.append((time, j // columns, j % columns))
            inputs.append(None if j == 0 else ((j - 1) // columns, (j - 1) % columns))
    x = torch.stack(x)

    def channel(qkv, visible, where, queries):
        q, k, v = (part.unflatten(-1, (config.heads, -1)) for part in qkv.chunk(3, -1))
        out = []
        for i in queries:
            seen = [*range(span), *(span + p for p in range(len(places)) if i >= span and visible(i - span, p))]
            keys = [*range(i + 1)] if i < span else seen
            out.append(
                torch.cat(
                    [
                        attention(
                            turned(q[i, n], where(i), base),
                            [turned(k[j, n], where(j), base) for j in keys],
                            [v[j, n] for j in keys],
                        )
                        for n in range(config.heads)
                    ]
                )
            )
        return torch.stack(out)

    def own_frame(query, key):
        one, other = places[query], places[key]
        if kind == "interpolation" and one[0] % 2 == 0:
            return one[0] == other[0]
        return one[0] == other[0] and sees_in_time(one, other, "keyframes")

    for index, block in enumerate(model.layers):
        h = rms(block.norm1, x)
        spatial = channel(
            linear(block.qkv, h), own_frame, lambda i: None if i < span else inputs[i - span], range(len(x))
        )
        a = linear(block.dense, spatial)
        if adapter is not None:
            beside, window = adapter.layers[index], adapter.windows[index]
            sizes = (window.size, window.shift) if window else (0, 0)
            times = torch.tensor([place[0] for place in places])
            signal = adapter.times.weight.double()[times] + adapter.rates.weight.double()[rate]
            own = linear(beside.qkv, torch.cat([h[:span], h[span:] + signal]))
            temporal = channel(
                own,
                lambda q, k, s=sizes: sees_temporal(places[q], places[k], kind, *s),
                lambda i: None if i < span else inputs[i - span] or (0, 0),
                range(span, len(x)),
            )
            gate = beside.gate.double().sigmoid()
            a = torch.cat([a[:span], gate * a[span:] + (1 - gate) * linear(beside.dense, temporal)])
        x = x + a
        z = rms(block.norm2, x)
        g = linear(block.gate, z)
        x = x + linear(block.down, g * g.sigmoid() * linear(block.up, z))
    return linear(model.head, rms(model.norm, x[span:]))
