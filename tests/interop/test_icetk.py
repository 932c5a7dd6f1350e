"""icetk's tokenizers: names and shapes, and the numbers of the real package where they are at hand."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cogstyle.config import MODELS, Prompts
from cogstyle.errors import BundleError, LayoutError
from cogstyle.interop.icetk import RATES, HierarchicalVQVAE, read_image_tokenizer
from cogstyle.tokenizers.text import TextTokenizer

GOLDENS = Path(__file__).parents[3] / "shared" / "parity" / "icetk"
needs_goldens = pytest.mark.skipif(not GOLDENS.is_dir(), reason="the numbers of icetk are not on this machine")


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return HierarchicalVQVAE(channels=32, width=32, codes=64).eval()


@pytest.mark.parametrize("rate", RATES)
def test_shapes_and_batches(small, rate):
    pixels = torch.rand(3, 3, 32, 64)
    ids = small.encode(pixels, rate=rate)
    assert ids.shape == (3, 32 * 64 // rate**2)
    decoded = small.decode(ids, rate=rate, width=64 // rate)
    assert decoded.shape == pixels.shape
    one = small.decode(ids[1:2], rate=rate, width=64 // rate)
    torch.testing.assert_close(decoded[1:2], one, rtol=0, atol=1e-5)  # a batch decodes as its members do


def test_assets_are_read_and_refused(small, tmp_path):
    torch.save({"module": small.state_dict()}, tmp_path / "ice_image.pt")
    again = read_image_tokenizer(tmp_path / "ice_image.pt")
    pixels = torch.rand(1, 3, 32, 32)
    assert torch.equal(again.encode(pixels), small.encode(pixels))
    for content, message in (
        (small.state_dict(), "no weights under the key 'module'"),
        ({"module": {"a": torch.ones(1)}}, "is no icetk image tokenizer: it has no 'enc.conv_in.weight'"),
        ({"module": {k: v for k, v in small.state_dict().items() if "decs.1" not in k}}, "is no icetk image tokenizer"),
    ):
        torch.save(content, tmp_path / "bad.pt")
        with pytest.raises(BundleError, match=message):
            read_image_tokenizer(tmp_path / "bad.pt")
    with pytest.raises(LayoutError, match="rate 5 must be one of"):
        small.encode(pixels, rate=5)
    with pytest.raises(LayoutError, match="must be multiples of the rate 16"):
        small.encode(torch.rand(1, 3, 40, 32), rate=16)


@needs_goldens
def test_names_and_shapes_of_the_real_asset():
    with torch.device("meta"):
        model = HierarchicalVQVAE(channels=128, width=256, codes=20_000)
    wanted = json.loads((GOLDENS / "ice_image_keys.json").read_text())
    assert {name: list(value.shape) for name, value in model.state_dict().items()} == wanted


@needs_goldens
@pytest.mark.parametrize("rate", RATES)
def test_numbers_of_the_real_package(rate):
    golden = load_file(GOLDENS / "ice_image.safetensors")
    model = read_image_tokenizer(GOLDENS / "ice_image.pt")
    ids = golden[f"ids_rate{rate}"].flatten(1).long()
    assert torch.equal(model.encode(golden["images"], rate=rate), ids)
    torch.testing.assert_close(model.decode(ids, rate=rate), golden[f"decoded_rate{rate}"], rtol=0, atol=1e-4)


@needs_goldens
def test_text_ids_of_the_real_package():
    golden = json.loads((GOLDENS / "ice_text.json").read_text())
    ids = {"pad": golden["special"]["<pad>"], "start_of_image": golden["special"]["<start_of_image>"]}
    config = replace(MODELS["cogvideo-9b"], layers=1, width=64, heads=1, vocabulary=golden["num_tokens"], **ids)
    text = TextTokenizer((GOLDENS / "ice_text.model").read_bytes(), config, Prompts())
    for case in golden["encode"]:
        assert text.encode(case["text"]) == case["ids"], case["text"]
