"""From a run's checkpoints to a bundle."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cogstyle.bundle import ADAPTERS, MANIFEST, Bundle, WeightFile, check_shared_files, share_files, update_bundle
from cogstyle.config import require
from cogstyle.errors import FileError
from cogstyle.growth_config import Grown, Lora
from cogstyle.model.transformer import Transformer
from cogstyle.training.checkpoint import read_checkpoint
from cogstyle.training.job import Job
from cogstyle.training.loss import VideoModel
from cogstyle.training.run_folder import BEST, LOG, read_log, score

TOKENIZERS = (WeightFile.TOKENIZER, WeightFile.CLUSTERS, WeightFile.TEXT)


@dataclass(frozen=True)
class Target:
    """The bundle that the weights of an image model or an adapter go to.

    Args:
        source: the bundle that the task stands on.
        grown, lora: what the weights have more than plain ones.
        train_all: the image model trains too.

    Raises:
        BundleError, ConfigError: if the new weights would not fit into the bundle.
    """

    task: str
    folder: Path
    source: Bundle
    grown: Grown | None = None
    lora: Lora | None = None
    train_all: bool = False

    def __post_init__(self) -> None:
        if self._elsewhere:
            check_shared_files(self.source, self.folder, self._shared)
        if self.task != "image" and self.train_all and (self.folder / MANIFEST).is_file():
            there = Bundle(self.folder)
            others = [name for name in ADAPTERS if name != self.task and there.has(WeightFile.of(name))]
            require(
                not others,
                f'train = "all" changes the image model, and in {self.folder} {", ".join(others)} stand on it; '
                "name a new folder as bundle, and this one as base",
            )

    @property
    def _elsewhere(self) -> bool:
        return self.source.folder.resolve() != self.folder.resolve()

    @property
    def _shared(self) -> tuple[str, ...]:
        """Files that the bundle has in common with the one that the task stands on."""
        return TOKENIZERS if self.train_all or self.task == "image" else (*TOKENIZERS, WeightFile.IMAGE)

    def write(self, model: VideoModel, caption_ids: Sequence[int]) -> None:
        """Write the weights.

        Args:
            caption_ids: text ids that captions of an image model hold; none: those of `start` stand.
        """
        if self._elsewhere:
            share_files(self.source, self.folder, self._shared)
        image: dict[str, Any] = {WeightFile.IMAGE: model.transformer.state_dict()}
        if model.adapter is None:
            if caption_ids and not model.transformer.llama:  # those have no rows of text ids
                lengthen_unseen(model.transformer, [*caption_ids, *model.text.image_text(None)], caption_ids)
            update_bundle(self.folder, image, model=model.transformer.config, **self._tables())
            return
        adapter: dict[str, Any] = {WeightFile.of(self.task): model.adapter.state_dict()}
        files = {**image, **adapter} if self.train_all else adapter  # an adapter names its base
        update_bundle(self.folder, files, **self._tables())

    def _tables(self) -> dict[str, Any]:
        """What the manifest says of grown weights, and no longer says of one that was there before."""
        said, there = {"growth": self.grown, "lora": self.lora}, Bundle(self.folder).manifest
        tables = {key: {self.task: None if value is None else asdict(value)} for key, value in said.items()}
        return {key: table for key, table in tables.items() if table[self.task] or self.task in there.get(key, {})}


@torch.no_grad()
def lengthen_unseen(transformer: Transformer, known: Sequence[int], seen: Sequence[int]) -> None:
    """Give vectors of text ids that are not `known` the mean length of those that were `seen`.

    The adapters' prompts bring such ids (the seconds): left as short as they started, they would drown in
    the vectors of their positions.
    """
    config, weight = transformer.config, transformer.embed.weight
    unseen = torch.zeros(len(weight), dtype=torch.bool)
    unseen[config.codes : config.start_of_image] = True
    unseen[torch.tensor(known)] = False
    lengths = weight[unseen].norm(dim=1, keepdim=True)
    weight[unseen] *= weight[torch.tensor(seen)].norm(dim=1).mean() / lengths


def export(job: Job, tensors: dict[str, Tensor]) -> None:
    """Export trained weights, or their running mean where there is one.

    Args:
        tensors: of a checkpoint.
    """
    for name, parameter in job.module.named_parameters():
        weight: Tensor = tensors.get(f"optim.{name}.ema", tensors[f"module.{name}"])
        parameter.data = weight.float().cpu()
    for name, buffer in job.module.named_buffers():
        if (value := tensors.get(f"module.{name}")) is not None:
            buffer.data = value.cpu()
    job.export()


def choose(folder: Path, tensors: dict[str, Tensor], step: int, *, keep_best: bool) -> tuple[dict[str, Tensor], str]:
    """The weights of a finished run to export, and which they are: the best by validation, else the last ones.

    Args:
        tensors: the last ones, after `step` steps.
    """
    path = folder / BEST
    if not keep_best or not path.exists():
        return tensors, f"step {step}"
    try:
        best = read_checkpoint(path)
    except FileError as error:
        return tensors, f"step {step}, the last ({error})"
    if best.step == step:
        return tensors, f"step {step}, the last and the best by validation"
    scores = [found for row in read_log(folder / LOG, step) if (found := score(row)) is not None]
    last = f"; the last, step {step}: {abs(scores[-1]):.4f}" if scores else ""
    return best.tensors, f"step {best.step}, the best by validation ({abs(float(best.meta['score'])):.4f}{last})"
