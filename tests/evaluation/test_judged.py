"""Judges by name, and reports of what they say: kind by kind, resumed, one line for what is wrong."""

import json
from dataclasses import replace

import numpy as np
import pytest

import cogstyle
from cogstyle.cli.main import main
from cogstyle.errors import ConfigError
from cogstyle.evaluation.judged import Evaluation, read_asked
from cogstyle.evaluation.judges import Judge, find_judge
from cogstyle.sampling.pipeline import Options
from cogstyle.shapes_world import world
from cogstyle.shapes_world.captions import parse
from cogstyle.video import Video
from tests.shapes_world.truth import Truth

SCENES = [(seed, world.draw_scene(seed)) for seed in range(1_500_000, 1_500_026)]
CLIP = Video(np.zeros((2, 8, 8, 3), np.uint8), 4.0)
JUDGE = """
from neighbour import LIMIT

def bright(frames, times, asked):
    return {"bright": bool(frames.mean() > LIMIT), "share": 0.5, "seen": f"{len(frames)} frames to {times[-1]:g} s"}

def broken(frames, times, asked):
    raise KeyError("scene")
"""


def prompts(folder, scenes=SCENES, kinds=("plain",)):
    lines = [
        {"prompt": world.caption(scene), "kind": kind, "seed": seed, "seconds": scene.duration}
        for kind in kinds
        for seed, scene in scenes
    ]
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    return path


@pytest.fixture
def judge_file(tmp_path):
    (tmp_path / "neighbour.py").write_text("LIMIT = 10")
    (tmp_path / "mine.py").write_text(JUDGE)
    return tmp_path / "mine.py"


def test_a_file_s_function_is_a_judge(judge_file):
    verdict = find_judge(f"{judge_file}:bright")(CLIP, {"prompt": "x"})
    assert verdict.holds == {"bright": 0.0, "share": 0.5, "all": 0.0} and verdict.seen == "2 frames to 0.25 s"
    with pytest.raises(ConfigError, match=r"mine\.py:broken fails on 'x': 'scene'"):
        find_judge(f"{judge_file}:broken")(CLIP, {"prompt": "x"})
    assert find_judge("os.path:join").name == "os.path:join"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lion", "no judge 'lion'; give shapes, module:function or file.py:function"),
        ("no.such.module:judge", "cannot load judge no.such.module:judge: No module named"),
        ("nowhere.py:judge", "no file nowhere.py"),
        ("os.path:lion", "os.path has no function lion"),
    ],
)
def test_unknown_judges(name, message):
    with pytest.raises(ConfigError, match=message):
        find_judge(name)


@pytest.mark.parametrize("said", [None, {}, {"seen": "x"}, {"a": 2}, {"a": float("nan")}, {"a": "yes"}, {3: True}])
def test_what_is_no_verdict(said):
    with pytest.raises(ConfigError, match="judge odd"):
        Judge("odd", lambda *_: said, "")(CLIP, {"prompt": "x"})


def test_captions_of_the_shapes_world_are_understood():
    for _, scene in SCENES:
        found = parse(world.caption(scene))
        assert (found.duration, found.says_background) == (scene.duration, scene.says_background)
        free = {"r": 0, "x": 0, "y": 0, "phase": 0}
        assert [replace(a, **free) for a in found.actors] == [replace(a, **free) for a in scene.actors]
    with pytest.raises(ConfigError, match="no caption of the shapes world: 'a lion roars'"):
        parse("a lion roars")


def test_a_report_of_perfect_clips_and_wrong_ones(tmp_path):
    """The second kind shows other backgrounds than its captions say."""
    asked = read_asked(prompts(tmp_path, kinds=("plain", "other ground")), 22)
    assert [one.kind for one in asked] == ["plain"] * 22 + ["other ground"] * 22

    class Mixed(Truth):
        def sample(self, prompts, seeds, options):
            videos = super().sample(prompts, seeds, options)
            self.made = getattr(self, "made", 0) + len(videos)
            return [self.dyed(v) for v in videos] if self.made > 22 else videos

        def dyed(self, video):
            black = np.array(world.BACKGROUNDS["black"])
            ground = (video.frames == video.frames[:, :1, :1]).all(-1, keepdims=True)
            return Video(np.where(ground, black, video.frames).astype(np.uint8), video.fps)

    done, out = [], tmp_path / "out"
    pipe = Mixed(SCENES)
    report = Evaluation(pipe, find_judge("shapes"), Options(levels=1), 3).run(asked, out, progress=done.append)
    plain, other = report["parts"].values()
    assert sum(done) == 44 and plain["summary"]["all"] == pytest.approx(
        {"share": 1.0, "n": 22, "low": 0.851, "high": 1.0}, abs=1e-3
    )
    named = [scene.says_background and scene.background != "black" for _, scene in SCENES[:22]]
    assert any(named) and other["summary"]["background"]["share"] == pytest.approx(1 - sum(named) / 22)
    text = (out / "report.md").read_text("utf-8")
    assert "## First failures" in text and "other ground less plain, points: count +0.0" in text
    assert {path.name for path in out.iterdir()} == {"report.json", "report.md", "plain.png", "other-ground.png"}


def test_a_stopped_report_goes_on(tmp_path):
    asked, out, judge = read_asked(prompts(tmp_path)), tmp_path / "out", find_judge("shapes")

    def stop_at(limit):
        left = [limit]

        def function(frames, times, line):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return judge.function(frames, times, line)

        return replace(judge, function=function)

    with pytest.raises(KeyboardInterrupt):
        Evaluation(Truth(SCENES), stop_at(24), Options(levels=0), 3).run(asked, out)
    assert len(json.loads((out / "report.json").read_text("utf-8"))["parts"]["plain"]["clips"]) == 23
    pipe = Truth(SCENES)
    again = Evaluation(pipe, stop_at(3), Options(levels=0), 3).run(asked, out)
    straight = Evaluation(Truth(SCENES), judge, Options(levels=0), 5).run(asked, tmp_path / "straight")
    assert again["parts"]["plain"]["clips"] == straight["parts"]["plain"]["clips"]
    assert (out / "plain.png").read_bytes() == (tmp_path / "straight" / "plain.png").read_bytes()
    with pytest.raises(ConfigError, match=r"is a report of other options.*give another --out"):
        Evaluation(Truth(SCENES), judge, Options(levels=1)).run(asked, out)


def test_the_best_of_several_draws_is_counted(tmp_path):
    """The judge likes the third draw of every prompt."""
    asked = read_asked(prompts(tmp_path, SCENES[:5]))

    class Numbered(Truth):
        def sample(self, prompts, seeds, options):
            videos = super().sample(prompts, seeds, options)
            return [replace(v, frames=np.full_like(v.frames, s % 251)) for v, s in zip(videos, seeds, strict=True)]

    def third(frames, times, line):
        return {"third": int(frames[0, 0, 0, 0]) == (line["seed"] + 2) % 251}

    run = Evaluation(Numbered(SCENES), Judge("third", third, ""), Options(levels=0), 4, 3).run
    report = run(asked, tmp_path / "out")
    assert [clip["seed"] for clip in report["parts"]["plain"]["clips"]] == [one.seed + 2 for one in asked]
    assert report["parts"]["plain"]["summary"]["all"]["share"] == 1.0
    assert "each the judge's best of 3 draws" in (tmp_path / "out" / "report.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: must be a JSON object"),
        ('{"seed": 1}', "line 2: prompt must be a text, not None"),
        ('{"prompt": "x", "seed": -1}', "line 2: seed must be a whole number of 0 or more, not -1"),
        ('{"prompt": "x", "seconds": 0}', "line 2: seconds must be a number above 0, not 0"),
        ('{"prompt": "x", "kind": 5}', "line 2: kind must be a text, not 5"),
    ],
)
def test_wrong_prompts_files(tmp_path, line, message):
    (tmp_path / "prompts.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(ConfigError, match=message):
        read_asked(tmp_path / "prompts.jsonl")
    (tmp_path / "prompts.jsonl").write_text("\n")
    with pytest.raises(ConfigError, match="holds no prompt"):
        read_asked(tmp_path / "prompts.jsonl")


def test_from_the_command_line(debug_bundle, judge_file, tmp_path, capsys):
    path, out = prompts(tmp_path, SCENES[:3]), tmp_path / "out"
    command = ["evaluate", str(debug_bundle), "--judge", f"{judge_file}:bright", "--levels", "0", "--out", str(out)]
    assert main([*command, "--prompts", str(path), "--count", "2", "--quiet"]) == 0
    told = capsys.readouterr().out
    assert "| bright |" in told and "| share | 50 % " in told
    assert json.loads((out / "report.json").read_text("utf-8"))["parts"]["plain"]["summary"]["share"]["n"] == 2
    for extra, message in (
        ([], "needs --prompts"),
        (["--prompts", str(path), "--held-out", "--sweep"], "--held-out, --sweep cannot go with --prompts"),
        (["--prompts", str(path), "--count", "0"], "count 0 must be positive"),
        (["--prompts", str(path), "--best-of", "0"], "best-of 0 must be 1 to 1000"),
    ):
        assert main([*command, *extra]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_prompts_are_rewritten_as_by_sampling(debug_bundle, tmp_path, monkeypatch):
    """The judge is asked as the prompt says; the report says what was drawn; off draws it as it stands."""
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "red ball goes right", "seed": 3}\n')
    judge = Judge("mine", lambda frames, times, asked: {"right": asked["prompt"] == "red ball goes right"}, "")
    pipe, asked = cogstyle.load(debug_bundle), read_asked(tmp_path / "prompts.jsonl")
    drawn, sample = [], pipe.sample
    monkeypatch.setattr(pipe, "sample", lambda prompts, *rest: drawn.append(list(prompts)) or sample(prompts, *rest))
    for how, expected in ((None, "a red circle moves right"), ("off", "red ball goes right")):
        made = Evaluation(pipe, judge, Options(levels=0), recaption=how).run(asked, tmp_path / f"report-{how}")
        (clip,) = made["parts"]["clips"]["clips"]
        assert drawn.pop() == [expected] and clip["holds"]["all"] == 1.0
        assert clip.get("drawn") == (None if how == "off" else expected)


@pytest.mark.parametrize("asked", [{"prompt": "the red ball moves right!"},
                                   {"prompt": "red, to the right", "caption": "a red circle moves right"}])  # fmt: skip
def test_the_shapes_judge_reads_prompts_in_other_words(asked):
    scene = parse("a red circle moves right")
    times = [k / 8 for k in range(17)]
    video = Video(world.render_clip(replace(scene, duration=2.0), times, 64), 8.0)
    assert find_judge("shapes")(video, asked).all == 1.0
    with pytest.raises(ConfigError, match="no caption of the shapes world"):
        find_judge("shapes")(video, {"prompt": "red, to the right"})
