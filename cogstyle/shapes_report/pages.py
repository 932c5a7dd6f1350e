"""Rows of pages of pictures: what was asked of a scene, and what the reader saw."""

from dataclasses import replace

from cogstyle.evaluation.pages import PageRow
from cogstyle.shapes_report.protocol import Clip
from cogstyle.shapes_world import world
from cogstyle.shapes_world.alignment import ATTRIBUTES, Verdict
from cogstyle.shapes_world.reader import ActorReading, Reading


def asked(scene: world.Scene) -> str:
    """The caption in English, which the font can show, and the language it was asked in."""
    return world.caption(replace(scene, language="en")) + (" (asked in Chinese)" if scene.language == "zh" else "")


def seen(reading: Reading) -> str:
    """What the reader saw, in a few words."""

    def words(actor: ActorReading) -> str:
        motion = " ".join(word for word in (actor.action, actor.direction) if word)
        seconds = "" if actor.action == "still" else f" {actor.duration:g} s"
        return f"{actor.colour} {actor.shape} r {actor.r:.2f} {motion}{seconds}"

    return f"{' and '.join(map(words, reading.actors)) or 'nothing'} on {reading.background}"


def wrong(verdict: Verdict) -> list[str]:
    """The attributes that do not hold."""
    return [name for name in ATTRIBUTES if not getattr(verdict, name)]


def row_of(clip: Clip) -> PageRow:
    """A sampled clip as a row."""
    failed = wrong(clip.verdict)
    note = f"read: {seen(clip.reading)}   {'wrong: ' + ', '.join(failed) if failed else 'all right'}"
    return PageRow(clip.video.frames, f"{clip.seed}: {asked(clip.scene)}", note, not failed)
