"""The best of several draws: chosen by the judge, written as the sample of its seed, its tokens drawn once."""

import json
from pathlib import Path

import pytest

from cogstyle.cli.main import main

JUDGE = """
SEEN = []

def judge(frames, times, asked):
    SEEN.append(frames.tobytes())
    darkest = float(frames.mean()) / 255
    return {"prompt": asked["prompt"] == "a red circle", "dark": 1 - darkest}
"""


@pytest.fixture
def sample(debug_bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(JUDGE)

    def call(*options):
        status = main(["sample", *options, "--bundle", str(debug_bundle), "--levels", "1", "--quiet"])
        told = capsys.readouterr()
        return status, told.out, told.err

    return call


def test_the_judge_s_best_is_kept(sample):
    means = {}
    for seed in range(4, 8):
        assert sample("a red circle", "--out", f"{seed}", "--seed", str(seed))[0] == 0
        pictures = sorted(Path(f"{seed}").glob("*.png"))
        means[seed] = b"".join(path.read_bytes() for path in pictures)
    status, told, _ = sample(
        "a red circle", "--out", "best", "--seed", "4", "--best-of", "4", "--judge", "mine.py:judge"
    )
    info = json.loads(Path("best.json").read_text())
    chosen = info["options"]["seed"]
    assert status == 0 and f"seed {chosen} is the best of 4: 0 of them all right" in told
    assert b"".join(path.read_bytes() for path in sorted(Path("best").glob("*.png"))) == means[chosen]
    assert (info["best_of"]["draws"], info["best_of"]["first_seed"], info["best_of"]["judge"]) == (
        4,
        4,
        "mine.py:judge",
    )
    holds = {}
    for seed in range(4, 8):
        assert (
            sample(
                "a red circle", "--out", f"one{seed}", "--seed", str(seed), "--best-of", "1", "--judge", "mine.py:judge"
            )[0]
            == 0
        )
        holds[seed] = json.loads(Path(f"one{seed}.json").read_text())["best_of"]["holds"]["dark"]
    assert chosen == max(holds, key=holds.get)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a lion", "--best-of", "2"], "no caption of the shapes world: 'a lion'"),
        (["x", "--best-of", "0"], "best-of 0 must be positive"),
        (["x", "--best-of", "1001"], "best-of 1001 must be 1 to 1000"),
        (["x", "--judge", "shapes"], "--judge chooses among the draws of --best-of"),
        (["--prompts", "p.jsonl", "--best-of", "2"], "leave out --prompts"),
        (["x", "--best-of", "2", "--judge", "lion"], "no judge 'lion'"),
    ],
)
def test_wrong_options_are_one_line(sample, options, message):
    status, _, told = sample(*options, "--out", "out")
    assert status == 2 and message in told and told.count("\n") == 1 and not Path("out").exists()
