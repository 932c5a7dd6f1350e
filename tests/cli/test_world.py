"""`cogstyle world` writes a data set like anyone's."""

import csv

import av
import numpy as np
import pytest

from cogstyle.cli.main import main
from cogstyle.shapes_world import world


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


NONSENSE = [
    *(("--count", "1000000000"), ("--first-seed", "-1"), ("--size", "17"), ("--size", "100000")),
    *(("--fps", value) for value in ("inf", "nan", "0", "1e-9")),
]


@pytest.mark.parametrize(("option", "value"), NONSENSE)
def test_numbers_without_sense(tmp_path, capsys, option, value):
    given = {"--count": "1", "--out": str(tmp_path / "clips"), option: value}
    assert main(["world", *(text for pair in given.items() for text in pair)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"cogstyle: {option[2:]} ") and error.count("\n") == 1 and not list(tmp_path.iterdir())


def run(folder, count=2, **more) -> int:
    options = {"--size": 16, "--fps": 2, **{f"--{name}": value for name, value in more.items()}}
    return main(["world", "--count", str(count), "--out", str(folder), *(str(t) for p in options.items() for t in p)])


@pytest.mark.parametrize("name", ["captions.csv", "holiday.MOV", "0000001.mp4"])
def test_nothing_of_others_is_written_over(tmp_path, capsys, name):
    (tmp_path / name).write_text("mine")
    assert run(tmp_path) == 2
    error = capsys.readouterr().err
    assert name in error and "give another folder" in error and error.count("\n") == 1
    assert (tmp_path / name).read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == [name]


def test_places_that_cannot_be(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for folder in ("file", "file/deep", "n" * 300, "http://localhost/clips"):
        assert run(folder) == 2
        assert capsys.readouterr().err.count("\n") == 1 and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_same_data_set_is_gone_on_with(tmp_path, capsys):
    assert run(tmp_path) == 0
    (tmp_path / "0000001.mp4").unlink()  # as if it had been killed
    (tmp_path / "notes.txt").write_text("mine")
    before = (tmp_path / "0000000.mp4").stat().st_mtime_ns
    assert run(tmp_path) == 0 and (tmp_path / "0000001.mp4").exists()
    assert (tmp_path / "0000000.mp4").stat().st_mtime_ns == before
    for other in ({"size": 32}, {"count": 3}, {"first-seed": 1}, {"fps": 4}):
        assert run(tmp_path, **other) == 2
        assert "give another folder" in capsys.readouterr().err
