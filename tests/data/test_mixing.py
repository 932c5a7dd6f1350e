"""Mixing: shares and budgets as the recipe says, the same draws everywhere, wrong mixes refused."""

import numpy as np
import pytest
import torch

from cogstyle.data.mixing import (
    MixConfig,
    check_mix,
    draw_group,
    draw_rows,
    make_groups,
    make_tasks,
    rows_at,
    shares,
)
from cogstyle.data.shards import Shards
from cogstyle.errors import ConfigError
from cogstyle.shapes_world import rows, world

STEPS = 4000


def shards_of(seconds):
    return Shards(torch.zeros(len(seconds), 5, 16), [""] * len(seconds), seconds)


def test_tasks_of_one_layout_share_a_group(config):
    mix = MixConfig(tokens=400, tasks={"keyframes@1": 1, "continuation": 3, "keyframes@2": 2, "image_to_video": 1})
    groups = make_groups(mix, config)
    assert [group.name for group in groups] == ["keyframes", "continuation_2", "continuation_3", "continuation_4"]
    assert [task.name for task in groups[0].tasks] == ["keyframes@1", "keyframes@2", "image_to_video"]
    assert [task.captioned for task in groups[0].tasks] == [True, True, False]
    assert [group.layout.known for group in groups] == [1, 2, 3, 4]
    assert [group.weight for group in groups] == [4, 1, 1, 1]
    assert [group.rows for group in groups] == ["keyframes", *["continuation"] * 3]
    (group,) = make_groups(MixConfig(tokens=400, tasks={"interpolation@4": 1, "interpolation@8": 1}), config)
    assert group.layout.known == 3 and [task.rate for task in group.tasks] == [4, 8]


def test_realised_shares_follow_the_table(config):
    mix = MixConfig(tokens=400, tasks={"keyframes": 5, "continuation": 3}, images=(0.9, 0.1))
    groups = make_groups(mix, config)
    drawn = np.array(
        [draw_group(shares(groups, step, steps=STEPS, images=mix.images), step, seed=1) for step in range(STEPS)]
    )
    for part, image in ((drawn[: STEPS // 4], 0.9), (drawn[STEPS // 4 :], 0.1)):
        wanted = np.array([image, *(1 - image) * np.array([5, 1, 1, 1]) / 8])
        found = np.bincount(part, minlength=5) / len(part)
        assert (abs(found - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / len(part))).all(), (found, wanted)
    again = [draw_group(shares(groups, step, steps=STEPS, images=mix.images), step, seed=1) for step in (3999, 0, 17)]
    assert again == drawn[[3999, 0, 17]].tolist()  # whatever was drawn before


@pytest.mark.parametrize("tokens", [80, 333, 400])
def test_the_budget_is_kept_within_one_sample(config, tokens):
    for group in make_groups(MixConfig(tokens=tokens, tasks={"keyframes": 1}, images=(0.5, 0.5)), config):
        length = group.layout.frames * group.layout.tokens
        assert tokens - length < group.samples * length <= tokens
    images, videos = make_groups(MixConfig(tokens=400, tasks={"keyframes": 1}, images=(0.5, 0.5)), config)
    assert (images.samples, videos.samples) == (25, 5)


def test_rows_of_a_group_follow_weights_rates_and_epochs(config):
    data = shards_of([4.0, 2.0, 4.0, 1.0, 2.0, 4.0])
    mix = MixConfig(tokens=240, tasks={"keyframes@1": 3, "keyframes@2": 1})
    (group,) = make_groups(mix, config)
    pools = [rows_at(data, task) for task in group.tasks]
    assert [pool.tolist() for pool in pools] == [[0, 2, 5], [1, 4]]
    drawn = [draw_rows(group, pools, step, seed=0) for step in range(1000)]
    tasks_N, picks_N = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    assert all(pick in pools[task] for task, pick in zip(tasks_N, picks_N, strict=True))
    assert abs((tasks_N == 0).mean() - 0.75) < 4 * (0.75 * 0.25 / len(tasks_N)) ** 0.5
    counts = np.bincount(picks_N)[[0, 2, 5]] / (tasks_N == 0).sum()
    assert abs(counts - 1 / 3).max() < 0.05
    (single,) = make_groups(MixConfig(tokens=240, tasks={"keyframes": 1}), config)
    for epoch in range(3):  # 2 steps of 3 samples are one epoch of 6 rows
        picks = [draw_rows(single, [np.arange(6)], 2 * epoch + half, seed=0)[1] for half in (0, 1)]
        assert sorted(np.concatenate(picks)) == list(range(6))


def test_continuation_rows_start_inside_the_action():
    starts = []
    for seed in range(40):
        row, scene = rows.continuation_row(seed, 16, 5), world.draw_scene(seed)
        rate = 4 / row.seconds
        moments = [k / rate for k in range(round(scene.duration * rate) + 5)]
        whole = world.render_clip(scene, moments, 16)
        found = [k for k in range(len(whole) - 4) if np.array_equal(whole[k : k + 5], row.frames)]
        assert row.caption == world.caption(scene) and found
        starts += [moments[found[0]] / scene.duration] if len(found) == 1 else []
    assert min(starts) > 0 and max(starts) < 1 and len(set(starts)) > 4


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        ({}, {}, "tasks must be a table of tasks and their weights"),
        (("keyframes",), {}, "tasks must be a table of tasks and their weights"),
        ({"keyframes": 0}, {}, "weight 0 of 'keyframes' must be a number above 0"),
        ({"keyframes": 1, "dance": 1}, {}, "keyframes cannot train 'dance'; known are keyframes, image_to_video"),
        ({"keyframes": 1, "interpolation": 1}, {}, "keyframes cannot train 'interpolation'"),
        ({"keyframes": 1, "image": 1}, {}, "keyframes cannot train 'image'"),
        ({"keyframes": 1}, {"images": (0.9, 0.1)}, "images would train nothing: the image model is frozen"),
        ({"keyframes": 1}, {"images": (0.9, 1.0)}, r"images \[0.9, 1.0\] must be two shares"),
        ({"keyframes@fast": 1}, {}, "'fast' is no frame rate"),
        ({"keyframes@-1": 1}, {}, "'-1' is no frame rate"),
        ({"keyframes": 1}, {"tokens": 79}, "tokens 79 hold no sample of 'keyframes', which has 80"),
        ({"keyframes": 1}, {"tokens": 0}, "tokens 0 must be positive"),
    ],
)
def test_wrong_mixes_are_refused(config, tasks, options, message):
    with pytest.raises(ConfigError, match=message):
        mix = MixConfig(**{"tokens": 400, "tasks": tasks, **options})
        check_mix(mix, "keyframes", train_all=False)
        make_groups(mix, config)


def test_rates_that_no_row_has(config):
    (task,) = make_tasks("keyframes@0.25", config)
    with pytest.raises(ConfigError, match=r"no rows of 0.25 frames a second; there are rows of 1, 2"):
        rows_at(shards_of([4.0, 2.0]), task)
