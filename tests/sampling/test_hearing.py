"""`--llm`: what the language adapters of a bundle hear, and that nothing else changes."""

import hashlib
import json
import shutil
from dataclasses import asdict, replace

import pytest
import torch

import cogstyle
from cogstyle.bundle import Bundle, WeightFile, bypass_bundle, grow_bundle, open_bundle, update_bundle
from cogstyle.cli.main import main
from cogstyle.errors import BundleError, CogstyleError, ConfigError, PromptError
from cogstyle.growth_config import Growth
from cogstyle.language_config import LanguageConfig
from cogstyle.model.language import LanguageAdapter
from cogstyle.sampling import models
from cogstyle.sampling.hearing import Prompt
from cogstyle.sampling.keyframes import TextConditions
from cogstyle.sampling.options import Options
from tests.conftest import disturb

PROMPT, E = "a red circle moves right", 6


class Fake:
    """Stands in for a language model: states are made of the letters of a word."""

    def __init__(self, name="fake", width=E):
        self.width, self.sha256 = width, hashlib.sha256(str(name).encode()).hexdigest()

    def prompts(self, texts, template, longest):
        rows = [template.format(prompt=text).split() for text in texts]
        if any(len(words) > longest for words in rows):
            raise PromptError("prompt has too many tokens of the language model")
        return [torch.stack([self._state(word) for word in words]).half() for words in rows]

    def _state(self, word):
        draw = torch.Generator().manual_seed(sum(map(ord, word)))
        return torch.randn(self.width, generator=draw)


@pytest.fixture(autouse=True)
def _fake(monkeypatch):
    opened = {"fake": Fake(), "other": Fake("other"), "wide": Fake(width=E + 1)}
    monkeypatch.setattr(models, "open_prompts", lambda llm, device: opened[llm])


def add_language(folder, stages=("image", "keyframes"), *, moved=False, **said):
    """Put language adapters into a bundle; untrained ones unless `moved`."""
    config = LanguageConfig("fake", sha256=Fake().sha256, width=E, longest=8, **said)
    for stage in stages:
        torch.manual_seed(5)
        adapter = LanguageAdapter(Bundle(folder).model_config, config)
        if moved:
            disturb(adapter, 0.5)
            for layer in adapter.layers:  # the debug model says little: this is louder
                layer.norm_out.weight.data.mul_(200.0)
        files = {WeightFile.of(f"language_{stage}"): adapter.state_dict()}
        update_bundle(folder, files, language={stage: asdict(config)})
    return folder


@pytest.fixture
def bundle(debug_bundle, tmp_path):
    return shutil.copytree(debug_bundle, tmp_path / "b")


def tokens(folder, *, llm=None, prompts=(PROMPT,), **options):
    pipe = cogstyle.load(folder, llm=llm)
    options = Options(levels=1, frame_rate=1.0, guidance=2.0, **options)
    return [part.tokens_BFL for part in pipe.stream([*prompts], range(len(prompts)), options)][-1]


@pytest.mark.parametrize("every", [1, 2])
def test_before_they_train_the_bundles_tokens_are_unchanged(bundle, every):
    before = tokens(bundle)
    add_language(bundle, every=every)
    assert torch.equal(before, tokens(bundle)) and torch.equal(before, tokens(bundle, llm="fake"))


@pytest.mark.parametrize("stage", ["image", "keyframes"])
def test_each_stage_hears_by_its_own_adapter(bundle, stage):
    before = tokens(bundle, top_k=1)
    add_language(bundle, [stage], moved=True)
    after = tokens(bundle, llm="fake", top_k=1)
    assert torch.equal(before, tokens(bundle, top_k=1))
    assert torch.equal(before[:, 0], after[:, 0]) == (stage == "keyframes")
    assert stage == "image" or not torch.equal(before[:, 2:], after[:, 2:])
    two = tokens(bundle, llm="fake", prompts=(PROMPT, "a small blue square"), top_k=1)
    assert torch.equal(two[:1], after)


def test_what_a_prompt_was_rewritten_to_is_heard_with_it(bundle, tmp_path):
    add_language(bundle, ["image"], moved=True, rewritten=True)
    pipe = cogstyle.load(bundle, llm="fake")
    row = pipe.hearing("image").row(Prompt.of("a red circle", "red dog"))
    assert [(int(segment), len(states)) for segment, states in row] == [(1, 3), (0, 2)]
    assert len(pipe.hearing("image").row("a red circle")) == 1
    stage = pipe.stage("image", Options(), lambda tokens: None)
    ways = [TextConditions([p], [0], pipe.text).told(stage).model for p in (PROMPT, Prompt.of(PROMPT, "red dog"))]
    assert ways[0].layers[0].listener.k_BNUH.shape[2] == 5 and ways[1].layers[0].listener.k_BNUH.shape[2] == 7
    alone = replace(pipe.hearing("image").adapter.language, rewritten=False)
    pipe.hearing("image").adapter.language = alone
    row = pipe.hearing("image").row(Prompt.of("a red circle", "red dog"))
    assert [len(states) for _, states in row] == [2]
    assert Prompt.of(" a ", "b").strip() is not None and Prompt.of(" a ", "b") == "a"
    (tmp_path / "said.jsonl").write_text(json.dumps({"prompt": "red circle goes right", "rewritten": PROMPT}))
    drawn = pipe.recaption(str(tmp_path / "said.jsonl"))(["red circle goes right"])[0].drawn
    assert drawn == PROMPT and drawn.strip().original == "red circle goes right"


def test_a_guide_hears_one_null_row_or_the_negative_prompt(bundle):
    add_language(bundle, ["keyframes"], moved=True)
    pipe = cogstyle.load(bundle, llm="fake")
    for scale, negative, heard in ((1.0, None, [5]), (2.0, None, [5, 1]), (2.0, "a dog", [5, 2])):
        stage = pipe.stage("keyframes", Options(guidance=scale), lambda tokens: None)
        told = TextConditions([PROMPT], [0], pipe.text, negative=negative).told(stage)
        listener = told.model.layers[0].listener
        assert (listener.bias_B11U == 0).sum(3).flatten().tolist() == heard


def test_the_json_names_the_language_model(bundle, tmp_path):
    add_language(bundle, ["keyframes"])
    out = tmp_path / "v.gif"
    command = ["sample", PROMPT, "--bundle", str(bundle), "--out", str(out), "--levels", "0", "--quiet"]
    assert main([*command, "--llm", "fake"]) == 0
    said = json.loads((tmp_path / "v.gif.json").read_text())
    assert said["language"]["keyframes"]["sha256"] == Fake().sha256 and said["step"].split(", ")[-1].startswith("torch")
    assert main(command) == 0
    assert "language" not in json.loads((tmp_path / "v.gif.json").read_text())


def test_what_does_not_fit_is_one_error(bundle, capsys, tmp_path):
    def refused(words, *, llm="fake", prompt=PROMPT, kind=CogstyleError, **options):
        with pytest.raises(kind, match=words):
            pipe = cogstyle.load(bundle, llm=llm)
            pipe.sample([prompt], [0], Options(**options))

    refused("has no language-image.safetensors: none of its image listens", kind=BundleError)
    add_language(bundle)
    refused("7 wide, the language adapter reads 6", llm="wide")
    refused("another language model than the adapter was trained with", llm="other")
    refused("too many tokens of the language model", prompt="a a a a a a a a a", kind=PromptError)
    refused("listens to no language model", compat="released", kind=ConfigError)
    table = Bundle(bundle).manifest["language"]["image"]
    update_bundle(bundle, {}, language={"image": table | {"sha256": "0" * 64}})
    refused("was trained with another language model", llm="fake")
    command = ["sample", PROMPT, "--bundle", str(bundle), "--out", str(tmp_path / "v.gif"), "--llm", "fake"]
    assert main(command) == 2 and len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "v.gif").exists()


def test_language_stands_on_its_image_model(bundle, tmp_path):
    add_language(bundle)
    old = Bundle(bundle)
    with pytest.raises(BundleError, match=r"language-image.safetensors, language-keyframes.safetensors .* stand on"):
        weights = {name: value + 1 for name, value in old.weights("image").items()}
        others = {WeightFile.of(stage): old.weights(stage) for stage in ("keyframes", "interpolation", "superres")}
        update_bundle(bundle, {WeightFile.IMAGE: weights, **others})
    with pytest.raises(ConfigError, match="whose depth would change"):
        grow_bundle(old, tmp_path / "deep", Growth("suffix", 1), part="image")
    grow_bundle(old, tmp_path / "grown", Growth("insert", 2))
    assert torch.equal(tokens(bundle, llm="fake"), tokens(tmp_path / "grown", llm="fake"))
    bypass_bundle(Bundle(tmp_path / "grown"), tmp_path / "back")
    assert Bundle(tmp_path / "back").hashes() == old.hashes()
    assert asdict(open_bundle([tmp_path / "back"]).languages) == asdict(old.languages)
