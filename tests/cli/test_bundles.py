"""`--bundle`, several times; what `inspect` says; --join; output that nobody reads or that cannot be shown."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cogstyle.bundle.manifest import read_manifest, write_manifest
from cogstyle.cli.main import main
from cogstyle.video import open_video
from tests.cli.test_sample import run  # noqa: F401  (a fixture)


@pytest.mark.parametrize("flag", ["--bundle", "--adapter"])
def test_adapters_of_two_bundles(debug_bundle, tmp_path, monkeypatch, capsys, flag):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(debug_bundle, "other")
    Path("other/bundle.toml").write_text(Path("other/bundle.toml").read_text().replace('name = "', 'name = "other'))
    names = [flag, str(debug_bundle), flag, "interpolation=other"]
    assert main(["sample", "x", "--levels", "1", "--out", "v.webp", "--quiet", *names]) == 0
    assert "interpolation=other" in json.loads(Path("v.webp.json").read_text())["bundle"]
    assert (
        main(["interpolate", "v.webp", "v.webp", "--prompt", "x", "--levels", "1", "--out", "w", "--quiet", *names])
        == 0
    )
    assert main(["upscale", "w/0000.png", "--out", "large", "--quiet", *names]) == 0
    assert main(["inspect", *names]) == 0
    capsys.readouterr()
    assert main(["sample", "x", "--out", "u.webp", "--quiet", flag, str(debug_bundle), flag, "other"]) == 2
    assert "are two whole bundles" in capsys.readouterr().err


def test_inspect_lists_words_and_rates(capsys):
    assert main(["inspect", "shapes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0]: line for line in lines if line}
    for group, words in {
        "colours": "red, green", "shapes": "circle", "actions": "bounces", "backgrounds": "grey background",
        "sizes": "small, large, 小, 大", "speeds": "slowly, quickly",
    }.items():  # fmt: skip
        assert words in listed[group]
    assert "keyframes: trained at 1, 2, 4, 8 frames a second" in lines


def test_words_and_rates_that_were_not_trained_are_named_once(debug_bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bundle = Path(shutil.copytree(debug_bundle, "bundle"))
    said = {"trained_rates": {"keyframes": [1.0, 2.0]}, "words": {"all": ["a red circle"]}}
    write_manifest(bundle, read_manifest(bundle) | said)
    common = ["--bundle", "bundle", "--quiet"]
    assert main(["sample", "a red circle", "--levels", "0", "--out", "v.webp", *common]) == 0
    assert capsys.readouterr().err == ""
    lines = [{"prompt": "a red dog", "levels": 0, "frame_rate": rate} for rate in (1, 2, 4, 8)]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert main(["sample", "--prompts", "p.jsonl", "--out", "d", *common]) == 0
    error = capsys.readouterr().err
    assert error.count("dog") == error.count("not at 4;") == error.count("not at 8;") == 1


@pytest.mark.parametrize("name", ["old.webp", "old"])
def test_join_writes_the_old_video_and_the_new_frames(run, name):  # noqa: F811
    assert run("x", "--levels", "1", "--out", name)[0] == 0
    assert run("x", "--levels", "1", "--continue", name, "--out", "new.webp")[0] == 0
    assert run("x", "--levels", "1", "--continue", name, "--join", "--out", "both.webp")[0] == 0
    old, new, both = (np.stack(list(frames_of(path))) for path in (name, "new.webp", "both.webp"))
    assert len(old) == len(new) == 9 and len(both) == 9 + 4  # 3 keyframes, 5 frames, are the old video's
    assert (both[:9] == old).all() and (both[9:] == new[5:]).all()
    assert json.loads(Path("both.webp.json").read_text())["joined"] == 9


def frames_of(path: str):
    with open_video(Path(path)) as video:
        yield from video.frames()


def test_nobody_reads_what_is_printed(run, monkeypatch):  # noqa: F811
    class Closed:
        def write(self, text: str) -> int:
            raise BrokenPipeError

        flush = write

    Path("p.jsonl").write_text("\n".join(json.dumps({"prompt": f"{n}", "levels": n}) for n in (0, 1)))
    monkeypatch.setattr(sys, "stdout", Closed())
    assert run("--prompts", "p.jsonl", "--out", "d")[0] == 0
    assert len(list(Path("d").glob("*.mp4"))) == 2


@pytest.mark.slow
def test_names_that_cannot_be_shown(debug_bundle, tmp_path):
    """An output that knows ASCII only is no reason to stop."""
    arguments = ["sample", "a red circle", "--levels", "0", "--quiet", "--bundle", str(debug_bundle), "--out"]
    command = [sys.executable, "-m", "cogstyle.cli.main", *arguments, b"\xc3\xbc.webp"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout == b"\\xfc.webp\n"
    assert sorted(os.listdir(os.fsencode(tmp_path))) == [b"\xc3\xbc.webp", b"\xc3\xbc.webp.json"]


@pytest.mark.parametrize("option", ["--bundle", "--adapter"])
def test_every_command_that_reads_a_bundle_names_it_alike(option, debug_bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, text in (("a.mp4", ""), ("a.txt", "x")):
        Path("clips").mkdir(exist_ok=True)
        Path("clips", name).write_text(text)
    for command in (
        ["evaluate", "--out", "report"],
        ["inspect"],
        ["export", "sat", "--to", "sat"],
        ["encode", "clips", "--to", "shards"],
        ["sample", "x", "--out", "v.webp"],
    ):
        assert main([*command, option, "nowhere"]) == 2
        assert "nowhere" in capsys.readouterr().err
    assert main(["export", "sat", option, str(debug_bundle), "--to", "sat"]) == 0
    assert main(["export", "sat", str(debug_bundle), option, str(debug_bundle), "--to", "other"]) == 2
    assert "give either BUNDLE or --bundle" in capsys.readouterr().err
