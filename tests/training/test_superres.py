"""Super-resolution's start, data and export."""

import shutil

import torch

from cogstyle.bundle import Bundle
from cogstyle.shapes_world import rows
from cogstyle.training.run import load_recipe, make_job, train
from tests.conftest import debug_recipe


def test_it_starts_as_the_frozen_attention(debug_bundle, tmp_path):
    job = make_job(load_recipe(debug_recipe(tmp_path, "superres", bundle=debug_bundle)), runs=tmp_path, quiet=True)
    for layer, block in zip(job.upscaler.layers, job.transformer.layers, strict=True):
        for part in ("qkv", "dense"):
            assert torch.equal(getattr(layer, part).weight, getattr(block, part).weight)
            assert getattr(layer, part).weight is not getattr(block, part).weight
    config = job.transformer.config
    row, column = 7, 4  # a fine place under the coarse one at (2, 1)
    found = job.upscaler.positions.weight[row * 3 * config.grid[1] + column]
    assert torch.equal(found, job.transformer.positions.weight[config.text_positions + 2 * config.grid[1] + 1])


def test_rows_hold_one_moment_at_both_sizes(debug_bundle, tmp_path):
    job = make_job(load_recipe(debug_recipe(tmp_path, "superres", bundle=debug_bundle)), runs=tmp_path, quiet=True)
    row = rows.superres_row(5, 32, 3)
    assert row.frames.shape == (1, 32, 32, 3) and row.fine.shape == (1, 96, 96, 3)
    shrunk = row.fine[0].reshape(32, 3, 32, 3, 3).mean((1, 3))
    assert abs(shrunk - row.frames[0]).mean() < 1.0
    for tokens, pixels in ((job.train.tokens, row.frames), (job.train.fine, row.fine)):
        ids = job.vqvae.encode(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        assert torch.equal(tokens[5], ids.to(torch.int32))
    assert job.train.captions[5] == row.caption
    figures = job.validate()
    assert set(figures) == {"validation_loss", "psnr", "bicubic_psnr"} and figures["bicubic_psnr"] > 20


def test_a_recipe_says_how_to_draw(debug_bundle, tmp_path):
    path = debug_recipe(tmp_path, "superres", bundle=shutil.copytree(debug_bundle, tmp_path / "bundle"))
    path.write_text(path.read_text() + "\n[sampling]\ntop_k = 1\n")
    train(path, runs=tmp_path, quiet=True)
    bundle = Bundle(tmp_path / "bundle")
    assert bundle.sampling("superres").top_k == 1 and bundle.superres_config.text_span == 48
    assert bundle.superres().grid == (12, 12)
