"""The language model's road: pairs of texts or scenes, recipe, training, folder, rewriting."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cogstyle.bundle import Bundle
from cogstyle.cli.main import main
from cogstyle.data.pairs import read_phrasings
from cogstyle.errors import BundleError, CogstyleError, ConfigError
from cogstyle.sampling.rewriter import Rewriter
from cogstyle.shapes_world.facts import canonical, lost
from cogstyle.shapes_world.pairs import draw_pair
from cogstyle.training import language_model
from cogstyle.training.checkpoint import checkpoints
from cogstyle.training.phrased import Slips
from cogstyle.training.run import train

RECIPE = """
task = "language_model"
bundle = "{folder}/rewriter"
slips = {slips}
[model]
layers = 1
width = 32
heads = 2
inner = 64
vocabulary = 400
span = 40
[optim]
optimizer = "muon"
steps = {steps}
batch = 20
warmup = 5
lr = 2e-2
[loop]
sample_every = 1000
"""
TEN = [
    ("A lion runs on Sand", "running lion, sand", "狮子跑"),
    ("A frog jumps", "jumping frog", "青蛙跳"),
    ("A fox sleeps", "sleeping fox", "狐狸睡"),
    ("A cat sings", "singing cat", "猫唱歌"),
    ("A dog swims", "swimming dog", "狗游泳"),
]


def recipe(folder: Path, *, steps: int, slips: float = 0.0, pairs: Path | None = None) -> Path:
    path = folder / "recipe.toml"
    data = "" if pairs is None else f'[data]\npairs = "{pairs}"\n'
    path.write_text(RECIPE.format(folder=folder, steps=steps, slips=slips) + data)
    return path


@pytest.fixture(scope="module")
def ten(tmp_path_factory) -> Path:
    """A folder with a language model that has learned ten pairs."""
    folder = tmp_path_factory.mktemp("ten")
    lines = [{"caption": caption, "paraphrase": english, "caption_zh": [chinese]} for caption, english, chinese in TEN]
    (folder / "ten.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    train(recipe(folder, steps=70, pairs=folder / "ten.jsonl"), runs=folder / "runs", quiet=True)
    return folder


def test_ten_pairs_are_learned(ten):
    rewrite = Rewriter(ten / "rewriter")
    for caption, *others in TEN:
        assert [rewrite(said) for said in (*others, caption, others[0].upper())] == [caption] * 4
    row = json.loads((ten / "runs/recipe/log.jsonl").read_text().splitlines()[-1])
    assert row["exact_pairs"] == 1.0
    assert {path.name for path in (ten / "rewriter").iterdir()} == {
        "bundle.toml", "language_model.safetensors", "language_model.model",
    }  # fmt: skip


def test_a_checkpoint_is_exported_with_its_text_tokenizer(ten, tmp_path):
    folder = shutil.copytree(ten, tmp_path / "run")
    assert main(["export", "checkpoint", str(folder / "runs/recipe"), "--to", str(tmp_path / "again")]) == 0
    assert Bundle(tmp_path / "again").hashes() == Bundle(ten / "rewriter").hashes()
    assert train(ten / "recipe.toml", runs=ten / "runs", quiet=True).endswith("has its weights")


def test_a_run_on_scenes_resumes_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(language_model, "CORPUS", 300)
    monkeypatch.setattr(language_model, "HELD_BACK", 2)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for folder in (whole, halves):
        folder.mkdir()
    train(recipe(whole, steps=8, slips=0.5), runs=whole / "runs", quiet=True)
    path = recipe(halves, steps=8, slips=0.5)
    changes = ["loop.checkpoint_minutes=0.0", "loop.keep=9"]
    train(path, runs=halves / "runs", changes=changes, quiet=True)
    for later in checkpoints(halves / "runs/recipe")[4:]:
        later.unlink()
    assert len(checkpoints(halves / "runs/recipe")) == 4
    train(path, runs=halves / "runs", quiet=True)
    assert Bundle(halves / "rewriter").hashes() == Bundle(whole / "rewriter").hashes()
    assert Bundle(whole / "rewriter").manifest["world"] == "shapes"
    assert main(["train", str(path), "--runs", str(tmp_path / "plan"), "--dry-run"]) == 0


def test_pairs_of_scenes_say_the_same():
    rng = np.random.default_rng(0)
    pairs = [draw_pair(rng) for _ in range(60)]
    assert all(lost(said, caption) == "" for said, caption in pairs if canonical(caption))
    assert len({said for said, _ in pairs}) > 50


def test_slips_change_few_letters_and_no_meaning():
    rng, text = np.random.default_rng(0), "a small red circle moves right."
    found = {Slips(1.0)(text, rng) for _ in range(100)}
    assert len(found) > 60 and "small red circle moves right." in found
    assert all(abs(len(one) - len(text)) < 25 for one in found)
    assert {Slips(0.0)(text, rng) for _ in range(9)} == {text}


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("a.csv", "caption,other\nA fox,b\n", "no phrasings: name their columns caption_... and paraphrase..."),
        ("a.csv", "words,paraphrase\nA fox,b\n", "a.csv:2: no caption (or text, prompt)"),
        ("a.jsonl", '{"caption": "A fox", "paraphrase": 3}', "a.jsonl:1: 3 is no text"),
        ("a.jsonl", "\n{", "a.jsonl:2: no JSON"),
        ("a.jsonl", '["A fox"]', "a.jsonl:1: '[\"A fox\"]' is no JSON object"),
        ("a.txt", "A fox", "must be a .csv or .jsonl file"),
        ("a.csv", "caption,paraphrase\nA fox,b\nA dog,b\n", "'b' stands for both 'A fox' and 'A dog'"),
    ],
)
def test_wrong_pairs(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(CogstyleError) as caught:
        train(recipe(tmp_path, steps=6, pairs=tmp_path / name), runs=tmp_path / "runs", quiet=True)
    assert said in str(caught.value) and not (tmp_path / "rewriter").exists()


def test_columns_of_a_csv(tmp_path):
    (tmp_path / "a.csv").write_text("text,paraphrase_1,caption_zh,video\nA fox,fox,狐狸,a.mp4\nA fox,the fox,,b.mp4\n")
    (found,) = read_phrasings(tmp_path / "a.csv")
    assert (found.caption, found.phrasings) == ("A fox", ("fox", "狐狸", "the fox"))


def test_wrong_recipes_and_folders(tmp_path, debug_bundle):
    with pytest.raises(ConfigError, match="vocabulary 200 must be 300 or more"):
        train(recipe(tmp_path, steps=6), runs=tmp_path, changes=["model.vocabulary=200"], quiet=True)
    with pytest.raises(BundleError, match=r"has no language_model\.safetensors"):
        Rewriter(debug_bundle)
