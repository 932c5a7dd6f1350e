"""FVD and KVD of sampled clips on the shapes world, beside what the tokenizer alone costs and what the truth scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cogstyle.errors import ConfigError
from cogstyle.evaluation import fvd
from cogstyle.sampling.pipeline import Pipeline
from cogstyle.shapes_report.classifier import shapes_classifier
from cogstyle.shapes_report.protocol import Clip, true_video
from cogstyle.shapes_world import world
from cogstyle.video.extractor import Extractor

REFERENCE_SEED, REFERENCE = 3_000_000, 256  # true scenes that all sets are compared with: nobody is asked for these


def distances(pipe: Pipeline, clips: Sequence[Clip]) -> dict[str, Any]:
    """FVD, KVD and IS of one-actor clips against true scenes of other seeds.

    Returns:
        "samples"; "reconstructed", the true clips of the same scenes encoded and decoded (the least that these
        weights can reach); "true", those clips as they are (the least that so few clips can show); each as
        `fvd.compare` gives it. Or {"skipped": why}.
    """
    frames = len(clips[0].video.frames)
    try:
        extractor = Extractor(shapes_classifier())
    except ConfigError as error:
        return {"skipped": str(error)}
    need = extractor.settings.frames
    if frames < need or len(clips) < 4:
        return {"skipped": f"{len(clips)} clips of {frames} frames; needs at least 4 of {need}"}
    config, size = pipe.bundle.model_config, pipe.bundle.tokenizer_config.image_size
    levels = ((frames - 1) // (config.frames - 1)).bit_length() - 1

    def true(scene: world.Scene) -> np.ndarray:
        return true_video(scene, frames=config.frames, levels=levels, size=size).frames

    reference = (true(world.draw_scene(REFERENCE_SEED + k, actors=1)) for k in range(REFERENCE))
    sets = {
        "samples": (clip.video.frames for clip in clips),
        "reconstructed": (pipe.decode(pipe.encode(true(clip.scene))) for clip in clips),
        "true": (true(clip.scene) for clip in clips),
    }
    real = fvd.statistics(extractor(reference), extractor, {})
    return {name: fvd.compare(real, fvd.statistics(extractor(found), extractor, {})) for name, found in sets.items()}
