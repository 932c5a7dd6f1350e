"""Networks over clips (of FVD, KVD, IS; rewards): TorchScript, and a TOML file beside it that says what it takes.

TorchScript can run whatever it was written to: use files that you trust.
"""

import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cogstyle.config import from_dict, require
from cogstyle.errors import ConfigError, MediaError
from cogstyle.files import read_toml, sha256
from cogstyle.schema import Picture, Small

LEAST_FRAMES = 16  # below, FVD says next to nothing about motion, and nobody's figures compare
RESIZES = ("antialias", "bilinear", "area")
OUTPUTS = ("features", "logits", "both")


@dataclass(frozen=True)
class NetworkSettings:
    """What a network takes and gives: the keys of the TOML file beside it."""

    frames: Small  # of a clip
    size: Picture  # side of its square pictures, or their width, pixels
    low: float = 0.0  # what black becomes
    high: float = 1.0  # what white becomes
    mean: tuple[float, ...] = ()  # of each channel, subtracted after that
    std: tuple[float, ...] = ()  # of each channel, divided by
    axes: str = "BCFHW"  # or "BFCHW"
    pick: str = "first"  # frames from the start, one after the other; or "even": spread over the whole clip
    fit: str = "crop"  # the largest part of that shape in the middle; or "stretch"
    resize: str = "antialias"  # bilinear with antialiasing; "bilinear" without; or "area" (OpenCV's)
    outputs: str = "features"  # or "logits" (the features too), or "both": a pair of features and logits
    sha256: str = ""  # of the TorchScript file; empty: not checked
    height: Picture | None = None  # of pictures that are no squares
    arguments: dict[str, bool | int | float] = field(default_factory=dict)  # further arguments of its forward

    def __post_init__(self) -> None:
        require(self.size > 0, f"size {self.size} must be positive")
        require(self.low < self.high, f"low {self.low} must be below high {self.high}")
        require(
            len(self.mean) in (0, 3) and len(self.std) in (0, 3),
            f"mean {self.mean} and std {self.std} need three numbers each, or none",
        )
        for name, known in (
            ("axes", ("BCFHW", "BFCHW")),
            ("pick", ("first", "even")),
            ("fit", ("crop", "stretch")),
            ("resize", RESIZES),
            ("outputs", OUTPUTS),
        ):
            value = getattr(self, name)
            require(value in known, f"{name} {value!r} must be one of {', '.join(known)}")


@dataclass(frozen=True)
class ExtractorSettings(NetworkSettings):
    """Of an extractor for FVD, KVD and IS: it takes 16 frames or more."""

    def __post_init__(self) -> None:
        require(
            self.frames >= LEAST_FRAMES, f"frames {self.frames}: FVD, KVD and IS need at least {LEAST_FRAMES} frames"
        )
        super().__post_init__()


@dataclass(frozen=True)
class Extracted:
    """What an extractor says of N clips: features float64 [N, D], and class shares [N, classes] if it has logits."""

    features: np.ndarray
    shares: np.ndarray | None


def read_settings(path: Path, kind: type[NetworkSettings] = ExtractorSettings) -> NetworkSettings:
    """The settings of the extractor `path` (a .pt file), from the .toml file beside it.

    Raises:
        ConfigError: if there is none, or it says something unknown.
    """
    settings = path.with_suffix(".toml")
    says = f"no {settings}: it must say what {path.name} takes, at least `frames` and `size` (docs/evaluation.md)"
    require(settings.exists(), says)
    return from_dict(kind, read_toml(settings), str(settings))


class Extractor:
    """A TorchScript network and how to feed it.

    Args:
        path: the TorchScript file; its settings stand in the .toml file beside it.
        batch: clips of one pass.
        kind: of the settings.

    Raises:
        ConfigError: if a file is missing or damaged, or the settings are wrong.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: torch.device | None = None,
        batch: int = 8,
        kind: type[NetworkSettings] = ExtractorSettings,
    ) -> None:
        require(batch > 0, f"batch {batch} must be positive")
        require(path.is_file(), f"no extractor {path}")
        settings, self.digest = read_settings(path, kind), sha256(path)
        require(
            settings.sha256 in ("", self.digest),
            f"{path} is damaged: sha256 is {self.digest[:12]}..., its .toml says {settings.sha256[:12]}...",
        )
        self.settings = replace(settings, sha256=self.digest)
        self.device, self.batch = device or torch.device("cpu"), batch
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # it is the form that published extractors have
                self.network = torch.jit.load(str(path), map_location=self.device).eval()
        except Exception as error:  # whatever a damaged file makes it stumble on
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ConfigError(f"{path} is no TorchScript file: {reason}") from None

    def record(self) -> dict[str, Any]:
        """The settings, as they stand in statistics files and reports."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self.settings)))  # lists, as in what is read back
        return plain

    def __call__(self, clips: Iterable[Iterable[np.ndarray]]) -> Extracted:
        """Features of clips: arrays uint8 [F, height, width, 3], or what gives such frames, again in every loop.

        Raises:
            MediaError: for clips that are too short or no pictures.
            ConfigError: if the network does not give what its settings say.
        """
        features: list[np.ndarray] = []
        shares: list[np.ndarray] = []
        waiting: list[Tensor] = []
        for clip in clips:
            waiting.append(prepare(clip, self.settings))
            if len(waiting) == self.batch:
                self._pass(waiting, features, shares)
                waiting = []
        if waiting:
            self._pass(waiting, features, shares)
        require(bool(features), "no clips to take features of")
        return Extracted(np.concatenate(features), np.concatenate(shares) if shares else None)

    @torch.inference_mode()
    def _pass(self, clips: Sequence[Tensor], features: list[np.ndarray], shares: list[np.ndarray]) -> None:
        """Append the features (and class shares) of one batch of prepared clips [C, F, S, S]."""
        inputs = torch.stack(list(clips)).to(self.device)
        inputs = inputs if self.settings.axes == "BCFHW" else inputs.transpose(1, 2)
        try:
            result = self.network(inputs, **self.settings.arguments)
        except RuntimeError as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise ConfigError(
                f"the extractor fails on {list(inputs.shape)} ({self.settings.axes}): {lines[-1]}"
            ) from None
        both = self.settings.outputs == "both"
        parts = list(result) if isinstance(result, tuple | list) else [result]
        require(len(parts) == 1 + both, f"outputs {self.settings.outputs!r}: the extractor gives {len(parts)} tensors")
        for part in parts:
            flat = part.shape if isinstance(part, Tensor) else None
            require(
                flat is not None and len(flat) == 2 and flat[0] == len(clips),
                f"the extractor gives {None if flat is None else list(flat)}, not [{len(clips)}, features]",
            )
            require(bool(part.isfinite().all()), "the extractor gives numbers that are not finite")
        features.append(parts[0].double().cpu().numpy())
        if self.settings.outputs != "features":
            shares.append(parts[-1].double().softmax(1).cpu().numpy())


def prepare(clip: Iterable[np.ndarray], settings: NetworkSettings) -> Tensor:
    """A clip -> what the extractor takes, float [3, frames, height, width]; one frame at a time is held at full size.

    Args:
        clip: uint8 frames [height, width, 3]; gone through once, or (for "even") twice.

    Raises:
        MediaError: for other arrays, or fewer frames than it needs.
    """
    count = settings.frames
    if settings.pick == "even":
        picks = np.linspace(0, max(sum(1 for _ in clip) - 1, 0), count).round().astype(int).tolist()
    else:
        picks = list(range(count))
    ready, length, wanted = {}, 0, set(picks)
    for number, frame in enumerate(clip):
        length += 1
        if number in wanted:
            ready[number] = _resized(frame, settings)
    if length < count:
        named = f"{clip.path}: " if hasattr(clip, "path") else ""
        raise MediaError(f"{named}a clip has {length} frames, the extractor needs {count}")
    pixels_FCHW = torch.cat([ready[number] for number in picks]) / 255.0
    pixels_FCHW = settings.low + (settings.high - settings.low) * pixels_FCHW
    for values, use in ((settings.mean, torch.sub), (settings.std, torch.div)):
        pixels_FCHW = use(pixels_FCHW, torch.tensor(values)[:, None, None]) if values else pixels_FCHW
    return pixels_FCHW.transpose(0, 1)


def _resized(frame_HWC: np.ndarray, settings: NetworkSettings) -> Tensor:
    """A frame at the extractor's size, float 0..255 [1, 3, height, width]."""
    shape, size = frame_HWC.shape, (settings.height or settings.size, settings.size)
    if frame_HWC.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise MediaError(f"frames must be uint8 [height, width, 3], not {frame_HWC.dtype} {list(shape)}")
    if settings.fit == "crop":
        scale = min(length / wanted for length, wanted in zip(shape, size, strict=False))
        rows, columns = (max(1, round(scale * wanted)) for wanted in size)
        top, left = (shape[0] - rows) // 2, (shape[1] - columns) // 2
        frame_HWC = frame_HWC[top : top + rows, left : left + columns]
    if frame_HWC.shape[:2] != size and settings.resize == "area":
        import cv2

        frame_HWC = cv2.resize(frame_HWC, size[::-1], interpolation=cv2.INTER_AREA)
    pixels = torch.from_numpy(np.require(frame_HWC, requirements=["C", "W"])).permute(2, 0, 1)[None].float()
    if pixels.shape[2:] == size:
        return pixels
    return F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=settings.resize == "antialias")
