"""The zoo's judge reads true renders, refuses what was changed, and is found by name."""

import importlib
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from cogstyle.cli.main import main

ZOO = Path(__file__).parents[2] / "train" / "zoo"
sys.path.insert(0, str(ZOO))
scenes, drawing, judge, check = (
    importlib.import_module(name) for name in ("scenes", "drawing", "judge", "check_judge")
)
networks, prompts, understand = (
    importlib.import_module(name) for name in ("judge_networks", "make_prompts", "understand")
)
sys.path.remove(str(ZOO))

needs_font = pytest.mark.skipif(not drawing.FONT.exists(), reason="no emoji font here")

TIMES = [k / 16 for k in range(33)]


def found(noun, x, y, *, half=0.15, opacity=1.0):
    """What a perfect eye sees of an actor."""
    shares = np.full(len(judge.NAMES), -9.0)
    shares[judge.NAMES.index(noun)] = 0.0
    return networks.Found(x, y, half, opacity, 1.0, shares)


class PerfectEye:
    """Sees where the actors of a scene are; those who are nearly gone it does not see."""

    def __init__(self, scene):
        self.scene = scene

    def look(self, frames):
        rows = []
        for time in times_of(self.scene):
            states = [(a.noun, scenes.state(self.scene, n, time)) for n, a in enumerate(self.scene.actors)]
            rows.append([found(n, s.x, s.y, half=s.half, opacity=s.opacity) for n, s in states if s.opacity > 0.3])
        return rows, np.array([name == self.scene.background for name in judge.PLACES], float)


def times_of(scene):
    return [scene.duration * k / 32 for k in range(33)]


def test_motions_of_every_kind_are_told_apart():
    """With perfect eyes every scene is read right, and no scene with one thing changed passes."""
    for seed in range(1_600_000, 1_600_040):
        scene = scenes.draw_scene(seed, held_out_pairs=seed % 2 == 0)
        reading = judge.read(np.zeros((33, 8, 8, 3), np.uint8), times_of(scene), PerfectEye(scene))
        assert all(judge.verdict(reading, times_of(scene), scene).values()), (
            seed,
            judge.words(reading, times_of(scene)),
        )
        for change, other in check.others(scene):
            holds = judge.verdict(reading, times_of(scene), other)
            assert not all(holds.values()), (seed, change, other)


def states(rows):
    """States, and frames that say something, of the only track."""
    (track,) = judge.follow(rows)
    return judge.known(track, judge.between(track, len(rows)), [])


def test_who_vanishes_and_comes_back_is_one():
    made, known = states([[found("lion", 0.3, 0.4)] if f < 12 or f > 20 else [] for f in range(33)])
    assert made[16, 3] == 0.0 and known[16]
    flash = [[found("lion", 0.3, 0.4), *([found("owl", 0.8, 0.8)] if f == 9 else [])] for f in range(33)]
    assert len(judge.follow(flash)) == 1
    made, known = states([[found("lion", 0.3, 0.4)] if f != 9 else [] for f in range(33)])
    assert made[9, 3] == 1.0 and not known[9] and known.sum() == 32


def test_who_is_hidden_is_not_gone():
    """A lion stands still; an owl crosses before it, and it is not found then."""
    rows = [
        [found("owl", 0.1 + 0.025 * f, 0.5), *([found("lion", 0.5, 0.5)] if abs(f - 16) > 5 else [])] for f in range(33)
    ]

    class Hidden:
        def look(self, frames):
            return rows, np.arange(5.0)

    lion = next(t for t in judge.read(np.zeros((33, 8, 8, 3), np.uint8), TIMES, Hidden()).tracks if t.noun == "lion")
    assert min(lion.errors, key=lion.errors.get)[0] == "still" and not lion.known_F[16] and lion.known_F[0]


@pytest.mark.slow
@needs_font
def test_true_renders_through_a_codec_are_read():
    font, right = drawing.Font(drawing.FONT), []
    for seed in range(1_700_000, 1_700_008):
        scene = scenes.draw_scene(seed)
        video = check.shown(scene, font, 96)
        asked = {"scene": json.loads(json.dumps(asdict(scene)))}
        said = judge.judge(video.frames, [k / video.fps for k in range(33)], asked)
        right.append(all(value for key, value in said.items() if key != "seen"))
        other = replace(scene, background=next(p for p in judge.PLACES if p != scene.background), says_background=True)
        asked = {"scene": asdict(other)}
        assert not judge.judge(video.frames, times_of(scene), asked)["background"]
    assert sum(right) >= 7


def test_captions_are_understood():
    """In both languages and all phrasings."""

    def said(scene):
        size = [actor.size for actor in scene.actors] if not scene.together else None
        return (
            [(actor.noun, actor.action, actor.direction) for actor in scene.actors],
            (size, scene.speed, scene.duration, scene.says_background, scene.says_background and scene.background),
        )

    for seed in range(300):
        scene = scenes.draw_scene(seed, held_out_pairs=seed % 3 == 0)
        for caption in (*scenes.captions(scene), *scenes.captions(scene, held_out=True)):
            assert said(understand.understood(caption)) == said(scene), caption
    for text in ("a red circle moves left", "a lion", "a lion, an owl and a cat move left", ""):
        with pytest.raises(ValueError, match="no caption of the zoo"):
            understand.understood(text)


def test_prompts_of_three_kinds():
    lines = [*prompts.lines(4, 1_500_000)]
    assert [line["kind"] for line in lines] == ["plain"] * 4 + ["held-out pairs"] * 4 + ["Chinese"] * 4
    for plain, held, chinese in zip(lines[:4], lines[4:8], lines[8:], strict=True):
        assert plain["scene"] == chinese["scene"] and not chinese["prompt"].isascii()
        first = held["scene"]["actors"][0]
        assert scenes.held_out(first["noun"], first["action"]) or first["action"] in scenes.PAIRED
        assert plain["seconds"] == plain["scene"]["duration"] and plain["title"] == chinese["title"]


@pytest.mark.slow
def test_a_bundle_is_evaluated_by_the_judge(debug_bundle, tmp_path, capsys):
    path, out = tmp_path / "zoo.jsonl", tmp_path / "out"
    made = subprocess.run(
        [sys.executable, ZOO / "make_prompts.py", "--count", "2", "--out", str(path)], cwd=ZOO.parents[1]
    )
    assert made.returncode == 0
    options = ["--prompts", str(path), "--levels", "0", "--count", "1", "--out", str(out), "--quiet"]
    assert main(["evaluate", str(debug_bundle), "--judge", f"{ZOO / 'judge.py'}:judge", *options]) == 0
    told = capsys.readouterr().out
    assert "| attribute | plain | held-out pairs | Chinese |" in told and "| action and direction |" in told
