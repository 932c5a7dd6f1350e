"""From a run's checkpoints to a bundle."""

from pathlib import Path

from torch import Tensor

from cogstyle.errors import FileError
from cogstyle.training.checkpoint import read_checkpoint
from cogstyle.training.job import Job
from cogstyle.training.run_folder import BEST, LOG, read_log, score


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
