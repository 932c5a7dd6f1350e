"""Stages of buckets: constant tokens a step, shares as the table says, one draw everywhere, wrong tables refused."""

import numpy as np
import pytest

from cogstyle.config import from_dict
from cogstyle.data.curriculum import CurriculumConfig, parse_bucket
from cogstyle.data.mixing import draw_group
from cogstyle.errors import ConfigError

STAGES = [
    {"until": 1000, "buckets": {"1@4x4": 0.3, "5@4x4": 0.7}},
    {"until": 3000, "buckets": {"5@4x4": 0.25, "9@4x4@2": 0.5, "5@6x6": 0.25}},
]


def curriculum(stages=STAGES, tokens=720):
    return from_dict(CurriculumConfig, {"tokens": tokens, "stages": stages}, "r.toml [curriculum]")


def test_buckets_are_layouts_of_one_token_budget(config):
    groups = curriculum().groups("keyframes", config)
    assert [group.name for group in groups] == ["1@4x4", "5@4x4", "9@4x4@2", "5@6x6"]
    assert [group.samples for group in groups] == [45, 9, 5, 4]
    assert [group.rows for group in groups] == ["image", "keyframes", "keyframes 9@4x4", "keyframes 5@6x6"]
    assert [(group.layout.frames, group.layout.grid) for group in groups][2:] == [(9, (4, 4)), (5, (6, 6))]
    assert [group.tasks[0].rate for group in groups] == [None, None, 2.0, None]
    for group in groups:
        length = group.layout.frames * group.layout.tokens
        assert 720 - length < group.samples * length <= 720


def test_shares_follow_the_stages_and_every_process_draws_the_same():
    plan = curriculum()
    drawn = np.array([draw_group(plan.shares(step), step, seed=4) for step in range(3000)])
    for part, wanted in ((drawn[:1000], [0.3, 0.7, 0, 0]), (drawn[1000:], [0, 0.25, 0.5, 0.25])):
        found = np.bincount(part, minlength=4) / len(part)
        assert (abs(found - wanted) < 0.06).all() and (found[np.array(wanted) == 0] == 0).all()
    again = [draw_group(curriculum().shares(step), step, seed=4) for step in (2999, 0, 1000)]
    assert again == drawn[[2999, 0, 1000]].tolist()
    assert plan.plan() == [
        "steps 0 to 999: 1@4x4 30 % (45 samples), 5@4x4 70 % (9 samples)",
        "steps 1,000 to 2,999: 5@4x4 25 % (9 samples), 9@4x4@2 50 % (5 samples), 5@6x6 25 % (4 samples)",
    ]


@pytest.mark.parametrize("text", ["5@8x8,2", "5 @ 8x8 @ 2", "5@8x8@2.0"])
def test_a_bucket_has_frames_grid_and_rate(text):
    assert parse_bucket(text) == (5, (8, 8), 2.0)


@pytest.mark.parametrize(
    ("stages", "options", "message"),
    [
        ([], {}, "needs at least one stage"),
        ([{"until": 900, "buckets": {"5@4x4": 1.0}}], {}, "the last stage ends at 900, the run has 1,000 steps"),
        ([{"until": 1001, "buckets": {"5@4x4": 1.0}}], {}, "stage 1 until 1,001 never ends: the run has 1,000 steps"),
        ([{"until": 500, "buckets": {"5@4x4": 1.0}}] * 2, {}, "stage 2 until 500 has no steps: the stage before it"),
        ([{"buckets": {"5@4x4": 1.0}}], {}, "missing key until"),
        ([{"until": 0, "buckets": {"5@4x4": 1.0}}], {}, "until 0 must be greater"),
        ([{"until": 1000, "buckets": {"5@4x4": 0.6, "1@4x4": 0.3}}], {}, "5@4x4, 1@4x4 sum to 0.9, not to 1"),
        ([{"until": 1000, "buckets": {}}], {}, "sum to 0, not to 1"),
        ([{"until": 1000, "buckets": {"5@4": 1.0}}], {}, "bucket '5@4' must be FRAMES@ROWSxCOLUMNS"),
        ([{"until": 1000, "buckets": {"5@0x4": 1.0}}], {}, "frames, rows, columns and rate must be above 0"),
        ([{"until": 1000, "buckets": {"1@4x4": 1.0}}], {}, 'would train nothing: .*set train = "all"'),
        ([{"until": 1000, "buckets": {"5@4x4": 1.0}}], {"task": "image"}, "an image model trains on one frame"),
        ([{"until": 1000, "buckets": {"4@4x4": 1.0}}], {"task": "interpolation"}, "an odd number of frames"),
        ([{"until": 1000, "buckets": {"5@4x6": 1.0}}], {}, "gives squares of at most 2048 tokens a side .*not 4 x 6"),
        ([{"until": 1000, "buckets": {"5@4000x4000": 1.0}}], {}, "gives squares of at most 2048 tokens a side"),
        ([{"until": 1000, "buckets": {"5@5x5": 1.0}}], {"task": "interpolation"}, "windows of 2 tokens a side do not"),
        ([{"until": 1000, "buckets": {"9@12x12": 1.0}}], {}, "tokens 720 hold no sample of 1296: 9@12x12"),
    ],
)
def test_wrong_stages_are_one_error(config, stages, options, message):
    task = options.get("task", "keyframes")
    with pytest.raises(ConfigError, match=message):
        plan = curriculum(stages)
        plan.check(task, steps=1000, train_all=False)
        plan.check_grids(task, config, 8)
