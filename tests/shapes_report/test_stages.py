"""Stages fed with the truth: with perfect stages all is right, and a bad one is the only one to fail."""

from dataclasses import replace

from cogstyle.sampling.pipeline import Options
from cogstyle.shapes_report.protocol import draw_scenes
from cogstyle.shapes_report.stages import fed_with_truth
from tests.shapes_world.truth import Truth

SCENES = draw_scenes(1_000_000, 4)


def test_perfect_stages():
    progress = []
    found = fed_with_truth(Truth(SCENES), SCENES, Options(levels=1, upscale=True), batch=3, progress=progress.append)
    assert list(found) == ["tokenizer", "keyframes", "interpolation", "superres"] and sum(progress) == 4
    for stage, clips in found.items():
        assert [clip.seed for clip in clips] == [seed for seed, _ in SCENES]
        assert all(clip.verdict.all for clip in clips), stage
        frames, size = 5 if stage == "keyframes" else 9, 192 if stage == "superres" else 64
        assert clips[0].video.frames.shape == (frames, size, size, 3)
    assert list(fed_with_truth(Truth(SCENES), SCENES[:1], Options(levels=0))) == ["tokenizer", "keyframes"]


def test_what_a_stage_breaks_is_its_own():
    """Stages that paint every actor green and still: the round trip stays right."""

    def still(scene):
        return replace(scene, actors=tuple(replace(a, colour="green", action="still") for a in scene.actors))

    found = fed_with_truth(Truth(SCENES, still), SCENES, Options(levels=1))
    right = {stage: sum(clip.verdict.all for clip in clips) for stage, clips in found.items()}
    assert right["tokenizer"] == 4 and right["keyframes"] < 2 and right["interpolation"] < 2
