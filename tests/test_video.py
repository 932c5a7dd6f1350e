"""Frames to files and back: every format holds the right number of frames at the right rate."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from cogstyle.errors import MediaError
from cogstyle.video import Video, VideoReader, enlarge, psnr, read_image, read_last_frames, square
from tests.videos import clock, turn, write_clock


@pytest.fixture
def video():
    frames = np.zeros((9, 32, 48, 3), np.uint8)
    for k in range(9):
        frames[k, 8:24, 4 * k : 4 * k + 12] = (220, 40, 40)
    return Video(frames, 8.0)


def test_mp4(video, tmp_path):
    path = video.save(tmp_path / "deep" / "v.mp4")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == 8.0
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert decoded.shape == video.frames.shape
    assert np.abs(decoded.astype(int) - video.frames).mean() < 6
    assert [p.name for p in path.parent.iterdir()] == ["v.mp4"]


def test_odd_sizes_are_padded_for_mp4(tmp_path):
    path = Video(np.zeros((2, 31, 33, 3), np.uint8), 4.0).save(tmp_path / "v.mp4")
    with av.open(str(path)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (34, 32)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations(video, tmp_path, suffix):
    with Image.open(video.save(tmp_path / f"v{suffix}")) as image:
        assert image.n_frames == 9
        image.seek(3)
        image.load()
        assert image.info["duration"] in (120, 125, 130)
        shown = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(shown - video.frames[3]).mean() < 3


def test_png_folder_replaces_an_older_one(video, tmp_path):
    Video(np.zeros((12, 8, 8, 3), np.uint8), 4.0).save(tmp_path / "v")
    folder = video.save(tmp_path / "v")
    assert sorted(p.name for p in folder.iterdir()) == [f"{k:04d}.png" for k in range(9)]
    assert np.array_equal(np.asarray(Image.open(folder / "0004.png")), video.frames[4])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v", "v.json"]


def test_other_suffixes_are_refused(video, tmp_path):
    with pytest.raises(MediaError, match=r"suffix must be \.mp4, \.gif, \.webp"):
        video.save(tmp_path / "v.avi")
    assert not list(tmp_path.iterdir())


def test_contact_sheet(video):
    sheet = video.contact_sheet(4, scale=1)
    assert sheet.shape == (3 * 34, 4 * 50, 3)
    assert np.array_equal(sheet[1:33, 51:99], video.frames[1])
    assert (sheet[69:, 60:] == 255).all()


def test_read_image_crops_the_middle(tmp_path):
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 20:60] = 200
    Image.fromarray(picture).save(tmp_path / "p.png")
    assert (read_image(tmp_path / "p.png", 32) == 200).all()
    (tmp_path / "bad.png").write_bytes(b"no image")
    for name in ("bad.png", "missing.png"):
        with pytest.raises(MediaError, match="cannot read image"):
            read_image(tmp_path / name, 32)


def test_enlarge_and_psnr(video):
    frames = video.frames[:, :, :32]
    large = enlarge(frames, 96)
    assert large.shape == (9, 96, 96, 3) and abs(large[:, 1::3, 1::3].astype(int) - frames).mean() < 1.0
    assert psnr(frames, frames) > 100
    assert psnr(np.full((1, 4, 4, 3), 10, np.uint8), np.full((1, 4, 4, 3), 15, np.uint8)) == pytest.approx(
        34.15, abs=0.01
    )


def test_the_end_of_a_video_is_read_by_time(tmp_path):
    frames = np.stack([np.full((48, 64, 3), 10 * k, np.uint8) for k in range(25)])  # 3 s at 8 a second
    Video(frames, 8.0).save(tmp_path / "v.mp4")
    last = read_last_frames(tmp_path / "v.mp4", 3, frame_rate=2.0, size=32)
    assert last.shape == (3, 32, 32, 3)
    assert np.abs(last.mean((1, 2, 3)) - [160, 200, 240]).max() < 4  # 2 s, 2.5 s and 3 s
    short = read_last_frames(tmp_path / "v.mp4", 3, frame_rate=0.5, size=32)
    assert len(short) == 2  # it is too short for a third
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    for name in ("bad.mp4", "none.mp4"):
        with pytest.raises(MediaError, match=f"cannot read video .*{name}"):
            read_last_frames(tmp_path / name, 3, frame_rate=2.0, size=32)


# ---------------------------------------------------------------- reading by time

EVERY = [k / 8 for k in range(33)]  # 4 s


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {}),
        ("odd.mkv", {"size": (63, 47), "codec": "ffv1", "pix_fmt": "bgr0"}),
        ("ten_bits.mkv", {"codec": "ffv1", "pix_fmt": "yuv420p10le"}),
        ("sound.mp4", {"audio": True}),
        ("old.avi", {"codec": "mpeg4"}),
        ("stream.ts", {}),
    ],
)
def test_any_file_is_read_by_time(tmp_path, name, options):
    with VideoReader(write_clock(tmp_path / name, EVERY, **options)) as video:
        assert 4.0 < video.duration < 4.2 and video.last == pytest.approx(4.0, abs=0.002)
        frames = video.frames_at([0.0, 0.5, 1.0, 3.5, 4.0], 32)
    assert frames.shape == (5, 32, 32, 3)
    assert clock(frames) == pytest.approx([0.0, 0.5, 1.0, 3.5, 4.0], abs=0.1)


def test_a_frame_is_shown_until_the_next_one_comes(tmp_path):
    """Variable frame rate: half of the time nothing new happens."""
    path = write_clock(tmp_path / "v.mkv", [0.0, 0.1, 0.2, 3.0, 3.05, 3.1, 6.0], codec="ffv1", pix_fmt="bgr0")
    with VideoReader(path) as video:
        frames = video.frames_at([0.15, 2.9, 3.0, 5.9, 6.0, 9.0], 16)
    assert clock(frames) == pytest.approx([0.1, 0.2, 3.0, 3.1, 6.0, 6.0], abs=0.06)


def test_moments_are_found_by_seeking(tmp_path, monkeypatch):
    path = write_clock(tmp_path / "long.mp4", [k / 20 for k in range(120)], gop=20)
    sought = []
    with VideoReader(path) as video:
        seek = video._seek
        monkeypatch.setattr(video, "_seek", lambda time: (seek(time), sought.append(time)))
        assert clock(video.frames_at([4.0, 4.5], 16)) == pytest.approx([4.0, 4.5], abs=0.1)
        assert sought == [pytest.approx(4.0, abs=0.01)]
        first = next(video.container.decode(video.stream)).time
        assert first > 4.0  # decoding went on from there, not from the start
        assert clock(video.frames_at([1.0], 16)) == pytest.approx([1.0], abs=0.1)  # and back


def test_what_cannot_be_sought_is_read_from_its_start(tmp_path, monkeypatch):
    def refuse(self, time):
        raise av.error.InvalidDataError(1, "no index")

    monkeypatch.setattr(VideoReader, "_seek", refuse)
    with VideoReader(write_clock(tmp_path / "v.mp4", EVERY)) as video:
        assert video.duration == pytest.approx(4.125, abs=0.01)
        assert clock(video.frames_at([3.0, 3.5], 16)) == pytest.approx([3.0, 3.5], abs=0.1)


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


def test_damaged_files_are_refused_by_name(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    for name in ("whole.mkv", "whole.mp4"):  # the second promises at its head more than there is
        whole = write_clock(tmp_path / name, EVERY, picture=noise, index_first=True).read_bytes()
        (cut := tmp_path / f"cut_{name}").write_bytes(whole[: len(whole) // 2])
        with VideoReader(cut) as video:
            assert 0.5 < video.duration < 3.5
            assert video.frames_at([0.0], 16).shape == (1, 16, 16, 3)
    (tmp_path / "text.mp4").write_text("no video at all")
    with av.open(str(tmp_path / "sound.m4a"), "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        silence.sample_rate = 8000
        container.mux([*sound.encode(silence), *sound.encode()])
    for name, reason in (("text.mp4", "Invalid data"), ("none.mp4", "No such file"), ("sound.m4a", "no video stream")):
        with pytest.raises(MediaError, match=f"cannot read video .*{name}: .*{reason}"):
            VideoReader(tmp_path / name)


CLIPS = Path(__file__).parents[2] / "shared" / "clips"


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
