"""Docs that rot: commands are parsed by the real parsers, what is named exists, and those that take seconds are run.

docs/log/ tells of its day, so of its pages only links and pictures are looked at.
"""

import argparse
import configparser
import re
import runpy
import shlex
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cogstyle.cli.main import build_parser, main
from cogstyle.training.engine import EngineConfig
from cogstyle.training.recipes import load_recipe

ROOT = Path(__file__).parents[1]
LOG = sorted((ROOT / "docs/log").glob("*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(ROOT.glob("pretrained_adapters/*/README.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
SHELL = re.compile(r"\$\(\(.*?\)\)|\$\w+")  # what a shell fills in
STARTS = ("cogstyle", ".venv/bin/cogstyle", "python", "torchrun", "deepspeed", "srun", "make")
NAMED = re.compile(r"(?<![\w./-])(?:cogstyle|docs|tests|train|benchmarks|sample|pretrained_adapters)/[\w.*/-]*[\w*/]")
MADE = ("train/loss", "sample/step")  # words that only look like paths


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines(page: Path) -> list[str]:
    """Command lines of the fenced blocks, comments and line breaks taken out."""
    blocks = [
        text.replace("\\\n", " ") for kind, text in FENCE.findall(page.read_text("utf-8")) if kind in ("", "bash")
    ]
    return [line for block in blocks for line in block.splitlines() if line.split(" ")[0] in STARTS]


def spans(page: Path) -> list[str]:
    """Code inside of sentences, with the line breaks of the page taken out."""
    prose = FENCE.sub("", page.read_text("utf-8"))
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def words(line: str) -> list[str]:
    """A line as a shell splits it, with a number in place of what it fills in."""
    return shlex.split(SHELL.sub("2", line), comments=True)


COMMANDS = [(name(page), line) for page in PAGES for line in lines(page)]
INLINE = [(name(page), span) for page in PAGES for span in spans(page)]


class ArgumentsReadError(Exception):
    """Raised in place of what a script does after it has read its arguments."""


def read_arguments(script: str, argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a script, and stop it where its own parser has taken `argv`."""
    parse = argparse.ArgumentParser.parse_args

    def parse_only(self, *given):
        parse(self, *given)
        raise ArgumentsReadError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    monkeypatch.setattr(sys, "argv", [script, *argv])
    monkeypatch.syspath_prepend(str((ROOT / script).parent))
    with pytest.raises(ArgumentsReadError):
        runpy.run_path(str(ROOT / script), run_name="__main__")
    monkeypatch.undo()


def check(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse one command as what it starts would."""
    program, rest = argv[0].removeprefix(".venv/bin/"), argv[1:]
    if program == "cogstyle":
        build_parser().parse_args(rest)
    elif program == "srun":
        assert rest[:2] == ["bash", "-c"]
        check(words(rest[2]), monkeypatch)
    elif program == "make":
        assert f"\n{rest[0]}:" in (ROOT / "Makefile").read_text()
    elif program == "torchrun":
        from torch.distributed.run import get_args_parser

        launched = get_args_parser().parse_args(rest)
        module = ["-m"] if launched.module else []
        check(["python", *module, launched.training_script, *launched.training_script_args], monkeypatch)
    elif rest[0] == "-m":
        assert (ROOT / rest[1].replace(".", "/")).with_suffix(".py").is_file()
        if rest[1] == "cogstyle.cli.main":
            check(["cogstyle", *rest[2:]], monkeypatch)
    else:
        assert (ROOT / rest[0]).is_file()
        if rest[0] == "train/launch.py":
            check(["cogstyle", "train", *rest[1:]], monkeypatch)
        elif rest[0].startswith("benchmarks/"):
            read_arguments(rest[0], rest[1:], monkeypatch)


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page}: {line}" for page, line in COMMANDS])
def test_commands_parse(page, line, monkeypatch):
    check(words(line), monkeypatch)


def test_commands_are_found():
    """That a guide shows its commands where the test above finds them; README both of a newcomer, and five usages."""
    found = {page: [words(line)[:2] for at, line in COMMANDS if at == page] for page, _ in COMMANDS}
    assert {("make", "demo"), ("make", "test")} <= set(map(tuple, found["README.md"]))
    used = {argv[1] for argv in found["README.md"] if argv[0] == "cogstyle"}
    assert {"sample", "interpolate", "train", "start", "import", "export", "inspect"} <= used
    assert {"docs/own_videos.md", "docs/training.md", "docs/sat.md", "docs/evaluation.md", "docs/claims.md"} <= set(
        found
    )


def test_commands_in_sentences(monkeypatch):
    """Subcommands and flags in running text exist; a benchmark's command is whole."""
    commands = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    seen = 0
    for page, span in INLINE:
        if re.match(r"python benchmarks/|make |torchrun .*(\.py| -m )", span):
            check(words(span), monkeypatch)
        _, called, rest = f" {span}".partition(" cogstyle ")
        subcommands, *options = rest.split() or [""]
        for subcommand in subcommands.split("|") if called else ():
            assert subcommand in commands, f"{page}: {span}"
            flags = {flag for option in options for flag in re.findall(r"^--[\w-]+", option)}
            assert flags <= set(commands[subcommand]._option_string_actions), f"{page}: {span}"
            seen += 1
    assert seen > 10


def test_flags_in_sentences():
    """A flag that running text names is one of ours; the guide of SAT names SAT's too."""
    sources = [path for folder in ("cogstyle/cli", "benchmarks", "train") for path in (ROOT / folder).rglob("*.py")]
    ours = set(re.findall(r'"(--[a-z][\w-]*)"', "".join(path.read_text("utf-8") for path in sources)))
    for page, span in INLINE:
        if page != "docs/sat.md" and (flag := re.match(r"--[a-z][\w-]*", span)):
            assert flag[0] in ours, f"{page}: {span}"


@pytest.mark.parametrize("page", [*PAGES, *LOG], ids=name)
def test_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)|\bsrc=\"([^\"]+)\"", text):
        path, _, heading = "".join(target).partition("#")
        if path.startswith(("http:", "https:")):
            continue
        to = (page.parent / path).resolve() if path else page
        assert to.exists(), f"{name(page)} links to {path}"
        if heading:
            titles = re.findall(r"^#+ (.+)$", FENCE.sub("", to.read_text("utf-8")), re.M)
            anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in anchors, f"{name(page)} links to #{heading}"


FOLDERS = ("cogstyle", "train", "benchmarks", "sample", "tests")
SOURCES = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.*") if path.suffix in (".py", ".toml")]


def test_what_is_named_exists():
    """Files and folders of the repository that guides name, and guides that code, recipes and messages name."""
    for page in PAGES:
        for path in NAMED.findall(page.read_text("utf-8")):
            assert any(ROOT.glob(path.rstrip("/"))) or path in MADE, f"{name(page)} names {path}"
        for span in spans(page):
            if re.fullmatch(r"[\w/]+\.py", span):  # by itself, or from cogstyle/ on
                assert any(path.match(span) for path in SOURCES), f"{name(page)} names {span}"
    for source in SOURCES:
        for path in re.findall(r"\bdocs/[\w/.-]+\.md", source.read_text("utf-8")):
            assert (ROOT / path).is_file(), f"{name(source)} names {path}"


def test_extras_exist():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    named = {extra for page in PAGES for extra in re.findall(r"cogstyle\[(\w+)\]", page.read_text("utf-8"))}
    assert named and named <= set(config["options.extras_require"])


def test_code_is_code():
    for page in PAGES:
        for kind, text in FENCE.findall(page.read_text("utf-8")):
            if kind == "python":
                compile(text, name(page), "exec")
            elif kind == "toml":
                tomllib.loads(text)


def test_defaults_of_the_training_guide(tmp_path):
    """The tables of docs/training.md show every key of [engine] and some of [loop], each with its default."""
    least = 'task = "keyframes"\nbundle = "b"\n[data]\nrows = 8\n[optim]\nsteps = 200\nbatch = 2\n'
    plain, shown = tmp_path / "plain.toml", tmp_path / "shown.toml"
    plain.write_text(least)
    blocks = [text for kind, text in FENCE.findall((ROOT / "docs/training.md").read_text("utf-8")) if kind == "toml"]
    shown.write_text("\n".join([least, *blocks]))
    assert len(blocks) == 2 and load_recipe(shown) == load_recipe(plain)
    assert set(tomllib.loads(shown.read_text())["engine"]) == {field.name for field in fields(EngineConfig)}


def test_pages_stay_short():
    """Where history belongs: docs/log/."""
    for page, limit in (("README.md", 150), ("docs/results.md", 90)):
        assert len((ROOT / page).read_text("utf-8").splitlines()) <= limit, page


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with what the commands of the guides take for granted."""
    for picture in ("picture.png", "a.png", "b.png", "c.png", "frame.png", "clip.gif"):
        Image.fromarray(np.full((64, 64, 3), 240, np.uint8)).save(tmp_path / picture)
    (tmp_path / "sample").symlink_to(ROOT / "sample")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str, *options: str) -> None:
    """Run a command of a guide in this process, at the lowest level of refinement unless it says one."""
    argv = words(line)[1:]
    lowest = [] if "--levels" in argv or argv[0] not in ("sample", "interpolate") else ["--levels", "0"]
    assert main([*argv, *lowest, *options]) == 0, line
    if "--out" in argv:
        out = Path(argv[argv.index("--out") + 1])
        assert any(out.iterdir()) if out.is_dir() else out.stat().st_size > 0, line


def shown(page: str, *subcommands: str) -> list[str]:
    """The commands of a page that the shipped bundle answers in seconds."""
    found = [line for at, line in COMMANDS if at == page and words(line)[1] in subcommands]
    return [line for line in found if "bundles/" not in line and "mine/" not in line]


@pytest.mark.slow
def test_readme_runs(desk):
    commands = shown("README.md", "sample", "interpolate")
    assert len(commands) >= 8
    for line in commands:
        run(line)


@pytest.mark.slow
def test_readme_python_runs(desk):
    (code,) = (text for kind, text in FENCE.findall((ROOT / "README.md").read_text("utf-8")) if kind == "python")
    exec(compile(code, "README.md", "exec"), {})
    assert Path("circle.mp4").stat().st_size > 0


@pytest.mark.slow
def test_guides_run(desk):
    """Super-resolution as its guide shows it, videos of the shapes world encoded, a checkpoint for SAT."""
    upscaled = [line for line in shown("docs/superres.md", "sample", "upscale") if "--upscale" not in line]
    assert len(upscaled) == 2
    for line in upscaled:
        run(line)
    world = re.search(r"`(cogstyle world [^`]+)`", (ROOT / "docs/own_videos.md").read_text("utf-8"))[1]
    encode = shown("docs/own_videos.md", "encode")[0]
    (export,) = shown("docs/sat.md", "export")
    for line in (world, f"{encode} --workers 1 --quiet", export):
        run(line)
    assert Path("shards/clips.png").is_file() and Path("sat_shapes/model_config.json").is_file()
