"""SwissArmyTransformer as a host: its transformer, our channels, weights under the names of released checkpoints.

Importing this module registers `CogVideoModel`, so that SAT's own `AutoModel.from_pretrained` builds and loads a
checkpoint folder. The temporal channel is the TemporalAttention of `cogstyle.model` on SAT's tensor-parallel linears:
every rank computes its share of the heads.

Source: SwissArmyTransformer 0.4.12, whose hooks a mixin fills.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogstyle.adapter import later_positions
from cogstyle.axes import expect_shape
from cogstyle.config import ModelConfig, require
from cogstyle.errors import BundleError, ConfigError, LayoutError
from cogstyle.interop.torch_file import read_weights
from cogstyle.layout import FrameLayout, Role, Window
from cogstyle.model.attention import Channel, spatial_blocks, temporal_blocks
from cogstyle.model.temporal import TemporalAttention, layer_windows
from cogstyle.model.transformer import shifted

try:
    import sat
    from sat.model.base_model import BaseMixin, BaseModel
    from sat.mpu import ColumnParallelLinear, RowParallelLinear, gather_from_model_parallel_region
    from sat.training import model_io
except ImportError as error:
    raise BundleError(f"SAT as a host needs SwissArmyTransformer ({error}): pip install 'cogstyle[sat]'") from None

SPLIT_FROM = 1000  # rows from which SAT splits the token embedding among tensor-parallel ranks


class _Torch:
    """`torch` as SAT's reader of checkpoints sees it: files are read as data, by an allow-list."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def load(path: str, **_: Any) -> dict[str, Any]:
        return {"module": read_weights(Path(path))}


model_io.torch = _Torch()


@dataclass(frozen=True)
class Channels:
    """Who sees whom in one forward pass."""

    text: int  # S
    spatial: Channel
    temporal: dict[Window | None, Channel]


class TemporalMixin(BaseMixin):
    """The trainable channel beside every attention layer of SAT.

    Args:
        window: side of the attention windows in tokens, 0 for full attention.
        linear: options of SAT's linear layers.
    """

    def __init__(self, layers: int, width: int, heads: int, *, window: int, **linear: Any) -> None:
        super().__init__()
        self.windows = layer_windows(layers, window)
        column = partial(ColumnParallelLinear, stride=3, gather_output=False, **linear)
        row = partial(RowParallelLinear, input_is_parallel=True, **linear)
        # a tuple keeps the layers unregistered: their parts are registered below, under the released names
        self.temporal_attention = tuple(TemporalAttention(width, heads, column=column, row=row) for _ in range(layers))
        self.query_key_value = nn.ModuleList(layer.qkv for layer in self.temporal_attention)
        self.dense = nn.ModuleList(layer.dense for layer in self.temporal_attention)
        self.attn_distribution = nn.ParameterList(layer.gate for layer in self.temporal_attention)

    def attention_forward(
        self, hidden_states: Tensor, mask: Tensor, *, layer_id: Any, channels: Channels, **_: Any
    ) -> Tensor:
        """SAT's hook: both channels of a layer, [B, T, D] -> [B, T, D]."""
        layer = int(layer_id)
        frozen, temporal = self.transformer.layers[layer].attention, self.temporal_attention[layer]
        qkv_BTNH = frozen.query_key_value(hidden_states).unflatten(-1, (3, -1, temporal.head_width)).unbind(2)
        spatial_BTD = frozen.dense(channels.spatial(layer, *qkv_BTNH).flatten(2))
        return temporal(layer, hidden_states, spatial_BTD, channels.temporal[self.windows[layer]], channels.text)

    @torch.no_grad()
    def reinit(self, parent_model: Any = None) -> None:
        """Start as a copy of the frozen attention, where a checkpoint has no temporal channel."""
        for temporal, frozen in zip(self.temporal_attention, self.transformer.layers, strict=True):
            temporal.qkv.load_state_dict(frozen.attention.query_key_value.state_dict())
            temporal.dense.load_state_dict(frozen.attention.dense.state_dict())
            temporal.gate.zero_()


class PositionMixin(BaseMixin):
    """A trainable position table behind the frozen rows of text and first frame.

    Args:
        first: rows of the frozen table that come before it.
        length: tokens of a frame.
    """

    def __init__(self, rows: int, width: int, *, first: int, length: int) -> None:
        super().__init__()
        self.first, self.length, self.rows = first, length, first + rows
        self.position_embeddings = nn.Embedding(rows, width)

    def position_embedding_forward(self, position_ids: Tensor, **_: Any) -> Tensor:
        """SAT's hook: [B, T] -> [B, T, D]."""
        frozen = self.transformer.position_embeddings.weight[: self.first]
        return F.embedding(position_ids, torch.cat([frozen, self.position_embeddings.weight]))

    @torch.no_grad()
    def reinit(self, parent_model: Any = None) -> None:
        """Start every later frame at the first one's positions, where a checkpoint has no such table."""
        frozen = self.transformer.position_embeddings.weight[self.first - self.length : self.first]
        self.position_embeddings.weight.copy_(later_positions(frozen, len(self.position_embeddings.weight)))


class CogVideoModel(BaseModel):
    """The keyframe (`window_size` -1) or the interpolation model (`window_size` > 0) inside SAT.

    SAT's options of a checkpoint apply but for two: `hidden_dropout` acts on embeddings and MLP and not on the
    attention output, as in the release, and `attention_dropout` is not applied, our channels have none.

    Raises:
        ConfigError: if the sizes in `model_config.json` do not fit together.
    """

    def __init__(self, args: Any, transformer: Any = None, **kwargs: Any) -> None:
        span, first, whole = args.layout
        self.length, side = first - span, round((first - span) ** 0.5)
        window, later = max(args.window_size, 0), args.text_positions + self.length
        require(side**2 == self.length, f"layout {args.layout} has frames of {self.length} tokens, which is no square")
        require(not window or side % window == 0, f"window_size {window} does not divide the {side} rows of a frame")
        require(
            later <= args.max_sequence_length,
            f"max_sequence_length {args.max_sequence_length} must hold text_positions {args.text_positions} and "
            f"{self.length} tokens",
        )
        require(
            whole - first <= args.additional_seqlen,
            f"additional_seqlen {args.additional_seqlen} must hold the {whole - first} tokens of later frames",
        )
        ranks, vocabulary = args.model_parallel_size, args.vocab_size
        require(
            ranks == 1 or (vocabulary >= SPLIT_FROM and vocabulary % ranks == 0),
            f"vocab_size {vocabulary} must be {SPLIT_FROM} or more and a multiple of model_parallel_size {ranks}",
        )
        require(not getattr(args, "parallel_output", False), "parallel_output has no effect: logits are gathered")
        super().__init__(args, transformer=transformer, **kwargs)
        self.text_positions, self.codes = args.text_positions, args.image_codes
        self.grid, self.window = (side, side), window
        width = args.hidden_size
        linear = {"params_dtype": kwargs.get("params_dtype", torch.float32), "skip_init": args.skip_init}
        positions = PositionMixin(args.additional_seqlen, width, first=later, length=self.length)
        self.add_mixin("extra_position_embedding", positions)
        temporal = TemporalMixin(args.num_layers, width, args.num_attention_heads, window=window, **linear)
        self.add_mixin("attention_plus", temporal)

    @classmethod
    def add_model_specific_args(cls, parser: Any) -> Any:
        """What `model_config.json` says beyond SAT's own options; released folders leave out the last two."""
        group = parser.add_argument_group("CogVideoModel")
        group.add_argument("--layout", type=int, nargs=3, default=[64, 464, 2064], help="ends of text, frame 1, video")
        group.add_argument("--window-size", type=int, default=-1, help="side of attention windows, -1: full attention")
        group.add_argument("--additional-seqlen", type=int, default=2000, help="positions of later frames")
        group.add_argument("--cogvideo-stage", type=int, default=1, help="1: keyframes, 2: interpolation")
        group.add_argument("--image-codes", type=int, default=20_000, help="image ids, the first of the vocabulary")
        group.add_argument("--text-positions", type=int, default=512, help="positions before those of the first frame")
        return parser

    def disable_untrainable_params(self) -> None:
        """SAT's hook before training: everything but the mixins is frozen."""
        self.transformer.requires_grad_(False)

    def frame_layout(self, text: int, times: Sequence[int]) -> FrameLayout:
        """The layout of frames at `times`: the first is known, or with windows every second one is given."""
        if self.window:
            roles = tuple(Role.GENERATED if time % 2 else Role.GIVEN for time in times)
        else:
            roles = tuple(Role.GENERATED if time else Role.PREFIX for time in times)
        return FrameLayout(text, self.grid, tuple(times), roles)

    def forward(self, input_ids: Tensor, position_ids: Tensor, attention_mask: Tensor, **kwargs: Any) -> list[Any]:
        """Logits over the image ids, [B, T, V], first in SAT's list of outputs.

        Args:
            input_ids: [B, S + F * L] text, then frames whose first input is <start_of_image>; see `host_inputs`.
            position_ids: [B, S + F * L]; those of the frames say their times.
            attention_mask: [B, 1, 1, S], 1 at text and 0 at its padding on the left.

        Raises:
            LayoutError: if the three disagree, or a position lies beyond the tables.
        """
        expect_shape(attention_mask, "attention_mask", len(input_ids), 1, 1, None)
        expect_shape(position_ids, "position_ids", *input_ids.shape)
        text = attention_mask.shape[-1]
        places_BP = position_ids[:, text:] - self.text_positions
        layout = self.frame_layout(text, (places_BP[0, :: self.length] // self.length).tolist())
        wanted_P = layout.image_positions().to(places_BP.device)
        fits = 0 < places_BP.shape[1] == len(wanted_P) and min(layout.times) >= 0
        if not fits or not bool((places_BP == wanted_P).all()):
            raise LayoutError(f"position_ids after {text} text tokens are not those of frames of {self.length} tokens")
        if (rows := self.get_mixin("extra_position_embedding").rows) <= (last := int(position_ids.max())):
            raise LayoutError(f"position {last} lies beyond the {rows} rows of the tables")
        valid_BS = attention_mask[:, 0, 0] > 0
        windows = set(self.get_mixin("attention_plus").windows)
        temporal: dict[Window | None, Channel] = {
            window: temporal_blocks(layout, valid_BS, window=window) for window in windows
        }
        channels = Channels(text, spatial_blocks(layout, valid_BS), temporal)
        return super().forward(input_ids, position_ids, attention_mask, channels=channels, **kwargs)

    def final_forward(self, hidden_states: Tensor, **_: Any) -> Tensor:
        """SAT's hook: [B, T, D] -> [B, T, V], the tied embedding's image rows."""
        # each rank takes its first rows: all image ids lie on rank 0, or every row is taken
        rows = self.transformer.word_embeddings.weight[: self.codes]
        return gather_from_model_parallel_region(F.linear(hidden_states, rows))[..., : self.codes]


def host_inputs(config: ModelConfig, text_BS: Tensor, tokens_BFL: Tensor, times: Sequence[int]) -> tuple[Tensor, ...]:
    """(input_ids, position_ids, attention_mask) of `CogVideoModel` for left-padded text and frames in memory order."""
    valid_BS = text_BS != config.pad
    layout = FrameLayout(text_BS.shape[1], config.grid, tuple(times), (Role.GENERATED,) * len(times))
    image_BP = (config.text_positions + layout.image_positions()).to(text_BS.device).expand(len(text_BS), -1)
    positions_BT = torch.cat([(valid_BS.cumsum(1) - 1).clamp(min=0), image_BP], 1)
    inputs_BT = torch.cat([text_BS, shifted(tokens_BFL, config.start_of_image)], 1)
    return inputs_BT, positions_BT, valid_BS[:, None, None].long()


# ------------------------------------------------------------------- training


@contextmanager
def _without_gpu() -> Iterator[None]:
    """Skip what SAT and DeepSpeed would do on a GPU only, or compile without need."""
    with (
        patch.object(torch.cuda, "synchronize", lambda: None),  # SAT's timers wait for the GPU
        patch("deepspeed.comm.torch.build_shm_op", lambda: None),  # else a minute of compiling; gloo does as well
    ):
        yield


def training_arguments(options: Sequence[str]) -> Any:
    """SAT's options as its training wants them, on a GPU or, with gloo, on a CPU; mode is always finetune."""
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed asks for it even where there is no launcher
    if torch.cuda.is_available():
        return sat.get_args([*options, "--mode", "finetune"])
    # SAT parses training only with a GPU's number, and saves a GPU's random state unless told not to
    args = sat.get_args([*options, "--distributed-backend", "gloo", "--no-save-rng", "--mode", "inference"])
    require(not args.deepspeed_config, f"--deepspeed_config {args.deepspeed_config} is read only where there is a GPU")
    optimizer = {"lr": args.lr, "betas": [0.9, 0.95], "weight_decay": args.weight_decay, "torch_adam": True}
    args.mode, args.deepspeed = "finetune", True
    args.deepspeed_config = {
        "train_micro_batch_size_per_gpu": args.batch_size,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "gradient_clipping": 0.1,
        "zero_optimization": {"stage": 1},  # SAT saves only what ZeRO or half precision has wrapped
        "optimizer": {"type": "AdamW", "params": optimizer},
    }
    return args


def finetune(
    options: Sequence[str], forward_step: Callable[..., Any], dataset: Callable[..., Any], collate: Callable[..., Any]
) -> Path:
    """Train the mixins of the checkpoint folder `--load` by SAT's `training_main`; returns the folder it saved.

    A folder without a temporal channel starts one from its image model. The rest is SAT's: `--train-data`,
    `--train-iters`, `--batch-size`, `--lr`, `--save` and so on.

    Args:
        forward_step: (iterator, model, args, timers) -> (loss, metrics).
        dataset: (path from `--train-data`, args) -> torch dataset.
        collate: list of its rows -> what the iterator gives.

    Raises:
        ConfigError: if `--load`, `--save` or `--train-data` is missing.
    """
    args = training_arguments(options)
    if missing := [name for name in ("load", "save", "train_data") if not getattr(args, name)]:
        raise ConfigError(f"missing option {', '.join('--' + name.replace('_', '-') for name in missing)}")
    model, args = CogVideoModel.from_pretrained(args.load, args)
    args.load, args.summary_dir = None, args.summary_dir or args.save
    with nullcontext() if torch.cuda.is_available() else _without_gpu():
        sat.training_main(
            args,
            model_cls=model,
            forward_step_function=forward_step,
            create_dataset_function=dataset,
            collate_fn=collate,
        )
    return Path(args.save)
