"""Files -> frames, by presentation time: as a viewer sees them."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property, partial
from heapq import heappop, heappush
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.stream import Disposition

from cogstyle.errors import MediaError
from cogstyle.files import expect_regular
from cogstyle.pictures import LARGEST, is_picture, naming, read_frames, read_picture
from cogstyle.video.appearance import deinterlaced, pixels_of, upright
from cogstyle.video.frames import square

# how names of videos end
COMMON = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".gif", ".webp", ".apng", ".mpg", ".mpeg")
VIDEOS = (*COMMON, ".wmv", ".flv", ".3gp", ".ogv", ".ogg", ".mxf", ".nut", ".ivf", ".dv", ".y4m")
FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,mxf,nut,ivf,dv,yuv4mpegpipe"  # none that leads to other files
OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}  # the file is opened here, FFmpeg opens nothing
ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # decoders that do not leave out what is transparent, as FFmpeg's own do
CLOCK = 1e-3  # seconds: Matroska rounds its times to these
NEAR, FAR = 2.0, 12.0  # seconds to seek further back, where a file has no good index
DISORDER = 4  # frames that may come after a later one
STRETCH = 8.0  # the most that pixels may be wider than high, or higher than wide
BACK, GAP = 0.2, 10.0  # seconds by which the clock of a stream jumps only where another recording begins


def open_video(path: Path) -> "VideoReader | PictureReader":
    """A reader of a video file, a picture (moving or not), or a folder of PNG files: its content says which.

    Raises:
        MediaError: if it cannot be read or holds no video.
    """
    with naming("video", path):
        folder = path.is_dir()
    return PictureReader(path) if folder or is_picture(path) else VideoReader(path)


def read_image(path: Path, size: int) -> np.ndarray:
    """An image file as uint8 [size, size, 3]: the largest centred square, resized.

    Raises:
        MediaError: if it cannot be read.
    """
    return square(read_picture(path), size)


def read_last_frames(path: Path, count: int, *, frame_rate: float, size: int) -> np.ndarray:
    """The end of a video as uint8 [1..count, size, size, 3], `frame_rate` frames a second; fewer if it is shorter.

    Raises:
        MediaError: if it cannot be read.
    """
    with open_video(path) as video:
        times = video.last - np.arange(count - 1, -1, -1) / frame_rate
        half = 0.5 / frame_rate  # a wanted moment shortly before the start still means the first frame
        return video.frames_at([max(time, 0.0) for time in times.tolist() if time > -half], size)


class PictureReader:
    """A picture, moving or not, or a folder of PNG files, read like a video: see VideoReader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> "PictureReader":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @cached_property
    def _begins(self) -> np.ndarray:
        """When each frame is first shown, and when the last one goes."""
        seconds = [shown for _, shown in read_frames(self.path)]
        if None in seconds:
            said = f'{self.path}.json beside it should, such as {{"fps": 8, "frames": {len(seconds)}}}'
            raise MediaError(f"cannot read video {self.path}: nothing says how many frames a second; {said}")
        return np.cumsum([0.0, *seconds])

    @property
    def sides(self) -> tuple[float, float]:
        """Height and width of a frame."""
        height, width = next(self.frames()).shape[:2]
        return height, width

    @property
    def codec(self) -> str:
        """How its frames are coded."""
        return "png" if self.path.is_dir() else self.path.suffix.lower().lstrip(".") or "unknown"

    @property
    def rate(self) -> float | None:
        """Frames a second, on average; None if nothing says so."""
        with suppress(MediaError):
            return (len(self._begins) - 1) / float(self._begins[-1])
        return None

    @property
    def last(self) -> float:
        """Seconds from the first frame to the last."""
        return float(self._begins[-2])

    @property
    def duration(self) -> float:
        """Seconds from the first frame until the last one goes."""
        return float(self._begins[-1])

    def frames_at(self, times: Sequence[float], size: int, *, letterbox: bool = False) -> np.ndarray:
        """What is shown at ascending `times` (seconds from the first frame), uint8 [F, size, size, 3]; see `square`."""
        numbers = np.searchsorted(self._begins[:-1], np.asarray(times) + CLOCK, "right").clip(1) - 1
        wanted = set(numbers.tolist())
        frames = enumerate(islice(self.frames(), max(wanted) + 1))
        shown = {number: square(pixels, size, letterbox=letterbox) for number, pixels in frames if number in wanted}
        return np.stack([shown[number] for number in numbers.tolist()])

    def frames(self) -> Iterator[np.ndarray]:
        """All frames, one after the other, uint8 [height, width, 3]."""
        return (pixels for pixels, _ in read_frames(self.path))


class VideoReader:
    """A video file read by presentation time, as a viewer sees it: seconds from the first frame that can be decoded.

    Moments are found by seeking, so a long file costs no more than a short one. Interlaced fields are made frames,
    transparent parts white. A context manager.

    Raises:
        MediaError: here and from every method, if the file cannot be read or holds no video.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with naming("video", path):
            expect_regular(path)
            self._file = path.open("rb")
            try:
                self._open()
                self.joined = self.container.format.name in ("mpegts", "mpeg") and self._is_joined()
                self.interlaced = False
                first = list(islice(self._decode(), DISORDER))
                if not first:
                    raise ValueError("it has no frames that can be decoded")
                self.start = min(time for time, _ in first)
                self.interlaced = any(frame.interlaced_frame for _, frame in first)
                with suppress(av.FFmpegError):
                    self._seek(self.start)
            except BaseException:
                self._file.close()
                raise

    def _open(self) -> None:
        self._file.seek(0)
        try:
            self.container: Any = av.open(self._file, options=OPTIONS)
        except av.ArgumentError:
            raise ValueError(f"it is none of {FORMATS.replace(',', ', ')}, gif, webp, png") from None
        stream: Any = self.container.streams.best("video")
        if stream is None or stream.disposition & Disposition.attached_pic:
            raise ValueError("it has no video stream")
        if stream.width * stream.height > LARGEST:
            raise ValueError(f"its frames have {stream.width * stream.height:,} pixels, at most {LARGEST:,} are read")
        self.aspect = float(stream.sample_aspect_ratio or 1)
        if not 1 / STRETCH <= self.aspect <= STRETCH:
            raise ValueError(f"its pixels are {self.aspect:g} times as wide as high, at most {STRETCH:g}")
        self.stream = stream
        # AVI knows no times of showing; those that FFmpeg guesses are wrong for these codecs
        self.unordered = self.container.format.name == "avi" and stream.codec_context.name in ("h264", "hevc")
        transparent = stream.metadata.get("alpha_mode") == "1" and stream.codec_context.name in ALPHA
        self.decoder: Any = av.CodecContext.create(ALPHA[stream.codec_context.name], "r") if transparent else None
        self.stream.codec_context.thread_count = 1  # whoever reads many files uses a process a core

    def _reopen(self) -> None:
        self.container.close()
        self._open()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()
        self._file.close()

    def _seek(self, time: float) -> None:
        """Seek to where decoding can begin, at or before `time` (of the file's clock)."""
        if self.joined:
            self._reopen()
        else:
            self.container.seek(int(max(time, 0.0) / self.stream.time_base), stream=self.stream)
            if self.decoder is not None:
                self.decoder.flush_buffers()

    def _is_joined(self) -> bool:
        """Whether several recordings lie in a stream one after the other, each with a clock of its own."""
        times = [float(p.dts * self.stream.time_base) for p in self.container.demux(self.stream) if p.dts is not None]
        self._reopen()
        return any(_jumps(later - time) for time, later in pairwise(times))

    @property
    def sides(self) -> tuple[float, float]:
        """Height and width of a frame in pixels as high as wide, before it is turned upright."""
        return self.stream.height, self.stream.width * self.aspect

    @property
    def codec(self) -> str:
        """How its frames are coded, as FFmpeg calls it: h264, ..."""
        return str(self.stream.codec_context.name)

    @property
    def rate(self) -> float | None:
        """Frames a second, on average; None if nothing says so."""
        return float(self.stream.average_rate or 0) or None

    @property
    def last(self) -> float:
        """Seconds from the first frame to the last."""
        return self._ends[0] - self.start

    @property
    def duration(self) -> float:
        """Seconds from the first frame until the last one goes."""
        return self._ends[1] - self.start

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """When the last frame is shown, and when it goes, on the file's clock; headers are only a hint."""
        with naming("video", self.path):
            if self.stream.duration is not None:
                guess = float(self.stream.duration * self.stream.time_base)
            else:
                guess = (self.container.duration or 0) / av.time_base
            ends: list[tuple[float, float]] = []
            with suppress(av.FFmpegError):
                self._seek(self.start + guess - NEAR)
                ends = self._packet_ends()
            if not ends:  # it cannot be sought, or its header promises more than there is
                self._reopen()
                ends = self._packet_ends()
            if not ends:
                raise ValueError("it has no frames with times")
        return max(shown for shown, _ in ends), max(gone for _, gone in ends)

    def _packet_ends(self) -> list[tuple[float, float]]:
        """Begin and end of every frame from here on, from the packets alone."""
        base, ends, clock = float(self.stream.time_base), [], _Clock(self.joined, self.rate)
        for packet in self.container.demux(self.stream):
            if not packet.size or packet.is_discard:
                continue
            length = packet.duration * base if packet.duration else clock.length
            shown = packet.dts if packet.pts is None or self.unordered else packet.pts
            if shown is not None:
                time = shown * base + clock.offset_at((shown if packet.dts is None else packet.dts) * base)
                ends.append((time, time + length))
            elif ends:  # as in MPEG program streams
                ends.append((ends[-1][1], ends[-1][1] + length))
        return ends

    def frames_at(self, times: Sequence[float], size: int, *, letterbox: bool = False) -> np.ndarray:
        """What is shown at ascending `times` (seconds from the first frame), uint8 [F, size, size, 3], upright."""
        moments = [self.start + time + CLOCK for time in times]
        with naming("video", self.path):
            for early in (0.0, NEAR, FAR):
                with suppress(av.FFmpegError):
                    self._seek(moments[0] - early)
                    shown = self._shown(moments)
                    if shown and shown[0][0] <= moments[0]:
                        break
            else:  # the index sends us wrong
                self._reopen()
                shown = self._shown(moments)
            if not shown:
                raise ValueError("it has no frames that can be decoded")
            fit = partial(square, size=size, pixel_aspect=self.aspect, letterbox=letterbox)
            return np.stack([upright(frame, fit(pixels_of(frame))) for _, frame in shown])

    def _shown(self, moments: list[float]) -> list[tuple[float, Any]]:
        """Decode from here: for each moment the last frame that begins before it, else the first; [] without frames."""
        shown: list[tuple[float, Any]] = []
        late = 0
        for time, frame in self._decode():
            shown = shown or [(time, frame)] * len(moments)
            for k, (moment, (best, _)) in enumerate(zip(moments, shown, strict=True)):
                if time < best if best > moment else best < time <= moment:
                    shown[k] = time, frame
            late += time > moments[-1]
            if late > DISORDER:
                break
        return shown

    def frames(self) -> Iterator[np.ndarray]:
        """All frames, one after the other, upright and with square pixels, uint8 [height, width, 3]."""
        with naming("video", self.path):
            self._reopen()
            for _, frame in self._decode():
                pixels = pixels_of(frame)
                if self.aspect != 1:
                    pixels = cv2.resize(pixels, (max(1, round(frame.width * self.aspect)), frame.height))
                yield upright(frame, pixels)

    def _decode(self) -> Iterator[tuple[float, Any]]:
        """Frames from here on, and when each is shown on the file's clock."""
        frames = self._ordered()
        clock = _Clock(self.joined, self.rate)
        for frame in deinterlaced(frames, self.stream) if self.interlaced else frames:
            yield frame.time + clock.offset_at(frame.time), frame

    def _ordered(self) -> Iterator[Any]:
        """Frames from here on with the times that they have, or must have, in the file."""
        waiting: list[int] = []
        last: int | None = None
        for packet in self.container.demux(self.stream):
            if self.unordered and packet.size and packet.dts is not None:
                heappush(waiting, packet.dts)
            for frame in packet.decode() if self.decoder is None else self.decoder.decode(packet):
                if waiting:  # shown at the times when packets are decoded, in the order of showing
                    frame.pts = heappop(waiting)
                elif frame.pts is None:  # as in MPEG program streams
                    if last is None or self.rate is None:
                        raise ValueError("its frames carry no times")
                    frame.pts = last + round(1 / self.rate / self.stream.time_base)
                last = frame.pts
                yield frame


def _jumps(step: float) -> bool:
    return not -BACK <= step <= GAP


class _Clock:
    """Joins the clocks of recordings: each continues where the one before it ended."""

    def __init__(self, joined: bool, rate: float | None) -> None:
        self.joined, self.length = joined, 1 / rate if rate else 0.0
        self.offset = 0.0
        self.time: float | None = None

    def offset_at(self, time: float) -> float:
        """What to add to this time, the next one in the file."""
        if self.joined and self.time is not None and _jumps(time - self.time):
            self.offset += self.time + self.length - time
        self.time = time
        return self.offset
