"""`cogstyle fvd` from the command line, with a small network as extractor."""

import json

import numpy as np
import pytest

from cogstyle.cli.main import main
from cogstyle.video import Video
from tests.evaluation.networks import write_network


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for name, shift in (("real", 0), ("fake", 60)):
        for number in range(5):
            rng = np.random.default_rng([number, shift])
            clip = rng.integers(0, 150, (1, 1, 1, 3)) + shift + rng.integers(0, 40, (17, 8, 8, 3))
            Video(clip.astype(np.uint8), 8.0).save(folder / name / str(number))
    return folder


def test_figures_of_two_folders(folders, tmp_path, capsys):
    extractor = ["--extractor", str(write_network(tmp_path)), "--quiet"]
    stats, out = tmp_path / "real.safetensors", tmp_path / "fvd.json"
    assert main(["fvd", "--real", str(folders / "real"), "--save-stats", str(stats), *extractor]) == 0
    assert f"5 videos, 6 features: {stats}" in capsys.readouterr().out
    both = ["--fake", str(folders / "fake"), "--out", str(out), *extractor]
    assert main(["fvd", "--real", str(stats), *both]) == 0
    told = capsys.readouterr().out
    assert told.startswith("FVD ") and "KVD " in told and "IS " in told and "note: 5 real videos" in told
    from_stats = json.loads(out.read_text("utf-8"))
    assert main(["fvd", "--real", str(folders / "real"), *both]) == 0
    assert json.loads(out.read_text("utf-8")) == from_stats
    assert from_stats["extractor"]["frames"] == 16 and from_stats["fake"]["videos"] == 5 and from_stats["fvd"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --fake to compare with, or --save-stats"),
        (["--save-stats", "stats.safetensors", "--out", "fvd.json"], "--out needs --fake"),
        (["--fake", "nowhere"], "no folder or statistics file nowhere"),
        (["--fake", "BEFORE", "--out", "FILE/fvd.json"], "net.pt is not a folder"),
        (["--fake", "BEFORE", "--out", "."], "cannot write .: "),
        (["--fake", "BEFORE", "--out", "none/fvd.json"], "there is no folder none"),
        (["--save-stats", "FILE/s.safetensors"], "net.pt is not a folder"),
        (["--fake", "BEFORE", "--out", "x", "--save-stats", "x"], "--out and --save-stats are the same file"),
    ],
)
def test_wrong_arguments_are_one_line(folders, tmp_path, capsys, arguments, message):
    """What cannot be written is known before any video is read: that of BEFORE is none."""
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "bad.mp4").touch()
    net = str(write_network(tmp_path))
    arguments = [a.replace("BEFORE", str(tmp_path / "before")).replace("FILE", net) for a in arguments]
    assert main(["fvd", "--real", str(folders / "real"), *arguments, "--extractor", net, "--quiet"]) == 2
    assert message in capsys.readouterr().err


def test_short_videos_are_refused(folders, tmp_path, capsys):
    Video(np.zeros((15, 8, 8, 3), np.uint8), 8.0).save(tmp_path / "short" / "clip")
    arguments = ["--fake", str(tmp_path / "short"), "--extractor", str(write_network(tmp_path)), "--quiet"]
    assert main(["fvd", "--real", str(folders / "real"), *arguments]) == 2
    assert "short/clip: a clip has 15 frames, the extractor needs 16" in capsys.readouterr().err
