"""icetk's tokenizers: names and shapes, and the numbers of the real package where they are at hand."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from cogstyle.bundle import Bundle
from cogstyle.config import MODELS, HierarchicalConfig
from cogstyle.errors import BundleError, FileError, LayoutError
from cogstyle.interop.icetk import import_icetk, read_clusters, read_image_tokenizer
from cogstyle.tokenizers.hierarchical import RATES, HierarchicalVQVAE
from cogstyle.training.text import train_text_model

GOLDENS = Path(__file__).parents[3] / "shared" / "parity" / "icetk"


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return HierarchicalVQVAE(HierarchicalConfig(channels=32, code_width=32, codes=64)).eval()


@pytest.mark.parametrize("rate", RATES)
def test_shapes_and_batches(small, rate):
    pixels = torch.rand(3, 3, 32, 64)
    ids = small.encode_at(pixels, rate)
    assert ids.shape == (3, 32 * 64 // rate**2)
    decoded = small.decode_at(ids, rate, width=64 // rate)
    assert decoded.shape == pixels.shape
    one = small.decode_at(ids[1:2], rate, width=64 // rate)
    torch.testing.assert_close(decoded[1:2], one, rtol=0, atol=1e-5)  # a batch decodes as its members do


def test_assets_are_read_and_refused(small, tmp_path):
    torch.save({"module": small.state_dict()}, tmp_path / "ice_image.pt")
    again = read_image_tokenizer(tmp_path / "ice_image.pt")
    pixels = torch.rand(1, 3, 32, 32)
    assert torch.equal(again.encode_at(pixels, 8), small.encode_at(pixels, 8))
    for content, message in (
        (small.state_dict(), "no weights under the key 'module'"),
        ({"module": {"a": torch.ones(1)}}, "is no icetk image tokenizer: it has no 'enc.conv_in.weight'"),
        ({"module": {k: v for k, v in small.state_dict().items() if "decs.1" not in k}}, "is no icetk image tokenizer"),
    ):
        torch.save(content, tmp_path / "bad.pt")
        with pytest.raises(BundleError, match=message):
            read_image_tokenizer(tmp_path / "bad.pt")
    with pytest.raises(LayoutError, match="rate 5 must be one of"):
        small.encode_at(pixels, 5)
    with pytest.raises(LayoutError, match="must be multiples of the rate 16"):
        small.encode_at(torch.rand(1, 3, 40, 32), 16)


def make_assets(folder, small, *, pieces=None, labels=None):
    """A folder like icetk's, with our small models in the roles of its assets."""
    folder.mkdir()
    (folder / "ice_text.model").write_bytes(pieces or train_text_model(MODELS["debug"], captions=200))
    torch.save({"module": small.state_dict()}, folder / "ice_image.pt")
    np.save(folder / "cluster_label2.npy", np.arange(64) % 7 if labels is None else labels)
    return folder


def test_import(small, tmp_path):
    assert import_icetk(make_assets(tmp_path / "assets", small), tmp_path / "bundle") == [
        "text.model", "tokenizer.safetensors", "clusters.safetensors"
    ]  # fmt: skip
    bundle = Bundle(tmp_path / "bundle")
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    ids = small.encode(images)
    assert torch.equal(bundle.vqvae().encode(images), ids) and ids.shape == (2, 24)
    assert torch.equal(bundle.vqvae().decode(ids, width=6), small.decode(ids, width=6))
    assert bundle.cluster_labels().tolist() == [k % 7 for k in range(64)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"pieces": b"no model"}, r"ice_text\.model is no sentencepiece model"),
        ({"labels": np.zeros(63, int)}, r"holds int64 \(63,\), needed is one integer for each of 64 codes"),
        ({"labels": np.zeros(64)}, "holds float64"),
        ({"labels": np.arange(64) - 1}, "has labels -1 to 62, they must lie in 0 to 63"),
        ({"labels": np.arange(64) + 1}, "has labels 1 to 64"),
        ({"labels": np.array([{}] * 64)}, "cannot read cluster labels"),  # a pickle
    ],
)
def test_bad_assets_leave_no_bundle(small, tmp_path, bad, message):
    folder = make_assets(tmp_path / "assets", small, **bad)
    with pytest.raises(BundleError, match=message):
        import_icetk(folder, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    with pytest.raises(BundleError, match="holds neither ice_text"):
        import_icetk(tmp_path, tmp_path / "bundle")


@pytest.mark.skipif(not GOLDENS.is_dir(), reason="the numbers of icetk are not on this machine")
def test_names_and_shapes_of_the_real_asset():
    with torch.device("meta"):
        model = HierarchicalVQVAE(HierarchicalConfig())
    wanted = json.loads((GOLDENS / "ice_image_keys.json").read_text())
    assert {name: list(value.shape) for name, value in model.state_dict().items()} == wanted


def test_label_files_that_are_none(tmp_path):
    """Headers that promise more than the file holds, archives, pipes."""
    path = tmp_path / "l.npy"
    np.save(path, np.zeros(8, int))
    header = path.read_bytes()[:128]
    for content in (
        header.replace(b"(8,)", b"(10000000000000,)").ljust(128)[:128],
        b"",
        b"\x93NUMPY",
        header[:60],
        header.replace(b"}", b" "),
    ):
        path.write_bytes(content)
        with pytest.raises(BundleError, match="cannot read cluster labels"):
            read_clusters(path, 8)
    np.savez(tmp_path / "l", a=np.zeros(8, int))
    with pytest.raises(BundleError, match="several arrays"):
        read_clusters(tmp_path / "l.npz", 8)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="pipe or device"):
        read_clusters(tmp_path / "pipe", 8)


@pytest.mark.parametrize("weights", [{"enc.conv_in.weight": torch.tensor(1.0)}, {"enc.conv_in.weight": torch.ones(3)}])
def test_weights_with_other_axes_are_no_image_tokenizer(tmp_path, weights):
    torch.save({"module": weights | {"quantize.embed.weight": torch.ones(3)}}, tmp_path / "ice_image.pt")
    with pytest.raises(BundleError, match="is no icetk image tokenizer"):
        read_image_tokenizer(tmp_path / "ice_image.pt")
