"""Training the image tokenizer: codebook rules, clusters, pictures, and what export writes."""

import json
import shutil
import signal
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from cogstyle.bundle import Bundle
from cogstyle.config import TOKENIZERS
from cogstyle.errors import ConfigError
from cogstyle.pictures import write_png
from cogstyle.shapes_world.pictures import ScenePictures
from cogstyle.tokenizers.vqvae import Codebook
from cogstyle.training import loop as loop_module
from cogstyle.training.run import load_recipe, make_job, train
from cogstyle.training.sharp import unlikeness
from cogstyle.training.tokenizer import (
    DEAD,
    TokenizerJob,
    cluster_codes,
    ssim,
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
    a, b, c = (ScenePictures(32).draw(np.random.default_rng([0, step]), 6) for step in (1, 1, 2))
    assert a.shape == (6, 32, 32, 3) and np.array_equal(a, b) and not np.array_equal(a, c)
    assert to_tensor(a).shape == (6, 3, 32, 32)


def test_gradients_reach_the_encoder_through_the_codes(tmp_path):
    job = TokenizerJob(TOKENIZERS["debug"], ScenePictures(32), batch=4, seed=0, bundle=tmp_path)
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


@pytest.fixture
def footage(tmp_path):
    place = tmp_path / "footage"
    place.mkdir()
    for number in range(12):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        write_png(place / f"{number}.png", coarse.repeat(8, 0).repeat(8, 1))
    return place


def footage_recipe(tmp_path, footage, *, steps, start=None):
    path = debug_recipe(tmp_path, "tokenizer", steps=steps)
    first = f'start = "{start}"\n' if start else ""
    path.write_text(first + path.read_text() + f'\n[data]\nfootage = "{footage}"\n')
    return path


def test_start_keeps_the_codebook(debug_bundle, footage, tmp_path):
    job = make_job(load_recipe(footage_recipe(tmp_path, footage, steps=4, start=debug_bundle)), runs=tmp_path)
    old = Bundle(debug_bundle).vqvae().codebook
    assert torch.equal(job.model.codebook.vectors, old.vectors)
    job.loss(0)
    used = old.counts > DEAD * job.places / job.config.codes
    moved = (job.model.codebook.vectors - old.vectors).norm(dim=1) / old.vectors.norm(dim=1)
    assert used.sum() > 8 and moved[used].median() < 0.05  # a running mean, and no other entries


def test_footage_trains_a_tokenizer_that_a_bundle_then_has(footage, tmp_path):
    path = footage_recipe(tmp_path, footage, steps=40)
    train(path, runs=tmp_path, quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "tokenizer" / "log.jsonl").read_text().splitlines()]
    measured = [row for row in rows if "psnr" in row]
    assert measured[-1]["psnr"] > measured[0]["psnr"] and 0.0 < measured[-1]["ssim"] <= 1.0
    assert "steady" not in measured[-1]  # there are no videos
    bundle = Bundle(tmp_path / "bundle")
    assert set(bundle.hashes()) == {"tokenizer.safetensors", "clusters.safetensors"}
    assert bundle.vqvae().encode(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, 16)


def test_a_codebook_larger_than_a_batch_starts_from_several(tmp_path):
    config = replace(TOKENIZERS["debug"], codes=500)
    job = TokenizerJob(config, ScenePictures(32), batch=4, seed=0, bundle=tmp_path)  # 64 places
    job.loss(0)
    assert job.model.codebook.vectors.unique(dim=0).shape[0] > 300


def test_ssim_falls_with_noise_and_not_with_the_picture():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    smooth = cv2.GaussianBlur(picture, (9, 9), 3)
    noisy = (smooth + np.random.default_rng(1).normal(0, 9, smooth.shape)).clip(0, 255).astype(np.uint8)
    assert ssim(smooth, smooth) == pytest.approx(1.0) and ssim(picture, picture) == pytest.approx(1.0)
    assert 0.2 < ssim(smooth, noisy) < 0.9


def test_unlikeness_sees_structure_and_not_distance():
    """A blurred picture and one that is a little brighter are as far off in pixels, not in what they show."""
    rng = np.random.default_rng(0)
    true = torch.from_numpy(rng.random((2, 3, 32, 32), np.float32)) * 0.8
    blurred = torch.nn.functional.avg_pool2d(true, 3, 1, 1)
    brighter = true + (blurred - true).square().mean().sqrt()
    assert unlikeness(true, true).item() == pytest.approx(0.0, abs=1e-6)
    assert unlikeness(blurred, true) > 3 * unlikeness(brighter, true) > 0.0


def sharp_recipe(folder, base, footage):
    folder.mkdir(exist_ok=True)
    path = footage_recipe(folder, footage, steps=6, start=base)
    terms = "[sharp]\nperceptual = 0.1\nadversarial = 0.1"
    path.write_text(f'export = "last"\n{path.read_text()}\n{terms}\n')
    return path


@pytest.mark.parametrize("decoder", ["", 'train = "decoder"\n'])
def test_sharp_terms_reach_the_decoder_and_the_critic_late(decoder, debug_bundle, footage, tmp_path):
    path = sharp_recipe(tmp_path, debug_bundle, footage)
    path.write_text(decoder + path.read_text())
    job, plain = (make_job(load_recipe(path, [f"sharp.adversarial={weight}"]), runs=tmp_path) for weight in (0.1, 0.0))
    for step, on in ((0, False), (3, True)):
        (loss, figures), (other, _) = job.loss(step), plain.loss(step)
        for one, value in ((job, loss), (plain, other)):
            one.module.zero_grad()
            value.backward()
        assert ("caught" in figures) == on and "unlikeness" in figures
        assert loss.item() == pytest.approx(other.item(), rel=1e-5)  # no leap that would be taken for a spike
        grads = [list(one.model.decoder.parameters())[-1].grad for one in (job, plain)]
        assert torch.allclose(*grads) != on
        assert all((param.grad is not None) == on for param in job.critic.parameters())


def test_sharp_training_resumes_and_gives_a_tokenizer_alone(debug_bundle, footage, tmp_path, monkeypatch):
    """The critic is kept with the rest, so that a stopped run ends as one that was not; a bundle has no critic."""
    plain = loop_module.train_step

    def interrupted(*given, step, **named):
        if step == 4:
            signal.raise_signal(signal.SIGINT)
        return plain(*given, step=step, **named)

    for name in ("whole", "parts"):
        path = sharp_recipe(tmp_path / name, debug_bundle, footage)
        if name == "parts":
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(loop_module, "train_step", interrupted)
                train(path, runs=tmp_path / name, quiet=True)
        train(path, runs=tmp_path / name, quiet=True)
    whole, parts = (Bundle(tmp_path / name / "bundle") for name in ("whole", "parts"))
    assert whole.hashes() == parts.hashes()
    assert {key.split(".")[0] for key in whole.weights("tokenizer")} == {"encoder", "decoder", "codebook"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("footage = 'x'\n[sharp]\nadversarial = 0.1", "adversarial 0.1 lowers the PSNR"),
        ("footage = 'x'\n[sharp]\nadversarial = -1.0", "adversarial -1.0 must be"),
        ("footage = 'x'\nrows = 5", "unknown key rows; known are footage, shares"),
        ("footage = 'x'\nshares = [1.0, 2.0]", "shares has 2 numbers for 1 places of footage"),
        ("footage = ['x', 'y']\nshares = [1.0, 0.0]", "must be greater than 0"),
        ("rows = 5", "unknown key rows; known are footage"),
        ("rows = 5\nshares = [1.0]", "unknown key rows; known are footage"),
    ],
)
def test_wrong_footage_is_refused(data, message, tmp_path):
    path = debug_recipe(tmp_path, "tokenizer")
    path.write_text(path.read_text() + f"\n[data]\n{data}\n")
    with pytest.raises(ConfigError, match=message):
        load_recipe(path)
