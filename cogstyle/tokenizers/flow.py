"""A flow-matching decoder: tokens of a whole clip -> pixels, frames knowing one another.

The frames of a clip are patches beside their codes. The network predicts the clean patch, from a noisy one, what the
plain decoder makes of the code, and the code's vector; noise -> pixels is then an ordinary differential equation, or
one step. Sources: flow matching (arXiv 2210.02747), x-prediction (arXiv 2511.13720), adaLN-zero (arXiv 2212.09748).

Axes: B clips, F frames, L places of a frame, C = 3 rate^2 values of a patch, E width of a code, D width, H of a head.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogstyle.config import FlowConfig, TokenizerConfig
from cogstyle.tokenizers.vqvae import VQVAE, to_uint8

LEAST_TIME = 0.05  # below it noise is divided by no less: v = (x_t - x) / max(t, LEAST_TIME)
FREQUENCIES = 32  # of the embeddings of time and frame rate
STAGE = 4  # first number of the noise's random streams; the stages of sampling have 0 to 3
CHUNK, OVERLAP = 33, 4  # frames that are decoded at once, and those that two chunks share


class FlowDecoder(nn.Module):
    """x_t, t and the condition -> the clean patches."""

    def __init__(self, config: FlowConfig, tokenizer: TokenizerConfig) -> None:
        super().__init__()
        self.config, values = config, 3 * tokenizer.rate**2
        self.enter = nn.Linear(2 * values + tokenizer.code_width, config.width)
        self.times = nn.Sequential(
            nn.Linear(4 * FREQUENCIES, config.width), nn.SiLU(), nn.Linear(config.width, config.width), nn.SiLU()
        )
        self.blocks = nn.ModuleList(FlowBlock(config) for _ in range(config.layers))
        self.modulate = nn.Linear(config.width, 2 * config.width)
        self.leave = nn.Linear(config.width, values)
        for layer in (self.modulate, self.leave):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x_BFLC: Tensor, t_B: Tensor, condition: "Condition") -> Tensor:
        """Clean patches [B, F, L, C]; before any training they are the plain decoder's."""
        h_BFLD = self.enter(torch.cat([x_BFLC, condition.plain_BFLC, condition.codes_BFLE], -1))
        c_BD = self.times(torch.cat([waves(t_B), waves(condition.rate_B.log2() / 16)], -1))
        frames, turns = h_BFLD.shape[1], condition.turns
        time_F = torch.arange(frames, device=h_BFLD.device)
        head = self.config.width // self.config.heads
        turns_F = rotations(time_F, head)
        for block in self.blocks:
            h_BFLD = block(h_BFLD, c_BD, turns(head), turns_F)
        shift, scale = self.modulate(c_BD)[:, None, None].chunk(2, -1)
        h_BFLD = normed(h_BFLD) * (1 + scale) + shift
        return condition.plain_BFLC + self.leave(h_BFLD)


class FlowBlock(nn.Module):
    """Attention inside each frame, attention over the frames at each place, two layers at each place."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.space, self.time = nn.Linear(width, 3 * width), nn.Linear(width, 3 * width)
        self.space_out, self.time_out = nn.Linear(width, width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.modulate = nn.Linear(width, 9 * width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, h_BFLD: Tensor, c_BD: Tensor, turns_L: Tensor, turns_F: Tensor) -> Tensor:
        parts = self.modulate(c_BD)[:, None, None].chunk(9, -1)
        h_BFLD = h_BFLD + parts[2] * self.space_out(self._attend(self.space, h_BFLD, parts, 0, turns_L))
        across_BLFD = self._attend(self.time, h_BFLD.transpose(1, 2), parts, 3, turns_F)
        h_BFLD = h_BFLD + parts[5] * self.time_out(across_BLFD).transpose(1, 2)
        x_BFLD = normed(h_BFLD) * (1 + parts[7]) + parts[6]
        return h_BFLD + parts[8] * self.down(F.gelu(self.up(x_BFLD), approximate="tanh"))

    def _attend(self, qkv: nn.Module, h_BGPD: Tensor, parts: Sequence[Tensor], first: int, turns_P: Tensor) -> Tensor:
        """Attention among the P places of each of G groups."""
        x_BGPD = normed(h_BGPD) * (1 + parts[first + 1]) + parts[first]
        q, k, v = qkv(x_BGPD).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5).flatten(1, 2)
        context = F.scaled_dot_product_attention(turn(q, turns_P), turn(k, turns_P), v)
        return context.transpose(1, 2).flatten(2).unflatten(0, h_BGPD.shape[:2])


class Condition:
    """What the decoder knows of a clip beside noise.

    Args:
        ids_BFL: its tokens.
        rate_B: frames a second.
        places: along a row of a frame; default: a square grid.
    """

    def __init__(self, vqvae: VQVAE, ids_BFL: Tensor, rate_B: Tensor, *, places: int | None = None) -> None:
        batch, frames, length = ids_BFL.shape
        self.rate_B, self.places = rate_B, places or round(length**0.5)
        self.patch = vqvae.config.rate
        pixels = vqvae.pixels(ids_BFL.flatten(0, 1), width=self.places)
        self.plain_BFLC = self.patches(pixels.unflatten(0, (batch, frames)))
        self.codes_BFLE = F.embedding(ids_BFL, vqvae.codebook.vectors)

    def patches(self, pixels_BFCHW: Tensor) -> Tensor:
        """Pixels [B, F, 3, height, width] -> the patches beside the codes [B, F, L, C]."""
        return F.pixel_unshuffle(pixels_BFCHW, self.patch).flatten(3).transpose(2, 3)

    def pixels(self, patches_BFLC: Tensor) -> Tensor:
        """The way back."""
        grid = patches_BFLC.transpose(2, 3).unflatten(3, (-1, self.places))
        return F.pixel_shuffle(grid, self.patch)

    def turns(self, head: int) -> Tensor:
        """Rotations of the places of a frame: half of a head turns by row, half by column."""
        length = self.plain_BFLC.shape[2]
        place_L = torch.arange(length, device=self.plain_BFLC.device)
        return torch.cat([rotations(place_L // self.places, head // 2), rotations(place_L % self.places, head // 2)], 1)


def normed(x: Tensor) -> Tensor:
    """LayerNorm without weights: what comes next has its own."""
    return F.layer_norm(x, x.shape[-1:])


def waves(x_B: Tensor) -> Tensor:
    """Sines and cosines of a number about -1..1, [B, 2 * FREQUENCIES]."""
    angles = 2 * math.pi * x_B.float()[:, None] * torch.logspace(-1, 2, FREQUENCIES, base=2, device=x_B.device)
    return torch.cat([angles.sin(), angles.cos()], -1)


def rotations(places_P: Tensor, head: int) -> Tensor:
    """Angles [P, head / 2] by which rotary positions turn pairs of a head (arXiv 2104.09864)."""
    return places_P[:, None] * 100.0 ** (-torch.arange(head // 2, device=places_P.device) / (head // 2))


def turn(x_XNPH: Tensor, angles_PK: Tensor) -> Tensor:
    """Turn the pairs of every head."""
    cos, sin = angles_PK.cos().to(x_XNPH.dtype), angles_PK.sin().to(x_XNPH.dtype)
    a, b = x_XNPH.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


@torch.inference_mode()
def decode_clip(
    flow: FlowDecoder,
    vqvae: VQVAE,
    ids_FL: Tensor,
    *,
    rate: float,
    seed: int,
    steps: int = 1,
    places: int | None = None,
) -> Tensor:
    """Tokens of one video [F, L] -> uint8 frames [F, 3, height, width].

    Euler steps from noise to pixels. The noise of a frame belongs to (seed, its place in the video), so it depends
    on nothing that is decoded beside it; chunks of a long video share OVERLAP frames and fade into each other.

    Args:
        rate: frames a second.
        steps: 1 gives the mean of what the codes may stand for.
    """
    shown: list[Tensor] = []
    for start in range(0, max(1, len(ids_FL) - OVERLAP), CHUNK - OVERLAP):
        chunk_FL = ids_FL[start : start + CHUNK]
        condition = Condition(vqvae, chunk_FL[None], torch.tensor([rate], device=ids_FL.device), places=places)
        noise = [frame_noise(condition.plain_BFLC.shape[2:], seed, start + k) for k in range(len(chunk_FL))]
        made = list(condition.pixels(integrate(flow, torch.stack(noise)[None].to(ids_FL.device), condition, steps))[0])
        for k in range(OVERLAP if start else 0):
            share = (k + 1) / (OVERLAP + 1)
            shown[start + k] = shown[start + k].lerp(made[k], share)
        shown += made[OVERLAP if start else 0 :]
    return to_uint8(torch.stack(shown))


def frame_noise(shape: Sequence[int], seed: int, frame: int) -> Tensor:
    """The noise of a frame of a video."""
    return torch.from_numpy(np.random.default_rng((STAGE, seed, frame)).standard_normal(tuple(shape), np.float32))


def integrate(flow: FlowDecoder, x_BFLC: Tensor, condition: Condition, steps: int) -> Tensor:
    """From noise (t = 1) to clean patches (t = 0) in equal Euler steps."""
    for step in range(steps, 0, -1):
        t, after = step / steps, (step - 1) / steps
        clean_BFLC = flow(x_BFLC, torch.full((len(x_BFLC),), t, device=x_BFLC.device), condition)
        x_BFLC = clean_BFLC if step == 1 else clean_BFLC + (x_BFLC - clean_BFLC) * (after / t)
    return x_BFLC
