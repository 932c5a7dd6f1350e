"""`cogstyle sample --prompts`: JSON Lines as they are, each line on its own, and what is there already."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cogstyle.errors import SamplingError
from cogstyle.sampling.pipeline import Pipeline
from tests.cli.test_sample import run  # noqa: F401  (a fixture)


def write(*lines: object, name: str = "p.jsonl") -> None:
    """A prompts file; bytes and texts go in as they are."""
    raw = [line if isinstance(line, bytes) else json.dumps({"levels": 0} | line).encode() for line in lines]
    Path(name).write_bytes(b"\n".join(raw))


def picture(path: str, grey: int) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((32, 32, 3), grey, np.uint8)).save(path)


def test_json_lines_as_they_are(run):  # noqa: F811
    picture("in/grey.png", 90)
    lines = [
        b'\xef\xbb\xbf{"prompt": "a red circle", "levels": 0, "seed": null, "first_frame": null, "out": null}\r',
        '{"prompt": "a \u2028 red \x85 circle", "levels": 0.0, "seed": 2.0}\r'.encode(),
        b"\r",
        b'{"prompt": "a star", "levels": 0, "first_frame": "grey.png"}\r',
    ]
    write(*lines, name="in/p.jsonl")
    status, error = run("--prompts", "in/p.jsonl", "--out", "d", "--seed", "7")
    assert (status, error) == (0, "")
    infos = {path.name: json.loads(path.read_text()) for path in Path("d").glob("*.json")}
    assert sorted(infos) == ["0001.mp4.json", "0002.mp4.json", "0004.mp4.json"]
    assert infos["0001.mp4.json"]["options"]["seed"] == 7 and infos["0002.mp4.json"]["options"]["seed"] == 2
    assert infos["0002.mp4.json"]["prompt"] == "a \u2028 red \x85 circle"
    assert infos["0004.mp4.json"]["given"] == {"first_frame": "in/grey.png"}
    assert infos["0001.mp4.json"]["dtype"] == "float32" and infos["0001.mp4.json"]["version"] == "0.1.0"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"prompt": "a \xff"}', "byte 15 (0xff) is not UTF-8"),
        (b'{"prompt": "x", "guidance": NaN}', "NaN is no number"),
        (b'{"prompt": "x", "guidance": 1e999}', "guidance must be a number, not inf"),
        (b'{"prompt": "x", "prompt": "y"}', "key 'prompt' is there twice"),
        (b'{"prompt": "\\ud800"}', "prompt is not UTF-8"),
        (b'{"prompt": null}', "missing key prompt"),
        (b'{"prompt": ["x"]}', "prompt must be a text, not ['x']"),
        (b'{"prompt": "x", "seed": true}', "seed must be a number, not True"),
        (b'{"prompt": "x", "seed": 1.5}', "seed must be a whole number, not 1.5"),
        (b'{"prompt": "x", "levels": "1"}', "levels must be a number, not '1'"),
        (b'{"prompt": "x", "first_frame": 3}', "first_frame must be a text, not 3"),
        (b'{"prompt": "x", "first_frame": "p.jsonl"}', "cannot read image p.jsonl"),
        (b'{"prompt": "x", "first_frame": "."}', "cannot read image ."),
        (b'{"prompt": "x", "out": 3}', "out must be a text, not 3"),
        (b'{"prompt": "x", "out": ""}', "must name a place inside"),
        (b'{"prompt": "x", "out": "."}', "must name a place inside"),
        (b'{"prompt": "x", "out": ".."}', "must name a place inside"),
        (b'{"prompt": "x", "out": "sub"}', "two lines cannot write d/sub and d/sub/good.webp (line 1)"),
        (b'{"prompt": "x", "out": "sub/good.webp/v.mp4"}', "line 1 writes d/sub/good.webp too"),
        (b'{"prompt": "x", "out": "http://127.0.0.1/v.mp4"}', "it is an address"),
        (b'{"prompt": "x", "out": "v\\u0000.mp4"}', "null"),
        (json.dumps({"prompt": "x", "out": "v" * 300}).encode(), "has 300 bytes"),
    ],
)
def test_a_bad_line_fails_alone(run, line, message):  # noqa: F811
    write({"prompt": "a", "out": "sub/good.webp"}, line)
    status, error = run("--prompts", "p.jsonl", "--out", "d")
    assert status == 1 and error.startswith("cogstyle: line 2: ") and message in error and error.count("\n") == 1
    assert sorted(str(path) for path in Path("d").rglob("*") if path.is_file()) == [
        "d/sub/good.webp",
        "d/sub/good.webp.json",
    ]


def test_a_negative_prompt_is_of_a_line_or_of_all(run):  # noqa: F811
    write({"prompt": "a", "guidance": 3}, {"prompt": "a", "guidance": 3, "negative_prompt": "b"}, {"prompt": "a"})
    status, error = run("--prompts", "p.jsonl", "--out", "d", "--negative-prompt", "c", "--guidance", "1")
    assert status == 1 and error.startswith("cogstyle: line 3: negative_prompt has no effect without guidance")
    said = [json.loads(Path(f"d/000{k}.mp4.json").read_text())["options"]["negative_prompt"] for k in (1, 2)]
    assert said == ["c", "b"]


def test_an_empty_output_folder_is_refused(run):  # noqa: F811
    write({"prompt": "a"})
    status, error = run("--prompts", "p.jsonl", "--out", "")
    assert status == 2 and error.count("\n") == 1 and [path.name for path in Path().iterdir()] == ["p.jsonl"]


def test_what_fails_while_it_is_sampled_fails_alone(run, monkeypatch):  # noqa: F811
    plain = Pipeline.sample

    def sample(self, prompts, *rest, **given):
        if "bad" in prompts:
            raise SamplingError("keyframes: logits are not finite")
        return plain(self, prompts, *rest, **given)

    monkeypatch.setattr(Pipeline, "sample", sample)
    write({"prompt": "a"}, {"prompt": "bad"}, {"prompt": "c"})
    status, error = run("--prompts", "p.jsonl", "--out", "d")
    assert status == 1 and error == "cogstyle: line 2: keyframes: logits are not finite\n"
    assert sorted(path.name for path in Path("d").glob("*.mp4")) == ["0001.mp4", "0003.mp4"]


def test_what_is_there_is_kept_only_if_it_is_the_same(run, debug_bundle, tmp_path):  # noqa: F811
    bundle = shutil.copytree(debug_bundle, tmp_path / "bundle")
    picture("first.png", 90)
    lines = [{"prompt": "a", "out": "a.webp"}, {"prompt": "b", "out": "b.webp"}]
    lines.append({"prompt": "c", "out": "c.webp", "first_frame": "first.png"})

    def again(*options: str) -> dict[str, list[str]]:
        """Files that were made again, and what is said to have changed."""
        write(*lines)
        before = {path.name: path.stat().st_mtime_ns for path in Path("d").glob("*.webp")}
        status, error = run("--prompts", "p.jsonl", "--out", "d", *options, bundle=bundle)
        after = {path.name: path.stat().st_mtime_ns for path in Path("d").glob("*.webp")}
        assert status == 0 and len(after) == 3
        said = [line.removeprefix("cogstyle: note: d/") for line in error.splitlines()]
        assert sorted(line.split()[0] for line in said) == sorted(n for n in before if before[n] != after[n])
        return {line.split()[0]: line.split(": ")[1].removesuffix(" changed").split(", ") for line in said}

    assert again() == {} and again() == {}
    lines[0]["prompt"] = "a red circle"
    assert again() == {"a.webp": ["prompt", "text_ids"]}
    lines.reverse()
    assert again() == {}
    lines[1]["seed"] = 5
    assert again() == {"b.webp": ["options"]}
    picture("first.png", 91)
    assert again() == {"c.webp": ["given_sha256"]}
    assert again("--sheet") == {f"{name}.webp": ["FILE.png"] for name in "abc"}
    assert again("--dtype", "float16")["a.webp"] == ["dtype"]
    with (bundle / "bundle.toml").open("a") as file:
        file.write("\n[sampling.image]\ntemperature = 0.5\n")
    assert again("--dtype", "float16")["b.webp"] == ["stages"]


def test_what_is_not_ours_stays(run):  # noqa: F811
    for name in ("a.mp4", "b.json", "c.webp.png", "d/holiday.jpg"):
        Path("v", name).parent.mkdir(parents=True, exist_ok=True)
        Path("v", name).write_text("mine")
    write(*({"prompt": "x", "out": name} for name in ("a.mp4", "b", "c.webp", "d", "e.webp")))
    status, error = run("--prompts", "p.jsonl", "--out", "v", "--sheet")
    assert status == 1 and [line.split(":")[1] for line in error.splitlines()] == [f" line {n}" for n in (1, 2, 3, 4)]
    assert all(Path("v", name).read_text() == "mine" for name in ("a.mp4", "b.json", "c.webp.png", "d/holiday.jpg"))
    made = sorted(path.name for path in Path("v").iterdir())
    assert made == ["a.mp4", "b.json", "c.webp.png", "d", "e.webp", "e.webp.json", "e.webp.png"]
    assert run("x", "--out", "v/e.webp", "--levels", "0", "--sheet")[0] == 0  # which is ours
    status, error = run("x", "--out", "v/e.webp", "--levels", "0", "--continue", "v/e.webp")
    assert status == 2 and "v/e.webp is read and would be written" in error


@pytest.mark.parametrize("changed", ["picture", "table"])
def test_resume_looks_at_contents(run, debug_bundle, tmp_path, monkeypatch, changed):  # noqa: F811
    bundle = shutil.copytree(debug_bundle, tmp_path / "bundle")
    picture("first.png", 90)
    arguments = ["x", "--levels", "0", "--first-frame", "first.png", "--out", "v.webp", "--resume"]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cogstyle.sampling.outputs.write_video", stop)
        assert run(*arguments, bundle=bundle)[0] == 130
    if changed == "picture":
        picture("first.png", 91)
    else:
        with (bundle / "bundle.toml").open("a") as file:
            file.write("\n[sampling.image]\ntemperature = 0.5\n")
    status, error = run(*arguments, bundle=bundle)
    assert status == 2 and "was begun with another prompt, options or weights" in error
