"""From anybody's footage to a whole bundle: text tokenizer, image model, adapters, super-resolution."""

import io
import shutil
import signal
import subprocess
import sys

import pytest
import sentencepiece

from cogstyle.bundle import Bundle, share_files
from cogstyle.cli.main import main
from cogstyle.pictures import read_picture
from cogstyle.training.export import TOKENIZERS
from cogstyle.training.recipes import load_recipe
from cogstyle.training.text import SYMBOLS, with_symbols, words_of
from tests.videos import write_clock

NOUNS = {"lion": "狮子", "zebra": "斑马", "fox": "狐狸", "owl": "猫头鹰", "crab": "螃蟹", "swan": "天鹅"}


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """Twelve videos of 2 s with captions in two languages."""
    folder, lines = tmp_path_factory.mktemp("footage"), ["file_name,caption,caption_zh"]
    for number, (noun, said) in enumerate([*NOUNS.items()] * 2):
        write_clock(folder / f"{number}.mp4", [k / 16 for k in range(33)], size=(96, 64), brightness=3 + number)
        lines.append(f"{number}.mp4,the {noun} walks on sand {number},一头{said}在沙滩上")
    (folder / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def recipe(folder, task, bundle, text="", *, data="", steps=2):
    path = folder / f"{task}.toml"
    optim = "" if task == "text" else f"\n[optim]\nsteps = {steps}\nwarmup = 1\nbatch = 2\n"
    data = data or f'shards = "{folder / "shards" / task}"\nvalidation_rows = 8'
    path.write_text(f'task = "{task}"\nbundle = "{bundle}"\n{text}\n[data]\n{data}\n{optim}')
    return path


def run(*arguments):
    return main([*map(str, arguments)])


def test_every_weight_trains_on_footage(footage, debug_bundle, tmp_path, capsys):
    """The bundle begins with the image tokenizer of another one; no preset knows its sizes."""
    bundle = tmp_path / "own"
    text = recipe(tmp_path, "text", bundle, f'base = "{debug_bundle}"\npieces = 500', data=f'captions = "{footage}"')
    assert run("train", text) == 0
    pieces = sentencepiece.SentencePieceProcessor(model_proto=Bundle(bundle).file("text.model").read_bytes())
    assert all(pieces.encode(symbol, out_type=str) == ["▁", symbol] for symbol in SYMBOLS) and len(pieces) <= 500
    assert pieces.encode("2.0秒<n>the lion", out_type=str)[1:3] == ["2.0秒", "<n>"]
    words = Bundle(bundle).words
    assert words.unknown("the lion drinks, 一头狮子喝水") == ["drinks", "喝水"] and not words.opens_anew("lion")
    encode_all = ["encode", footage, "--bundle", bundle, "--workers", "1", "--quiet"]
    model = "[model]\nlayers = 2\nwidth = 16\nheads = 2\ntext_span = 32"
    for task in ("image", "keyframes", "interpolation", "superres"):
        assert run(*encode_all, "--for", task, "--to", tmp_path / "shards" / task) == 0
        path = recipe(tmp_path, task, bundle, model if task == "image" else "")
        assert run("train", path, "--runs", tmp_path / "runs", "--quiet") == 0
    made = Bundle(bundle)
    assert made.model_config.vocabulary == 32 + len(pieces) + 1
    assert (made.model_config.width, made.model_config.grid, made.model_config.text_span) == (16, (4, 4), 32)
    assert made.superres_config.factor == 2 and made.trained_rates("interpolation") == (4.0, 8.0, 16.0)
    out = tmp_path / "lion.mp4"
    assert run("sample", "the lion walks", "--bundle", bundle, "--out", out, "--upscale", "--quiet") == 0
    assert out.exists() and not (tmp_path / "runs" / "data").exists()


def test_a_recipe_encodes_videos_itself(footage, debug_bundle, tmp_path, capsys):
    """Once, and only what was changed later; a plan encodes a few."""
    own = shutil.copytree(footage, tmp_path / "videos")
    bundle, runs = tmp_path / "new", tmp_path / "runs"
    text = f'base = "{debug_bundle}"\n'
    data = f'videos = "{own}"\nextra_rates = 1\nvalidation_rows = 8'
    path = recipe(tmp_path, "keyframes", bundle, text, data=data)
    assert run("train", path, "--runs", runs, "--dry-run") == 0
    assert "to encode first      96 rows" in capsys.readouterr().out and not (runs / "data").exists()
    assert run("train", path, "--runs", runs, "--quiet") == 0
    (folder,) = (runs / "data").iterdir()
    assert Bundle(bundle).trained_rates("keyframes") == (2.0, 4.0) and (folder / "clips.png").is_file()
    before = {part.name: part.stat().st_mtime_ns for part in folder.glob("part-*")}
    assert run("train", path, "--runs", runs, "--quiet") == 0 and "was done before" in capsys.readouterr().out
    (own / "metadata.csv").write_text((own / "metadata.csv").read_text("utf-8") + "\n0.mp4,a lion again,", "utf-8")
    assert (
        run("train", path, "--runs", runs, "--quiet") == 2 and "is a run of another recipe" in capsys.readouterr().err
    )
    assert run("train", path, "--runs", runs, "--quiet", "--run", "again") == 0
    assert [made.name for made in (runs / "data").iterdir()] == [folder.name]
    assert {part.name: part.stat().st_mtime_ns for part in folder.glob("part-*")} != before


def test_a_text_model_of_the_user_s_own(debug_bundle, tmp_path, capsys):
    """Its pieces keep their ids; what it lacks comes behind them."""
    out = io.BytesIO()
    captions = [f"A {noun.title()} walks {number}" for noun in NOUNS for number in range(40)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(captions), model_writer=out, vocab_size=38, minloglevel=2
    )
    path, bundle = tmp_path / "own.model", tmp_path / "own"
    path.write_bytes(out.getvalue())
    text = tmp_path / "text.toml"
    text.write_text(f'task = "text"\nbundle = "{bundle}"\nbase = "{debug_bundle}"\nmodel = "{path}"\n')
    assert run("train", text) == 0
    old = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    new = sentencepiece.SentencePieceProcessor(model_proto=Bundle(bundle).file("text.model").read_bytes())
    assert new.encode(captions[0]) == old.encode(captions[0]) and old.pad_id() == -1
    assert new.pad_id() == len(new) - 1 and len(new) == len(old) + len(SYMBOLS) + 1
    assert [new.encode(symbol, out_type=str)[-1] for symbol in SYMBOLS] == list(SYMBOLS)
    assert with_symbols(new.serialized_model_proto(), "new") == new.serialized_model_proto()  # it has them all
    path.write_text("no model")
    assert run("train", text) == 2 and "own.model is no sentencepiece model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "data", "message"),
    [
        ('model = "x.model"', 'captions = "x"', "[data] and model exclude each other"),
        ("pieces = 300", "captions = 'FOOTAGE'", "pieces 300 cannot be learned from these captions"),
        ("", 'captions = "nothing"', "nothing must be a .csv or .jsonl file, or a folder"),
    ],
)
def test_wrong_text_recipes(text, data, message, footage, tmp_path, capsys):
    path = recipe(tmp_path, "text", tmp_path / "own", text, data=data.replace("FOOTAGE", str(footage)))
    assert run("train", path) == 2 and not (tmp_path / "own").exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_model_that_does_not_fit_is_one_line(footage, debug_bundle, tmp_path, capsys):
    bundle = tmp_path / "own"
    share_files(Bundle(debug_bundle), bundle, TOKENIZERS)
    assert (
        run("encode", footage, "--bundle", bundle, "--for", "image", "--to", tmp_path / "shards/image", "--quiet") == 0
    )
    capsys.readouterr()
    for text, message in (
        ("[model]\nlayers = 2\nwidth = 15\nheads = 2", "width 15 is no multiple of heads 2"),
        ("", "preset 'shapes' is of 8 x 8 places and 1,024 codes, the tokenizer of"),
        ("preset = 'debug'\n[model]\nlayers = 2\nwidth = 16\nheads = 2", "preset and [model] exclude each other"),
        ("[model]\nlayers = 2\nwidth = 16\nheads = 2\nwindow = 3", "grid (4, 4) is no multiple of window 3"),
        ('start = "shapes"', "the image model of 'shapes' is of 8 x 8 places and 1,024 codes, the tokenizer of"),
        ("frozen = true", "frozen needs a start"),
        (f'start = "{bundle}"\nfrozen = true', "has no image.safetensors"),
    ):
        path = recipe(tmp_path, "image", bundle, text)
        assert run("train", path, "--runs", tmp_path / "runs") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_words_of_many_languages():
    found = words_of(["Un café noir", "一只狗, a dog"])
    assert found == {"words": ["a", "café", "dog", "noir", "un", "一", "只", "狗"]}


def project(folder, footage, base, *, steps=2):
    """Recipes of a whole bundle as `cogstyle train FOLDER` takes them."""
    (folder / "recipes").mkdir()
    videos = f'videos = "{footage}"\nvalidation_rows = 8'
    model = "[model]\nlayers = 2\nwidth = 16\nheads = 2"
    for task, text, data in (
        ("text", f'base = "{base}"\npieces = 500', f'captions = "{footage}"'),
        ("image", model, videos),
        ("keyframes", "", videos),
    ):
        recipe(folder / "recipes", task, folder / "recipes" / "bundle", text, data=data, steps=steps)
    return folder / "recipes"


def test_a_folder_of_recipes_becomes_a_bundle(footage, debug_bundle, tmp_path, capsys):
    """In the order that a bundle needs, whatever the names; what is done is not done again; a change is noted."""
    folder = project(tmp_path, footage, debug_bundle)
    train = ["train", folder, "--quiet", "--set", "optim.steps=3", "--set", "data.extra_rates=1"]
    assert run(*train) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4
    for line, word in zip(
        said, ("done: text.model of", "/image: 3 steps", "/keyframes: 3 steps", "README.md"), strict=True
    ):
        assert word in line
    bundle, card = folder / "bundle", (folder / "bundle/README.md").read_text("utf-8")
    assert "| keyframes.toml, optim.steps=3, data.extra_rates=1 | 3 |" in card and "1. the lion walks on sand 0" in card
    assert read_picture(bundle / "samples.png").shape == (6 * 32, 5 * 32, 3)
    noted = (folder / "runs/image/recipe.toml").read_text("utf-8")
    assert "# --set optim.steps=3\n" in noted and load_recipe(folder / "runs/image/recipe.toml").optim.steps == 3
    before = {path: path.stat().st_mtime_ns for path in bundle.iterdir() if path.name != "bundle.toml"}
    assert run(*train) == 0 and capsys.readouterr().out.count("was done before") == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before
    (bundle / "README.md").write_text("my own")
    assert run(*train) == 0 and (bundle / "README.md").read_text() == "my own"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.stepz=3", "--set optim.stepz=3: no recipe of"),
        ("data.shards=x", "--set data.shards=x: no recipe of"),
        ("optim.steps=two", "[optim]: steps 'two' must be"),
        ("optim.steps=0", "[optim]: steps 0 must be"),
        ("steps", "--set 'steps' must be KEY=VALUE"),
        ("bundle.x=1", "no recipe of"),
    ],
)  # fmt: skip
def test_wrong_changes(change, message, footage, debug_bundle, tmp_path, capsys):
    """They are found before anything trains."""
    folder = project(tmp_path, footage, debug_bundle)
    assert run("train", folder, "--set", change) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and sorted(path.suffix for path in folder.iterdir()) == [".toml"] * 3


def test_folders_that_are_none(tmp_path, capsys):
    assert run("train", tmp_path) == 2 and "holds no recipes (.toml)" in capsys.readouterr().err
    assert run("train", tmp_path, "--dry-run") == 2 and "--dry-run is for one recipe" in capsys.readouterr().err


MOMENTS = (  # after each of which a run is killed: rows encoded, a step kept, weights written, samples drawn
    "cogstyle.data.encode:_write_part",
    "cogstyle.training.checkpoint:write_checkpoint",
    "cogstyle.training.run:update_bundle",
    "cogstyle.training.folder:write_png",
)
KILLED = """
import importlib, os, signal, sys
module, name = sys.argv.pop(1).split(":")
module = importlib.import_module(module)
real = getattr(module, name)
def last(*arguments, **options):
    real(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(module, name, last)
from cogstyle.cli.main import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_folder_survives_kills(footage, debug_bundle, tmp_path):
    """Killed at any moment, the same command ends with the weights of a run that nothing stopped."""
    hashes = []
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        folder = project(tmp_path / name, footage, debug_bundle, steps=4)
        command = ["train", str(folder), "--quiet", "--set", "loop.checkpoint_minutes=0"]
        for moment in MOMENTS if name == "killed" else ():
            child = [sys.executable, "-c", KILLED, moment, *command]
            assert subprocess.run(child, stdout=subprocess.DEVNULL).returncode == -signal.SIGKILL, moment
        assert main(command) == 0
        hashes.append(Bundle(folder / "bundle").hashes())
    assert hashes[0] == hashes[1] and len(hashes[0]) == 5
