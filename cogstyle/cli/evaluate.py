"""Sample captions of validation scenes, read the frames, and report what the videos show."""

import argparse
import json
from pathlib import Path
from typing import Any

from cogstyle.config import require

HELP = "measure whether videos show what their captions say"
EXAMPLE = "cogstyle evaluate shapes --count 100 --out evaluation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", nargs="?", default="shapes", help="a bundle's name or folder")
    parser.add_argument("--count", type=int, default=100, help="captions")
    parser.add_argument("--actors", type=int, default=1, choices=(1, 2), help="actors of a scene")
    parser.add_argument("--held-out", action="store_true", help="only colour-shape pairs that training never shows")
    parser.add_argument("--first-seed", type=int, default=1_000_000, help="seed of the first scene, 1000000 or more")
    parser.add_argument("--levels", type=int, default=3, help="refinement levels of the clips that are judged")
    parser.add_argument("--batch", type=int, default=10, help="videos sampled side by side")
    parser.add_argument("--out", type=Path, default=Path("evaluation"), help="folder for report.json, .md and .png")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    from PIL import Image
    from tqdm import tqdm

    from cogstyle.data import world
    from cogstyle.evaluation import alignment, protocol
    from cogstyle.files import write_bytes
    from cogstyle.sampling.pipeline import Options, load

    require(arguments.count > 0, f"count {arguments.count} must be positive")
    require(arguments.batch > 0, f"batch {arguments.batch} must be positive")
    require(
        arguments.first_seed >= world.VALIDATION_SEED,
        f"first-seed {arguments.first_seed} must be {world.VALIDATION_SEED} or more (validation scenes)",
    )
    pipe = load(arguments.bundle)
    scenes = [
        (seed, world.draw_scene(seed, actors=arguments.actors, held_out=arguments.held_out))
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.count)
    ]
    with tqdm(total=arguments.count, unit="clip", disable=arguments.quiet) as bar:
        options = Options(levels=arguments.levels)
        clips = protocol.sample_scenes(pipe, scenes, options, batch=arguments.batch, done=bar.update)
    summary = alignment.summarise([clip.verdict for clip in clips])
    movers = protocol.slow_movers(arguments.first_seed, min(arguments.count, 24))
    rates = protocol.rate_control(pipe, movers, batch=arguments.batch)
    report = {
        "bundle": pipe.bundle.hashes(),
        "scenes": {"count": arguments.count, "actors": arguments.actors, "first_seed": arguments.first_seed},
        "held_out": arguments.held_out,
        "levels": arguments.levels,
        "alignment": summary,
        "rate_control": rates,
        "errors": [mistake(clip) for clip in clips if not clip.verdict.all],
    }
    lines = ["", "| keyframes a second | true displacement | found | spread | lost |", "|---:|---:|---:|---:|---:|"]
    for row in rates:
        figures = ["-" if row[key] is None else f"{row[key]:.4f}" for key in ("true", "mean", "std")]
        lines.append(f"| {row['frame_rate']:g} | {' | '.join(figures)} | {row['lost']} |")
    text = alignment.to_markdown(summary) + "\n".join(lines) + "\n"
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_bytes(arguments.out / "report.json", json.dumps(report, ensure_ascii=False, indent=1).encode())
    write_bytes(arguments.out / "report.md", text.encode())
    Image.fromarray(protocol.page(clips)).save(arguments.out / "report.png")
    print(text)
    return 0


def mistake(clip: Any) -> dict[str, Any]:
    """What is wrong with a clip, for the report."""
    from cogstyle.data import world
    from cogstyle.evaluation.alignment import ATTRIBUTES

    wrong = [name for name in ATTRIBUTES if not getattr(clip.verdict, name)]
    return {"seed": clip.seed, "caption": world.caption(clip.scene), "wrong": wrong}
