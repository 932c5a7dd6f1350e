"""Make docs/gallery.md and its pictures: `python benchmarks/gallery.py shapes`.

Clips are the first of their kind among the validation scenes, seed of the sample = seed of the scene, default options;
none is picked. A bar under a clip says what the reader of frames makes of it: green if everything asked for is there.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from cogstyle.evaluation.pages import RIGHT, WRONG, PageRow, page
from cogstyle.pictures import write_png
from cogstyle.sampling.pipeline import Options, Pipeline, load
from cogstyle.shapes_report.pages import asked, row_of, seen
from cogstyle.shapes_report.protocol import Clip, Scenes, draw_scenes, sample_scenes, slow_movers
from cogstyle.shapes_world import world
from cogstyle.video import Video

ACROSS, SIDE, GAP, BAR = 6, 112, 4, 5  # clips of a row; pixels of a clip, beside it, of its mark
FPS = 8.0  # of a picture of moving clips: each shows what its video shows at that time
RATES = (1.0, 2.0, 4.0)
FAILURES = 6
MANY = 60  # clips among which failures are looked for


def moving(videos: Sequence[Video], marks: Sequence[bool | None]) -> Video:
    """Videos side by side in their own time, each with the mark under it; short ones wait on their last frame."""
    ticks = math.ceil(max(len(video.frames) / video.fps for video in videos) * FPS)
    ticks += int(FPS / 2)  # a rest before it starts over
    frames = []
    for tick in range(ticks):
        cells = []
        for video, mark in zip(videos, marks, strict=True):
            frame = video.frames[min(int(tick / FPS * video.fps), len(video.frames) - 1)]
            grown = cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            colour = {True: RIGHT, False: WRONG, None: (255, 255, 255)}[mark]
            cell = np.concatenate([grown, np.full((BAR, SIDE, 3), colour, np.uint8)])
            cells.append(np.pad(cell, ((0, GAP), (0, GAP), (0, 0)), constant_values=255))
        frames.append(np.concatenate(cells, 1))
    return Video(np.stack(frames), FPS)


def table(clips: Sequence[Clip]) -> str:
    """What was asked and what the reader saw, one line a clip."""
    lines = ["| asked for | seen by the reader | right |", "|---|---|:---:|"]
    for clip in clips:
        lines.append(f"| {world.caption(clip.scene)} | {seen(clip.reading)} | {'yes' if clip.verdict.all else 'no'} |")
    return "\n".join(lines)


class Gallery:
    """Sections of the page, each made when asked for."""

    def __init__(self, pipe: Pipeline, images: Path) -> None:
        self.pipe, self.images = pipe, images

    def _show(self, name: str, picture: Video | np.ndarray, alt: str) -> str:
        if isinstance(picture, Video):
            path = self.images / f"{name}.gif"
            picture.save(path)
        else:
            path = self.images / f"{name}.png"
            write_png(path, picture)
        return f'<img src="images/gallery/{path.name}" alt="{alt}">'

    def _clips(self, name: str, scenes: Scenes, alt: str) -> str:
        clips = sample_scenes(self.pipe, scenes, Options())
        shown = moving([clip.video for clip in clips], [clip.verdict.all for clip in clips])
        return f"{self._show(name, shown, alt)}\n\n{table(clips)}"

    def sections(self) -> Iterator[tuple[str, str]]:
        """Headings and what stands under them."""
        first = world.VALIDATION_SEED
        yield "One actor", self._clips("one-actor", draw_scenes(first, ACROSS), "six clips of one actor")
        yield "Frame rates side by side", self.rates()
        yield "Levels of interpolation", self.levels()
        held_out = draw_scenes(first, ACROSS, held_out=True)
        yield "Pairs of colour and shape that training never shows", self._clips("held-out", held_out, "six clips")
        two = draw_scenes(first, ACROSS, actors=2)
        yield "Two actors", self._clips("two-actors", two, "six clips of two actors")
        yield "Enlarged three times", self.enlarged()
        yield "Failures", self.failures()

    def rates(self) -> str:
        scene = slow_movers(world.VALIDATION_SEED, 1)
        clips = [sample_scenes(self.pipe, scene, Options(), rate=rate)[0] for rate in RATES]
        rows = [
            PageRow(clip.video.frames[:: 2 ** Options().levels], f"keyframes at {rate:g} a second: {asked(clip.scene)}")
            for rate, clip in zip(RATES, clips, strict=True)
        ]
        moves = self._show("rates", moving([clip.video for clip in clips], [None] * len(RATES)), "three rates")
        spans = ", ".join(f"{(self.pipe.bundle.model_config.frames - 1) / rate:g}" for rate in RATES)
        text = (
            f"One prompt, 「{world.caption(scene[0][1])}」, at {', '.join(f'{rate:g}' for rate in RATES)} keyframes a "
            f"second: the same speed, shown for {spans} seconds."
        )
        return f"{text}\n\n{self._show('rates-keyframes', page(rows, columns=5), 'their keyframes')}\n\n{moves}"

    def levels(self) -> str:
        ((seed, scene),) = slow_movers(world.VALIDATION_SEED + 1000, 1)
        clip = sample_scenes(self.pipe, [(seed, scene)], Options())[0]
        most = Options().levels
        rows = []
        for level in range(most + 1):
            frames = clip.video.frames[:: 2 ** (most - level)]
            rows.append(
                PageRow(frames, f"level {level}: {len(frames)} frames" + (", every other one" if level > 2 else ""))
            )
        return f"「{world.caption(scene)}」\n\n{self._show('levels', page(rows, columns=17), 'frames of each level')}"

    def enlarged(self) -> str:
        scenes = draw_scenes(world.VALIDATION_SEED, 1)
        small, large = (sample_scenes(self.pipe, scenes, Options(upscale=upscale))[0] for upscale in (False, True))
        side = large.video.frames.shape[1]
        bicubic = [cv2.resize(frame, (side, side), interpolation=cv2.INTER_CUBIC) for frame in small.video.frames]
        pair = [np.stack(bicubic)[::8], large.video.frames[::8]]
        strip = np.concatenate([np.concatenate(list(frames), 1) for frames in pair])
        picture = self._show("enlarged", strip, "five frames, bicubic above super-resolution")
        return f"「{world.caption(scenes[0][1])}」: above bicubic, below super-resolution by tokens.\n\n{picture}"

    def failures(self) -> str:
        clips = sample_scenes(self.pipe, draw_scenes(world.VALIDATION_SEED, MANY), Options())
        bad = [clip for clip in clips if not clip.verdict.all]
        picture = self._show("failures", page([row_of(clip) for clip in bad[:FAILURES]]), "failures and what was read")
        text = f"The first {min(FAILURES, len(bad))} of {len(bad)} among {MANY} captions of one actor that went wrong."
        return f"{text}\n\n{picture}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make docs/gallery.md and its pictures.")
    parser.add_argument("bundle", nargs="?", default="shapes")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    images = arguments.docs / "images" / "gallery"
    images.mkdir(parents=True, exist_ok=True)
    lines = [f"# Gallery\n\nMade by `python benchmarks/gallery.py {arguments.bundle}`. {' '.join(NOTE.split())}"]
    for heading, content in Gallery(load(arguments.bundle), images).sections():
        lines.append(f"## {heading}\n\n{content}")
        print(heading, flush=True)
    (arguments.docs / "gallery.md").write_text("\n\n".join(lines) + "\n")


NOTE = __doc__.split("\n\n")[1]

if __name__ == "__main__":
    main()
