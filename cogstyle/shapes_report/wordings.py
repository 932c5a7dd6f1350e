"""The same scenes asked for as people write: in phrasings that training uses, and in those that it never does."""

from typing import TYPE_CHECKING

import numpy as np

from cogstyle.shapes_report.protocol import sample_scenes
from cogstyle.shapes_world import world
from cogstyle.shapes_world.alignment import summarise
from cogstyle.shapes_world.phrasings import phrase

if TYPE_CHECKING:
    from cogstyle.shapes_report.sections import Bench, Figures, Pages

WORDINGS = {"training phrasings": False, "held-out phrasings": True}


def said(seed: int, scene: world.Scene, *, held_out: bool) -> str:
    """What a scene of a seed is asked for with."""
    return phrase(scene, np.random.default_rng([seed, 9]), language=scene.language, held_out=held_out)


def phrasings(bench: "Bench", *, actors: int) -> "tuple[Figures, Pages]":
    """Captions of the scenes that the whole way is judged on, in other words."""
    scenes, figures = bench.plan.scenes(actors, False), {}
    for name, held_out in WORDINGS.items():
        prompts = {seed: said(seed, scene, held_out=held_out) for seed, scene in scenes}
        how = {"batch": bench.batch, "progress": bench.progress, "prompts": prompts}
        clips = sample_scenes(bench.pipe, scenes, bench.plan.options, **how)  # type: ignore[arg-type]
        wrong = {prompts[clip.seed]: clip.seed for clip in clips if not clip.verdict.all}
        figures[name] = {"shares": summarise([clip.verdict for clip in clips]), "wrong": wrong}
    return {"phrasings": figures}, {}
