"""Super-resolution of frames: coarse tokens -> fine tokens, one forward pass for as many frames as memory allows.

Frames of a video are upscaled side by side and do not see each other. What keeps a still background still is
that equal surroundings lead to equal tokens: greedy drawing (top_k = 1) has no chance in it at all, and when
tokens are drawn, a place takes the same random numbers in every frame that shares a stream.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from cogstyle.config import SamplingConfig, require
from cogstyle.errors import SamplingError
from cogstyle.model.superres import SuperResolution
from cogstyle.model.transformer import Transformer
from cogstyle.sampling.logits import sample

BUDGET = 2 * 10**9  # bytes that one pass may take beside the weights
CPU_FRAMES = 4  # of one pass on a CPU: more leave its caches (shapes, 33 frames: 118 ms each, not 74)
DRAW_BYTES = 40  # of a logit while its token is drawn: float copies, cumulative sums in double precision


def frame_bytes(upscaler: SuperResolution, text: int, itemsize: int) -> int:
    """Bytes that one frame takes beside the weights, at the largest moment of a layer.

    Largest is either the MLP (residual, its norm and the inner layer twice, for each row) or the local attention:
    for each fine row query, key, value and context, keys and values copied for every tile, and a score a head
    and key. So it grows with the places, not with their square.

    Args:
        text: text tokens S.
        itemsize: bytes of a number.
    """
    config, fine = upscaler.config, upscaler.positions.num_embeddings
    rows, queries = text + config.tokens + fine, upscaler.factor**2 * upscaler.tile[0] * upscaler.tile[1]
    mlp = rows * (3 + 2 * config.mlp_ratio) * config.width
    copied = 3 * upscaler.keys * config.width // queries  # keys, values, and the parts that they are joined from
    attention = 2 * rows * config.width + fine * (8 * config.width + copied + config.heads * upscaler.keys)
    return itemsize * max(mlp, attention)


def frames_of_a_pass(upscaler: SuperResolution, text: int, budget: int) -> int:
    """How many frames with `text` text tokens one forward pass takes.

    Raises:
        ConfigError: if the budget is too small for one.
    """
    weight = upscaler.positions.weight
    need = frame_bytes(upscaler, text, weight.element_size())
    require(need <= budget, f"one frame takes {need / 1e6:.1f} MB, the budget is {budget / 1e6:.1f} MB")
    return min(budget // need, CPU_FRAMES) if weight.device.type == "cpu" else budget // need


@torch.inference_mode()
def upscale(
    base: Transformer,
    upscaler: SuperResolution,
    texts_BS: Tensor,
    coarse_BL: Tensor,
    seeds: Sequence[tuple[int, ...]],
    config: SamplingConfig,
    labels_V: Tensor | None = None,
    *,
    budget: int = BUDGET,
) -> Iterator[Tensor]:
    """Fine tokens of B frames in order, [.., M] a pass; neither the batch nor the budget changes one of them.

    Args:
        texts_BS: left-padded text ids, a row a frame.
        seeds: names the random stream of each frame; frames of equal seeds share the numbers of every place.
        budget: bytes that a pass may take beside the weights; see `frame_bytes`.

    Raises:
        ConfigError: if the budget is too small for one frame.
    """
    require(len(seeds) == len(coarse_BL), f"{len(seeds)} seeds for {len(coarse_BL)} frames; give one a frame")
    together = frames_of_a_pass(upscaler, texts_BS.shape[1], budget)
    fine = upscaler.positions.num_embeddings
    uniforms_M2 = {seed: torch.from_numpy(np.random.default_rng(seed).random((fine, 2))) for seed in set(seeds)}
    places = max(1, budget // (DRAW_BYTES * base.config.codes))
    for first in range(0, len(coarse_BL), together):
        now = slice(first, first + together)
        h_PD = upscaler(base, texts_BS[now], coarse_BL[now]).flatten(0, 1)
        uniforms_P2 = torch.cat([uniforms_M2[seed] for seed in seeds[now]]).to(h_PD.device)
        try:
            drawn = [
                sample(base.logits(h), uniforms, config, labels_V)
                for h, uniforms in zip(h_PD.split(places), uniforms_P2.split(places), strict=True)
            ]
        except SamplingError as error:
            raise SamplingError(f"superres: {error}; are the weights whole?") from None
        yield torch.cat(drawn).view(-1, fine)
