"""Frames to files and back: every format holds the right number of frames at the right rate."""

import av
import numpy as np
import pytest
from PIL import Image

from cogstyle.errors import MediaError
from cogstyle.video import Video, enlarge, psnr, read_image, read_last_frames


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
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "0099.png").write_bytes(b"old")
    folder = video.save(tmp_path / "v")
    assert sorted(p.name for p in folder.iterdir()) == [f"{k:04d}.png" for k in range(9)]
    assert np.array_equal(np.asarray(Image.open(folder / "0004.png")), video.frames[4])


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
