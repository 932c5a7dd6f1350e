"""Frames come out as players show them: upright, in their colours, without fields; real files show it."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cogstyle.errors import MediaError
from cogstyle.video import VideoReader, open_video, read_last_frames, square
from tests.videos import turn, write_clock, write_frames


def test_turned_and_stretched_pictures_come_out_upright(tmp_path):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32] = (200, 0, 0)  # red at the left, blue at the right
    picture[:, 32:] = (0, 0, 200)
    path = turn(write_clock(tmp_path / "v.mp4", [0.0, 0.5], picture=picture))
    with VideoReader(path) as video:
        frame = video.frames_at([0.0], 16)[0].astype(int)
    assert frame[3, 8, 0] > 150 > frame[3, 8, 2] + 100 and frame[12, 8, 2] > 150 > frame[12, 8, 0] + 100
    picture[:, :14] = picture[:, 50:] = 255
    wide = write_clock(tmp_path / "wide.mp4", [0.0, 0.5], picture=picture, aspect=Fraction(3, 2))
    with VideoReader(wide) as video:  # 96 x 48 when shown: the middle 32 of 64 columns fill the square
        frame = video.frames_at([0.0], 48)[0].astype(int)
    assert frame.shape == (48, 48, 3) and frame[24, :20, 0].min() > 150 > frame[24, :, 1].max()
    assert np.array_equal(square(np.arange(12, dtype=np.uint8).reshape(2, 6, 1), 2, pixel_aspect=0.5)[0, 0], 1)


def test_colours_follow_what_the_file_says(tmp_path):
    """The same numbers are another colour in BT.709 than in BT.601."""
    planes = [np.full(shape, value, np.uint8) for shape, value in (((32, 32), 100), ((8, 32), 90), ((8, 32), 200))]
    found = {}
    for name, matrix, height in (("bt601", 5, 32), ("bt709", 1, 32), ("unsaid", 2, 32), ("unsaid_hd", 2, 720)):
        path = tmp_path / f"{name}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=8)
            stream.width, stream.height, stream.pix_fmt = 32, height, "yuv420p"
            stream.codec_context.colorspace = matrix
            frame = av.VideoFrame.from_ndarray(
                np.concatenate([plane.repeat(height // 32 + 1, 0)[: len(plane) * height // 32] for plane in planes]),
                format="yuv420p",
            )
            frame.colorspace = matrix
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        with VideoReader(path) as video:
            found[name] = video.frames_at([0.0], 8)[0, 4, 4].tolist()
    assert np.allclose(found["bt601"], [213, 54, 21], atol=4) and np.allclose(found["bt709"], [227, 68, 18], atol=4)
    assert found["unsaid"] == found["bt601"] and found["unsaid_hd"] == found["bt709"]


@pytest.mark.parametrize("matrix", [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0),
                                    (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)])  # fmt: skip
def test_turned_and_mirrored_pictures(tmp_path, matrix):
    """Where the matrix sends each corner of the picture, there its colour is seen."""
    corners = {(-1, -1): (200, 0, 0), (1, -1): (0, 160, 0), (-1, 1): (0, 0, 200), (1, 1): (200, 200, 200)}
    picture = np.zeros((48, 48, 3), np.uint8)
    for (x, y), colour in corners.items():
        picture[24 * (y > 0) :, 24 * (x > 0) :][:24, :24] = colour
    path = turn(write_clock(tmp_path / "v.mp4", [0.0, 0.5], size=(48, 48), picture=picture), matrix)
    a, b, c, d = matrix
    with open_video(path) as video:
        for frame in (video.frames_at([0.0], 48)[0], next(video.frames())):
            for (x, y), colour in corners.items():
                column, row = a * x + c * y, b * x + d * y
                assert np.abs(frame[24 + 12 * row, 24 + 12 * column].astype(int) - colour).max() < 12


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("v.mov", "qtrle", "argb"), ("v.mov", "png", "rgba"), ("v.webm", "libvpx-vp9", "yuva420p")],
)
def test_transparent_videos_are_laid_over_white(tmp_path, name, codec, pix_fmt):
    picture = np.zeros((32, 32, 4), np.uint8)
    picture[:, :16] = (0, 255, 0, 0)  # green that nobody sees
    picture[:, 16:] = (200, 0, 0, 255)
    options = {"auto-alt-ref": "0"} if "vp9" in codec else {}
    path = write_frames(
        tmp_path / name, [picture] * 9, codec=codec, pix_fmt=pix_fmt, form="rgba", b_frames=0, options=options
    )
    with VideoReader(path) as video:
        frames = [*video.frames_at([0.0, 0.5, 1.0], 32), video.frames_at([0.25], 32)[0], *video.frames()]
    for frame in frames:
        assert (
            np.abs(frame[8, 4].astype(int) - 255).max() < 3 and np.abs(frame[8, 28].astype(int) - [200, 0, 0]).max() < 3
        )
    assert len(frames) == 13


def test_interlaced_fields_become_frames(tmp_path):
    """A bar that moves between two fields leaves a comb where lines of both are shown as one frame."""
    pictures = []
    for k in range(12):
        picture = np.zeros((64, 96, 3), np.uint8)
        for field in (0, 1):
            picture[field::2, 6 * k + 3 * field : 6 * k + 3 * field + 12] = 220
        pictures.append(picture)
    path = write_frames(tmp_path / "v.mp4", pictures, options={"x264-params": "tff=1"})
    with VideoReader(path) as video:
        assert video.interlaced and video.last == pytest.approx(11 / 8, abs=0.01)
        frames = np.stack(list(video.frames())).astype(int)
    assert len(frames) == 12 and np.abs(np.diff(frames[2:-2, 8:-8, :, 0], axis=1)).mean() < 2


@pytest.mark.parametrize(("size", "matrix"), [((720, 576), 5), ((1280, 544), 1), ((960, 720), 1), ((640, 480), 5)])
def test_untagged_colours_are_those_that_players_show(tmp_path, size, matrix):
    """BT.709 beyond the sizes of television, whichever side is larger."""
    found = []
    for said in (2, matrix):
        frame = av.VideoFrame.from_ndarray(np.full((size[1] * 3 // 2, size[0]), 90, np.uint8), format="yuv420p")
        with av.open(str(tmp_path / "v.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=8)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.codec_context.colorspace = frame.colorspace = said
            container.mux([*stream.encode(frame), *stream.encode()])
        with VideoReader(tmp_path / "v.mkv") as video:
            found.append(video.frames_at([0.0], 8)[0, 4, 4].tolist())
    assert found[0] == found[1]


CLIPS = Path(__file__).parents[3] / "shared" / "clips"


@pytest.mark.skipif(not CLIPS.exists(), reason="no real clips here")
def test_real_files():
    """AV1 without a frame count, 10-bit HEVC, phones held upright and upside down, packets out of order, damage."""
    durations = {"av1_video.mkv": 5.0, "h265_10bits.mp4": 1.0, "rotated_90.mov": 0.1, "unordered.mov": 0.125}
    for name, duration in durations.items():
        with VideoReader(CLIPS / name) as video:
            assert video.duration == pytest.approx(duration, abs=0.01)
            assert video.frames_at([k * duration / 4 for k in range(5)], 32).shape == (5, 32, 32, 3)
    with VideoReader(CLIPS / "rotated_90.mov") as one, VideoReader(CLIPS / "rotated_180.mov") as other:
        assert [next(v.container.decode(v.stream)).rotation for v in (one, other)] == [-90, -180]
    with (
        pytest.raises(MediaError, match=r"corrupted\.mp4: Invalid data"),
        VideoReader(CLIPS / "corrupted.mp4") as video,
    ):
        video.frames_at([0.0, 1.0, 2.0, 3.0, 4.0], 32)


TRIALS = CLIPS.parent / "trials"


@pytest.mark.skipif(not TRIALS.exists(), reason="no trial files here")
def test_trial_files():
    corners = {"rot90": ["b", "w", "r", "g"], "rot90hflip": ["r", "g", "b", "w"]}
    for name, wanted in corners.items():
        with open_video(TRIALS / f"{name}.mp4") as video:
            frame = video.frames_at([0.0], 96)[0].astype(int)
        found = [frame[y, x] for y in (8, 88) for x in (8, 88)]
        assert ["w" if p.min() > 200 else "rgb"[p.argmax()] for p in found] == wanted
    with open_video(TRIALS / "bf.avi") as video:
        assert video.last == pytest.approx(2.875) and video.frames_at([0.0], 96)[0, 48, 48].max() < 20
    with open_video(TRIALS / "gopcut.ts") as video:
        assert video.duration == pytest.approx(6.0) and len(list(video.frames())) == 60
    with open_video(TRIALS / "alpha_qtrle.mov") as video:
        assert (video.frames_at([0.0], 96)[0, :, :40] == 255).all()
    with open_video(TRIALS / "interlaced.mp4") as video:
        assert video.interlaced
    with pytest.raises(MediaError, match="50 times as wide"):
        open_video(TRIALS / "tinysar.mp4")
    assert len(read_last_frames(TRIALS / "own_output.webp", 3, frame_rate=2.0, size=64)) == 3
