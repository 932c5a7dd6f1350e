"""A small encoder-decoder: text in, text out. As T5 but for its positions: RMSNorm, no biases, shared embedding.

Positions turn queries and keys of one side (rotary), and a learned vector tells them to the other side. T5's biases
of distances, which start at zero, left the words of two nouns mixed up for long.

Axes as in `cogstyle.axes`; S are tokens of the source, T those of the target.
Sources: T5 (arXiv 1910.10683), RoFormer (arXiv 2104.09864).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogstyle.seq2seq_config import Seq2SeqConfig

PAD, UNKNOWN, END = 0, 1, 2  # ids that are no text; PAD also begins every target
EPS = 1e-6
ROPE_BASE = 100.0  # texts are short
EMBED_SCALE, HEAD_SCALE = 10.0, 0.25  # small weights with a factor are learned fast by Adam
Keys = tuple[Tensor, Tensor]  # keys and values, [B, N, S, H] each


@dataclass
class Cache:
    """What decoding keeps from step to step: of every layer, keys of the source and of the target so far.

    Args:
        source_B11S: whether a token of the source may be seen.
    """

    memory: list[Keys]
    source_B11S: Tensor
    past: list[Keys | None]
    length: int = 0  # of the target so far


def turned(x_BNTH: Tensor, places_T: Tensor) -> Tensor:
    """Queries or keys at their positions: pairs of numbers turn by angles that grow with the position."""
    pairs = x_BNTH.shape[-1] // 2
    rates = ROPE_BASE ** (-torch.arange(pairs, device=places_T.device) / pairs)
    angles = places_T[:, None] * rates
    cos, sin = angles.cos().to(x_BNTH.dtype), angles.sin().to(x_BNTH.dtype)
    a, b = x_BNTH.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Attention(nn.Module):
    """Multi-head attention to keys that are made apart."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query, self.key, self.value, self.output = (
            nn.Linear(config.width, config.width, bias=False) for _ in range(4)
        )

    def keys(self, x_BSD: Tensor, places_S: Tensor | None = None) -> Keys:
        """Keys and values, at positions if there are some."""
        key = self._split(self.key(x_BSD))
        return key if places_S is None else turned(key, places_S), self._split(self.value(x_BSD))

    def forward(self, x_BTD: Tensor, keys: Keys, seen: Tensor, places_T: Tensor | None = None) -> Tensor:
        """`seen`: which keys a query may see, bool, broadcast to [B, N, T, S]."""
        query = self._split(self.query(x_BTD))
        query = query if places_T is None else turned(query, places_T)
        found_BNTH = F.scaled_dot_product_attention(query, *keys, attn_mask=seen)
        return self.output(found_BNTH.transpose(1, 2).flatten(2))

    def _split(self, x_BSD: Tensor) -> Tensor:
        return x_BSD.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """Attention to the own side, of a decoder to the source too, and an MLP; each behind its norm, added."""

    def __init__(self, config: Seq2SeqConfig, *, cross: bool) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(config.width, EPS)
        self.attention = Attention(config)
        self.cross_norm = nn.RMSNorm(config.width, EPS) if cross else None
        self.cross = Attention(config) if cross else None
        self.mlp_norm = nn.RMSNorm(config.width, EPS)
        self.up = nn.Linear(config.width, config.inner, bias=False)
        self.down = nn.Linear(config.inner, config.width, bias=False)

    def forward(
        self,
        x_BTD: Tensor,
        places_T: Tensor,
        seen: Tensor,
        *,
        memory: Keys | None = None,
        source_B11S: Tensor | None = None,
        past: Keys | None = None,
    ) -> tuple[Tensor, Keys]:
        """Returns the keys of the own side too, behind those of `past`."""
        normed = self.norm(x_BTD)
        key, value = self.attention.keys(normed, places_T)
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        x_BTD = x_BTD + self.attention(normed, (key, value), seen, places_T)
        if self.cross is not None and self.cross_norm is not None:
            assert memory is not None and source_B11S is not None
            x_BTD = x_BTD + self.cross(self.cross_norm(x_BTD), memory, source_B11S)
        return x_BTD + self.down(F.gelu(self.up(self.mlp_norm(x_BTD)))), (key, value)


class Seq2Seq(nn.Module):
    """Ids of a text -> ids of its rewriting. Embedding and head share their weights."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.source_places = nn.Embedding(config.span, config.width)
        self.target_places = nn.Embedding(config.span, config.width)
        self.encoder = nn.ModuleList(Layer(config, cross=False) for _ in range(config.layers))
        self.decoder = nn.ModuleList(Layer(config, cross=True) for _ in range(config.layers))
        self.source_norm, self.target_norm = (nn.RMSNorm(config.width, EPS) for _ in range(2))

    def encode(self, source_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Ids, padded at the end -> states [B, S, D], and which of them may be seen [B, 1, 1, S]."""
        places_S = torch.arange(source_BS.shape[1], device=source_BS.device)
        seen_B11S = (source_BS != PAD)[:, None, None]
        x_BSD = EMBED_SCALE * (self.embed(source_BS) + self.source_places(places_S))
        for layer in self.encoder:
            x_BSD, _ = layer(x_BSD, places_S, seen_B11S)
        return self.source_norm(x_BSD), seen_B11S

    def forward(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        """Logits [B, T, V] of every token of the target, from those before it."""
        return self._decode(F.pad(target_BT, (1, -1), value=PAD), self.start(source_BS))

    def start(self, source_BS: Tensor) -> Cache:
        """What decoding needs of a source."""
        states_BSD, seen_B11S = self.encode(source_BS)
        memory = [layer.cross.keys(states_BSD) for layer in self.decoder]  # type: ignore[union-attr,operator]
        return Cache(memory, seen_B11S, [None] * len(self.decoder))

    def _decode(self, ids_BT: Tensor, cache: Cache) -> Tensor:
        """Logits behind further ids of the target, which the cache then holds."""
        places_S = torch.arange(cache.length + ids_BT.shape[1], device=ids_BT.device)
        places_T = places_S[cache.length :]
        seen_TS = places_S[None] <= places_T[:, None]
        x_BTD = EMBED_SCALE * (self.embed(ids_BT) + self.target_places(places_T))
        for number, (layer, memory) in enumerate(zip(self.decoder, cache.memory, strict=True)):
            given = {"memory": memory, "source_B11S": cache.source_B11S, "past": cache.past[number]}
            x_BTD, cache.past[number] = layer(x_BTD, places_T, seen_TS, **given)
        cache.length += ids_BT.shape[1]
        return HEAD_SCALE * (self.target_norm(x_BTD) @ self.embed.weight.T)

    @torch.no_grad()
    def rewrite(self, source_BS: Tensor) -> list[list[int]]:
        """The likeliest next token, over and over, for every row: ids without END; none if it does not end."""
        cache, ids_B = self.start(source_BS), source_BS.new_full((len(source_BS),), PAD)
        drawn: list[Tensor] = []
        ended_B = torch.zeros_like(ids_B, dtype=torch.bool)
        while len(drawn) < self.config.span and not ended_B.all():
            ids_B = self._decode(ids_B[:, None], cache)[:, -1].argmax(-1)
            drawn.append(ids_B)
            ended_B = ended_B | (ids_B == END)
        rows = torch.stack(drawn, 1).tolist()
        return [row[: row.index(END)] if END in row else [] for row in rows]


def fresh_seq2seq(config: Seq2SeqConfig, seed: int) -> Seq2Seq:
    """An untrained model."""
    torch.manual_seed(seed)
    model = Seq2Seq(config)
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            small = name.endswith(("output.weight", "down.weight"))  # what is added starts small
            places = 0.3 if "places" in name else 1.0
            table = isinstance(model.get_submodule(name.removesuffix(".weight")), nn.Embedding)
            std = places / EMBED_SCALE if table else (0.1 if small else 1.0) * weight.shape[1] ** -0.5
            nn.init.normal_(weight, std=std)
    return model
