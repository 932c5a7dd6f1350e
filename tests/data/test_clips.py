"""Which moments of a video are trained on: the rule of the lowest frame rate, and what follows from it."""

import pytest

from cogstyle.data.clips import KINDS, Clip, clips_of, names_side
from cogstyle.errors import MediaError


@pytest.mark.parametrize(
    ("duration", "rate"),
    [(0.5, 8), (0.99, 8), (1.0, 4), (1.9, 4), (2.0, 2), (3.04, 2), (4.0, 1), (8.0, 0.5), (16.0, 0.25), (3600.0, 0.25)],
)
def test_keyframes_take_the_lowest_rate_that_fits(duration, rate):
    assert clips_of("keyframes", duration, start=3.0) == [Clip(3.0, rate, 5)]
    assert Clip(3.0, rate, 5).times[0] == 3.0 and Clip(3.0, rate, 5).seconds == 4 / rate
    higher = [clip.rate for clip in clips_of("keyframes", duration, extra_rates=2)]
    assert higher == [r for r in (rate, 2 * rate, 4 * rate) if r <= 8]


def test_too_short_is_refused_with_the_reason():
    for kind in KINDS[:3]:
        with pytest.raises(MediaError, match=r"0\.49 s are too short: 5 frames span 0\.5 s at 8 a second"):
            clips_of(kind, 0.49)
    with pytest.raises(MediaError, match=r"0\.6 s are too short: 5 frames at 8 a second leave none before"):
        clips_of("continuation", 0.6)
    assert clips_of("image", 0.04, start=1.0) == [Clip(1.0, 1.0, 1)]


@pytest.mark.parametrize("duration", [0.5, 0.7, 1.0, 2.5, 4.0, 9.0, 30.0])
def test_interpolation_takes_stretches_of_the_keyframes(duration):
    """Each begins and ends at a keyframe or at a frame of an earlier refinement, inside the keyframes."""
    key = clips_of("keyframes", duration)[0]
    starts = set()
    for seed in range(200):
        clips = clips_of("interpolation", duration, start=10.0, seed=seed)
        assert [clip.rate for clip in clips] == [2 * key.rate, 4 * key.rate, 8 * key.rate]
        for clip in clips:
            first = (clip.start - 10.0) / clip.seconds
            assert first == round(first) >= 0 and clip.start - 10.0 + clip.seconds <= key.seconds
            starts.add(clip.start)
    assert len(starts) == 8
    slow = clips_of("interpolation", duration, own_rate=2 * key.rate)
    assert [clip.rate for clip in slow] == [2 * key.rate]  # a file holds no more frames than it has
    with pytest.raises(MediaError, match="frames a second have none between keyframes"):
        clips_of("interpolation", duration, own_rate=key.rate)


def test_pictures_are_of_the_first_frame_and_of_any_other():
    clips = clips_of("image", 4.0, start=2.0, stills=5, seed=1)
    assert [clip.frames for clip in clips] == [1] * 5 and clips[0].start == 2.0
    assert [int(clip.start - 2.0) for clip in clips[1:]] == [0, 1, 2, 3]  # spread over the whole
    assert clips == clips_of("superres", 4.0, start=2.0, stills=5, seed=1) != clips_of("image", 4.0, stills=5, seed=2)


@pytest.mark.parametrize(
    ("texts", "found"),
    [(["a dog runs left"], True), (["A Dog", "向右移动"], True), (["it turns CLOCKWISE"], True),
     (["a dog", "一只狗"], False), (["a bright cleft is leftover"], False)],
)  # fmt: skip
def test_words_that_name_a_side(texts, found):
    assert names_side(texts) == found


@pytest.mark.parametrize("duration", [0.7, 1.0, 4.0, 30.0])
def test_continuations_begin_later_and_end_in_time(duration):
    made = [clips_of("continuation", duration, start=5.0, seed=seed)[0] for seed in range(100)]
    assert all(clip.start > 5.0 and clip.times[-1] <= 5.0 + duration for clip in made)
    assert len({clip.rate for clip in made}) == (1 if duration < 1.1 else 3 if duration < 5 else 6)
