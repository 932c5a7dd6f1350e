"""The decode loop written the obvious way: one place after the other, one forward a text, caches that are concatenated.

Guidance is a second forward; every step compares its place with all cached ones through the masks of the layout and
computes logits over the whole vocabulary. Nothing of the package's channels, caches, plans or schedules is used.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cogstyle.layout import FrameLayout
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer


def linear(layer: torch.nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


class Naive:
    """One text and its caches: of each layer, keys and values of both channels for all places so far."""

    def __init__(self, model: Transformer, adapter: TemporalAdapter | None, text: list[int], layout: FrameLayout):
        self.model, self.adapter, self.text, self.layout = model, adapter, len(text), layout
        self.caches = [[None] * 4 for _ in model.layers]
        spatial = layout.spatial_visible()
        frame = torch.arange(layout.frames * layout.tokens) // layout.tokens
        self.spatial = (frame[:, None] == frame) & spatial.flatten(0, 1).repeat(1, layout.frames)
        windows = [] if adapter is None else adapter.windows
        self.temporal = [layout.temporal_visible(window) for window in windows]
        x = model.embed.weight[text] + model.positions.weight[: len(text)]
        self._layers(x[None], None)

    def _layers(self, x: Tensor, places: Tensor | None) -> Tensor:
        """Run rows [1, T, D] through all layers, adding their keys and values; places None are the text."""
        config, all_true = self.model.config, torch.ones(1, self.text, dtype=torch.bool)
        for index, block in enumerate(self.model.layers):
            h = block.norm1(x)
            outputs, cache = [], self.caches[index]
            beside = None if self.adapter is None else self.adapter.layers[index]
            for channel, part in enumerate([block] if beside is None else [block, beside]):
                q, k, v = (
                    y.unflatten(-1, (config.heads, -1)).transpose(1, 2) for y in linear(part.qkv, h).chunk(3, -1)
                )
                for which, new in ((2 * channel, k), (2 * channel + 1, v)):
                    cache[which] = new if cache[which] is None else torch.cat([cache[which], new], 2)
                keys, values = cache[2 * channel], cache[2 * channel + 1]
                mask = None
                if places is not None:
                    seen = self.spatial if channel == 0 else self.temporal[index]
                    images = seen[places][:, : keys.shape[2] - self.text]
                    mask = torch.cat([all_true.expand(len(places), -1), images], 1)
                context = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
                outputs.append(linear(part.dense, context.transpose(1, 2).flatten(2)))
            a = outputs[0]
            if beside is not None and places is not None:
                gate = beside.gate.sigmoid()
                a = gate * a + (1 - gate) * outputs[1]
            x = x + block.norm3(a)
            x = x + block.norm4(linear(block.down, F.gelu(linear(block.up, block.norm2(x)), approximate="tanh")))
        return self.model.norm(x)

    def feed(self, inputs: Tensor, places: Tensor) -> Tensor:
        """Input ids at places of the memory order -> logits over the image ids, [P, V]."""
        config, length = self.model.config, self.layout.tokens
        table = self.model.positions.weight[config.text_positions : config.text_positions + length]
        if self.adapter is not None:
            table = torch.cat([table, self.adapter.positions.weight])
        x = self.model.embed.weight[inputs] + table[self.layout.image_positions()[places]]
        h = self._layers(x[None], places)[0]
        return (h @ self.model.embed.weight.T)[:, : config.codes]


@torch.inference_mode()
def decode(
    model: Transformer,
    texts: list[list[int]],
    tokens_FL: Tensor,
    layout: FrameLayout,
    pick,
    *,
    adapter: TemporalAdapter | None = None,
    guidance: float = 1.0,
    steps: int | None = None,
    clock=lambda: None,
) -> Tensor:
    """Fill one video; `texts` is the prompt and, with guidance, the unconditional. `clock` runs before each step."""
    flat, known, length = tokens_FL.flatten().clone(), layout.known * layout.tokens, layout.tokens
    runs = [Naive(model, adapter, text, layout) for text in texts]

    def inputs(places: Tensor) -> Tensor:
        before = flat[(places - 1).clamp(min=0)]
        return before.masked_fill(places % length == 0, model.config.start_of_image)

    if known:
        places = torch.arange(known)
        for run in runs:
            run.feed(inputs(places), places)
    for place in range(known, known + steps if steps is not None else len(flat)):
        clock()
        at = torch.tensor([place])
        logits = [run.feed(inputs(at), at) for run in runs]
        if guidance != 1.0:
            logits = [logits[1] + guidance * (logits[0] - logits[1])]
        flat[place] = pick(logits[0][None], at)[0, 0]
    clock()
    return flat.view_as(tokens_FL)
