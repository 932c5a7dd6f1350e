"""The evaluation protocol, run on the truth instead of a model."""

import json

import numpy as np
import pytest

from cogstyle.cli.main import main
from cogstyle.data import world
from cogstyle.evaluation import protocol
from cogstyle.video import Video


class Truth:
    """A pipeline that renders the scene a caption belongs to."""

    def __init__(self, scenes):
        self.scenes = {(world.caption(scene), seed): scene for seed, scene in scenes}

    def sample(self, prompts, seeds, options):
        videos = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            fps = options.frame_rate * 2**options.levels
            times = [k / fps for k in range(4 * 2**options.levels + 1)]
            videos.append(Video(world.render_clip(self.scenes[prompt, seed], times, 64), fps))
        return videos


def test_truth_is_read_as_right_and_at_the_lowest_rate():
    scenes = [(seed, world.draw_scene(seed, actors=1)) for seed in range(1_000_000, 1_000_012)]
    done = []
    options = protocol.Options(levels=1)
    clips = protocol.sample_scenes(Truth(scenes), scenes, options, batch=5, done=done.append)
    assert [clip.seed for clip in clips] == [seed for seed, _ in scenes] and sum(done) == 12
    assert np.mean([clip.verdict.all for clip in clips]) > 0.9
    for clip in clips:
        assert clip.video.fps == 2 * 4 / clip.scene.duration
    assert protocol.page(clips, rows=3).shape == (3 * 66, 6 + 5 * 66, 3)


def test_rate_control_of_the_truth_is_the_truth():
    movers = protocol.slow_movers(1_000_000, 4)
    assert all(s.speed == "slowly" and s.actors[0].action == "move" for _, s in movers)
    for row in protocol.rate_control(Truth(movers), movers):
        assert row["mean"] == pytest.approx(row["true"], abs=0.005) and row["lost"] == 0


def test_command_writes_a_report(debug_bundle, tmp_path, capsys):
    out = tmp_path / "report"
    arguments = ["evaluate", str(debug_bundle), "--count", "3", "--levels", "0", "--out", str(out), "--quiet"]
    assert main(arguments) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["alignment"]["all"]["n"] == 3 and [row["frame_rate"] for row in report["rate_control"]] == [1, 2, 4]
    assert {path.name for path in out.iterdir()} == {"report.json", "report.md", "report.png"}
    assert main([*arguments, "--first-seed", "5"]) == 2
    assert "first-seed 5 must be 1000000 or more" in capsys.readouterr().err
