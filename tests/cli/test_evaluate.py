"""`cogstyle evaluate` from the command line, on a bundle that has been trained for a few steps."""

import json

import pytest

from cogstyle.cli.main import main


def test_command_writes_a_report(debug_bundle, tmp_path, capsys):
    out = tmp_path / "report"
    arguments = ["evaluate", str(debug_bundle), "--count", "2", "--levels", "0", "--out", str(out), "--quiet"]
    some = ["--parts", "one actor", "frame rate", "stages, one actor"]
    assert main([*arguments, *some]) == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert list(report["parts"]) == some[1:]
    assert report["parts"]["one actor"]["alignment"]["all"]["n"] == 2
    assert {path.suffix for path in out.iterdir()} == {".json", ".md", ".png"}
    assert "## Frame-rate control" in capsys.readouterr().out
    before = (out / "one-actor.png").stat().st_mtime_ns
    assert main([*arguments, "--parts", "one actor", "--batch", "1"]) == 0
    assert (out / "one-actor.png").stat().st_mtime_ns == before
    assert "## Frame-rate control" in capsys.readouterr().out


def test_upscaled_clips_of_few_kinds(debug_bundle, tmp_path):
    arguments = ["--count", "1", "--levels", "1", "--upscale", "--actors", "1", "--held-out", "--quiet"]
    arguments += ["--parts", "one actor, held-out pair", "--out", str(tmp_path)]
    assert main(["evaluate", str(debug_bundle), *arguments]) == 0
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["made"]["upscale"] and report["made"]["actors"] == [1] and report["made"]["held_out"] == [True]
    assert "superres" in report["made"]["sampling"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--first-seed", "5"], "first-seed 5 must be 1000000 or more"),
        (["--count", "0"], "count 0 must be positive"),
        (["--batch", "0"], "batch 0 must be positive"),
        (["--levels", "4"], "levels 4 must be 0 to 3"),
        (["--held-out", "--parts", "language"], "no part language; this evaluation has reader"),
        (["--sweep", "-1"], "must be scales of 0 or more"),
    ],
)
def test_wrong_arguments_are_one_line(debug_bundle, tmp_path, capsys, arguments, message):
    out = tmp_path / "report"
    assert main(["evaluate", str(debug_bundle), *arguments, "--quiet", "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1 and not out.exists()
