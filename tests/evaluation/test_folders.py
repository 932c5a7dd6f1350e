"""Folders of videos: what counts as one, its class, its frames; classes on both sides."""

from pathlib import Path

import av
import numpy as np
import pytest

from cogstyle.errors import ConfigError, MediaError
from cogstyle.evaluation.folders import Film, check_balance, find_videos
from cogstyle.pictures import write_png
from cogstyle.video import Video, open_video, square
from tests.videos import turn, write_clock

CLIP = np.repeat(np.arange(0, 250, 50, dtype=np.uint8), 16 * 16 * 3).reshape(5, 16, 16, 3)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "clip.webp", "clip"])
def test_every_form_is_read(tmp_path, name):
    Video(CLIP, 10.0).save(tmp_path / name)
    film = Film(tmp_path / name)
    frames, rate = np.stack(list(film)), film.rate
    assert frames.shape == CLIP.shape and np.abs(frames.astype(int) - CLIP).max() <= 4
    assert rate == pytest.approx(10.0)


def test_videos_and_their_classes(tmp_path):
    for name in ("run/1.gif", "run/2", "jump/3.mp4", "4.gif"):
        Video(CLIP, 10.0).save(tmp_path / name)
    (tmp_path / "captions.csv").write_text("no video")
    source = find_videos(tmp_path)
    assert [path.name for path in source.files] == ["4.gif", "3.mp4", "1.gif", "2"]
    assert source.classes == ["", "jump", "run", "run"]
    assert [len(list(clip)) for clip in source.clips()] == [5] * 4
    record = source.record()
    assert record["videos"] == 4 and record["classes"] == {"": 1, "jump": 1, "run": 2}
    assert record["frames"] == {"5": 4} and record["sizes"] == {"16 x 16": 4} and record["fps"] == {"10": 4}


def test_what_is_no_video(tmp_path):
    """Contact sheets beside videos, what macOS leaves, and pictures without numbers."""
    for name in ("run/1.mp4", "run/2.gif", "3.mp4"):
        Video(CLIP, 10.0).save(tmp_path / name)
        write_png(tmp_path / Path(name).with_suffix(".png"), CLIP[0])
    for name in ("._3.mp4", "__MACOSX/4.mp4", "run/.5.mp4", "posters/star.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_png(tmp_path / name, CLIP[0])
    (tmp_path / "jump" / "a").mkdir(parents=True)
    for number in range(1, 12):
        write_png(tmp_path / "jump" / "a" / f"frame{number}.png", np.full((16, 16, 3), 20 * number, np.uint8))
    source = find_videos(tmp_path)
    assert [f"{kind}/{path.name}" for kind, path in zip(source.classes, source.files, strict=True)] == [
        "/3.mp4", "jump/a", "run/1.mp4", "run/2.gif",
    ]  # fmt: skip
    assert [int(frame.mean()) for frame in Film(tmp_path / "jump" / "a")] == [20 * n for n in range(1, 12)]


def test_rotated_videos_are_seen_as_training_sees_them(tmp_path):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:10], picture[:, :10] = 255, 128
    path = turn(write_clock(tmp_path / "a.mp4", [k / 8 for k in range(9)], picture=picture))
    with open_video(path) as video:
        trained = video.frames_at([0.5], 32)[0]
    frame = list(Film(path))[4]
    assert frame.shape == (64, 48, 3) and np.abs(square(frame, 32).astype(int) - trained).max() <= 2


def test_nothing_to_read(tmp_path):
    with pytest.raises(MediaError, match="no folder"):
        find_videos(tmp_path / "none")
    with pytest.raises(MediaError, match="no videos in"):
        find_videos(tmp_path)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(MediaError, match=r"cannot read video .*bad.mp4"):
        list(Film(tmp_path / "bad.mp4"))
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        silence.sample_rate = 8000
        container.mux([*sound.encode(silence), *sound.encode()])
    with pytest.raises(MediaError, match=r"cannot read video .*sound.mp4: it has no video stream"):
        list(Film(tmp_path / "sound.mp4"))


def test_balance():
    check_balance({"": 4}, {"": 9})
    check_balance({"run": 50, "jump": 50}, {"run": 51, "jump": 49})
    with pytest.raises(ConfigError, match=r"class '\(none\)' is 0.0 % of the real videos and 100.0 % of the others"):
        check_balance({"run": 3}, {"": 3})
