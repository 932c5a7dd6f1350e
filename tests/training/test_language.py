"""Training what hears a language model: only that trains, no step runs the model, the bundle says all of it."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch

import cogstyle
from cogstyle.bundle import Bundle, WeightFile
from cogstyle.cli.main import main
from cogstyle.data.states import CaptionStates, encoded_captions, read_rewritten
from cogstyle.errors import BundleError, ConfigError, FileError, PromptError
from cogstyle.interop import huggingface
from cogstyle.language_config import LanguageTraining, Listening
from cogstyle.sampling import models
from cogstyle.sampling.options import Options
from cogstyle.training import ear, identity
from cogstyle.training.job import seed_step
from cogstyle.training.jobs import make_job
from cogstyle.training.recipes import load_recipe
from cogstyle.training.run import dry_run, train
from tests.conftest import debug_recipe
from tests.sampling.test_hearing import E, Fake

PROMPT = "a red circle moves right"


class Model(Fake):
    """The fake model under the name of a folder; counts what it reads."""

    read = 0

    def __init__(self, place, device=None):
        super().__init__(place)

    def prompts(self, texts, template, longest):
        Model.read += len(texts)
        return super().prompts(texts, template, longest)


@pytest.fixture(autouse=True)
def _fake(monkeypatch):
    """A language model of any name, without transformers."""
    Model.read = 0
    found = {"find_model": lambda name, fetch=False: name, "LanguageModel": Model}
    found["digest"] = lambda place: hashlib.sha256(str(place).encode()).hexdigest()
    for name, function in found.items():
        monkeypatch.setattr(huggingface, name, function)
        monkeypatch.setattr(ear, name, function)
    monkeypatch.setattr(models, "open_prompts", lambda llm, device: Model(llm))


def recipe(folder, debug_bundle, stage, said="", *, steps=4, llm="fake"):
    path = debug_recipe(folder, f"language_{stage}", steps=steps)
    text = path.read_text().replace("[optim]", '[optim]\noptimizer = "muon"\nlr = 0.02')
    path.write_text(f'base = "{debug_bundle}"\n{text}\n[language]\nllm = "{llm}"\n{said}\n')
    return path


@pytest.mark.parametrize("stage", ["image", "keyframes"])
def test_only_what_listens_trains_and_no_step_runs_the_model(debug_bundle, tmp_path, stage):
    path = recipe(tmp_path, debug_bundle, stage, "every = 2")
    job = make_job(load_recipe(path), runs=tmp_path / "runs", quiet=True)
    once = Model.read
    assert once == len({*job.batches.train.captions, *job.batches.held_back.captions})
    assert {id(p) for p in job.trained()} == {id(p) for p in job.ear.adapter.parameters()}
    train(path, runs=tmp_path / "runs", quiet=True)
    assert Model.read == once  # all states were kept
    old, new = Bundle(debug_bundle), Bundle(tmp_path / "bundle")
    file = WeightFile.of(f"language_{stage}")
    assert {**new.hashes()} == {**old.hashes(), file: new.sha256(file)}
    table = getattr(new.languages, stage)
    assert (table.every, table.width, table.sha256, table.rewritten) == (2, E, Model("fake").sha256, False)
    assert new.sampling("keyframes") == old.sampling("keyframes") and new.words.groups == old.words.groups
    weights = new.language(stage)
    assert len(weights.layers) == 1 and weights.layers[0].norm_out.weight.abs().sum() > 0
    pipe = cogstyle.load(tmp_path / "bundle", llm="fake")
    assert pipe.hearing(stage) and len(pipe.hearings()) == 1
    pipe.keyframes([PROMPT], [0], Options(levels=0))
    if stage == "keyframes":  # the other comes beside it
        train(recipe(tmp_path, debug_bundle, "image"), runs=tmp_path / "runs", quiet=True)
        both = Bundle(tmp_path / "bundle")
        assert both.sha256(file) == new.sha256(file) and both.language("image").language.every == 1
        assert both.languages.keyframes == new.languages.keyframes


@pytest.mark.parametrize("stage", ["image", "keyframes"])
def test_the_loss_of_ten_rows_falls(debug_bundle, tmp_path, stage):
    path = recipe(tmp_path, debug_bundle, stage, steps=40)
    changes = ["data.rows=10", "data.caption_dropout=0.0", "optim.batch=10", "language.alone=0.0"]
    job = make_job(load_recipe(path, changes), runs=tmp_path / "runs", quiet=True)
    job.transformer.embed.weight.data.mul_(20.0)  # the debug model's logits are all but equal, whatever it hears
    losses, optimizer = [], torch.optim.AdamW(job.trained(), lr=0.02)
    for step in range(40):
        seed_step(0, step)
        loss, _ = job.loss(step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad is None for p in job.transformer.parameters())


def test_a_stopped_run_resumes_to_the_bit(debug_bundle, tmp_path):
    found = []
    for name in ("whole", "parts"):
        folder = tmp_path / name
        folder.mkdir()
        path = recipe(folder, debug_bundle, "image")
        for _ in range(1 + (name == "parts")):
            train(path, runs=folder / "runs", quiet=True, changes=["loop.checkpoint_minutes=0.0", "loop.keep=9"])
            run = folder / "runs/language_image"
            if name == "parts" and not found[1:]:
                found.append(None)
                for checkpoint in sorted(run.glob("checkpoint-*"))[1:]:
                    checkpoint.unlink()
                (run / "best.safetensors").unlink(missing_ok=True)
                shutil.rmtree(folder / "bundle")
        found.append({n: v.clone() for n, v in Bundle(folder / "bundle").weights("language_image").items()})
    assert all(torch.equal(value, found[-1][name]) for name, value in found[0].items())


def test_another_model_or_template_is_another_run(debug_bundle, tmp_path):
    path = recipe(tmp_path, debug_bundle, "image")
    train(path, runs=tmp_path / "runs", quiet=True)
    for change in ("language.llm=other", "language.template=say {prompt}", "language.alone=0.2"):
        with pytest.raises(ConfigError, match="is a run of another recipe: language"):
            train(path, runs=tmp_path / "runs", quiet=True, changes=[change])
    assert "was done before" in train(path, runs=tmp_path / "runs", quiet=True)
    told = tmp_path / "elsewhere"
    assert main(["export", "checkpoint", str(tmp_path / "runs/language_image"), "--to", str(told)]) == 0
    same = [Bundle(folder).weights("language_image") for folder in (tmp_path / "bundle", told)]
    assert all(torch.equal(value, same[1][name]) for name, value in same[0].items())


def test_paths_are_left_out_together_and_alone(debug_bundle, tmp_path):
    rewritten = tmp_path / "rewritten.jsonl"
    path = recipe(tmp_path, debug_bundle, "image", f'rewritten = "{rewritten}"\nalone = 0.2')
    seen = make_job(load_recipe(recipe(tmp_path, debug_bundle, "image")), runs=tmp_path / "runs", quiet=True)
    captions = seen.batches.train.captions
    rewritten.write_text("\n".join(json.dumps({"prompt": c, "rewritten": f"so {c}"}) for c in captions[:12]))
    path = recipe(tmp_path, debug_bundle, "image", f'rewritten = "{rewritten}"\nalone = 0.2')
    changes = ["data.caption_dropout=0.2", "optim.batch=24"]
    job = make_job(load_recipe(path, changes), runs=tmp_path / "runs", quiet=True)
    batches = [job.batches.at(step) for step in range(40)]
    text, deaf = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("dropped", "deaf"))
    shares = [float(np.mean(x)) for x in (text & deaf, text & ~deaf, ~text & deaf)]
    assert np.allclose(shares, [0.2, 0.16, 0.16], atol=0.05)
    kinds = {draw: [int(s) for s, _ in job.ear.row(captions[0], draw)] for draw in (0.1, 0.3, 0.9)}
    assert kinds == {0.1: [0], 0.3: [1], 0.9: [1, 0]}
    heard = job.ear.heard(batches[0], torch.device("cpu"))
    assert ((heard.segments_BU[:, 0] == 2).numpy() == batches[0].deaf).all()
    assert job.ear.adapter.language.rewritten
    assert not job.batches.validation(job.batches.shown).__next__().dropped.any()


def test_states_are_kept_by_model_and_template(tmp_path):
    captions = ["a red circle", "a blue square moves", "a red circle"]
    listening = Listening("fake")
    first = CaptionStates([tmp_path], listening, "0" * 64)
    with pytest.raises(PromptError):
        first.add(["a " * 300], lambda: Fake())
    assert not list(tmp_path.iterdir()) and first.add(captions, lambda: Fake()) == 2
    again = CaptionStates([tmp_path / "none", tmp_path], listening, "0" * 64)
    assert again.add(captions, lambda: pytest.fail("all were there")) == 0 and again.width == E
    assert all(torch.equal(again(caption), Fake().prompts([caption], "{prompt}", 9)[0]) for caption in captions)
    assert again(captions[0]).dtype is torch.float16
    for other, sha in ((Listening("fake", template="say {prompt}"), "0" * 64), (listening, "1" * 64)):
        assert CaptionStates([tmp_path], other, sha).missing(captions) == captions[:2]
    file = next(tmp_path.glob("states-*"))
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises((BundleError, FileError)) as error:
        CaptionStates([tmp_path], listening, "0" * 64)
    assert str(file) in str(error.value)


def test_encode_keeps_the_states_beside_the_parts(debug_bundle, tmp_path, capsys):
    world, shards = tmp_path / "world", tmp_path / "shards"
    assert main(["world", "--count", "10", "--out", str(world), "--size", "32"]) == 0
    command = [
        "encode",
        str(world / "captions.csv"),
        "--to",
        str(shards),
        "--bundle",
        str(debug_bundle),
        "--flip",
        "no",
    ]
    command += ["--workers", "1", "--quiet", "--template", "say {prompt}"]
    assert main(command) == 2 and "--template is how --llm reads" in capsys.readouterr().err and not shards.exists()
    for _ in range(2):  # the second time all are there
        assert main([*command, "--llm", "fake"]) == 0
    assert Model.read == len(set(encoded_captions(shards))) and len(list(shards.glob("states-*"))) == 1
    path = recipe(tmp_path, debug_bundle, "keyframes", 'template = "say {prompt}"')
    path.write_text(path.read_text().replace("rows = 24", f'shards = "{shards}"', 1))
    before = Model.read
    train(path, runs=tmp_path / "runs", quiet=True)
    assert Model.read == before and Bundle(tmp_path / "bundle").language("keyframes")


def test_a_plan_keeps_no_states(debug_bundle, tmp_path):
    plan, _ = dry_run(recipe(tmp_path, debug_bundle, "keyframes"), runs=tmp_path / "runs")
    assert plan.trained and plan.frozen > plan.trained / 10 and not list(tmp_path.rglob("states-*"))


def test_what_cannot_train_is_said(debug_bundle, tmp_path, monkeypatch):
    broken = tmp_path / "rewritten.jsonl"
    broken.write_text('{"prompt": "a"}\n')
    with pytest.raises(ConfigError, match="line 1: must be"):
        read_rewritten(broken)
    path = recipe(tmp_path, debug_bundle, "image", 'template = "no place"')
    with pytest.raises(ConfigError, match="must hold"):
        load_recipe(path)
    path = recipe(tmp_path, debug_bundle, "image")
    with pytest.raises(ConfigError, match="leave out"):
        load_recipe(path, ["sampling.guidance=2.0"])
    monkeypatch.setattr(identity, "identity_of", lambda told: (_ for _ in ()).throw(BundleError("no language model")))
    with pytest.raises(BundleError, match="no language model"):
        train(path, runs=tmp_path / "runs", quiet=True)
    assert not (tmp_path / "bundle").exists()
    assert LanguageTraining("x").config("0" * 64, 3).width == 3
    assert encoded_captions(tmp_path) == []
