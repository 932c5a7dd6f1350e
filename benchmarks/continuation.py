"""Videos that go on under another caption: `python benchmarks/continuation.py shapes --count 60`.

The first motion is rendered and coded by the tokenizer; two windows of keyframes follow under the new caption, as
`--continue` and `--windows` draw them. The same of rendered keyframes, and of those coded, says what could be reached.
"""

import argparse

import numpy as np
import torch

from cogstyle.sampling.keyframes import OVERLAP
from cogstyle.sampling.pipeline import Options, Pipeline, load
from cogstyle.shapes_world import world
from cogstyle.shapes_world.join_judge import judge_join, share_right
from cogstyle.shapes_world.joins import Join, draw_join
from cogstyle.shapes_world.phrasings import phrase

FIRST_SEED = 1_000_000
ARMS = ("rendered", "rendered, coded", "sampled")


def drawn(seed: int, frames: int, actors: int) -> tuple[Join, float]:
    scene, rng = world.draw_scene(seed, actors=actors), np.random.default_rng([seed, 8])
    return draw_join(scene, rng, frames=frames, known=OVERLAP, same=0.0)


def versions(pipe: Pipeline, seed: int, join: Join, rate: float, caption: str) -> dict[str, np.ndarray]:
    """Keyframes of the last window of the first video and of two more, by arm."""
    count = pipe.bundle.model_config.frames + (pipe.bundle.model_config.frames - OVERLAP)
    times = [join.at + (k - OVERLAP + 1) / rate for k in range(count)]
    truth = join.render_clip(times, pipe.bundle.tokenizer_config.image_size)
    coded_FL = pipe.encode(truth)
    options = Options(frame_rate=rate, windows=2, levels=0)
    made_BFL = pipe.keyframes([caption], [seed], options, first_BFL=coded_FL[None, :OVERLAP])
    return dict(zip(ARMS, (truth, pipe.decode(coded_FL), pipe.decode(made_BFL[0])), strict=True))


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description="What a video does after it goes on under another caption.")
    parser.add_argument("bundle", nargs="?", default="shapes")
    parser.add_argument("--count", type=int, default=60, help="videos that go on")
    parser.add_argument("--actors", type=int, choices=(1, 2), default=1)
    parser.add_argument("--phrasings", action="store_true", help="new captions as people write them")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    pipe, verdicts = load(arguments.bundle), {arm: [] for arm in ARMS}
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.count):
        join, rate = drawn(seed, pipe.bundle.model_config.frames, arguments.actors)
        rng, language = np.random.default_rng([seed, 9]), join.second.language
        caption = phrase(join.second, rng, language=language, canonical=not arguments.phrasings)
        for arm, frames in versions(pipe, seed, join, rate, caption).items():
            verdicts[arm].append(judge_join(frames, rate, OVERLAP, join))
    found = {arm: share_right(held) for arm, held in verdicts.items()}
    print(f"{arguments.count} videos of {pipe.bundle.name}, shares in per cent:\n")
    print("| keyframes | " + " | ".join(found[ARMS[0]]) + " |\n|---|" + "---:|" * len(found[ARMS[0]]))
    for arm, shares in found.items():
        print(f"| {arm} | " + " | ".join(f"{100 * share:.0f}" for share in shares.values()) + " |")
    return found


if __name__ == "__main__":
    main()
