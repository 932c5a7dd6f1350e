"""Frames given at any times: what is filled when, the same as even times where they are even, stopped and resumed."""

import random
from itertools import pairwise

import pytest
import torch

import cogstyle
from cogstyle.errors import ConfigError
from cogstyle.sampling import cost
from cogstyle.sampling.interpolate import frame_numbers, middles, rounds, told_rate
from cogstyle.sampling.partial_video import PartialVideo, read_part, write_part


@pytest.fixture(scope="module")
def pipe(debug_bundle):
    return cogstyle.load(debug_bundle)


@pytest.fixture
def given(config):
    return torch.randint(config.codes, (1, 4, config.tokens))


@pytest.mark.parametrize("seed", range(5))
def test_every_frame_is_filled_once_between_frames_that_are_there(seed):
    rng = random.Random(seed)
    numbers = sorted({0, *rng.sample(range(1, 200), 6)})
    known = set(numbers)
    for runs in rounds(numbers):
        for run in runs:
            assert set(run) <= known and len({b - a for a, b in pairwise(run)}) == 1
        new = [number for run in runs for number in middles(run)]
        assert len(new) == len(set(new)) > 0 and not known & set(new)
        known |= set(new)
    assert known == set(range(numbers[-1] + 1))


def test_even_times_are_filled_level_by_level():
    assert [*rounds([0, 4, 8])] == [[(0, 4, 8)], [(0, 2, 4, 6, 8)]]
    assert [*rounds([0, 1, 2])] == []
    assert [*rounds([0, 2, 10])] == [[(2, 10)], [(2, 6, 10)], [(0, 2, 4, 6, 8, 10)]]
    assert [told_rate(run, 8.0) for run in ((0, 8), (0, 4), (0, 3), (0, 128))] == [2.0, 4.0, 4.0, 0.25]
    assert frame_numbers((0.0, 0.26, 2.0), 4.0) == (0, 1, 8)


def sample(pipe, start, options, **more):
    return pipe.sample(["a red circle"], [3], options, start=start, **more)[0]


def test_even_times_give_what_no_times_give(pipe, given):
    plain = cogstyle.Options(levels=2, frame_rate=2.0)
    timed = cogstyle.Options(levels=2, frame_rate=2.0, times=(0, 0.5, 1, 1.5))
    wanted = sample(pipe, PartialVideo(given, whole=True), plain)
    found = sample(pipe, PartialVideo(given, whole=True, numbers=(0, 4, 8, 12)), timed)
    assert (wanted.tokens == found.tokens).all()
    assert wanted.info["given_frames"] == found.info["given_frames"] == [0, 4, 8, 12]


def test_stopped_and_resumed_between_rounds(pipe, given, tmp_path):
    numbers, parts, drawn = (0, 3, 16, 20), [], []
    options = cogstyle.Options(levels=1, frame_rate=4.0, times=tuple(number / 8 for number in numbers))
    start = PartialVideo(given, whole=True, numbers=numbers)
    whole = sample(pipe, start, options, on_part=parts.append, progress=drawn.append)
    assert len(whole.frames) == 21 and sum(drawn) == cost.steps(pipe.bundle.model_config, options, start)
    assert (whole.tokens[list(numbers)] == given[0].numpy()).all()
    assert cost.memory_of_one(pipe.bundle, options, start) > 1 and len(parts) > 2
    for part in parts:
        write_part(tmp_path / "v.part", part.tokens_BFL[0], part, "mark")
        again = sample(pipe, read_part(tmp_path / "v.part", "mark"), options)
        assert (again.tokens == whole.tokens).all() and again.info["given_frames"] == list(numbers)


def test_times_are_of_given_images(pipe):
    with pytest.raises(ConfigError, match="times are of given images"):
        pipe("a red circle", times=(0, 1))
    with pytest.raises(ConfigError, match="level_rates has no effect with times"):
        cogstyle.Options(times=(0, 1), levels=1, level_rates=(2.0,))
