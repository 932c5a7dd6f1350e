"""Judges: functions that say whether a clip shows what was asked for; `--judge` takes one by name.

def judge(frames_FHWC, times_F, asked):
    '''uint8 [F, H, W, 3], seconds of each frame, the line that asked for the clip: {"prompt": ..., ...}'''
    return {"noun": True, "background": False, "seen": "a lion on snow"}

Each name stands for an attribute that holds (true) or not, or for the share to which it holds, 0 to 1. "all" is the
least of them unless the judge says it; "seen" is for people.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cogstyle.config import require
from cogstyle.errors import ConfigError
from cogstyle.functions import find_function, first_line
from cogstyle.video import Video

NAMED = {"shapes": "cogstyle.shapes_world.judge:judge"}
SEEN = "seen"  # the one word of a judge that is a text
Asked = Mapping[str, Any]
Function = Callable[[np.ndarray, Sequence[float], Asked], Mapping[str, Any]]


@dataclass(frozen=True)
class Verdict:
    """What a judge says of a clip: attribute -> 0 to 1, "all" the last; and in words what it saw."""

    holds: Mapping[str, float]
    seen: str = ""

    @property
    def all(self) -> float:
        return self.holds["all"]


@dataclass(frozen=True)
class Judge:
    """A judge by its name; `digest` is of the file that it stands in."""

    name: str
    function: Function
    digest: str

    def __call__(self, video: Video, asked: Asked) -> Verdict:
        """Judge a clip.

        Raises:
            ConfigError: if the judge raises, or says what is no attribute.
        """
        times = [k / video.fps for k in range(len(video.frames))]
        try:
            said = self.function(video.frames, times, asked)
        except Exception as error:  # whatever somebody's function stumbles on
            raise ConfigError(f"judge {self.name} fails on {asked['prompt']!r:.60}: {first_line(error)}") from None
        return _verdict(said, self.name)


def find_judge(name: str) -> Judge:
    """The judge `shapes`, or a function of yours: `package.module:function`, `folder/file.py:function`.

    Raises:
        ConfigError: if there is none.
    """
    function, digest = find_function(name, "judge", NAMED)
    return Judge(name, function, digest)


def _verdict(said: Any, name: str) -> Verdict:
    require(isinstance(said, Mapping), f"judge {name} must give names and whether they hold, not {said!r:.60}")
    seen, holds = said.get(SEEN, ""), {}
    for word, value in said.items():
        if word == SEEN:
            continue
        plain = isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating)
        share = float(value) if plain else math.nan
        require(
            isinstance(word, str) and 0.0 <= share <= 1.0,
            f"judge {name}: {word} must be true, false or 0 to 1, not {value!r:.60}",
        )
        holds[word] = share
    require(bool(holds), f"judge {name} gives no attribute")
    least = holds.pop("all", min(holds.values(), default=1.0))
    return Verdict({**holds, "all": least}, str(seen))
