"""From somebody's videos to shards: right frames, right rows, every row once, whatever happens between."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cogstyle.bundle import Bundle
from cogstyle.data import encode, shards
from cogstyle.data.dataset_card import read_contents, write_card
from cogstyle.data.encode import Encoding, make_index
from cogstyle.data.folder import writing
from cogstyle.data.manifest import read_manifest
from cogstyle.errors import BundleError, ConfigError, FileError
from cogstyle.video import VideoReader
from tests.videos import write_clock


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Seven equal videos of 2.5 s, one of 1 s, one too short, one that is none, one that is missing; a long caption."""
    folder = tmp_path_factory.mktemp("videos")
    lines = ["video,caption,start,end,language"]
    for k in range(7):
        shutil.copy(folder / "0.mp4", folder / f"{k}.mp4") if k else write_clock(
            folder / "0.mp4", [i / 8 for i in range(20)]
        )
        lines.append(f"{k}.mp4,a circle {k},,,{'en' if k else ''}")
    write_clock(folder / "late.mp4", [i / 8 for i in range(33)])
    lines.append("late.mp4,a red circle,3,9,")
    write_clock(folder / "short.mp4", [0.0, 0.1, 0.2])
    (folder / "text.mp4").write_text("nothing")
    lines += ["short.mp4,a ring,,,", "text.mp4,a star,,,", "none.mp4,a cross,,,", "0.mp4," + "long " * 60 + ",,,"]
    (folder / "m.csv").write_text("\n".join(lines))
    return read_manifest(folder / "m.csv")


def run(manifest, folder, bundle, kind="keyframes", *, parts=4, extra=0, split=False, **options):
    choices = {name: options.pop(name) for name in ("clip_seconds", "letterbox", "cuts") if name in options}
    sizes = {"extra_rates": extra, "entries_per_part": parts, "split_long": split}
    index = make_index(manifest, Bundle(bundle), kind, **sizes, **choices)
    options = {"workers": 0, **options}  # in this process, where it can be watched
    return Encoding(manifest, folder, index, Bundle(bundle)).run(quiet=True, **options), index


def load(folder, index):
    sizes = {"frames": index.frames, "size": index.size, "factor": index.factor}
    return shards.load_videos([folder], index.kind, tokenizer_sha256=index.tokenizer_sha256, **sizes)


def test_rows_are_the_right_frames(videos, debug_bundle, tmp_path):
    lines = []
    (mine, refused), index = run(videos, tmp_path, debug_bundle, report=lines.append)
    data = load(tmp_path, index)
    assert mine == 12 and data.captions == [f"a circle {k}" for k in range(7)] + ["a red circle"]
    assert data.seconds == [2.0] * 7 + [1.0]  # 2.5 s give 5 frames at 2 a second; 3 to 4.125 s at 4
    assert len(set(data.sources[:7])) == 1 and data.sources[7] != data.sources[0]  # copies are one video
    with VideoReader(videos.folder / "late.mp4") as video:
        frames = video.frames_at([3.0, 3.25, 3.5, 3.75, 4.0], 32)
    ids = Bundle(debug_bundle).vqvae().encode(torch.from_numpy(frames).permute(0, 3, 1, 2))
    assert data.tokens.shape == (8, 5, 16) and torch.equal(data.tokens[7], ids.int())
    reasons = {entry["where"]: entry["reason"] for entry in refused}
    assert list(reasons) == ["m.csv:10", "m.csv:11", "m.csv:12", "m.csv:13"] and len(lines) == 4
    for reason, words in zip(
        reasons.values(), ("too short", "Invalid data", "No such file", "span holds 48"), strict=True
    ):
        assert words in reason


def test_a_run_goes_on_where_it_was_cut(videos, debug_bundle, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    _, index = run(videos, whole, debug_bundle)
    real = encode._write_part

    def write_one(path, *rest, **more):
        if path.name != "part-00000.safetensors":
            raise KeyboardInterrupt
        real(path, *rest, **more)

    monkeypatch.setattr(encode, "_write_part", write_one)
    with pytest.raises(KeyboardInterrupt):
        run(videos, cut, debug_bundle)
    assert [path.name for path in sorted(cut.glob("part-*"))] == ["part-00000.safetensors"]
    with pytest.raises(BundleError, match="lacks 2 of 3 parts; run cogstyle encode again"):
        load(cut, index)
    monkeypatch.setattr(encode, "_write_part", real)
    seen = []
    monkeypatch.setattr(encode.Encoder, "__call__", record(encode.Encoder.__call__, seen))
    (_, refused), _ = run(videos, cut, debug_bundle)
    assert seen == list(range(4, 12)) and len(refused) == 4
    assert_same(whole, cut)
    seen.clear()
    assert len(run(videos, cut, debug_bundle)[0][1]) == 4 and seen == []  # all done; refusals are remembered
    run(videos, cut, debug_bundle, retry=True)
    assert seen == list(range(8, 12))
    assert_same(whole, cut)


def record(real, seen):
    def call(self, numbered):
        seen.extend(number for number, _ in numbered)
        return real(self, numbered)

    return call


def assert_same(one, other):
    assert [p.name for p in sorted(one.glob("part-*"))] == [p.name for p in sorted(other.glob("part-*"))]
    for path in one.glob("part-*"):
        assert path.read_bytes() == (other / path.name).read_bytes()


def test_machines_share_the_work(videos, debug_bundle, tmp_path):
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    run(videos, whole, debug_bundle)
    (first, bad), index = run(videos, shared, debug_bundle, shard=(1, 2))
    assert first == 8 and len(bad) == 4 and read_contents(shared, index).parts == 2
    (second, bad), _ = run(videos, shared, debug_bundle, shard=(2, 2))
    assert second == 4 and not bad
    assert_same(whole, shared)
    assert run(videos, shared, debug_bundle, shard=(5, 9))[0] == (0, [])


def test_other_kinds(videos, debug_bundle, tmp_path):
    _, index = run(videos, tmp_path / "i", debug_bundle, "interpolation")
    data = load(tmp_path / "i", index)
    assert data.seconds == [1.0, 0.5] * 7 + [0.5] and data.tokens.shape == (15, 5, 16)  # of 8 frames a second
    _, index = run(videos, tmp_path / "p", debug_bundle, "image")
    data = load(tmp_path / "p", index)
    assert data.tokens.shape == (9, 1, 16) and set(data.seconds) == {0.0}  # a short video has a picture too
    _, index = run(videos, tmp_path / "k", debug_bundle, extra=1)
    assert load(tmp_path / "k", index).seconds == [2.0, 1.0] * 7 + [1.0, 0.5]
    with pytest.raises(ConfigError, match="unknown task 'song' to encode for; known are keyframes, "):
        make_index(videos, Bundle(debug_bundle), "song")


def test_settings_must_be_those_of_the_folder(videos, debug_bundle, tmp_path):
    run(videos, tmp_path, debug_bundle)
    for kind, extra, parts, message in (
        ("image", 0, 4, "have kind keyframes, this run image"),
        ("keyframes", 2, 4, "have extra_rates 0, this run 2"),
        ("keyframes", 0, 5, "have entries_per_part 4, this run 5"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(videos, tmp_path, debug_bundle, kind, extra=extra, parts=parts)
    changed = replace(videos, entries=[replace(videos.entries[0], caption="a dog"), *videos.entries[1:]])
    with pytest.raises(ConfigError, match="were made from another manifest"):
        run(changed, tmp_path, debug_bundle)
    lines = []
    run(changed, tmp_path, debug_bundle, retry=True, report=lines.append)
    assert len(lines) == 5 and "again" in lines[0] and "part-00000" in lines[0]  # the others are retries of refusals
    index = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({**index, "format": 2}))
    with pytest.raises(BundleError, match="are of format 2, this version writes and reads 4"):
        run(videos, tmp_path, debug_bundle)
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(FileError, match=r"cannot read .*index\.json"):
        run(videos, tmp_path, debug_bundle)


def test_what_changed_is_encoded_again(debug_bundle, tmp_path):
    """A video that was replaced, a line that was mended, lines that came: the other parts stay as they are."""
    for k in range(6):
        write_clock(tmp_path / f"{k}.mp4", [i / 8 for i in range(17)])
    table, folder, lines = tmp_path / "m.csv", tmp_path / "s", []
    rows = [f"{k}.mp4,a circle {k}" for k in range(6)]
    rows[5] = "5.mp4,"

    def encode_now(**options):
        table.write_text("\n".join(["video,caption", *rows]))
        lines.clear()
        before = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")}
        _, index = run(read_manifest(table), folder, debug_bundle, parts=2, report=lines.append, **options)
        after = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")}
        return [int(name[9]) for name in sorted(after) if after[name] != before.get(name)], load(folder, index)

    assert encode_now()[0] == [0, 1, 2] and encode_now()[0] == []
    old = (tmp_path / "0.mp4").stat()
    write_clock(tmp_path / "0.mp4", [i / 8 + 0.5 * (i > 8) for i in range(17)])
    os.utime(tmp_path / "0.mp4", ns=(old.st_atime_ns, old.st_mtime_ns + 1))
    assert encode_now()[0] == [0] and len(lines) == 1 and "part-00000" in lines[0] and "replaced" in lines[0]
    rows[5:] = ["5.mp4,a circle 5", "1.mp4,a circle 6"]
    with pytest.raises(ConfigError, match="--retry encodes what changed again"):
        encode_now()
    changed, data = encode_now(retry=True)
    assert changed == [2, 3] and data.captions == [f"a circle {k}" for k in range(7)]


def test_videos_that_no_row_can_show(debug_bundle, tmp_path):
    """60 s are refused, or three rows; what lies behind the last frame of a row is counted."""
    write_clock(tmp_path / "long.mp4", [k / 10 for k in range(600)], brightness=4)
    write_clock(tmp_path / "fits.mp4", [k / 10 for k in range(195)], brightness=4)
    (tmp_path / "m.csv").write_text(
        "video,caption,start,end\nlong.mp4,a circle,,\nfits.mp4,a ring,,\nlong.mp4,a star,50,\n"
    )
    manifest = read_manifest(tmp_path / "m.csv")
    (_, refused), index = run(manifest, tmp_path / "s", debug_bundle)
    assert [entry["where"] for entry in refused] == ["m.csv:2"]
    assert refused[0]["reason"].startswith("60.02 s are too long: 5 frames show 20 s at 0.25 a second")
    assert load(tmp_path / "s", index).seconds == [16.0, 8.0]
    assert read_contents(tmp_path / "s", index).left_out == pytest.approx({1: 0.0, 2: 0.0}, abs=0.05)
    (_, refused), index = run(manifest, tmp_path / "t", debug_bundle, split=True)
    rows = read_contents(tmp_path / "t", index).rows
    assert not refused and [row["start"] for row in rows] == pytest.approx([0, 20, 40, 0, 50], abs=0.05)
    card = write_card(tmp_path / "t", index, name="m", videos=tmp_path, vqvae=Bundle(debug_bundle).vqvae())
    assert sum(card.left_out.values()) < 0.1 and "5 stretches" in (tmp_path / "t" / "README.md").read_text()
    write_clock(tmp_path / "odd.mp4", [k / 8 for k in range(31)])
    (tmp_path / "m.csv").write_text("video,caption\nodd.mp4,a circle\n")
    _, index = run(read_manifest(tmp_path / "m.csv"), tmp_path / "u", debug_bundle)
    assert read_contents(tmp_path / "u", index).left_out == pytest.approx({0: 31 / 8 - 2.5}, abs=0.01)


def test_what_is_not_ours_stays(videos, debug_bundle, tmp_path):
    mine = {"README.md": "mine", "notes.txt": "mine"}
    for name, text in mine.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=r"holds other files \(README\.md, notes\.txt\)"):
        run(videos, tmp_path, debug_bundle)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == mine
    folder, vqvae = tmp_path / "s", Bundle(debug_bundle).vqvae()
    _, index = run(videos, folder, debug_bundle)
    write_card(folder, index, name="m", videos=videos.folder, vqvae=vqvae)
    write_card(folder, index, name="m", videos=videos.folder, vqvae=vqvae)  # its own it may write over
    for name in ("README.md", "clips.png"):
        ours = (folder / name).read_bytes()
        (folder / name).write_bytes(b"my words\n" + ours[9:])
        with pytest.raises(ConfigError, match=rf"{name} was not written by cogstyle encode, or was changed"):
            write_card(folder, index, name="m", videos=videos.folder, vqvae=vqvae)
        assert (folder / name).read_bytes().startswith(b"my words")
        (folder / name).write_bytes(ours)


HOLDER = """
import sys
from pathlib import Path
from cogstyle.data.folder import writing
with writing(Path(sys.argv[1]), range(int(sys.argv[2]), 9, 2)):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_part_has_one_writer(tmp_path):
    """Shares of a folder may be written side by side, but none twice; a killed writer holds nothing."""
    folder = tmp_path / "s"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder, "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    with writing(folder, range(1, 9, 2)):
        pass
    for parts in (range(0, 1), range(9)):
        with pytest.raises(FileError, match="another process is writing"), writing(folder, parts):
            pass
    process.kill()
    process.communicate()
    with writing(folder, range(9)):
        assert (folder / ".writers").exists()
    assert not list(folder.iterdir())


def test_names_that_are_not_utf8(debug_bundle, tmp_path):
    name = os.fsdecode(b"\xff\xe9.mp4")
    for k in (name, "b.mp4"):
        write_clock(tmp_path / "v" / k, [i / 8 for i in range(17)])
    (tmp_path / "v" / name).with_suffix(".txt").write_text("a circle")
    (tmp_path / "v" / "b.txt").write_bytes(b"\xff")
    manifest = read_manifest(tmp_path / "v")
    (_, refused), index = run(manifest, tmp_path / "s", debug_bundle)
    write_card(tmp_path / "s", index, name="v", videos=tmp_path / "v", vqvae=Bundle(debug_bundle).vqvae())
    assert [entry["video"] for entry in refused] == ["b.mp4"] and "is not UTF-8" in refused[0]["reason"]
    assert load(tmp_path / "s", index).captions == ["a circle"]


def test_parts_of_another_folder_are_refused(videos, debug_bundle, tmp_path):
    _, index = run(videos, tmp_path / "a", debug_bundle)
    run(replace(videos, entries=videos.entries[::-1]), tmp_path / "b", debug_bundle)
    (tmp_path / "b" / "part-00001.safetensors").replace(tmp_path / "a" / "part-00001.safetensors")
    with pytest.raises(BundleError, match=r"part-00001\.safetensors was encoded with other settings"):
        load(tmp_path / "a", index)


def test_a_part_without_rows_is_a_part(videos, debug_bundle, tmp_path):
    bad = replace(videos, entries=videos.entries[8:])
    (_, refused), index = run(bad, tmp_path, debug_bundle)
    assert len(refused) == 4 and load_file(tmp_path / "part-00000.safetensors")["seconds"].shape == (0,)
    with pytest.raises(BundleError, match="holds 0 rows, 1 are asked for"):
        load(tmp_path, index)
    contents = write_card(tmp_path, index, name="m.csv", videos=videos.folder, vqvae=Bundle(debug_bundle).vqvae())
    assert not contents.rows and not (tmp_path / "clips.png").exists()


def test_an_error_of_ours_costs_one_row(videos, debug_bundle, tmp_path, monkeypatch):
    real = VideoReader.frames_at

    def frames_at(self, times, size, **fit):
        if self.path.name == "3.mp4":
            raise ZeroDivisionError("strange")
        return real(self, times, size, **fit)

    monkeypatch.setattr(VideoReader, "frames_at", frames_at)
    (_, refused), index = run(videos, tmp_path, debug_bundle)
    assert refused[0]["video"] == "3.mp4" and refused[0]["reason"] == "ZeroDivisionError: strange"
    assert "a circle 3" not in load(tmp_path, index).captions


def test_index_says_what_is_there(videos, debug_bundle, tmp_path):
    _, index = run(videos, tmp_path, debug_bundle)
    assert json.loads((tmp_path / "index.json").read_text())["tokenizer_sha256"] == index.tokenizer_sha256
    assert shards.read_index(tmp_path) == index and index.parts == 3
    assert {path.name for path in tmp_path.iterdir()} == {
        "index.json",
        *(f"part-0000{k}.safetensors" for k in range(3)),
    }
    rows = read_contents(tmp_path, index).rows
    assert [row["entry"] for row in rows] == list(range(8)) and np.all([row["length"] > 1 for row in rows])


def test_a_place_that_cannot_be_written_is_named(videos, debug_bundle, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write to .*file"):
        run(videos, tmp_path / "file" / "s", debug_bundle)
