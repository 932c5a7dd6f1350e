"""Training the image tokenizer: codebook rules, clusters, pictures, and what export writes."""

import shutil

import numpy as np
import torch

from cogstyle.bundle import Bundle
from cogstyle.config import TOKENIZERS
from cogstyle.tokenizers.vqvae import Codebook
from cogstyle.training.recipe import load_recipe, make_job, train
from cogstyle.training.tokenizer import (
    DEAD,
    TokenizerJob,
    cluster_codes,
    draw_pictures,
    to_tensor,
    update_codebook,
)
from tests.conftest import debug_recipe


def test_codebook_follows_its_features_and_dead_codes_revive():
    torch.manual_seed(0)
    book = Codebook(3, 2)
    book.vectors.copy_(torch.tensor([[0.0, 0.0], [10.0, 10.0], [99.0, 99.0]]))
    book.counts.copy_(torch.tensor([1.0, 1.0, DEAD]))
    book.sums.copy_(book.vectors * book.counts[:, None])
    features = torch.tensor([[1.0, 1.0], [1.0, 1.0], [10.0, 10.0]])
    for _ in range(400):
        update_codebook(book, features, book.nearest(features))
    distance = torch.cdist(book.vectors, features).round(decimals=1)
    assert (distance.min(1).values < 0.2).all()  # every entry, also the dead one, moved onto the data
    assert (distance.min(0).values < 0.2).all()  # and every feature has an entry


def test_clusters_group_neighbours():
    centres = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    vectors = centres.repeat(10, 1) + 0.01 * torch.randn(30, 2)
    labels = cluster_codes(vectors, 3)
    assert labels.unique().numel() == 3
    assert all((labels[k::3] == labels[k]).all() for k in range(3))


def test_training_pictures_are_a_function_of_the_step():
    a, b, c = (draw_pictures(np.random.default_rng([0, step]), 6, 32) for step in (1, 1, 2))
    assert a.shape == (6, 32, 32, 3) and np.array_equal(a, b) and not np.array_equal(a, c)
    assert to_tensor(a).shape == (6, 3, 32, 32)


def test_gradients_reach_the_encoder_through_the_codes(tmp_path):
    job = TokenizerJob(TOKENIZERS["debug"], batch=4, seed=0, bundle=tmp_path)
    loss, figures = job.loss(0)
    loss.backward()
    assert job.model.encoder[0].weight.grad.abs().sum() > 0 and figures["error"] > 0
    job.export()
    ids, decoded = job.reconstruct()
    shipped = Bundle(tmp_path).vqvae()
    assert (shipped.encode(job.held_back_BCHW) == ids).float().mean() > 0.99  # float16 rounding moves hardly any
    assert decoded.shape == job.held_back_BCHW.shape


def test_the_decoder_alone_learns_and_pictures_keep_their_codes(debug_bundle, tmp_path):
    bundle = shutil.copytree(debug_bundle, tmp_path / "bundle")
    path = debug_recipe(tmp_path, "tokenizer", bundle=bundle, steps=12)
    path.write_text(f'start = "{debug_bundle}"\ntrain = "decoder"\n' + path.read_text())
    job = make_job(load_recipe(path), runs=tmp_path)
    ids, before = job.reconstruct()
    train(path, runs=tmp_path, quiet=True)
    old, new = Bundle(debug_bundle), Bundle(bundle)
    assert torch.equal(new.vqvae().encode(job.held_back_BCHW), ids)
    truth, after = job.held_back_BCHW.float(), new.vqvae().decode(ids).float()
    assert (after - truth).square().mean() < (before.float() - truth).square().mean()
    same = [name for name, digest in old.hashes().items() if new.hashes()[name] == digest]
    assert set(old.hashes()) - set(same) == {"tokenizer.safetensors"}
