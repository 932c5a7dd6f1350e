"""What the zoo's judge sees in one frame: where actors are, what each is, and what lies behind them.

Suffixes: B batch, C channels, H height, W width, N noun, D detections.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from nouns import NOUNS
from safetensors.torch import load_file, save
from scenes import BACKGROUNDS
from torch import Tensor, nn

from cogstyle.files import write_bytes
from cogstyle.shipped import shelves

SIZE, CELLS, CROP = 96, 24, 40  # pixels of a frame; cells along its side; pixels of one actor
USUAL = 0.18  # half a side, canvas: sizes are found relative to it
ROOM = 1.15  # of a crop around an actor
LEAST, SURE, MOST = 0.25, 0.1, 4  # of heat, and of heat and noun, for an actor; of actors in a frame
FILE = "zoo_judge/judge.safetensors"


@dataclass(frozen=True)
class Found:
    """One actor in one frame: centre, half its side (canvas), opacity, how sure it is, log of each noun's share."""

    x: float
    y: float
    half: float
    opacity: float
    sure: float
    nouns_N: np.ndarray


def conv(wide: int, to: int, *, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """A convolution, its norm and SiLU."""
    made = nn.Conv2d(wide, to, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(made, nn.BatchNorm2d(to), nn.SiLU())


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width), conv(width, width))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.body(x_BCHW)


class Finder(nn.Module):
    """Frames [B, 3, 96, 96] in 0..1 -> maps [B, 5, 24, 24] and logits of the background [B, 5].

    The maps: heat of centres, centre less the cell's own (cells), log of half the side over USUAL, opacity.
    """

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Sequential(conv(3, 24, stride=2), conv(24, 48, stride=2), Residual(48))
        self.far = nn.Sequential(conv(48, 96, stride=2), Residual(96))
        self.whole = nn.Sequential(conv(96, 64, stride=2), Residual(64))
        self.background = nn.Linear(64, len(BACKGROUNDS))
        self.join = nn.Sequential(conv(48 + 96 + 64, 64, kernel=1), conv(64, 64))
        self.maps = nn.Conv2d(64, 5, 1)
        nn.init.constant_(self.maps.bias, 0.0)
        self.maps.bias.data[0] = -4.0  # nearly no cell is a centre

    def forward(self, frames_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        near = self.near(frames_BCHW - 0.5)
        far = self.far(near)
        whole = self.whole(far)
        large = [F.interpolate(x, size=near.shape[2:], mode="bilinear") for x in (far, whole)]
        return self.maps(self.join(torch.cat([near, *large], 1))), self.background(whole.mean((2, 3)))


class Namer(nn.Module):
    """Crops [B, 3, 40, 40] in 0..1 -> logits of the nouns [B, 65]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(conv(3, 32, stride=2), conv(32, 64), conv(64, 96, stride=2), Residual(96)),
            *(conv(96, 128, stride=2), conv(128, 128)),
        )
        self.head = nn.Linear(128, len(NOUNS))

    def forward(self, crops_BCHW: Tensor) -> Tensor:
        return self.head(self.body(crops_BCHW - 0.5).mean((2, 3)))


class Eye(nn.Module):
    """Both, as they are trained and kept."""

    def __init__(self) -> None:
        super().__init__()
        self.finder, self.namer = Finder(), Namer()

    @torch.inference_mode()
    def look(self, frames_FHWC: np.ndarray) -> tuple[list[list[Found]], np.ndarray]:
        """Actors of every frame, and log shares of the backgrounds [5], over all frames.

        Args:
            frames_FHWC: uint8 [F, H, H, 3].
        """
        small_FHWC = np.stack([resized(frame) for frame in frames_FHWC])
        frames = torch.from_numpy(small_FHWC).permute(0, 3, 1, 2).float() / 255.0
        maps, background = self.finder(frames)
        found = peaks(maps)
        if not found:
            return [[] for _ in frames_FHWC], background.log_softmax(1).mean(0).numpy()
        crops = torch.stack([crop(small_FHWC[f], x, y, half) for f, x, y, half, *_ in found])
        nouns = self.namer(crops).log_softmax(1).numpy()
        by_frame: list[list[Found]] = [[] for _ in frames_FHWC]
        for (f, x, y, half, opacity, heat), row in zip(found, nouns, strict=True):
            one = Found(x, y, half, opacity, heat * float(np.exp(row.max())), row)
            if one.sure > SURE and not any(same(one, other) for other in by_frame[f]):
                by_frame[f].append(one)
        return by_frame, background.log_softmax(1).mean(0).numpy()


def same(one: Found, other: Found) -> bool:
    """Whether two that were found are parts of one actor: they have one name and lie over each other."""
    near = np.hypot(one.x - other.x, one.y - other.y) < 1.2 * max(one.half, other.half)
    return bool(near and one.nouns_N.argmax() == other.nouns_N.argmax())


def resized(frame_HWC: np.ndarray) -> np.ndarray:
    """A frame at the judge's size."""
    shrink = min(frame_HWC.shape[:2]) > SIZE
    return cv2.resize(frame_HWC, (SIZE, SIZE), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC)


def crop(frame_HWC: np.ndarray, x: float, y: float, half: float) -> Tensor:
    """What lies around an actor, float [3, 40, 40] in 0..1; beyond the frame its edge goes on."""
    scale = 2.0 * ROOM * half * len(frame_HWC) / CROP  # pixels of the frame in one of the crop
    left, top = (centre * len(frame_HWC) - 0.5 - scale * (CROP / 2 - 0.5) for centre in (x, y))
    place = np.asarray([[scale, 0.0, left], [0.0, scale, top]])
    way = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cut = cv2.warpAffine(frame_HWC, place, (CROP, CROP), flags=way, borderMode=cv2.BORDER_REPLICATE)
    return torch.from_numpy(cut).permute(2, 0, 1).float() / 255.0


def peaks(maps_BCHW: Tensor) -> list[tuple[int, float, float, float, float, float]]:
    """(frame, x, y, half, opacity, heat) of what is there; of two in nearly one place the surer."""
    heat = maps_BCHW[:, 0].sigmoid()
    top = (heat == F.max_pool2d(heat[:, None], 3, 1, 1)[:, 0]) & (heat > LEAST)
    found = []
    for f in range(len(heat)):
        kept: list[tuple[int, float, float, float, float, float]] = []
        rows, columns = top[f].nonzero(as_tuple=True)
        order = heat[f, rows, columns].argsort(descending=True).tolist()
        for n in order:
            i, j = int(rows[n]), int(columns[n])
            sure, dx, dy, log_half, opacity = maps_BCHW[f, :, i, j].tolist()
            x, y, half = (j + 0.5 + dx) / CELLS, (i + 0.5 + dy) / CELLS, USUAL * float(np.exp(log_half))
            clear = all(np.hypot(x - a, y - b) > 0.6 * min(half, h) for _, a, b, h, *_ in kept)
            if clear and len(kept) < MOST:
                kept.append((f, x, y, half, 1 / (1 + np.exp(-opacity)), 1 / (1 + np.exp(-sure))))
        found += kept
    return found


def write(eye: Eye, path: Path) -> None:
    """Weights in half precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: weight for name, weight in eye.state_dict().items() if "num_batches" not in name}
    write_bytes(path, save({name: weight.half().contiguous() for name, weight in kept.items()}))


def load(path: Path | None = None) -> Eye:
    """The shipped judge, or that of a file."""
    places = [path] if path else [shelf / FILE for shelf in shelves("pretrained_adapters")]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"no judge at {', '.join(map(str, places))}: python train/zoo/train_judge.py makes one")
    eye = Eye()
    eye.load_state_dict({name: weight.float() for name, weight in load_file(found).items()}, strict=False)
    return eye.eval().requires_grad_(False)
