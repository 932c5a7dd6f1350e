"""Frames to files: every format holds every frame at its time and in its colour; nothing of others is touched."""

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from cogstyle.errors import MediaError
from cogstyle.pictures import write_png
from cogstyle.video import Video, check_output, enlarge, open_video, psnr

SQUARE, GROUND = (220, 40, 40), (40, 90, 200)


@pytest.fixture
def video():
    frames = np.full((9, 32, 48, 3), GROUND, np.uint8)
    for k in range(9):
        frames[k, 8:24, 4 * k : 4 * k + 12] = SQUARE
    return Video(frames, 8.0)


def test_mp4(video, tmp_path):
    path = video.save(tmp_path / "deep" / "v.mp4")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == 8.0
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert decoded.shape == video.frames.shape
    for k, frame in enumerate(decoded.astype(int)):  # the square and the ground, off their edges
        assert np.abs(frame[10:22, 4 * k + 2 : 4 * k + 10] - SQUARE).max() < 8 and np.abs(frame[:6] - GROUND).max() < 8
    assert [p.name for p in path.parent.iterdir()] == ["v.mp4"]


def test_odd_sizes_are_padded_for_mp4(tmp_path):
    path = Video(np.zeros((2, 31, 33, 3), np.uint8), 4.0).save(tmp_path / "v.mp4")
    with av.open(str(path)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (34, 32)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations(video, tmp_path, suffix):
    with Image.open(video.save(tmp_path / f"v{suffix}")) as image:
        frames = [(np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(image)]
    assert abs(sum(delay for _, delay in frames) - 9_000 / 8.0) <= 5  # a GIF counts in hundredths
    for (frame, _), wanted in zip(frames, video.frames, strict=True):
        assert np.abs(frame.astype(int) - wanted).mean() < 3


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


def test_enlarge_and_psnr(video):
    frames = video.frames[:, :, :32]
    large = enlarge(frames, 96)
    assert large.shape == (9, 96, 96, 3) and abs(large[:, 1::3, 1::3].astype(int) - frames).mean() < 1.0
    assert psnr(frames, frames) > 100
    assert psnr(np.full((1, 4, 4, 3), 10, np.uint8), np.full((1, 4, 4, 3), 15, np.uint8)) == pytest.approx(
        34.15, abs=0.01
    )


# ---------------------------------------------------------------- every frame, at its time, in its colour


@pytest.mark.parametrize(("suffix", "fps", "tick"), [(".gif", 8.0, 10), (".gif", 50.0, 10), (".webp", 30.0, 1)])
def test_equal_frames_are_all_kept_and_delays_add_up(tmp_path, suffix, fps, tick):
    frames = np.repeat(np.array([40, 200], np.uint8), (30, 3))[:, None, None, None] * np.ones((1, 16, 16, 3), np.uint8)
    with Image.open(Video(frames, fps).save(tmp_path / f"v{suffix}")) as image:
        delays = [frame.copy().info["duration"] for frame in ImageSequence.Iterator(image)]
    assert len(delays) == 33 and abs(sum(delays) - 33_000 / fps) <= tick and max(delays) - min(delays) <= tick
    with open_video(tmp_path / f"v{suffix}") as video:
        assert video.duration == pytest.approx(33 / fps, abs=tick / 1000) and len(list(video.frames())) == 33
        assert video.frames_at([29 / fps, 30 / fps], 16).mean((1, 2, 3)).astype(int).tolist() == [40, 200]


def test_a_gif_cannot_be_faster_than_viewers_show_it(tmp_path):
    with pytest.raises(MediaError, match="at most 50 frames a second, not 64"):
        Video(np.zeros((2, 8, 8, 3), np.uint8), 64.0).save(tmp_path / "v.gif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("side", "matrix"), [(64, 6), (480, 6), (720, 1), (1080, 1)])
def test_mp4_says_its_colours_and_comes_back_in_them(tmp_path, side, matrix):
    y, x = np.mgrid[:side, :side] / side
    picture = np.stack([200 - 150 * y, 60 + 150 * x, 90 + 50 * (x + y)], -1).round().astype(np.uint8)
    path = Video(np.stack([picture, picture]), 8.0).save(tmp_path / "v.mp4")
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range) == (matrix, 1, 13, 1)
    with open_video(path) as video:
        for frame in video.frames():
            assert np.abs(frame.astype(int) - picture).max() <= 3 and abs((frame.astype(int) - picture).mean()) < 0.5


BYTES = """
import hashlib, sys
import numpy as np
from cogstyle.video import Video
waste = [bytes(int(sys.argv[1]) * 999) for _ in range(50)]
frames = np.random.default_rng(0).integers(0, 255, (17, 8, 8, 3), np.uint8).repeat(16, 1).repeat(16, 2)
print(*[hashlib.sha256(Video(frames, 8.0).encoded(suffix)).hexdigest() for suffix in (".mp4", ".gif", ".webp")])
"""


@pytest.mark.slow
def test_equal_frames_give_equal_bytes_in_every_process():
    cores = sorted(os.sched_getaffinity(0))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", BYTES, str(number)],
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": str(number)},
            preexec_fn=lambda number=number: os.sched_setaffinity(0, cores[:number]),
        )
        for number in (1, 2)
    ]
    one, other = [process.communicate()[0].split() for process in running]
    assert len(one) == 3 and one == other


# ---------------------------------------------------------------- what is there already

NAMES = [
    *("", ".", "..", "sub/..", "/", "a.txt/x.mp4", "a.txt/x", "a.txt", "sub", "sub.mp4", "v.avi", "pipe.mp4", "link"),
    *("n" * 240 + ".mp4", "n" * 300, "n" * 300 + "/x.mp4", "a\0.mp4", "/dev/null", "/proc/x.mp4"),
    *("http://localhost/x.mp4", "http:/x", "rtmp://localhost/x"),
]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_is_there_is_lost(video, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for place in ("sub", "sub.mp4"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "thesis.txt").write_text("years of work")
    (tmp_path / "a.txt").write_text("more of it")
    (tmp_path / "link").symlink_to(tmp_path / "sub", target_is_directory=True)
    os.mkfifo("pipe.mp4")
    before = sorted(path.as_posix() for path in tmp_path.rglob("*"))
    if name != "/proc/x.mp4":  # for root alone it looks writable
        with pytest.raises(MediaError, match="cannot write"):
            check_output(Path(name))
    with pytest.raises(MediaError, match="cannot write") as caught:
        video.save(name)
    assert "\n" not in str(caught.value)
    assert sorted(path.as_posix() for path in tmp_path.rglob("*")) == before
    assert (tmp_path / "sub" / "thesis.txt").read_text() == "years of work"


def test_only_a_folder_of_ours_is_replaced(video, tmp_path):
    folder, marker = tmp_path / "v", tmp_path / "v.json"
    folder.mkdir()
    video.save(folder)  # it was empty
    for name in ("photo.png", "0001.jpg", ".hidden", "0002.png.txt"):
        (folder / name).write_text("not ours")
        with pytest.raises(MediaError, match=f"the folder is there, and holds {name}"):
            video.save(folder)
        (folder / name).unlink()
    (folder / "0099.png").mkdir()
    with pytest.raises(MediaError, match=r"holds 0099.png"):
        video.save(folder)
    (folder / "0099.png").rmdir()
    said = marker.read_text()
    marker.unlink()
    with pytest.raises(MediaError, match=r"no .*v\.json says that its pictures are a video of ours"):
        video.save(folder)
    for text in ('{"name": "my project"}', "years of work"):
        marker.write_text(text)
        with pytest.raises(MediaError, match=r"v.json is there, and says nothing of a video"):
            video.save(folder)
        assert marker.read_text() == text
    assert len(list(folder.iterdir())) == 9
    marker.write_text(said)
    Video(video.frames[:2], 8.0).save(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["0000.png", "0001.png"]


def test_what_a_killed_writer_left_does_not_stay(video, tmp_path):
    left, others = tmp_path / ".v.0123.scratch", tmp_path / ".v.mine.scratch"
    for folder in (left, others):
        folder.mkdir()
        write_png(folder / "0000.png", video.frames[0])
    (others / "notes.txt").write_text("not ours")
    video.save(tmp_path / "v")
    assert not left.exists() and (others / "notes.txt").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_places_that_are_not_writable(video, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(MediaError, match="not writable"):
        check_output(tmp_path / "closed" / "deep" / "v.mp4")


@pytest.mark.parametrize("name", ["12:30:15.mp4", "-.mp4", "%03d.mp4", "a|b.gif", "concat:x.webp", "tcp:", b"\xff.mp4"])
def test_names_are_only_names(video, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = video.save(os.fsdecode(name))
    with open_video(path) as found:
        assert len(list(found.frames())) == 9
    assert path.name in os.listdir()
