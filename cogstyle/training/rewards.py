"""How good is a drawn clip? A function of yours, a TorchScript network, or a server on this machine says so."""

import base64
import http.client
import io
import ipaddress
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
from annotated_types import Interval

from cogstyle.config import require
from cogstyle.errors import ConfigError, TrainingError
from cogstyle.functions import find_function, first_line
from cogstyle.video.extractor import Extractor, NetworkSettings

KNOWN = {"shapes": "cogstyle.shapes_world.reward:reward"}
LARGEST_ANSWER = 1 << 16  # bytes


@dataclass(frozen=True)
class RewardConfig:
    """One of the rewards that are added up."""

    call: str  # "shapes", module:function, file.py:function, a TorchScript file (.pt), or http://127.0.0.1:PORT/PATH
    weight: Annotated[float, Interval(ge=-1e6, le=1e6)] = 1.0
    timeout: Annotated[float, Interval(gt=0.0, le=86400.0)] = 60.0  # seconds that an address may take for a clip


@dataclass(frozen=True)
class Clip:
    """What a reward sees: uint8 frames [F, H, W, 3], the seconds of each, and the caption that asked for them."""

    frames: np.ndarray
    times: Sequence[float]
    caption: str


class Reward:
    """The weighted sum of rewards.

    Raises:
        ConfigError: if one of them cannot be loaded.
    """

    def __init__(self, configs: Sequence[RewardConfig]) -> None:
        self.parts = [(config, *_load(config)) for config in configs]

    @property
    def digests(self) -> list[str]:
        """sha256 of the files of yours that they stand in."""
        return [digest for config, _, digest in self.parts if config.call not in KNOWN]

    def __call__(self, clip: Clip) -> float:
        """
        Raises:
            TrainingError: if one fails, or gives no finite number.
        """
        return sum(config.weight * _number(config.call, score, clip) for config, score, _ in self.parts)


Score = Callable[[Clip], Any]


def _load(config: RewardConfig) -> tuple[Score, str]:
    if config.call.startswith(("http:", "https:")):
        return _address(config), ""
    if config.call.endswith(".pt"):
        return _network(Path(config.call).expanduser())
    function, digest = find_function(config.call, "reward", KNOWN)
    return lambda clip: function(clip.frames, clip.times, clip.caption), digest


def _number(name: str, score: Score, clip: Clip) -> float:
    try:
        found = score(clip)
    except Exception as error:  # whatever somebody's reward stumbles on
        raise _failure(name, f"fails: {first_line(error)}", clip) from None
    plain = isinstance(found, int | float | np.integer | np.floating) and not isinstance(found, bool)
    if not plain or not math.isfinite(found):
        raise _failure(name, f"gives {found!r:.60}, which is no finite number", clip)
    return float(found)


def _failure(name: str, what: str, clip: Clip) -> TrainingError:
    return TrainingError(f"reward {name} {what} (on {clip.caption!r:.60}); the last checkpoint is good")


def _network(path: Path) -> tuple[Score, str]:
    network = Extractor(path, batch=1, kind=NetworkSettings)
    require(network.settings.outputs == "features", f"reward {path} must give one number a clip: outputs 'features'")

    def score(clip: Clip) -> Any:
        found = network([clip.frames]).features[0]
        return float(found[0]) if len(found) == 1 else found.tolist()

    return score, network.digest


def _address(config: RewardConfig) -> Score:
    """A server on this machine, which is sent JSON: `caption`, `seconds`, and `frames` (.npy in base64).

    Nothing else is asked: neither another machine nor a proxy.
    """
    try:
        url = urlsplit(config.call)
        host, port = url.hostname or "", url.port or 80
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        host, port, here = "", 0, False
    if not here or url.scheme != "http":
        raise ConfigError(f"reward {config.call!r:.80} must be http://127.0.0.1:PORT/PATH, a server on this machine")

    def score(clip: Clip) -> Any:
        file = io.BytesIO()
        np.save(file, clip.frames, allow_pickle=False)
        said = {"caption": clip.caption, "seconds": list(clip.times)}
        body = json.dumps({**said, "frames": base64.b64encode(file.getvalue()).decode()})
        line = http.client.HTTPConnection(host, port, timeout=config.timeout)
        try:
            line.request("POST", url.path or "/", body, {"Content-Type": "application/json"})
            answer = line.getresponse()
            text = answer.read(LARGEST_ANSWER)
        finally:
            line.close()
        if answer.status != 200:
            raise OSError(f"it answers {answer.status} {answer.reason}")
        found = json.loads(text)
        return found.get("reward") if isinstance(found, dict) else found

    return score
