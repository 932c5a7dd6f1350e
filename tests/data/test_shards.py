"""Token shards: exact, resumable, bound to their tokenizer; batches that show every row once an epoch."""

import shutil
from functools import partial

import numpy as np
import pytest
import torch

from cogstyle.bundle import Bundle
from cogstyle.data import shards
from cogstyle.data.encode import Encoding, make_index
from cogstyle.data.manifest import read_manifest
from cogstyle.errors import BundleError
from cogstyle.files import write_tensors
from cogstyle.shapes_world import rows
from tests.videos import write_clock


def test_encode_and_load(debug_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "PART", 4)
    vqvae = Bundle(debug_bundle).vqvae()
    calls = []

    def make(number):
        calls.append(number)
        return rows.keyframe_row(number, 32, 5)

    encode = partial(shards.encode, make, folder=tmp_path, vqvae=vqvae, tokenizer_sha256="abc", quiet=True)
    encode(count=10)
    data = shards.load(tmp_path, 10, tokenizer_sha256="abc")
    assert len(data) == 10 and data.tokens.shape == (10, 5, 16)
    row = rows.keyframe_row(7, 32, 5)
    assert data.captions[7] == row.caption and data.seconds[7] == row.seconds
    frames = torch.from_numpy(row.frames).permute(0, 3, 1, 2)
    assert torch.equal(data.tokens[7], vqvae.encode(frames).to(torch.int32))
    calls.clear()
    (tmp_path / "part-00001.safetensors").unlink()  # as if killed while it was written
    encode(count=10)
    assert calls == [4, 5, 6, 7]
    assert torch.equal(shards.load(tmp_path, 10, tokenizer_sha256="abc").tokens, data.tokens)
    calls.clear()
    encode(count=12)  # the last part was not full
    assert calls == [8, 9, 10, 11]
    with pytest.raises(BundleError, match="was encoded by another tokenizer"):
        shards.load(tmp_path, 10, tokenizer_sha256="other")
    with pytest.raises(BundleError, match="holds 12 rows, 13 are asked for"):
        shards.load(tmp_path, 13, tokenizer_sha256="abc")


def test_batches_show_every_row_once_an_epoch():
    picks = np.concatenate([shards.shuffled(10, 4, step, seed=1) for step in range(5)])
    assert sorted(picks[:10]) == list(range(10)) == sorted(picks[10:])
    assert picks[:10].tolist() != picks[10:].tolist()
    assert shards.shuffled(10, 4, 3, seed=1).tolist() == picks[12:16].tolist()
    assert shards.shuffled(3, 8, 0, seed=1).size == 8  # a batch longer than the data


def test_copies_of_a_video_are_one(debug_bundle, tmp_path):
    """Under three names, in two lines, in another folder of shards: on one side, training or validation."""
    for k in range(4):
        write_clock(tmp_path / f"{k}.mp4", [i / 8 + 0.3 * k * (i > 8) for i in range(17)])
    shutil.copy(tmp_path / "0.mp4", tmp_path / "copy.mp4")
    lines = ["0.mp4", "0.mp4", "./0.mp4", "copy.mp4", str(tmp_path / "0.mp4"), "1.mp4", "2.mp4", "3.mp4"]
    (tmp_path / "m.csv").write_text("\n".join(["video,caption", *(f"{name},a ring" for name in lines)]))
    manifest = read_manifest(tmp_path / "m.csv")
    bundle = Bundle(debug_bundle)
    index = make_index(manifest, bundle, "keyframes")
    Encoding(manifest, tmp_path / "s", index, bundle).run(workers=0, quiet=True)
    data = shards.load_videos([tmp_path / "s"], "keyframes", frames=5, size=32, tokenizer_sha256=index.tokenizer_sha256)
    assert len(set(data.sources[:5])) == 1 and len(set(data.sources)) == 4
    for count in range(1, 8):
        ((trained, held),) = shards.split_validation([data], count)
        assert not set(trained.sources) & set(held.sources) and len(trained) + len(held) == 8


def test_held_back_rows_are_of_other_videos():
    sources = [f"{k // 3}.mp4" for k in range(60)]
    data = shards.Shards(torch.arange(60)[:, None, None], list(map(str, range(60))), [1.0] * 60, sources=sources)
    ((trained, held_back),) = shards.split_validation([data], 4)
    assert len(held_back) == 6 and len(trained) == 54  # two whole videos
    assert not set(trained.sources) & set(held_back.sources)
    rows = sorted(trained.tokens.flatten().tolist() + held_back.tokens.flatten().tolist())
    assert rows == list(range(60)) and [int(c) for c in trained.captions] == trained.tokens.flatten().tolist()
    assert len(shards.split_validation([data], 500)[0][1]) == 6  # a tenth
    few = data.take(np.arange(9))
    (trained, held_back), (also_trained, also_held) = shards.split_validation([data, few], 4)
    assert not set(also_trained.sources) & set(held_back.sources) and not set(trained.sources) & set(also_held.sources)
    assert set(also_held.sources) <= set(held_back.sources) and len(also_trained)
    with pytest.raises(BundleError, match=r"3 rows of 1 videos leave none to check on"):
        shards.split_validation([data.take(np.arange(3))], 4)


@pytest.mark.parametrize("damage", [{"tokens": None}, {"captions": torch.full((9,), 0xC1, dtype=torch.uint8)}])
def test_a_damaged_part_is_named(tmp_path, damage):
    """What a flipped bit leaves readable as a file, and wrong as rows."""
    part = shards.pack(["a circle"], [4.0], tokens=torch.zeros(1, 5, 16, dtype=torch.int32)) | damage
    part = {name: value for name, value in part.items() if value is not None}
    write_tensors(shards.part_path(tmp_path, 0), part, {shards.TOKENIZER_KEY: "abc"})
    with pytest.raises(BundleError, match=r"is damaged .*remove it and encode again"):
        shards.load(tmp_path, 1, tokenizer_sha256="abc")
