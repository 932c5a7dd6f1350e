"""A folder with one good file of every kind that a command reads, all of them tiny, and the commands that read them."""

import json
import os
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from cogstyle.cli.main import main
from cogstyle.config import MODELS, HierarchicalConfig
from cogstyle.tokenizers.hierarchical import HierarchicalVQVAE
from cogstyle.training.text import train_text_model
from tests.evaluation.networks import write_network

IDS = "--pad 32 --start-of-image 432"  # of the debug model
SAMPLE = "sample red --adapter bundle --levels 0 --quiet --out o.mp4"


@dataclass(frozen=True)
class Command:
    """A command line that ends well on the ground, and what it reads; in braces stands a file that may be another."""

    line: str
    needs: tuple[str, ...]

    def argv(self, name: str = "") -> list[str]:
        return [re.sub(r"\{(.*)\}", name or r"\1", word) for word in self.line.split()]


def commands(line: str, *needs: str) -> Command:
    return Command(line, needs)


BUNDLE = (
    commands(SAMPLE, "bundle"),
    commands(SAMPLE.replace("--levels 0", "--levels 1 --clusters 2"), "bundle"),
    commands(SAMPLE + " --upscale --dtype int8", "bundle"),
    commands("inspect bundle", "bundle"),
    commands(
        "interpolate p.png p.jpg --prompt red --out o.mp4 --levels 1 --adapter bundle --quiet", "bundle", "pictures"
    ),
    commands("upscale {v.mp4.tokens.safetensors} p.png --out o --adapter bundle --quiet", "bundle", "pictures", "made"),
    commands("encode clips/captions.csv --to o --bundle bundle --quiet", "bundle", "clips"),
    commands("export sat bundle --to o", "bundle"),
    commands("train image.toml --dry-run --quiet", "bundle", "recipes"),
    commands("train superres.toml --dry-run --quiet", "bundle", "recipes"),
    commands("import icetk icetk --to tokens --quiet", "icetk"),
    commands("import sat sat --to o --quiet " + IDS, "bundle", "sat"),
)
PICTURES = (
    commands(SAMPLE + " --first-frame {p.png}", "bundle", "pictures"),
    commands(
        "interpolate {p.png} p.png --prompt red --out o.gif --levels 0 --adapter bundle --quiet", "bundle", "pictures"
    ),
    commands("upscale {p.png} --out o --adapter bundle --quiet", "bundle", "pictures"),
    commands("encode pictures.csv --for image --to o --bundle bundle --quiet", "bundle", "pictures"),
)
VIDEOS = (
    commands(SAMPLE + " --continue {videos/v.mp4}", "bundle", "videos"),
    commands("encode videos/videos.csv --to o --bundle bundle --quiet", "bundle", "videos"),
    commands("fvd --real videos --fake videos --extractor net.pt --any-balance --out o.json --quiet", "videos", "net"),
)
READERS: dict[str, tuple[Command, ...]] = {  # which commands read which files
    "bundle/*": BUNDLE,
    "pictures/*": PICTURES,
    "videos/*": VIDEOS,
    "clips/captions.*": (commands("encode {clips/captions.csv} --to o --bundle bundle --quiet", "bundle", "clips"),),
    "clips/0000000.txt": (commands("encode clips --to o --bundle bundle --quiet", "bundle", "clips"),),
    "prompts/*": (
        commands(
            SAMPLE.replace("red", "--prompts {prompts.jsonl}", 1).replace("o.mp4", "o"), "bundle", "prompts", "pictures"
        ),
    ),
    "recipes/*": (commands("train {image.toml} --dry-run --quiet", "bundle", "recipes", "shards"),),
    "made/*.tokens.safetensors": (BUNDLE[5],),
    "made/*.part": (
        commands("sample red --adapter bundle --levels 1 --quiet --out p.mp4 --resume", "bundle", "made"),
    ),
    "sat/*": (
        commands("import sat sat --to o --quiet " + IDS, "sat"),
        commands("inspect sat " + IDS, "sat"),
    ),
    "icetk/*": (commands("import icetk icetk --to o --quiet", "icetk"),),
    "runs/keyframes/*": (commands("train keyframes.toml --quiet", "bundle", "recipes", "runs"),),
    "runs/data/*": (commands("train keyframes.toml --dry-run --quiet", "bundle", "recipes", "runs"),),
    "shards/*": (
        commands("train own.toml --dry-run --quiet", "bundle", "recipes", "shards"),
        commands("encode clips/captions.csv --to shards --bundle bundle --quiet", "bundle", "clips", "shards"),
    ),
    "report/report.json": (
        commands("evaluate bundle --count 1 --levels 0 --parts reader --out report --quiet", "bundle", "report"),
    ),
    "net/*": (VIDEOS[2],),
    "stats.safetensors": (
        commands("fvd --real stats.safetensors --fake videos --extractor net.pt --any-balance --quiet",
                 "stats.safetensors", "videos", "net"),
    ),
}  # fmt: skip
OPEN = {"pictures", "made", "prompts", "recipes", "net"}  # folders whose files lie in the case's folder itself
EVERY = tuple(dict.fromkeys(command for group in READERS.values() for command in group))
OTHERS = (
    commands("world --count 1 --size 16 --out o"),
    commands("evaluate bundle --count 1 --levels 0 --parts reader --quiet --out o", "bundle"),
)


def copy(ground: Path, folder: Path, needs: tuple[str, ...]) -> None:
    """Lay out the files that a command needs."""
    for name in needs:
        if (ground / name).is_file():
            shutil.copy(ground / name, folder)
        else:
            target = folder if name in OPEN else folder / name
            shutil.copytree(ground / name, target, dirs_exist_ok=True)


def make_ground(folder: Path, debug: Path) -> Path:
    """Make the ground in `folder` from the folder where the debug recipes were trained."""
    shutil.copytree(debug / "bundle", folder / "bundle")
    _media(folder)
    _recipes(folder, debug)
    shutil.copytree(debug / "runs" / "data", folder / "runs" / "data")
    here = Path.cwd()
    os.chdir(folder)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            _by_commands(folder)
    finally:
        os.chdir(here)
    return folder


def _good(line: str) -> None:
    assert main(line.split()) == 0, line


def _by_commands(folder: Path) -> None:
    _good("train recipes/keyframes.toml --quiet")
    _good("world --count 2 --size 32 --out clips")
    rows = [{"video": f"{n:07d}.mp4", "caption": "a", "start": 0, "end": 2, "language": "en"} for n in range(2)]
    (folder / "clips" / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for n in range(2):
        (folder / "clips" / f"{n:07d}.txt").write_text("a caption")
    _good("encode clips/captions.csv --to shards --bundle bundle --quiet")
    _good("export sat bundle --to sat")
    (folder / "made").mkdir()
    _good("sample red --adapter bundle --levels 0 --quiet --out made/v.mp4 --tokens")
    _part(folder)
    write_network(folder / "net")
    with_net = "fvd --real videos --extractor net/net.pt --save-stats stats.safetensors --quiet"
    _good(with_net)
    _good("evaluate bundle --count 1 --levels 0 --parts reader --out report --quiet")
    torch.manual_seed(0)
    small = HierarchicalVQVAE(HierarchicalConfig(channels=32, code_width=8, codes=32))
    (folder / "icetk").mkdir()
    (folder / "icetk" / "ice_text.model").write_bytes(train_text_model(MODELS["debug"], captions=200))
    torch.save({"module": small.state_dict()}, folder / "icetk" / "ice_image.pt")
    np.save(folder / "icetk" / "cluster_label2.npy", np.zeros(32, np.int32))


def _part(folder: Path) -> None:
    """What a stopped run leaves."""
    from cogstyle.cli import sample
    from cogstyle.sampling import pipeline

    made = pipeline.Pipeline.stream

    def stopped(self, *arguments, **options):
        yield next(made(self, *arguments, **options))
        raise KeyboardInterrupt

    pipeline.Pipeline.stream = stopped
    try:
        line = "sample red --adapter bundle --levels 1 --quiet --out made/p.mp4 --preview"
        assert main(line.split()) == 130
    finally:
        pipeline.Pipeline.stream = made
    assert sample and (folder / "made" / "p.mp4.part").is_file()


def _media(folder: Path) -> None:
    for name in ("pictures", "videos", "prompts"):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (32, 48, 3), np.uint8))
    for name in ("p.png", "p.jpg", "p.gif", "p.webp", "p.bmp", "p.tiff"):
        picture.save(folder / "pictures" / name)
    Image.fromarray(rng.integers(0, 2**16, (32, 48), np.uint16)).save(folder / "pictures" / "grey16.png")
    picture.convert("RGBA").save(folder / "pictures" / "alpha.png")
    rows = [f"{path.name},a caption" for path in sorted((folder / "pictures").iterdir())]
    (folder / "pictures" / "pictures.csv").write_text("\n".join(["video,caption", *rows]))
    frames = rng.integers(0, 255, (17, 32, 32, 3), np.uint8)
    for name, codec in (
        ("v.mp4", "libx264"),
        ("w.mp4", "mpeg4"),
        ("v.avi", "mpeg4"),
        ("v.mkv", "ffv1"),
        ("v.ts", "mpeg2video"),
    ):
        with av.open(str(folder / "videos" / name), "w") as file:
            stream = file.add_stream(codec, rate=25 if codec == "mpeg2video" else 8)
            stream.width = stream.height = 32
            stream.pix_fmt = "yuv420p"
            for frame in frames:
                file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
            file.mux(stream.encode())
    rows = [f"{path.name},a caption" for path in sorted((folder / "videos").iterdir())]
    (folder / "videos" / "videos.csv").write_text("\n".join(["video,caption", *rows]))
    line = {
        "prompt": "red",
        "out": "a.mp4",
        "frame_rate": 2,
        "seed": 1,
        "guidance": 1.5,
        "levels": 0,
        "first_frame": "p.png",
    }
    (folder / "prompts" / "prompts.jsonl").write_text(json.dumps(line) + "\n" + json.dumps({"prompt": "red"}) + "\n")


def _recipes(folder: Path, debug: Path) -> None:
    """The debug recipes and those that ship, on the debug bundle and tiny."""
    import tomllib

    from tests.fuzz.values import to_toml

    (folder / "recipes").mkdir()
    own = {"task": "keyframes", "bundle": "bundle", "optim": {"steps": 4, "batch": 2, "warmup": 1},
           "data": {"shards": "shards", "validation_rows": 8}}  # fmt: skip
    (folder / "recipes" / "own.toml").write_text(to_toml(own))
    for path in debug.glob("*.toml"):
        table = tomllib.loads(path.read_text()) | {"bundle": "bundle"}
        (folder / "recipes" / path.name).write_text(to_toml(table))
    for path in sorted((Path(__file__).parents[2] / "train").rglob("*.toml")):
        table = tomllib.loads(path.read_text("utf-8")) | {"bundle": "bundle"}
        table |= {"preset": "debug"} if table["task"] in ("text", "tokenizer", "image") else {}
        table |= {key: "bundle" for key in ("base", "start") if key in table}
        data = table.get("data", {})
        data |= {"rows": 24} if "rows" in data else {}
        data |= {"shards": "shards"} if "shards" in data else {}
        data |= {"validation_rows": 8} if data else {}
        table.get("optim", {}).update({"batch": 4} if "batch" in table.get("optim", {}) else {})
        name = "-".join(path.relative_to(path.parents[2]).with_suffix("").parts[-2:]) + ".toml"
        (folder / "recipes" / name).write_text(to_toml(table))
