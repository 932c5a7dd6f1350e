"""The judge accepts what was asked for, refuses anything else, and counts honestly."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from cogstyle.shapes_world import world
from cogstyle.shapes_world.alignment import (
    ATTRIBUTES,
    Verdict,
    judge,
    summarise,
)
from cogstyle.shapes_world.counterfactuals import CHANGES, swap
from cogstyle.shares import wilson

pytestmark = pytest.mark.slow

SCENES = [world.draw_scene(seed) for seed in range(world.VALIDATION_SEED, world.VALIDATION_SEED + 60)]


def times_of(scene: world.Scene, frames: int = 5) -> list[float]:
    """The lowest keyframe rate and its refinements: the whole action in `frames` frames."""
    return [k * scene.duration / (frames - 1) for k in range(frames)]


def look(shown: world.Scene, asked: world.Scene, frames: int = 5, size: int = 64) -> Verdict:
    times = times_of(asked, frames)
    return judge(world.render_clip(shown, times, size), times, asked)


def noisy(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur and gaussian noise, about 29 dB together, and a small error of colour."""
    blurred = np.stack([cv2.GaussianBlur(f.astype(np.float32), (0, 0), 0.6) for f in frames])
    noise = rng.normal(0.0, 8.0, frames.shape) + rng.normal(0.0, 4.0, 3)
    return np.clip(np.rint(blurred + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("frames", "size", "step"), [(5, 64, 1), (33, 64, 6), (5, 192, 4), (33, 192, 6)])
def test_true_renders_are_accepted(frames: int, size: int, step: int) -> None:
    verdicts = [look(scene, scene, frames, size) for scene in SCENES[::step]]
    assert np.mean([v.all for v in verdicts]) >= 0.98


def test_noisy_renders_are_accepted() -> None:
    rng = np.random.default_rng(0)
    held, decibels = [], []
    for scene in SCENES:
        clean = world.render_clip(scene, times_of(scene), 64)
        frames = noisy(clean, rng)
        decibels.append(10 * np.log10(255**2 / np.square(frames.astype(float) - clean).mean()))
        held.append(judge(frames, times_of(scene), scene).all)
    assert 27.0 < np.mean(decibels) < 30.0
    assert np.mean(held) >= 0.95


@pytest.mark.parametrize("name", CHANGES)
def test_one_changed_attribute_is_refused(name: str) -> None:
    attribute, change = CHANGES[name]
    rng = np.random.default_rng(1)
    shown = [(scene, change(scene, rng)) for scene in SCENES]
    verdicts = [look(other, scene) for scene, other in shown if other is not None]
    assert len(verdicts) >= 15
    assert np.mean([v.all for v in verdicts]) <= 0.03
    assert np.mean([getattr(v, attribute) for v in verdicts]) <= 0.2  # it also says what is wrong


def actor(**changes: object) -> world.Actor:
    return replace(world.Actor("red", "circle", "move", "right", None, 0.16, 0.5, 0.5), **changes)


def scene_of(*actors: world.Actor, duration: float = 2.0, **changes: object) -> world.Scene:
    return replace(world.Scene("white", actors, duration, None, "en", False), **changes)


def test_one_changed_attribute_is_refused_in_upscaled_clips() -> None:
    """33 frames of 192 pixels, two scenes a change."""
    rng = np.random.default_rng(1)
    for name, (attribute, change) in CHANGES.items():
        shown = ((scene, change(scene, rng)) for scene in SCENES)
        pairs = [(scene, other) for scene, other in shown if other is not None][:2]
        verdicts = [look(other, scene, 33, 192) for scene, other in pairs]
        assert not any(v.all or getattr(v, attribute) for v in verdicts), name


def test_what_the_caption_does_not_say_is_not_judged() -> None:
    asked = scene_of(actor())
    shown = replace(swap(asked, r=world.SMALL_R), background="black")
    assert look(shown, asked).all
    assert not look(shown, replace(asked, says_background=True)).background
    assert not look(shown, swap(asked, size="large")).size
    assert look(shown, swap(asked, size="small")).size


def test_what_the_frames_end_before_is_not_held_against_them() -> None:
    """In its first half "goes right and comes back" is "moves right" at twice the speed, and no more."""
    there = scene_of(actor(), duration=2.0)
    times = [0.0, 0.5, 1.0, 1.5, 2.0]
    frames = world.render_clip(there, times, 64)
    assert judge(frames, times, scene_of(actor(action="return"), duration=4.0)).all
    assert not judge(frames, times, scene_of(actor(action="return"), duration=2.0)).all
    assert not judge(frames, times, scene_of(actor(action="return", direction="left"), duration=4.0)).direction


def test_a_still_clip_does_not_pass_for_a_bounce_at_another_speed() -> None:
    verdict = look(scene_of(actor(action="still", direction=None)), scene_of(actor(action="bounce", direction=None)))
    assert not verdict.action and verdict.speed


def test_actors_are_matched_by_colour_and_both_must_hold() -> None:
    red = actor(action="still", direction=None, x=0.25, y=0.3)
    blue = replace(red, colour="blue", shape="cross", x=0.75, y=0.7)
    assert look(scene_of(blue, red), scene_of(red, blue)).all
    crossed = look(scene_of(replace(red, shape="cross"), replace(blue, shape="circle")), scene_of(red, blue))
    assert crossed.count and crossed.colour and not crossed.shape


def test_a_missing_actor_fails_what_its_caption_names() -> None:
    verdict = look(replace(scene_of(actor()), actors=()), scene_of(actor()))
    failed = {name for name in ATTRIBUTES if not getattr(verdict, name)}
    assert failed == {"count", "colour", "shape", "action", "direction", "speed"}


def test_summary_counts_each_attribute() -> None:
    good = Verdict(**dict.fromkeys(ATTRIBUTES, True))
    verdicts = [good, replace(good, action=False), replace(good, direction=False), replace(good, shape=False)]
    summary = summarise(verdicts)
    shares = {name: row["share"] for name, row in summary.items()}
    assert set(shares) == {*ATTRIBUTES, "action_and_direction", "all"}
    assert (shares["count"], shares["shape"], shares["action"]) == (1.0, 0.75, 0.75)
    assert (shares["action_and_direction"], shares["all"]) == (0.5, 0.25)
    assert (summary["all"]["low"], summary["all"]["high"]) == wilson(1, 4)
