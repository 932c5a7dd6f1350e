"""How well a language model rewrites prompts of the shapes world: python benchmarks/rewriter.py [FOLDER] [--clips 60]

Texts: pairs of phrasings and captions of validation seeds, by kind and language. Clips: keyframes that the
shapes bundle draws of captions, of phrasings, and of phrasings rewritten, each read and judged.
"""

import argparse
from dataclasses import replace

import numpy as np

import cogstyle
from cogstyle import Options
from cogstyle.sampling.rewriter import Rewriter
from cogstyle.shapes_report.protocol import by_rate, draw_scenes, judged
from cogstyle.shapes_world.facts import canonical, lost
from cogstyle.shapes_world.pairs import KINDS, LANGUAGES, held_back_pairs
from cogstyle.shapes_world.phrasings import phrase

OWN = (  # said without a look at the vocabulary
    "A scarlet disk slides to the right",
    "Show me a big blue star that spins around clockwise",
    "tiny green triangle hopping",
    "the red ball rolls left slowly on black",
    "Yellow hexagon disappears and then comes back",
    "red ball moving right",
    "Red circle is moving to the right.",
    "a blue square going up",
    "A huge purple heart is growing",
    "small white diamond shrinking quickly",
    "video of a green star flying upwards",
    "a red circle moves from left to right",
    "there is a yellow triangle that moves down slowly",
    "orange square stays still",
    "a ball and a star, the ball moves left and the star grows",
    "一个红球向右移动",
    "红色的圆往右走",
    "蓝色方块慢慢变大",
    "大的黄色星星在跳",
    "a cat runs",
    "a red circle dances",
    "a pink square moves left and returns",
    "a blue box going in circles clockwise",
    "GREEN TRIANGLE FLYING DOWN!",
    "a circle moves",
    "red triangle bouncing fast on a white background",
    "the large blue star that gets smaller",
    "big red circle not moving",
)


def texts(folder: str, count: int) -> None:
    """A line a kind: captions to the letter; what the check lets through; what of that is another caption."""
    rewrite = Rewriter(folder)
    for actors in (1, 2):
        for kind in KINDS:
            for language in LANGUAGES:
                exact = passed = wrong = 0
                for said, caption in held_back_pairs(kind, language, count, actors=actors):
                    found = rewrite(said)
                    kept = canonical(found) and not lost(said, found)
                    exact, passed, wrong = (
                        exact + (found == caption),
                        passed + kept,
                        wrong + (kept and found != caption),
                    )
                print(f"{actors} actors, {kind} {language}: {exact} of {count} exact, {passed} pass, {wrong} wrong")


def clips(folder: str, count: int, first_seed: int) -> None:
    """A line a way to ask: clips of one actor whose keyframes show all that was asked for."""
    pipe = cogstyle.load("shapes")
    scenes = [(seed, replace(scene, language="en")) for seed, scene in draw_scenes(first_seed, count)]
    for way in ("phrasing", "rewritten", "caption"):
        right = 0
        for rate, part in by_rate(scenes, 10):
            prompts = [
                phrase(scene, np.random.default_rng([7, seed]), language="en", canonical=way == "caption")
                for seed, scene in part
            ]
            if way == "rewritten":
                prompts = [one.drawn for one in pipe.recaption(folder)(prompts)]
            videos = pipe.sample(prompts, [seed for seed, _ in part], Options(frame_rate=rate, levels=0))
            right += sum(judged(*item, video).verdict.all for item, video in zip(part, videos, strict=True))
        print(f"{way}: {right} of {count} clips all right")


def own(folder: str) -> None:
    """A line a prompt of `OWN`: what it becomes, or why it stays."""
    for one in cogstyle.load("shapes").recaption(folder)(OWN):
        print(f"{one.asked!r} -> {one.drawn!r} {one.refused and 'refused: ' + one.refused}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default="rewriter", help="of a language model (default: %(default)s)")
    parser.add_argument("--count", type=int, default=300, help="texts of each kind (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=0, help="clips of each way to ask (default: none)")
    parser.add_argument("--first-seed", type=int, default=1_500_000, help="of the clips (default: %(default)s)")
    options = parser.parse_args()
    texts(options.folder, options.count)
    own(options.folder)
    if options.clips:
        clips(options.folder, options.clips, options.first_seed)


if __name__ == "__main__":
    main()
