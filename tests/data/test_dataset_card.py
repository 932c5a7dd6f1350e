"""The card counts what is there and names what is not; the picture shows frames beside their tokens."""

import numpy as np
import pytest
import torch
from PIL import Image

from cogstyle.bundle import Bundle
from cogstyle.data.dataset_card import write_card
from cogstyle.data.encode import Encoding, make_index
from cogstyle.data.manifest import read_manifest
from cogstyle.video import VideoReader
from tests.videos import write_clock

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for name, count in (("a", 17), ("b", 33), ("c", 2)):
        write_clock(folder / f"{name}.mp4", [k / 8 for k in range(count)])
        (folder / f"{name}.txt").write_text(f"a circle | {name}")
    return read_manifest(folder)


def test_card_and_picture(manifest, debug_bundle, tmp_path):
    bundle = Bundle(debug_bundle)
    index = make_index(manifest, bundle, "keyframes", entries_per_part=2)
    Encoding(manifest, tmp_path, index, bundle).run(quiet=True, shard=(1, 2))
    options = {"name": "videos", "videos": manifest.folder, "vqvae": bundle.vqvae()}
    write_card(tmp_path, index, **options)
    assert "1 of 2 parts are there" in (tmp_path / "README.md").read_text()
    Encoding(manifest, tmp_path, index, bundle).run(quiet=True, shard=(2, 2))
    contents = write_card(tmp_path, index, **options)
    assert (len(contents.rows), len(contents.refused), contents.parts) == (2, 1, 2)
    text = (tmp_path / "README.md").read_text()
    assert "Not finished" not in text and "2 of 3 entries encoded, 1 refused; 2 rows" in text
    assert "lasts 2.12 to 4.12 s, median 4.12 s" in text
    assert "| 1 | 4 | 1 |\n| 2 | 2 | 1 |" in text
    assert "| c.mp4 | c.mp4 | 0.25 s are too short: 5 frames span 0.5 s at 8 a second |" in text
    shown = np.asarray(Image.open(tmp_path / "clips.png"))[::3, ::3]
    assert shown.shape == (2 * (2 * 32 + 4), 5 * 32 + 4, 3)
    with VideoReader(manifest.folder / "b.mp4") as video:
        frames = video.frames_at([0.0, 1.0, 2.0, 3.0, 4.0], 32)
    assert np.array_equal(shown[68:100, :160], np.concatenate(list(frames), 1))
    vqvae = bundle.vqvae()
    images = torch.from_numpy(frames).permute(0, 3, 1, 2)
    decoded = vqvae.decode(vqvae.encode(images)).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(shown[100:132, :160], np.concatenate(list(decoded), 1))
