"""What smaller numbers cost: logits of the keyframe adapter on true frames, and keyframes that show their caption.

python benchmarks/precision.py shapes --count 60
"""

import argparse

import torch
from torch import Tensor

from cogstyle.bundle import Bundle
from cogstyle.layout import keyframe_layout
from cogstyle.sampling.options import Options
from cogstyle.sampling.pipeline import Pipeline
from cogstyle.shapes_report.protocol import TUNING_SEED, draw_scenes, sample_scenes
from cogstyle.shapes_world import world

KINDS = {
    "float32": (torch.float32, None),
    "bfloat16": (torch.bfloat16, None),
    "float16": (torch.float32, "float16"),
    "int8": (torch.float32, "int8"),
}


@torch.inference_mode()
def logits(pipe: Pipeline, scene: world.Scene) -> Tensor:
    """Of the later keyframes of a true clip, [places, V]."""
    config, rate = pipe.bundle.model_config, world.keyframe_rates(scene)[0]
    frames = world.render_clip(scene, [k / rate for k in range(config.frames)], pipe.bundle.tokenizer_config.image_size)
    text_BS = torch.tensor([pipe.text.video_text(world.caption(scene), (config.frames - 1) / rate)])
    layout = keyframe_layout(config, text_BS.shape[1])
    h_BPD = pipe.image_model(text_BS, pipe.encode(frames)[None], layout, pipe.adapter("keyframes"))
    return pipe.image_model.logits(h_BPD)[0, config.tokens :].float()


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", default="shapes")
    parser.add_argument("--count", type=int, default=60, help="scenes")
    arguments = parser.parse_args(argv)
    scenes, found, plain = draw_scenes(TUNING_SEED, arguments.count), {}, torch.empty(0)
    for kind, (dtype, packed) in KINDS.items():
        pipe = Pipeline(Bundle(arguments.bundle, dtype=dtype, packed=packed))
        found_PV = torch.cat([logits(pipe, scene) for _, scene in scenes])
        plain = found_PV if kind == "float32" else plain
        verdicts = [clip.verdict for clip in sample_scenes(pipe, scenes, Options(levels=0))]
        share = plain.softmax(-1) * (plain.log_softmax(-1) - found_PV.log_softmax(-1))
        found[kind] = {
            "rms error of logits": (found_PV - plain).square().mean().sqrt().item(),
            "KL, nats a token": share.sum(-1).mean().item(),
            "same likeliest token": (found_PV.argmax(-1) == plain.argmax(-1)).float().mean().item(),
            "action and direction": sum(v.action and v.direction for v in verdicts) / len(verdicts),
            "all": sum(v.all for v in verdicts) / len(verdicts),
        }
        print(kind, *(f"{name} {value:.3g}" for name, value in found[kind].items()), sep="  ", flush=True)
    return found


if __name__ == "__main__":
    main()
