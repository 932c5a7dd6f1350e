"""LlamaGen's files: into a bundle that samples what the model does, with the numbers of the release, or one error."""

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import cogstyle
from cogstyle.bundle import Bundle
from cogstyle.cli.main import main
from cogstyle.config import SamplingConfig
from cogstyle.errors import BundleError, ConfigError, PromptError
from cogstyle.interop.llamagen import import_llamagen, read_gpt, read_vq
from cogstyle.layout import image_layout
from cogstyle.sampling.decode import Texts, decode, finish
from cogstyle.sampling.decode_plan import plan_for
from cogstyle.sampling.logits import sampler
from cogstyle.sampling.options import Options
from cogstyle.tokenizers.llamagen import LlamaGenVQ
from tests import parity_llamagen
from tests.interop import llamagen_files as files

GOLDENS = Path(__file__).parents[3] / "shared" / "parity" / "llamagen"


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    pytest.importorskip("transformers")
    return files.write_t5(tmp_path_factory.mktemp("t5") / "t5")


@pytest.mark.slow
@pytest.mark.skipif(not GOLDENS.is_dir(), reason="the released numbers are not on this machine")
@pytest.mark.parametrize("name", parity_llamagen.LLAMAGEN)
def test_golden_file(name):
    for finding in parity_llamagen.LLAMAGEN[name](GOLDENS, name):
        assert finding.ok, finding


@pytest.mark.parametrize("key", ["model", "module", "state_dict", ""])
def test_every_layout_of_file(tmp_path, key):
    model, weights = files.make_gpt()
    stray = {"freqs_cis": torch.zeros(24 + 16, 4, 2), "layers.0.attention.kv_cache.k_cache": torch.zeros(2)}
    beside = {"args": Namespace(image_size=256), "optimizer": {"state": {}}}  # as the training scripts have it
    torch.save({key: weights | stray, **beside} if key else weights | stray, tmp_path / "gpt.pt")
    config, found = read_gpt(tmp_path / "gpt.pt", heads=2)
    assert config == files.CONFIG  # the grid follows from freqs_cis
    for name, value in model.state_dict().items():
        assert torch.equal(found[name], value), name


def test_keys_and_values_that_heads_share_are_repeated(tmp_path):
    config = replace(files.CONFIG, heads=4)
    model, weights = files.make_gpt(config)
    shared = {}
    for name, value in weights.items():
        if name.endswith("wqkv.weight"):
            q, k, v = value.chunk(3)
            k, v = (x.unflatten(0, (2, 2, 8))[:, 0].flatten(0, 1) for x in (k, v))  # two groups of two heads
            shared[name] = torch.cat([q, k, v])
    torch.save({"model": weights | shared}, tmp_path / "gpt.pt")
    (tmp_path / "gpt.json").write_text(json.dumps({"args": {"n_head": 4, "block_size": 16}}))
    found = read_gpt(tmp_path / "gpt.pt")[1]["layers.1.qkv.weight"].view(3, 4, 8, 32)
    wanted = model.layers[1].qkv.weight.view(3, 4, 8, 32)
    assert torch.equal(found[0], wanted[0]) and torch.equal(found[1:, ::2], wanted[1:, ::2])
    assert torch.equal(found[1:, 1::2], wanted[1:, ::2])


def test_the_tokenizer_knows_directions_alone(tmp_path):
    vq, weights = files.make_vq()
    lengths = torch.rand(32, 1) + 0.5
    torch.save(
        {"model": weights | {"quantize.embedding.weight": vq.quantize.embedding.weight * lengths}}, tmp_path / "vq.pt"
    )
    config, found = read_vq(tmp_path / "vq.pt", grid=4)
    assert config == files.VQ
    longer = LlamaGenVQ(config)
    longer.load_state_dict(found)
    images = torch.randint(256, (2, 3, 8, 12), dtype=torch.uint8)
    ids = vq.encode(images)
    assert ids.shape == (2, 24) and torch.equal(longer.encode(images), ids)
    torch.testing.assert_close(longer.pixels(ids, width=6), vq.pixels(ids, width=6))
    z = torch.nn.functional.normalize(vq.features(images[:, :, :, :8] / 127.5 - 1.0), dim=1)
    nearest = torch.einsum("bdhw,vd->bhwv", z, vq.quantize.unit()).argmax(3)
    assert torch.equal(vq.encode(images[:, :, :, :8]), nearest.flatten(1))


def test_an_imported_bundle_draws_what_the_model_does(tmp_path, t5, capsys):
    model, vq = files.write(tmp_path)
    command = ["import", "llamagen", *(str(tmp_path / name) for name in ("GPT.pt", "VQ.pt")), "--t5", str(t5)]
    assert main([*command, "--to", str(tmp_path / "bundle"), "--heads", "2", "--image-size", "8", "--quiet"]) == 0
    assert "image.safetensors in" in capsys.readouterr().out
    pipe = cogstyle.load(tmp_path / "bundle")
    text, layout = pipe.text, image_layout(files.CONFIG, 24)
    texts = [text.pad([text.image_text("a red circle", unconditional=out)]) for out in (False, True)]
    seeds = [(0, 3)]
    options = SamplingConfig(guidance=7.5, top_k=1000)
    pick = sampler(options, seeds, layout, None)
    blank = torch.zeros(1, 1, 16, dtype=torch.long)
    wanted = finish(decode(model, Texts(*texts, 7.5), blank, plan_for(layout, ()), pick))
    drawn = next(pipe.stream(["a red circle"], [3], Options())).tokens_BFL
    assert torch.equal(drawn, wanted)
    assert np.array_equal(pipe.decode(drawn[0]), vq.decode(wanted[0]).permute(0, 2, 3, 1).numpy())
    assert pipe.bundle.prompts.video.format(seconds=4.0, prompt="a dog runs") == "4.0 seconds. a dog runs"


def test_states_of_a_caption(tmp_path, t5):
    files.write(tmp_path)
    import_llamagen(tmp_path / "GPT.pt", tmp_path / "VQ.pt", tmp_path / "b", t5=t5, heads=2, image_size=8)
    text = Bundle(tmp_path / "b").text()
    from transformers import T5EncoderModel

    caption = text.video_text("a red circle moves", 4.0)
    alone = T5EncoderModel.from_pretrained(t5)(torch.tensor([list(caption)])).last_hidden_state[0]
    padded = text.pad([caption, text.image_text("a dog", unconditional=True)])
    assert padded.shape == (2, 24, 18) and caption[-1] == 1 and len(caption) == 7
    torch.testing.assert_close(padded[0, -7:, :-2], alone)
    assert padded[0, :, -2].tolist() == [0] * 17 + [1] * 7 and padded[1, :, -2].tolist() == [2] * 21 + [3] * 3
    assert padded[0, 0, -1] == 4.0 and padded[1, 0, -1] == 0.0 and not padded[0, :17, :-2].any()
    with pytest.raises(PromptError, match="25 tokens, the text span holds 24"):
        text.image_text("red " * 24)


def test_what_does_not_fit_is_one_error_and_nothing_is_written(tmp_path, t5):
    files.write(tmp_path)
    gpt, vq = tmp_path / "GPT.pt", tmp_path / "VQ.pt"

    def refuse(words, error=BundleError, **changed):
        given = {"gpt": gpt, "vq": vq, "t5": t5, "heads": 2, "image_size": 8} | changed
        with pytest.raises(error, match=words):
            import_llamagen(given.pop("gpt"), given.pop("vq"), tmp_path / "b", **given)
        assert not (tmp_path / "b").exists()

    other = files.make_vq(replace(files.VQ, codes=64))[1]
    torch.save({"model": other}, tmp_path / "other.pt")
    refuse("has 64 codes, .* draws 32", vq=tmp_path / "other.pt")
    refuse("states of .* are 24 wide, the GPT reads 16", t5=files.write_t5(tmp_path / "wide", width=24))
    refuse("no language model 'google/nowhere'", t5="google/nowhere")
    refuse("does not say how many heads .*: --heads", ConfigError, heads=None)
    refuse("does not say how large .*: --image-size", ConfigError, image_size=None)
    refuse("head width 2 must be a multiple of 4", ConfigError, heads=16)
    refuse("image size 9 is no multiple", ConfigError, image_size=9)
    refuse("no VQ tokenizer of LlamaGen: it has no 'quantize", vq=gpt)
    refuse("no text-to-image GPT of LlamaGen: it holds 'encoder", gpt=vq)
    torch.save({"model": {"cls_embedding.embedding_table.weight": torch.zeros(3, 2)}}, tmp_path / "c2i.pt")
    refuse("class-to-image", gpt=tmp_path / "c2i.pt")
    weights = files.make_gpt()[1]
    torch.save({"model": {k: v for k, v in weights.items() if "w3" not in k}}, tmp_path / "cut.pt")
    refuse(r"layers\.0\.up\.weight is missing", gpt=tmp_path / "cut.pt")


def test_another_t5_than_the_bundles_is_refused(tmp_path, t5):
    files.write(tmp_path)
    own = files.write_t5(tmp_path / "own")
    import_llamagen(tmp_path / "GPT.pt", tmp_path / "VQ.pt", tmp_path / "b", t5=own, heads=2, image_size=8)
    files.write_t5(own, words=["other"])
    with pytest.raises(BundleError, match="another language model"):
        Bundle(tmp_path / "b").text().encode("a")
    (own / "config.json").unlink()
    with pytest.raises(BundleError, match="no language model"):
        Bundle(tmp_path / "b").text().encode("a")
