"""States of any language model by one path; what cannot be read is one error."""

import os

import pytest
import torch

from cogstyle.errors import BundleError, FileError, PromptError
from cogstyle.interop.huggingface import digest, find_model, open_model
from tests.interop.language_models import KINDS, write_gguf, write_llm

transformers = pytest.importorskip("transformers")
TEMPLATE = "say : {prompt} ."


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
def test_states_are_the_model_s_own_and_alike_in_any_batch(tmp_path, kind, side):
    place = write_llm(tmp_path / kind, kind, side=side)
    model, texts = open_model(place), ["a red circle moves right", "a dog", "red"]
    found = model.prompts(texts, TEMPLATE, 8)
    assert [len(states) for states in found] == [5, 2, 1] and model.width == 16
    assert all(states.dtype is torch.float16 for states in found)
    load = transformers.AutoModelForTextEncoding if kind == "t5" else transformers.AutoModelForCausalLM
    theirs = load.from_pretrained(place).eval()
    for text, states in zip(texts, found, strict=True):
        ids = model.ids(TEMPLATE.format(prompt=text))
        last = theirs(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
        start = ids.index(model.ids(text)[0 if kind == "t5" else 1])
        assert torch.allclose(states.float(), last[start : start + len(states)], atol=2e-3)
    alone = [model.prompts([text], TEMPLATE, 8)[0] for text in texts]
    assert all(torch.allclose(one, two, atol=2e-3) for one, two in zip(found, alone, strict=True))
    plain = model.prompts(texts[:1], "{prompt}", 8)[0]
    assert plain.shape == found[0].shape and not torch.allclose(plain, found[0], atol=1e-2)


@pytest.mark.filterwarnings("ignore")
def test_a_gguf_is_read_whole(tmp_path):
    """transformers gives random weights, without an error, where it looks for them under other names."""
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    theirs = write_gguf(tmp_path / "tiny.gguf")
    for place in (tmp_path, tmp_path / "tiny.gguf"):
        model = open_model(place)
        states = model.prompts(["red dog"], "say:{prompt}.", 9)[0]
        ids = model.ids("say:red dog.")
        last = theirs(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
        assert model.width == 16 and len(states) == 5 and len(ids) in (10, 11)
        assert torch.allclose(states.float(), last[-6:-1], atol=2e-3)
    assert digest(tmp_path) == digest(tmp_path / "tiny.gguf")


def test_a_prompt_that_is_too_long_or_nothing(tmp_path):
    model = open_model(write_llm(tmp_path / "llm"))
    for text in ("a red circle", " "):
        with pytest.raises(PromptError, match=r"it must have 1 to 2"):
            model.prompts([text], TEMPLATE, 2)


def test_what_cannot_be_read_is_one_error(tmp_path, monkeypatch):
    place = write_llm(tmp_path / "llm")
    weights = place / "model.safetensors"
    cases = {"holds no weights as safetensors or GGUF: it has none": lambda: weights.rename(tmp_path / "aside")}
    cases["pickles alone \\(pytorch_model.bin\\)"] = lambda: (place / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    cases["no language model that can be read"] = lambda: (place / "odd.gguf").write_bytes(b"GGUF\x03rubbish")
    cases["several models, even.gguf, odd.gguf"] = lambda: (place / "even.gguf").write_bytes(b"GGUF")
    for words, change in cases.items():
        change()
        with pytest.raises(BundleError, match=words) as error:
            _ = open_model(place).model
        assert "\n" not in str(error.value)
    for file in place.glob("*.gguf"):
        file.unlink()
    weights.write_bytes(b"rubbish")
    with pytest.raises(BundleError, match="can be read"):
        _ = open_model(place).model
    whole, half = transformers.LlamaForCausalLM.from_pretrained(write_llm(tmp_path / "whole")), tmp_path / "whole"
    part = {name: value for name, value in whole.state_dict().items() if "layers.1.mlp.up" not in name}
    whole.save_pretrained(half, state_dict=part)
    with pytest.raises(BundleError, match=r"holds no whole language model: it has no .*layers.1.mlp.up_proj"):
        _ = open_model(half).model


def test_names_of_the_hub_come_from_the_cache_first(tmp_path, monkeypatch):
    import huggingface_hub
    import huggingface_hub.constants

    snapshot = tmp_path / "cache/models--some--llm/snapshots/abc"
    write_llm(snapshot)
    (tmp_path / "cache/models--some--llm/refs").mkdir()
    (tmp_path / "cache/models--some--llm/refs/main").write_text("abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    scan = huggingface_hub.scan_cache_dir
    monkeypatch.setattr(huggingface_hub, "scan_cache_dir", lambda: scan(tmp_path / "cache"))
    assert find_model("some/llm", fetch=True).samefile(snapshot)
    with pytest.raises(BundleError, match="no language model 'some/other'"):
        find_model("some/other")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileError, match="cannot get 'some/other' from the hub"):
        find_model("some/other", fetch=True)


def test_another_model_than_the_wanted_one(tmp_path):
    one, other = write_llm(tmp_path / "one"), write_llm(tmp_path / "other")
    open_model(one, wanted=digest(one))
    with pytest.raises(BundleError, match="is another language model than the bundle's"):
        open_model(other, wanted=digest(one))
    before = digest(one)
    (one / "README.md").write_text("it says nothing of the states")
    assert digest(one) == before
    os.utime(one / "config.json", ns=(1, 1))
    (one / "config.json").write_text((one / "config.json").read_text() + "\n")
    assert digest(one) != before
