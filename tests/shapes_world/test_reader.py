"""The reader of frames against renders whose truth is known."""

import math

import numpy as np
import pytest

from cogstyle.errors import MediaError
from cogstyle.shapes_world import world
from cogstyle.shapes_world.colours import _own, find_colours, unmix
from cogstyle.shapes_world.motions import DURATIONS, best_motion, motion_errors
from cogstyle.shapes_world.reader import read_clip


def flat(background: str, colour: str, opacity: float) -> np.ndarray:
    layer = (colour, "circle", world.State(0.5, 0.5, 0.16, opacity))
    return world.paint(background, [layer], 64)[None]


def times_of(duration: float, frames: int = 5) -> list[float]:
    return [k * duration / (frames - 1) for k in range(frames)]


def true_track(actor: world.Actor, times: list[float], duration: float) -> np.ndarray:
    states = [world.state(actor, t, duration) for t in times]
    return np.asarray([(s.x, s.y, s.r, s.opacity) for s in states])


@pytest.mark.parametrize("opacity", [1.0, 0.75, 0.6])
@pytest.mark.parametrize("colour", world.COLOURS)
@pytest.mark.parametrize("background", world.BACKGROUNDS)
def test_half_opaque_colours_are_unmixed(background: str, colour: str, opacity: float) -> None:
    """Half-mixed blue on white is nearest purple in RGB; on its line to white it is blue."""
    reading = read_clip(flat(background, colour, opacity), [0.0])
    assert (reading.background, [a.colour for a in reading.actors]) == (background, [colour])
    expected = 1.0 if opacity == 1.0 else opacity
    assert reading.actors[0].track[0] == pytest.approx([0.5, 0.5, 0.16, expected], abs=0.02)


def test_nearest_palette_colour_would_misread() -> None:
    """The reason for unmixing: if this stops holding, the test above has lost its teeth."""
    pixel = flat("white", "blue", 0.5)[0, 32, 32].astype(float)
    palette = {"white": world.BACKGROUNDS["white"], **world.COLOURS}
    assert min(palette, key=lambda name: np.hypot.reduce(pixel - palette[name])) == "purple"


def test_shares_where_two_actors_mix() -> None:
    base = np.asarray(world.BACKGROUNDS["black"], np.float32)
    layers = [
        ("blue", "square", world.State(0.4, 0.5, 0.2)),
        ("red", "circle", world.State(0.6, 0.5, 0.2, 0.4)),
    ]
    offsets = world.paint("black", layers, 64)[None].astype(np.float32) - base
    shares = unmix(offsets, base, ("blue", "red"))[:, 0]
    for x, expected in ((0.3, (1.0, 0.0)), (0.5, (0.6, 0.4)), (0.7, (0.0, 0.4)), (0.95, (0.0, 0.0))):
        assert shares[:, 32, int(x * 64)] == pytest.approx(expected, abs=0.03)


def test_mixed_edges_are_no_third_actor() -> None:
    """A faint red over yellow is orange, in one frame of three: two actors, not three."""
    yellow = ("yellow", "square", world.State(0.35, 0.5, 0.15))
    frames = [
        world.paint("grey", [yellow, ("red", "square", world.State(x, 0.5, 0.15, opacity))], 64)
        for x, opacity in ((0.8, 1.0), (0.4, 0.6), (0.8, 1.0))
    ]
    base = np.asarray(world.BACKGROUNDS["grey"], np.float32)
    assert sorted(find_colours(np.stack(frames) - base, base)) == ["red", "yellow"]
    red, green = (("red", "square", world.State(0.8, 0.2, 0.12)), ("green", "square", world.State(0.8, 0.8, 0.12)))
    frames[1] = world.paint("grey", [yellow, red, green], 64)
    assert sorted(find_colours(np.stack(frames) - base, base)) == ["green", "red", "yellow"]


def test_patches_of_a_smeared_actor_are_no_second_actor() -> None:
    """A tokenizer leaves yellow on a third of an orange ring; a yellow circle elsewhere is an actor."""
    frames = [
        world.paint("black", [("orange", "ring", world.State(0.35, y, 0.2)), ("yellow", "circle", place)], 64)
        for y in (0.3, 0.4, 0.5, 0.6, 0.7)
        for place in (world.State(0.49, y, 0.07),)
    ]
    assert [a.colour for a in read_clip(np.stack(frames), times_of(2.0)).actors] == ["orange"]
    frames[4] = world.paint("black", [("orange", "ring", world.State(0.35, 0.7, 0.2))], 64)
    frames[4][5:17, 45:57] = world.COLOURS["yellow"]
    assert sorted(a.colour for a in read_clip(np.stack(frames), times_of(2.0)).actors) == ["orange", "yellow"]


def test_one_misread_frame_is_no_second_actor() -> None:
    frames = [
        world.paint("black", [("yellow" if f else "orange", "star", world.State(0.5, 0.5, r))], 64)
        for f, r in enumerate((0.08, 0.115, 0.15, 0.185, 0.22))
    ]
    assert [a.colour for a in read_clip(np.stack(frames), times_of(2.0)).actors] == ["yellow"]


@pytest.mark.parametrize(("size", "tolerance"), [(64, 0.006), (192, 0.006)])
@pytest.mark.parametrize("actors", [1, 2])
def test_tracks_follow_the_truth(actors: int, size: int, tolerance: float) -> None:
    """Median error of place and radius over clips, hidden frames included, in canvas units."""
    place, radius = [], []
    for seed in range(world.VALIDATION_SEED, world.VALIDATION_SEED + 12):
        scene = world.draw_scene(seed, actors=actors)
        times = times_of(scene.duration)
        reading = read_clip(world.render_clip(scene, times, size), times)
        assert {a.colour for a in reading.actors} == {a.colour for a in scene.actors}
        for actor in scene.actors:
            read = next(a for a in reading.actors if a.colour == actor.colour)
            truth = true_track(actor, times, scene.duration)
            seen = truth[:, 3] > 0.3
            place.append(np.abs(read.track - truth)[seen, :2].max())
            radius.append(np.abs(read.track - truth)[seen, 2].max())
            assert np.abs(read.track - truth)[:, 3].max() < 0.16
    assert np.median(place) < tolerance and np.median(radius) < tolerance
    assert max(place) < 0.05


def test_two_actors_of_one_colour_are_two() -> None:
    frames = [
        world.paint(
            "white",
            [("red", "ring", world.State(x, 0.3, 0.15)), ("red", "cross", world.State(0.5, 0.75, 0.15))],
            64,
        )
        for x in (0.25, 0.375, 0.5, 0.625, 0.75)
    ]
    read = read_clip(np.stack(frames), times_of(2.0)).actors
    assert sorted((a.colour, a.shape, a.action) for a in read) == [
        ("red", "cross", "still"),
        ("red", "ring", "move"),
    ]


def test_an_actor_cut_in_two_by_another_is_one() -> None:
    layers = [("red", "circle", world.State(0.5, 0.5, 0.2)), ("blue", "cross", world.State(0.5, 0.5, 0.22))]
    read = read_clip(world.paint("white", layers, 64)[None], [0.0]).actors
    assert sorted(a.colour for a in read) == ["blue", "red"]


def test_a_wholly_hidden_actor_has_not_disappeared() -> None:
    red = ("red", "circle", world.State(0.5, 0.5, 0.12))
    frames = [
        world.paint("white", [red, ("blue", "square", world.State(x, 0.5, 0.2))], 64)
        for x in (0.25, 0.375, 0.5, 0.625, 0.75)
    ]
    read = read_clip(np.stack(frames), times_of(2.0)).actors
    assert {a.colour: a.action for a in read} == {"red": "still", "blue": "move"}


def test_a_frame_full_of_one_blob_divides_by_no_empty_background() -> None:
    full_FHW = np.ones((1, 4, 4), bool)
    with np.errstate(all="raise"):
        assert _own(full_FHW, full_FHW).all()


def test_an_empty_clip_has_no_actors() -> None:
    reading = read_clip(np.full((3, 64, 64, 3), 140, np.uint8), [0.0, 0.5, 1.0])
    assert (reading.background, reading.actors) == ("grey", ())


@pytest.mark.parametrize("duration", world.DURATIONS.values())
@pytest.mark.parametrize("action", world.ACTIONS)
def test_every_motion_fits_its_own_track(action: str, duration: float) -> None:
    times = times_of(duration, 9)
    for direction in world.DIRECTIONS.get(action, (None,)):
        actor = world.Actor("red", "circle", action, direction, None, 0.15, 0.45, 0.6, 1.0)
        errors = motion_errors(true_track(actor, times, duration), times)
        assert errors[action, direction, duration] == pytest.approx(0.0, abs=1e-9)
        assert action == "still" or best_motion(errors) == (action, direction, duration)
        others = [m for m in errors if m[2] == duration and m[:2] != (action, direction)]
        assert min(errors[motion] for motion in others) > 0.01
        spread = [errors[action, direction, d] for d in DURATIONS]
        assert action == "still" or sorted(spread)[1] > 0.01


def test_what_the_times_cannot_show_fits_equally() -> None:
    """Half of "goes right and comes back" is "moves right" in half the time; bounces seen once a hop rest."""
    times = [0.0, 0.5, 1.0, 1.5, 2.0]
    there = world.Actor("red", "circle", "return", "right", None, 0.15, 0.5, 0.5)
    errors = motion_errors(true_track(there, times, 4.0), times)
    assert errors["return", "right", 4.0] == pytest.approx(errors["move", "right", 2.0], abs=1e-9)
    assert errors["return", "right", 2.0] > 0.05
    hops = world.Actor("red", "circle", "bounce", None, None, 0.15, 0.5, 0.5)
    assert best_motion(motion_errors(true_track(hops, times, 1.0), times))[0] == "still"


def test_invisible_frames_have_no_place_to_be_wrong_about() -> None:
    times = times_of(2.0)
    track = true_track(world.Actor("red", "circle", "blink", None, None, 0.15, 0.5, 0.5), times, 2.0)
    track[2, :3] = 0.9, 0.1, 0.0
    assert motion_errors(track, times)["blink", None, 2.0] == pytest.approx(0.0, abs=1e-9)
    track[2, 3] = 1.0
    assert motion_errors(track, times)["blink", None, 2.0] > 0.1


@pytest.mark.parametrize(
    ("frames", "times"),
    [
        (np.zeros((2, 64, 64, 3), np.float32), [0.0, 1.0]),
        (np.zeros((2, 64, 32, 3), np.uint8), [0.0, 1.0]),
        (np.zeros((64, 64, 3), np.uint8), [0.0]),
        (np.zeros((2, 64, 64, 3), np.uint8), [0.0]),
        (np.zeros((2, 64, 64, 3), np.uint8), [1.0, 0.0]),
    ],
)
def test_wrong_frames_and_times_are_refused(frames: np.ndarray, times: list[float]) -> None:
    with pytest.raises(MediaError):
        read_clip(frames, times)


def test_frames_are_not_changed() -> None:
    frames = flat("white", "blue", 1.0)
    before = frames.copy()
    assert math.isclose(read_clip(frames, [0.0]).actors[0].r, 0.16, abs_tol=0.005)
    assert (frames == before).all()
