"""TensorBoard, where a recipe asks for it."""

import importlib.util
from pathlib import Path

import numpy as np

from cogstyle.config import require
from cogstyle.training.curves import family


class Board:
    """Scalars and pictures of a run under `folder`/tensorboard.

    Args:
        start: the first step to come: what an earlier run wrote beyond it is hidden.
    """

    def __init__(self, folder: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=start)

    @staticmethod
    def check() -> None:
        """
        Raises:
            ConfigError: if TensorBoard is not installed.
        """
        found = importlib.util.find_spec("tensorboard") is not None
        require(found, "tensorboard = true needs TensorBoard: pip install 'cogstyle[train]'")

    def row(self, row: dict[str, float]) -> None:
        """One row of log.jsonl; `loss_frame_2` becomes `loss_frame/2`, so that frames and layers share a panel."""
        for name, value in row.items():
            if name != "step":
                title, number = family(name)
                tag = name if title == name else f"{title}/{number:g}"
                self.writer.add_scalar(tag, value, int(row["step"]))

    def picture(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        self.writer.add_image(name, picture_HWC, step, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()
