"""Folders of videos: what counts as one, its class, its frames; classes on both sides."""

import numpy as np
import pytest

from cogstyle.errors import ConfigError, MediaError
from cogstyle.evaluation.folders import check_balance, find_videos, read_frames
from cogstyle.video import Video

CLIP = np.repeat(np.arange(0, 250, 50, dtype=np.uint8), 16 * 16 * 3).reshape(5, 16, 16, 3)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "clip.webp", "clip"])
def test_every_form_is_read(tmp_path, name):
    Video(CLIP, 10.0).save(tmp_path / name)
    frames, rate = read_frames(tmp_path / name)
    assert frames.shape == CLIP.shape and np.abs(frames.astype(int) - CLIP).max() <= 4
    assert rate == pytest.approx(10.0)


def test_videos_and_their_classes(tmp_path):
    for name in ("run/1.gif", "run/2", "jump/3.mp4", "4.gif"):
        Video(CLIP, 10.0).save(tmp_path / name)
    (tmp_path / "captions.csv").write_text("no video")
    source = find_videos(tmp_path)
    assert [path.name for path in source.files] == ["4.gif", "3.mp4", "1.gif", "2"]
    assert source.classes == ["", "jump", "run", "run"]
    assert len(list(source.clips())) == 4
    record = source.record()
    assert record["videos"] == 4 and record["classes"] == {"": 1, "jump": 1, "run": 2}
    assert record["frames"] == {"5": 4} and record["sizes"] == {"16 x 16": 4} and record["fps"] == {"10": 4}


def test_nothing_to_read(tmp_path):
    with pytest.raises(MediaError, match="no folder"):
        find_videos(tmp_path / "none")
    with pytest.raises(MediaError, match="no videos in"):
        find_videos(tmp_path)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(MediaError, match=r"cannot read video .*bad.mp4"):
        list(find_videos(tmp_path).clips())


def test_balance():
    check_balance({"": 4}, {"": 9})
    check_balance({"run": 50, "jump": 50}, {"run": 51, "jump": 49})
    with pytest.raises(ConfigError, match=r"class '\(none\)' is 0.0 % of the real videos and 100.0 % of the others"):
        check_balance({"run": 3}, {"": 3})
