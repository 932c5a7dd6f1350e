"""What judges and networks say of single rows: one number a clip, for `cogstyle encode --quality`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cogstyle.config import require
from cogstyle.evaluation.judges import find_judge
from cogstyle.video import Video
from cogstyle.video.extractor import Extractor, NetworkSettings


class Reads:
    """Whether a judge finds what the caption says, 0 to 1; `name` as `--judge` takes it.

    Raises:
        ConfigError: if there is no such judge; when called, if it fails.
    """

    def __init__(self, name: str) -> None:
        self.judge = find_judge(name)
        self.digest = f"{name} {self.judge.digest}"

    def __reduce__(self) -> tuple[Any, ...]:
        return Reads, (self.judge.name,)

    def __call__(self, frames_FHWC: np.ndarray, times_F: Sequence[float], caption: str) -> float:
        rate = 1 / times_F[1] if len(times_F) > 1 else 1.0
        return self.judge(Video(frames_FHWC, rate), {"prompt": caption}).all


class ScriptScorer:
    """A TorchScript network that gives one number a clip, with a TOML file beside it as an extractor has.

    Raises:
        ConfigError: if a file is missing or damaged, or the settings are wrong; when called, if it gives no number.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.network = path, Extractor(path, batch=1, kind=NetworkSettings)
        self.digest = self.network.digest

    def __reduce__(self) -> tuple[Any, ...]:
        return ScriptScorer, (self.path,)

    def __call__(self, frames_FHWC: np.ndarray, times_F: Sequence[float], caption: str) -> float:
        found = self.network([frames_FHWC]).features
        require(found.size == 1, f"scorer {self.path} must give one number a clip, not {found.shape[1]}")
        return float(found[0, 0])
