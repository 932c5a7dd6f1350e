"""Fine-tuning inside SAT: our token shards and our loss for its `training_main`."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cogstyle.bundle import Bundle, WeightFile
from cogstyle.config import ModelConfig
from cogstyle.data import shards
from cogstyle.interop.sat_model import finetune, host_inputs
from cogstyle.layout import Role
from cogstyle.tokenizers.text import TextTokenizer
from cogstyle.training.loss import token_loss


class ShardRows(Dataset):
    """The rows of a folder of token shards: (text ids, tokens [F, L] in time order).

    Args:
        bundle: gives the text tokenizer, and the image tokenizer that the shards must be of.
    """

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        self.text = bundle.text()
        self.rows = shards.load(folder, tokenizer_sha256=bundle.sha256(WeightFile.TOKENIZER))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[list[int], Tensor]:
        text = self.text.video_text(self.rows.captions[row], self.rows.seconds[row])
        return text, self.rows.tokens[row].long()


def collate(text: TextTokenizer, rows: Sequence[tuple[list[int], Tensor]]) -> tuple[Tensor, Tensor]:
    """Rows -> text_BS, left-padded, and tokens_BFL."""
    return text.pad([ids for ids, _ in rows]), torch.stack([tokens for _, tokens in rows])


def forward_step(
    config: ModelConfig, batches: Iterator[tuple[Tensor, Tensor]], model: Any, args: Any, timers: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy over the image ids, mean over the frames that the model generates."""
    text_BS, tokens_BFL = (tensor.to(args.device) for tensor in next(batches))
    times, text = range(tokens_BFL.shape[1]), text_BS.shape[1]
    logits_BTV = model(*host_inputs(config, text_BS, tokens_BFL, times))[0]
    layout = getattr(model, "module", model).frame_layout(text, times)
    graded = [frame for frame, role in enumerate(layout.roles) if role is Role.GENERATED]
    logits_BPV = logits_BTV[:, text:].unflatten(1, (layout.frames, -1))[:, graded].flatten(1, 2)
    return token_loss(logits_BPV, tokens_BFL[:, graded].flatten(1)).mean(), {}


def finetune_on_shards(bundle: str, options: Sequence[str]) -> Path:
    """Fine-tune on the shards of `--train-data`, tokens of the bundle's tokenizers; returns SAT's checkpoint folder.

    Args:
        options: SAT's, see `cogstyle.interop.sat_model.finetune`.

    Raises:
        BundleError: if shards and bundle do not belong together.
    """
    source = Bundle(bundle)
    return finetune(
        options,
        partial(forward_step, source.model_config),
        lambda path, args: ShardRows(Path(path), source),
        partial(collate, source.text()),
    )
