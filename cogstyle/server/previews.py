"""Frames of videos while they are drawn, for those who watch; nothing is decoded for nobody."""

import base64
import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import numpy as np
from PIL import Image
from torch import Tensor

from cogstyle.sampling.pipeline import Pipeline


class Previews:
    """What there is to see of each video, by the time of the frame in seconds; any thread may call it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._watchers: Counter[str] = Counter()
        self._frames: dict[str, dict[float, str]] = {}

    @contextmanager
    def watching(self, identity: str) -> Iterator[None]:
        """Ask for the frames of a video for a while."""
        with self._lock:
            self._watchers[identity] += 1
        try:
            yield
        finally:
            with self._lock:
                self._watchers -= Counter([identity])
                if identity not in self._watchers:
                    self._frames.pop(identity, None)

    def show(self, identity: str, pipe: Pipeline, tokens_FL: Tensor, fps: float) -> None:
        """Decode those frames of a video that were not shown yet, if somebody watches."""
        with self._lock:
            if identity not in self._watchers:
                return
            shown = self._frames.setdefault(identity, {})
        new = [number for number in range(len(tokens_FL)) if number / fps not in shown]
        if new:
            for number, frame in zip(new, pipe.decode(tokens_FL[new]), strict=True):
                shown[number / fps] = data_url(frame)

    def frames(self, identity: str) -> dict[float, str]:
        """Pictures so far as `data:` URLs."""
        return self._frames.get(identity, {}).copy()


def data_url(picture_HWC: np.ndarray) -> str:
    """uint8 [height, width, 3] as the address of a WebP picture."""
    file = io.BytesIO()
    Image.fromarray(picture_HWC).save(file, "webp", quality=90)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
