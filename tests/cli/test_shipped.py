"""What comes with the package and around the command: recipes, bundles, version, completion."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cogstyle
from cogstyle.cli.main import main
from cogstyle.training.recipes import load_recipe

ROOT = Path(__file__).parents[2]


def test_recipes_are_listed_and_copied(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in listed]
    assert names == sorted(path.relative_to(ROOT / "train").as_posix() for path in (ROOT / "train").rglob("*.toml"))
    assert all(len(line.split()) > 3 for line in listed)  # each says what it is for
    for name in ("shapes/image.toml", "own_videos"):
        assert main(["recipes", "copy", name]) == 0
    assert load_recipe(Path("image.toml")) == load_recipe(ROOT / "train/shapes/image.toml")
    assert Path("own_videos.toml").is_file()
    capsys.readouterr()
    for argv, said in (
        (["copy", "image.toml"], "no recipe 'image.toml'"),
        (["copy", "shapes/image.toml"], "image.toml is there already"),
        (["copy", "../setup"], "no recipe"),
        (["copy"], "name the recipe"),
        (["list", "x"], "recipes copy"),
    ):
        assert main(["recipes", *argv]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("hub", ["there", "not installed"])
def test_bundles_are_listed_with_their_sizes(capsys, monkeypatch, hub):
    if hub == "not installed":
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["bundles"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    files = (ROOT / "pretrained_adapters/shapes").glob("*.[sm][ao]*")
    size = sum(path.stat().st_size for path in files)
    assert "shipped" in lines["shapes"] and f" {size / 1e6:.1f} MB  " in lines["shapes"]
    assert "keyframes" in lines["shapes"] and "keyframes" not in lines["pictures"] and "shapes_classifier" not in lines


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"cogstyle {cogstyle.__version__}\n"


def test_a_shell_completes_commands_and_flags(tmp_path):
    pytest.importorskip("argcomplete")
    for line, wanted in (("cogstyle rec", ["recipes"]), ("cogstyle sample --fra", ["--frame-rate"])):
        answer = tmp_path / "answer"
        environment = {**os.environ, "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line}
        environment |= {"COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
        subprocess.run([sys.executable, "-m", "cogstyle"], env=environment, check=True, timeout=60, cwd=ROOT)
        assert answer.read_text().split() == wanted
