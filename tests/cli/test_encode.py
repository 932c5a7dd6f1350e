"""`cogstyle encode`, and training on what it wrote: two commands from videos to weights, and every way to be wrong."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cogstyle.bundle import Bundle, update_bundle
from cogstyle.cli.encode import parse_limit
from cogstyle.cli.machines import parse_shard
from cogstyle.cli.main import main
from cogstyle.data import encode as encode_module
from cogstyle.data.shards import load_videos, read_index, split_validation
from cogstyle.errors import ConfigError
from cogstyle.files import read_tensors
from tests.conftest import debug_recipe
from tests.videos import write_clock


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    assert main(["world", "--count", "12", "--out", str(folder), "--size", "32"]) == 0
    return folder / "captions.csv"


@pytest.fixture(scope="module")
def encoded(world, debug_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    assert encode(world, folder, debug_bundle) == 0
    return folder


def encode(manifest, folder, bundle, *options):
    common = ["--to", str(folder), "--bundle", str(bundle), "--workers", "1", "--flip", "no", "--quiet"]
    return main(["encode", str(manifest), *common, *options])


def load(folder):
    index = read_index(folder)
    return load_videos(
        [folder], index.kind, frames=index.frames, size=index.size, tokenizer_sha256=index.tokenizer_sha256
    )


def recipe(folder: Path, task: str, bundle: Path, shards: str) -> Path:
    path = debug_recipe(folder, task, steps=3, bundle=bundle)
    path.write_text(path.read_text().replace("rows = 24", f"shards = {shards}", 1))
    return path


def test_own_videos_train_a_bundle(encoded, world, debug_bundle, tmp_path, capsys):
    data = load(encoded)
    with open(world, encoding="utf-8") as file:
        assert data.captions == [line.strip().split(",", 1)[1].strip('"') for line in list(file)[1:]]
    assert {"README.md", "clips.png", "index.json"} < {path.name for path in encoded.iterdir()}
    bundle = shutil.copytree(debug_bundle, tmp_path / "bundle")
    before = Bundle(bundle).hashes()
    path = recipe(tmp_path, "keyframes", bundle, f'["{encoded}"]')
    assert main(["train", str(path), "--runs", str(tmp_path / "runs"), "--quiet"]) == 0
    after = Bundle(bundle).hashes()
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"keyframes.safetensors"}
    assert not (tmp_path / "runs" / "data").exists()  # no scene of the shapes world was made
    ((trained, held_back),) = split_validation([data], 256)
    assert (len(trained), len(held_back)) == (11, 1) and not set(trained.sources) & set(held_back.sources)


def test_a_mix_takes_each_task_from_its_folder(encoded, world, debug_bundle, tmp_path, capsys):
    assert encode(world, tmp_path / "later", debug_bundle, "--for", "continuation", "--max-bad", "12") == 0
    path = recipe(tmp_path, "keyframes", tmp_path / "new", f'["{encoded}", "{tmp_path / "later"}"]')
    text = path.read_text().replace("batch = 4\n", "")
    path.write_text(
        f'base = "{debug_bundle}"\n{text}\n[mix]\ntokens = 240\ntasks = {{ keyframes = 1, continuation = 1 }}\n'
    )
    assert main(["train", str(path), "--runs", str(tmp_path / "runs"), "--quiet"]) == 0
    assert Bundle(tmp_path / "new").has("keyframes.safetensors")
    sample = ["sample", "a ring", "--adapter", str(tmp_path / "new"), "--out", str(tmp_path / "v.mp4"), "--quiet"]
    assert main([*sample, "--levels", "1"]) == 2 and not (tmp_path / "v.mp4").exists()
    assert "has no interpolation.safetensors; levels 0 does without" in capsys.readouterr().err
    assert main([*sample, "--levels", "0"]) == 0 and (tmp_path / "v.mp4").exists()


def test_train_says_what_is_wrong_with_shards(encoded, world, debug_bundle, tmp_path, capsys):
    def train(task, shards, bundle=debug_bundle):
        assert main(["train", str(recipe(tmp_path, task, bundle, shards)), "--runs", str(tmp_path / "runs")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    said = train("interpolation", f'"{encoded}"')
    assert f"no shards for interpolation: {encoded} is for keyframes; write some with cogstyle encode --for" in said
    assert "nothing holds no shards with an index.json; cogstyle encode writes them" in train("keyframes", '"nothing"')
    assert f"no shards for superres: {encoded} is for keyframes" in train("superres", f'"{encoded}"')
    assert "[data]: unknown key shards; known are rows" in train("keyframes", f'"{encoded}"\nrows = 5')
    assert "part-00000.safetensors was encoded by another tokenizer" in train(
        "keyframes", f'"{encoded}"', retokenized(debug_bundle, tmp_path)
    )
    one = tmp_path / "one.csv"
    one.write_text(f"video,caption\n{world.parent / '0000000.mp4'},a ring\n")
    assert encode(one, tmp_path / "one", debug_bundle) == 0
    capsys.readouterr()
    assert "1 rows of 1 videos leave none to check on" in train("keyframes", f'"{tmp_path / "one"}"')
    one.write_text("video,caption\nnone.mp4,a ring\n")
    assert encode(one, tmp_path / "empty", debug_bundle) == 1
    capsys.readouterr()
    assert "holds 0 rows, 1 are asked for" in train("keyframes", f'"{tmp_path / "empty"}"')


def retokenized(bundle: Path, folder: Path) -> Path:
    """A bundle whose image tokenizer is another file with the same sizes."""
    copy = shutil.copytree(bundle, folder / "retokenized")
    tensors = read_tensors(bundle / "tokenizer.safetensors")[0]
    moved = {name: value + 0.5 for name, value in tensors.items()}
    update_bundle(copy, {"tokenizer.safetensors": moved}, same_codes=True)
    return copy


@pytest.mark.slow
def test_bad_entries_are_reported_and_too_many_fail(world, debug_bundle, tmp_path, capsys):
    table = tmp_path / "m.csv"
    lines = [f"{world.parent / f'{k:07d}.mp4'},a circle,me" for k in range(9)]
    table.write_text("\n".join(["video,caption,author", *lines, "none.mp4,a ring,me"]))
    assert encode(table, tmp_path / "s", debug_bundle) == 0  # one of ten is not more than 10 %
    out, err = capsys.readouterr()
    assert f"{tmp_path / 's' / 'README.md'}: 9 rows, 1 refused" in out
    assert err.splitlines() == [
        "columns not used: author",
        f"refused m.csv:11 none.mp4: cannot read video {tmp_path / 'none.mp4'}: No such file or directory",
    ]
    assert encode(table, tmp_path / "s", debug_bundle, "--max-bad", "9.9%") == 1  # nothing to do, and still too many
    assert "1 of 10 entries refused, more than --max-bad 9.9%; the others are kept" in capsys.readouterr().err
    assert encode(table, tmp_path / "s", debug_bundle, "--max-bad", "1") == 0
    shutil.copy(world.parent / "0000003.mp4", tmp_path / "none.mp4")
    assert encode(table, tmp_path / "s", debug_bundle, "--retry", "--max-bad", "0") == 0
    assert len(load(tmp_path / "s")) == 10


@pytest.mark.slow
def test_a_decoder_that_crashes_takes_its_own_line_with_it(world, debug_bundle, tmp_path, capsys, monkeypatch):
    """One worker, few entries, and again at each retry: the process that decodes is never this one."""
    table = tmp_path / "m.csv"
    table.write_text(f"video,caption\n{world.parent / '0000000.mp4'},a ring\ndeadly.mp4,a star\n")
    (tmp_path / "deadly.mp4").touch()
    monkeypatch.setattr(encode_module, "Encoder", Deadly)
    for options in ([], ["--retry"], ["--retry"]):
        assert encode(table, tmp_path / "s", debug_bundle, "--max-bad", "1", *options) == 0
        assert "m.csv:3 deadly.mp4: decoding it ended the worker process" in capsys.readouterr().err
    assert load(tmp_path / "s").captions == ["a ring"]


class Deadly(encode_module.Encoder):
    def __call__(self, numbered):
        if any(entry.video == "deadly.mp4" for _, entry in numbered):
            os._exit(11)
        return super().__call__(numbered)


def test_two_at_once_and_folders_of_others(world, debug_bundle, tmp_path, capsys):
    (tmp_path / "README.md").write_text("mine")
    assert encode(world, tmp_path, debug_bundle) == 2
    assert "holds other files (README.md)" in capsys.readouterr().err
    (tmp_path / "README.md").rename(tmp_path / "file")
    assert encode(world, tmp_path / "file" / "s", debug_bundle) == 2
    assert "cannot write to" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert encode(world, tmp_path / "s", debug_bundle) == 0
    (tmp_path / "s" / "README.md").write_text("mine")
    assert encode(world, tmp_path / "s", debug_bundle) == 2
    assert "README.md was not written by cogstyle encode" in capsys.readouterr().err
    assert (tmp_path / "s" / "README.md").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard", "3/2"], "shard '3/2' must be i/n with i from 1 to n"),
        (["--max-bad", "some"], "max-bad 'some' must be a share such as 5% or a number such as 20"),
        (["--workers", "-1"], "workers -1 must be 0 or more"),
        (["--entries-per-part", "0"], "entries-per-part 0 must be 1 or more"),
        (["--for", "image", "--extra-rates", "1"], "extra-rates has no effect with --for image"),
        (["--for", "song"], "unknown task 'song'"),
    ],
)
def test_wrong_options_are_one_line(world, tmp_path, debug_bundle, capsys, options, message):
    assert encode(world, tmp_path / "s", debug_bundle, *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and not (tmp_path / "s").exists()


def test_shares_and_limits():
    assert parse_shard("2/8") == (2, 8) and parse_limit("5%", 200) == 10 and parse_limit("0", 200) == 0
    for text in ("1", "0/2", "a/b", "1/2/3", "-1/2"):
        with pytest.raises(ConfigError, match="must be i/n"):
            parse_shard(text)


@pytest.mark.slow
def test_killed_at_any_moment_no_row_is_lost_or_twice(debug_bundle, tmp_path):
    """kill -9 while two workers encode; their processes end too, and the next run does the rest."""
    for k in range(3):
        write_clock(tmp_path / f"{k}.mp4", [i / 8 for i in range(17)])
    table = tmp_path / "m.csv"
    table.write_text("\n".join(["video,caption", *(f"{k % 3}.mp4,a circle {k}" for k in range(48))]))
    folder = tmp_path / "s"
    command = [sys.executable, "-m", "cogstyle.cli.main", "encode", str(table), "--to", str(folder)]
    command += ["--bundle", str(debug_bundle), "--workers", "2", "--flip", "no", "--entries-per-part", "2", "--quiet"]
    process = subprocess.Popen(command, start_new_session=True)
    while not list(folder.glob("part-*.safetensors")):
        assert process.poll() is None
        time.sleep(0.01)
    children = descendants(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.safetensors")}
    assert 0 < len(done) < 24
    assert encode(table, folder, debug_bundle, "--entries-per-part", "2") == 0
    assert all((folder / name).stat().st_mtime_ns == when for name, when in done.items())
    assert load(folder).captions == [f"a circle {k}" for k in range(48)]
    assert not list(folder.glob("*.part"))
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in children):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.1)


def descendants(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    children = [int(child) for child in listed.read_text().split()] if listed.exists() else []
    return children + [inner for child in children for inner in descendants(child)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_tokenizers_alone_encode_and_give_the_same_tokens(world, encoded, debug_bundle, tmp_path):
    whole = Bundle(debug_bundle)
    tensors = read_tensors(whole.file("tokenizer.safetensors"))[0]
    update_bundle(tmp_path / "only", {"tokenizer.safetensors": tensors}, tokenizer=whole.tokenizer_config)
    assert encode(world, tmp_path / "shards", tmp_path / "only") == 0
    assert load(tmp_path / "shards").tokens.equal(load(encoded).tokens)


def test_further_captions_are_rows_of_the_same_tokens(world, encoded, debug_bundle, tmp_path, capsys):
    folder = shutil.copytree(world.parent, tmp_path / "world")
    with world.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file_name", "caption", "caption_zh"))
        writer.writerows((line["video"], line["caption"], f"图{n}") for n, line in enumerate(lines))
    assert encode(folder, tmp_path / "shards", debug_bundle) == 0
    assert "videos from file_name, captions from caption and caption_zh" in capsys.readouterr().err
    once, twice = load(encoded), load(tmp_path / "shards")
    assert twice.captions[::2] == once.captions and twice.captions[1::2] == [f"图{n}" for n in range(len(lines))]
    assert twice.tokens[::2].equal(once.tokens) and twice.tokens[1::2].equal(once.tokens)
    training, held = zip(*split_validation([twice], 8), strict=True)
    assert not set(training[0].sources) & set(held[0].sources)  # both texts of a video are held back, or neither


def test_caption_for_all(world, debug_bundle, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for path in sorted(world.parent.glob("*.mp4"))[:3]:
        shutil.copy(path, folder)
    assert encode(folder, tmp_path / "shards", debug_bundle) == 2
    assert encode(folder, tmp_path / "shards", debug_bundle, "--caption", "a shape") == 0
    assert load(tmp_path / "shards").captions == ["a shape"] * 3
