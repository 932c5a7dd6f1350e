"""The zoo's judge: what does a clip show, and is it what was asked for? `judge` is for `cogstyle evaluate --judge`.

Reading knows nothing of what was asked: a small network finds and names actors in every frame, they are followed
through the clip, and the motion that fits best is what they do.

Suffixes: F frames, N nouns, 4 = (x, y, r, opacity).
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from judge_networks import Eye, Found, load
from nouns import NOUNS
from scenes import BACKGROUNDS, DIRECTIONS, EXTENT, PAIRED, SIDES, Actor, Scene, state
from understand import understood

from cogstyle.shapes_world.alignment import marks_of
from cogstyle.shapes_world.motions import DURATIONS, Motion, motion_errors

ATTRIBUTES = ("count", "noun", "background", "size", "action", "direction", "speed")
OPAQUE, FAINT = 0.8, 0.1  # opacity from here on is full, up to here none
SMALL_BELOW = 0.155  # nominal radius between small (0.12) and large (0.20)
SLACK = 0.01  # motions whose errors (canvas) differ by less cannot be told apart
UNKNOWN = 0.1  # error of a motion that is none of those we know
NAME = 0.1  # distance that two quite different nouns weigh as much as, when actors are followed
SHORTEST = 0.12  # share of the frames that an actor must be seen in, fully
TOUCH = 0.9  # distance of two that lie over each other, over the sum of their sizes
DOUBT = 0.6  # sureness of what is doubtful then, over the usual
START = 0.3  # sureness of an actor that begins beside another
NAMES, PLACES = tuple(NOUNS), tuple(BACKGROUNDS)


@dataclass(frozen=True)
class Track:
    """One actor as read; its states [F, 4] in canvas units and how far each motion is from them."""

    noun: str
    states_F4: np.ndarray
    known_F: np.ndarray  # frames that say something of it; in the others something hides it
    errors: Mapping[Motion, float]

    @property
    def r(self) -> float:
        """Its median nominal radius where it is well seen."""
        found_F4 = self.states_F4[self.known_F]
        return float(np.median(found_F4[found_F4[:, 3] >= 0.5 * found_F4[:, 3].max(), 2]))


@dataclass(frozen=True)
class Reading:
    """What a clip shows; the actors from the most seen to the least."""

    background: str
    tracks: tuple[Track, ...]


@lru_cache(maxsize=1)
def eye() -> Eye:
    """The shipped networks."""
    return load()


def read(frames_FHWC: np.ndarray, times_F: Sequence[float], networks: Eye | None = None) -> Reading:
    """Read a clip: uint8 [F, H, H, 3], and the seconds of each frame since the action's start."""
    by_frame, background = (networks or eye()).look(frames_FHWC)
    followed = follow(by_frame)
    states = [between(track, len(by_frame)) for track in followed]
    tracks = []
    for number, track in enumerate(followed):
        others = [other for n, other in enumerate(states) if n != number]
        states_F4, known_F = known(track, states[number], others)
        names_N = sum(found.sure * found.opacity * np.exp(found.nouns_N) for _, found in track)
        errors = motion_errors(states_F4[known_F], np.asarray(times_F)[known_F])
        tracks.append(Track(NAMES[int(np.argmax(names_N))], states_F4, known_F, errors))
    return Reading(PLACES[int(background.argmax())], tuple(tracks))


# ---------------------------------------------------------------- following


def follow(by_frame: Sequence[Sequence[Found]]) -> list[list[tuple[int, Found]]]:
    """Link what is found in each frame: nearest place and most alike first; the longest track first."""
    frames = len(by_frame)
    limit = 0.15 + 1.5 / frames
    tracks: list[list[tuple[int, Found]]] = []
    names: list[np.ndarray] = []  # of each track: sum of the shares of nouns
    for f, found in enumerate(by_frame):
        costs = sorted(
            (cost, t, d)
            for t, track in enumerate(tracks)
            for d, one in enumerate(found)
            if (cost := _cost(track, names[t], f, one)) < limit
        )
        taken: dict[int, int] = {}
        for _, t, d in costs:
            if d not in taken and t not in taken.values():
                taken[d] = t
        for d, one in enumerate(found):
            share_N = one.opacity * np.exp(one.nouns_N)
            if d in taken:
                tracks[taken[d]].append((f, one))
                names[taken[d]] = names[taken[d]] + share_N
            elif one.sure > START or all(_apart_from(track[-1][1], one) for track in tracks):
                tracks.append([(f, one)])
                names.append(share_N)
    joined = _joined(tracks, names)
    weight = [sum(one.sure * one.opacity for _, one in track) for track in joined]
    seen = sorted(zip(weight, joined, strict=True), key=lambda pair: -pair[0])
    return [track for much, track in seen if much >= SHORTEST * frames]


def _cost(track: list[tuple[int, Found]], names_N: np.ndarray, f: int, one: Found) -> float:
    (g, last), before = track[-1], track[-2] if len(track) > 1 else None
    x, y = last.x, last.y
    if before is not None and f - g <= 2:  # it goes on as it went
        x += (last.x - before[1].x) * (f - g) / (g - before[0])
        y += (last.y - before[1].y) * (f - g) / (g - before[0])
    far = min(math.hypot(one.x - x, one.y - y), math.hypot(one.x - last.x, one.y - last.y))
    alike = float(np.exp(one.nouns_N) @ names_N) / float(names_N.sum())
    return far + NAME * one.opacity * (1.0 - alike)


def _apart_from(one: Found, other: Found) -> bool:
    return max(abs(one.x - other.x), abs(one.y - other.y)) > one.half + other.half


def _joined(tracks: list[list[tuple[int, Found]]], names: list[np.ndarray]) -> list[list[tuple[int, Found]]]:
    """Pieces that show one noun at different times are one actor."""
    by_noun: dict[int, list[list[tuple[int, Found]]]] = {}
    for track, names_N in sorted(zip(tracks, names, strict=True), key=lambda pair: -len(pair[0])):
        same = by_noun.setdefault(int(names_N.argmax()), [])
        times = {f for f, _ in track}
        home = next((other for other in same if not times & {f for f, _ in other}), None)
        if home is None:
            same.append(list(track))
        else:
            home.extend(track)
            home.sort(key=lambda pair: pair[0])
    return [track for same in by_noun.values() for track in same]


def between(track: list[tuple[int, Found]], frames: int) -> np.ndarray:
    """States [F, 4] of a track; where it was not found it lies between the places where it was."""
    values = np.array([(one.x, one.y, one.half / EXTENT, one.opacity) for _, one in track])
    values[:, 3] = np.where(values[:, 3] > OPAQUE, 1.0, np.where(values[:, 3] < FAINT, 0.0, values[:, 3]))
    at = [f for f, _ in track]
    return np.stack([np.interp(np.arange(frames), at, column) for column in values.T], 1)


def known(
    track: list[tuple[int, Found]], states_F4: np.ndarray, others: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """States [F, 4] with opacity 0 where the actor is gone, and which frames [F] say something of it.

    Those do not in which it is missed for a moment, or found less surely than usual while another lies over it.
    """
    frames, sure = len(states_F4), np.zeros(len(states_F4))
    for f, one in track:
        sure[f] = one.sure
    found_F = sure > 0.0
    over_F = np.zeros(frames, bool)
    for other_F4 in others:
        far_F = np.abs(states_F4[:, :2] - other_F4[:, :2]).max(1)
        over_F |= far_F < TOUCH * EXTENT * (states_F4[:, 2] + other_F4[:, 2])
    doubtful_F = over_F & (sure < DOUBT * np.median(sure[found_F]))
    beside_F = np.append(found_F[1:], False) & np.append(False, found_F[:-1])
    known_F = ~doubtful_F & (found_F | ~beside_F)
    if known_F.sum() < frames / 3:
        known_F = found_F
    made_F4 = states_F4.copy()
    made_F4[known_F & ~found_F, 3] = 0.0
    return made_F4, known_F


# ---------------------------------------------------------------- what two do together


def pair_errors(first: Track, second: Track, times_F: Sequence[float]) -> dict[Motion, float]:
    """How far two tracks lie from what the first may do with the second: root mean square distance, canvas."""
    places = [track.states_F4[track.known_F, :2] for track in (first, second)]
    times = [np.asarray(times_F)[track.known_F] for track in (first, second)]
    found = {}
    for action in PAIRED:
        level = float(np.median((places[1] if action == "jump" else np.concatenate(places))[:, 1]))
        for side in SIDES:
            said = side if action in DIRECTIONS else None
            actors = tuple(
                Actor(t.noun, name, said, None, t.r, 0.5, level, 0.0, side)
                for t, name in ((first, action), (second, "still"))
            )
            for duration in DURATIONS:
                scene = Scene(0, "", actors, None, duration, False)
                laws = [[(s.x, s.y) for s in (state(scene, n, t) for t in times[n])] for n in (0, 1)]
                miss = np.mean([np.square(np.array(laws[n]) - places[n]).sum(-1).mean() for n in (0, 1)])
                key = (action, said, duration)
                found[key] = min(found.get(key, math.inf), float(np.sqrt(miss)))
    return found


def _apart(tracks: Sequence[Track]) -> float:
    """Error of the best motions if each actor goes its own way."""
    return float(np.sqrt(np.mean([min(track.errors.values()) ** 2 for track in tracks])))


# ---------------------------------------------------------------- verdicts


def judge(frames_FHWC: np.ndarray, times_F: Sequence[float], asked: Mapping[str, Any]) -> dict[str, bool | str]:
    """Which attributes of what was asked for hold, and in words what is seen.

    Args:
        frames_FHWC: uint8 [F, H, H, 3].
        times_F: seconds of each frame since the start.
        asked: `prompt`, and `scene` as in the prompts that make_prompts.py writes; without it the prompt is understood.

    Raises:
        ValueError: for a prompt that is no caption of the zoo.
    """
    if (said := asked.get("scene")) is None:
        scene = understood(asked["prompt"])
    else:
        scene = Scene(**{**said, "actors": tuple(Actor(**actor) for actor in said["actors"])})
    reading = read(frames_FHWC, times_F)
    return {**verdict(reading, times_F, scene), "seen": words(reading, times_F)}


def verdict(reading: Reading, times_F: Sequence[float], scene: Scene) -> dict[str, bool]:
    """Actors are matched by noun, and then so that the most holds; one too many fails `count`."""
    none = len(reading.tracks)
    choices = set(permutations([*range(none), *(none for _ in scene.actors)], len(scene.actors)))
    rows = [_marks([*reading.tracks, None], choice, times_F, scene) for choice in sorted(choices)]
    best = max(rows, key=lambda row: (row["nouns"], sum(row.values())))
    return {
        "count": none == len(scene.actors),
        "noun": best["nouns"] == len(scene.actors),
        "background": not scene.says_background or reading.background == scene.background,
        **{name: bool(best[name]) for name in ("size", "action", "direction", "speed")},
    }


def _marks(tracks: Sequence[Track | None], choice: Sequence[int], times_F: Sequence[float], scene: Scene):
    """What holds if actor n is track choice[n]."""
    chosen = [tracks[number] for number in choice]
    pairs = list(zip(chosen, scene.actors, strict=True))
    fits = [a.size is None or (t is not None and (t.r < SMALL_BELOW) == (a.size == "small")) for t, a in pairs]
    if scene.together:
        both = [track for track in chosen if track is not None]
        apart = {("apart", None, scene.duration): _apart(both)} if len(both) == 2 else {}
        errors = [pair_errors(*both, times_F) | apart if apart else {}]
    else:
        errors = [track.errors if track else {} for track in chosen]
        if len(pairs) == 2 and all(chosen):
            both = min(min(pair_errors(*order, times_F).values()) for order in (chosen, chosen[::-1]))
            errors = [{} if both + SLACK < _apart(chosen) else one for one in errors]
    marks = [_motion(one, actor, scene) for one, actor in zip(errors, scene.actors, strict=False)]
    return {
        "nouns": sum(t is not None and t.noun == a.noun for t, a in pairs),
        "size": all(fits),
        **{name: all(mark[n] for mark in marks) for n, name in enumerate(("action", "direction", "speed"))},
    }


def _motion(errors: Mapping[Motion, float], actor: Actor, scene: Scene) -> tuple[bool, bool, bool]:
    """Whether action, direction and speed hold together: of the motions that fit, those stay that the scene says."""
    still = actor.action == "still"
    if not errors:
        return False, actor.direction is None, still
    limit = min(min(errors.values()) + SLACK, UNKNOWN)
    motions = [motion for motion, error in errors.items() if error <= limit]
    return marks_of(motions, actor.action, actor.direction, scene.duration)


def words(reading: Reading, times_F: Sequence[float]) -> str:
    """A reading in a few words."""

    def motion(found: Motion) -> str:
        return " ".join(word for word in found[:2] if word) + ("" if found[0] == "still" else f" {found[2]:g} s")

    names = [f"{track.noun} r {track.r:.2f}" for track in reading.tracks]
    if len(reading.tracks) == 2:
        orders = [reading.tracks, reading.tracks[::-1]]
        found = [(error, n, key) for n, o in enumerate(orders) for key, error in pair_errors(*o, times_F).items()]
        error, n, key = min(found, key=lambda row: row[0])
        if error < _apart(reading.tracks):
            names = names[::-1] if n else names
            return f"{names[0]} {motion(key)} {names[1]}, {reading.background}"
    apart = [f"{name} {motion(min(t.errors, key=t.errors.get))}" for name, t in zip(names, reading.tracks, strict=True)]
    return f"{' and '.join(apart) or 'nothing'}, {reading.background}"
