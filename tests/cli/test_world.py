"""`cogstyle world` writes a data set like anyone's."""

import csv

import av
import numpy as np

from cogstyle.cli.main import main
from cogstyle.data import world


def test_world_writes_videos_and_captions(tmp_path, capsys):
    assert (
        main(["world", "--count", "3", "--out", str(tmp_path), "--first-seed", "5", "--size", "32", "--fps", "4"]) == 0
    )
    with open(tmp_path / "captions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["video"] for row in rows] == ["0000005.mp4", "0000006.mp4", "0000007.mp4"]
    for seed, row in zip((5, 6, 7), rows, strict=True):
        scene = world.draw_scene(seed)
        assert row["caption"] == world.caption(scene)
        with av.open(str(tmp_path / row["video"])) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == scene.duration * 4 + 1
        assert np.abs(frames[2].astype(int) - world.render(scene, 0.5, 32)).mean() < 8


def test_world_refuses_nonsense(tmp_path, capsys):
    assert main(["world", "--count", "0", "--out", str(tmp_path)]) == 2
    assert "count 0 must be positive" in capsys.readouterr().err
