"""The image tokenizer: shapes, locality, exact nearest neighbours."""

import pytest
import torch

from cogstyle.config import TOKENIZERS
from cogstyle.errors import LayoutError
from cogstyle.tokenizers.vqvae import VQVAE, Codebook, to_float, to_uint8


@pytest.fixture(scope="module")
def vqvae():
    torch.manual_seed(0)
    return VQVAE(TOKENIZERS["debug"]).eval()


def test_ids_and_pixels_have_the_promised_shapes(vqvae):
    images = torch.randint(256, (2, 3, 32, 48), dtype=torch.uint8)
    ids = vqvae.encode(images)
    assert ids.shape == (2, 4 * 6) and int(ids.max()) < 32
    pixels = vqvae.decode(ids, width=6)
    assert pixels.shape == images.shape and pixels.dtype == torch.uint8
    for bad in (images[..., :30], images[:, :, :31]):
        with pytest.raises(LayoutError, match="multiples of 8"):
            vqvae.encode(bad)
    with pytest.raises(LayoutError, match="24 tokens do not fill rows of 5"):
        vqvae.decode(ids, width=5)


def test_a_change_in_one_corner_stays_there(vqvae):
    ids = torch.zeros(2, 12 * 12, dtype=torch.long)
    ids[1, 0] = 5
    a, b = vqvae.decode(ids)
    assert (a != b).any()
    assert torch.equal(a[:, 64:, :], b[:, 64:, :]) and torch.equal(a[:, :, 64:], b[:, :, 64:])


def test_nearest_is_nearest():
    book, features = Codebook(20, 4), torch.randn(50, 4)
    distance = (features[:, None] - book.vectors).square().sum(-1)
    assert torch.equal(book.nearest(features), distance.argmin(1))


def test_pixels_survive_the_float_scale():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(every)), every)
