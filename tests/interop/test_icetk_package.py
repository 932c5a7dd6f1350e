"""Our readers of icetk's assets beside the real package, where it is installed: `make test-icetk`."""

import pytest
import torch

from cogstyle.config import MODELS, Prompts
from cogstyle.interop.icetk import import_icetk, read_image_tokenizer
from cogstyle.tokenizers.hierarchical import RATES
from cogstyle.tokenizers.text import TextTokenizer
from cogstyle.training.text import train_text_model

pytest.importorskip("icetk", reason="icetk needs an environment of its own: make test-icetk")

TEXTS = (
    "4.0秒<n>一个红色圆形向左移动 视频",
    "a red circle moves left",
    " 高清摄影",
    "emoji 🦁 and tabs\tend",
    "",
    "a\nb",
)


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    """A folder with random weights in the real architecture (97 million parameters), and a small text model."""
    from icetk.vqvae import load_default_HVQVAE

    folder = tmp_path_factory.mktemp("icetk")
    torch.manual_seed(0)
    real = load_default_HVQVAE()
    with torch.no_grad():
        real.quantize.embed.weight.normal_()
    torch.save({"module": real.state_dict()}, folder / "ice_image.pt")
    (folder / "ice_text.model").write_bytes(train_text_model(MODELS["debug"], captions=500))
    return folder


@pytest.fixture(scope="module")
def real(assets):
    from icetk.ice_tokenizer import IceTokenizer

    return IceTokenizer(str(assets), device="cpu", fp16=False)


def test_text(assets, real):
    import dataclasses

    pieces = real.num_text_tokens
    config = dataclasses.replace(
        MODELS["cogvideo-9b"], start_of_image=20_000 + pieces, vocabulary=20_003 + pieces, layers=1, width=64, heads=1
    )
    ours = TextTokenizer((assets / "ice_text.model").read_bytes(), config, Prompts())
    for text in TEXTS:
        assert ours.encode(text) == real.encode(text)
        assert ours.encode(text, linebreaks=True) == real.encode(text, ignore_linebreak=False)
        assert ours.decode(ours.encode(text)) == real.decode(text_ids=real.encode(text))
    real.add_special_tokens(["<start_of_image>", "<start_of_english>", "<start_of_chinese>"])
    for token in ("<start_of_image>", "<start_of_chinese>", "<n>", "<image_17>"):
        assert ours.token_id(token) == real[token]


@pytest.mark.parametrize("rate", RATES)
@torch.no_grad()
def test_images(assets, real, rate):
    torch.manual_seed(1)
    images = torch.rand(2, 3, 64, 64)
    ours = read_image_tokenizer(assets / "ice_image.pt")
    ids = real.encode(image_torch=images, compress_rate=rate)
    found = ours.encode_at(images, rate)
    assert (found == ids).float().mean() > 0.999  # random codes: a tie may fall either way
    pixels = ours.decode_at(ids, rate)
    for index in range(2):  # the real one decodes only one image of a batch rightly
        expected = real.decode(image_ids=ids[index], compress_rate=rate)
        torch.testing.assert_close(pixels[index : index + 1], expected, rtol=0, atol=1e-4)


def test_a_bundle_from_the_assets(assets, tmp_path):
    assert import_icetk(assets, tmp_path / "bundle") == ["text.model", "tokenizer.safetensors"]
