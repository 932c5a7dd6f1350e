"""Each stage fed with the truth of the one before it: which weights limit the whole?"""

from dataclasses import replace

import numpy as np
import torch

from cogstyle.sampling.pipeline import Options, Pipeline
from cogstyle.shapes_report.protocol import Clip, Progress, Scenes, by_rate, judged, true_video
from cogstyle.shapes_world import world
from cogstyle.video import Video

STAGES = {
    "tokenizer": "tokenizer: true frames, encoded and decoded",
    "image": "image model: the first frame, from the text",
    "keyframes": "keyframe adapter: from a true first frame",
    "interpolation": "interpolation adapter: between true keyframes",
    "superres": "super-resolution: of true small frames",
}


def fed_with_truth(
    pipe: Pipeline, scenes: Scenes, options: Options, *, batch: int = 10, progress: Progress = lambda clips: None
) -> dict[str, list[Clip]]:
    """What each stage makes of true inputs, by the names of STAGES, judged against the scene.

    The image model is not among them: its input is the text. Interpolation is there if `options.levels` is above 0,
    super-resolution if `options.upscale` is set.
    """
    config, size = pipe.bundle.model_config, pipe.bundle.tokenizer_config.image_size
    found: dict[str, list[Clip]] = {}
    for rate, part in by_rate(scenes, batch):
        captions, seeds = [world.caption(scene) for _, scene in part], [seed for seed, _ in part]
        chosen = replace(options, frame_rate=rate, upscale=False)
        shape = {"frames": config.frames, "levels": options.levels, "size": size}
        true = [true_video(scene, **shape) for _, scene in part]
        true_BFL = torch.stack([pipe.encode(video.frames) for video in true])
        key_BFL = true_BFL[:, :: 2**options.levels]
        tokens = {
            "tokenizer": true_BFL,
            "keyframes": pipe.keyframes(captions, seeds, replace(chosen, levels=0), first_BFL=key_BFL[:, :1]),
        }
        if options.levels:
            tokens["interpolation"] = pipe.interpolate(key_BFL, captions, seeds, chosen)
        if options.upscale:
            tokens["superres"] = pipe.upscale(true_BFL, captions, seeds, replace(chosen, upscale=True))
        for stage, tokens_BFL in tokens.items():
            fps = rate * (1 if stage == "keyframes" else 2**options.levels)
            coarse_BFL: list[np.ndarray | None] = [None] * len(part)
            if stage != "superres":
                coarse_BFL = list(tokens_BFL.cpu().numpy())
            for (seed, scene), shown_FM, coarse_FL in zip(part, tokens_BFL, coarse_BFL, strict=True):
                video = Video(pipe.decode(shown_FM), fps, tokens=coarse_FL)
                found.setdefault(stage, []).append(judged(seed, scene, video))
        progress(len(part))
    return {stage: sorted(clips, key=lambda clip: clip.seed) for stage, clips in found.items()}
