"""`cogstyle sample` as a user meets it."""

import json
import shutil
from pathlib import Path

import av
import pytest
from PIL import Image

import cogstyle
from cogstyle.cli.main import main
from cogstyle.sampling import outputs
from cogstyle.sampling.pipeline import Pipeline


@pytest.fixture
def run(debug_bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, bundle: Path = debug_bundle) -> tuple[int, str]:
        status = main(["sample", *arguments, "--adapter", str(bundle), "--quiet"])
        said = capsys.readouterr().err.splitlines(keepends=True)
        return status, "".join(line for line in said if "no training caption of bundle" not in line)

    return call


def frames_of(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize(("levels", "frames"), [(0, 5), (1, 9), (3, 33)])
def test_levels_and_rates(run, levels, frames):
    status, _ = run("a red circle", "--out", "v.mp4", "--levels", str(levels), "--frame-rate", "2", "--top-k", "5")
    assert status == 0 and frames_of(Path("v.mp4")) == frames
    info = json.loads(Path("v.mp4.json").read_text())
    assert info["fps"] == 2 * 2**levels and info["frames"] == frames and info["prompt"] == "a red circle"
    assert info["stages"]["keyframes"]["top_k"] == 5 and len(info["files"]["image.safetensors"]) == 64


def test_same_seed_same_file_other_seed_other_file(run):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert run("x", "--out", f"{name}.webp", "--levels", "0", "--seed", seed)[0] == 0
    a, b, c = (Path(f"{name}.webp").read_bytes() for name in "abc")
    assert a == b and a != c


def test_first_frame_is_kept(run, debug_bundle):
    assert run("x", "--out", "a", "--levels", "0")[0] == 0
    assert run("x", "--out", "b", "--levels", "0", "--seed", "9", "--first-frame", "a/0000.png")[0] == 0
    pipe = cogstyle.load(debug_bundle)
    tokens = pipe.encode_image("a/0000.png")
    kept = pipe.decode(tokens)[0]
    assert (kept == __import__("numpy").asarray(Image.open("b/0000.png"))).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["", "--out", "v.mp4"], "the prompt is empty"),
        (["x", "--out", "v.mp4", "--frame-rate", "3"], "frame_rate 3.0 must be one of 0.25, 0.5, 1, 2, 4, 8"),
        (["word " * 60, "--out", "v.mp4"], "the text span holds 48"),
        (["x", "--out", "v.avi"], "the suffix must be"),
        (["x", "--out", "v.mp4", "--levels", "4"], "levels 4 must be 0 to 3"),
        (["x", "--out", "v.mp4", "--first-frame", "no.png"], "cannot read image no.png"),
        (["x", "--out", "v.mp4", "--temperature", "0"], "temperature 0.0 must be 0.000001 to 10000"),
        (["x", "--out", "v.mp4", "--seed", "-1"], "seed -1 must be 0 or more"),
        (["x", "--out", "v.mp4", "--top-p", "0"], "top_p 0.0 must be above 0 and at most 1"),
        (["x", "--out", "v.mp4", "--top-p", "1.5"], "top_p 1.5 must be above 0 and at most 1"),
        (["x", "--out", "v.mp4", "--top-k", "0"], "top_k 0 must be 1 or more"),
        (["x", "--out", "v.mp4", "--clusters", "-1"], "clusters -1 must be 1 or more"),
        (["x", "--out", "v.mp4", "--guidance", "inf"], "guidance must be a number, not inf"),
        (["x", "--out", "v.mp4", "--guidance", "1e9"], "guidance 1000000000.0 must be 0 to 1000"),
        (["x", "--out", "v.mp4", "--temperature", "nan"], "temperature must be a number, not nan"),
        (["x", "--out", "v.mp4", "--frame-rate", "nan"], "frame_rate must be a number, not nan"),
        (["x", "--out", "v.mp4", "--level-rates", "4,8,inf"], "level rate inf must be one of"),
        (["x", "--out", "v.mp4", "--memory", "nan"], "memory nan must be positive"),
        (["x", "--out", "v.mp4", "--join"], "--join joins the new frames to the video of --continue"),
        (["x\udcff", "--out", "v.mp4"], "is not UTF-8"),
        (["x", "--out", ""], "--out is empty"),
        (["x", "--out", "."], "must name a file"),
        (["x", "--out", "http://localhost/v.mp4"], "it is an address"),
        (["x", "--out", "v" * 300 + ".mp4"], "has 304 bytes"),
        (["x", "--out", "/dev/null/v.mp4"], "/dev/null is not a folder"),
        (["x", "--out", "/proc/v.mp4"], "cannot write /proc/v.mp4"),
        (["x", "--out", "v.mp4", "--device", "nowhere"], "device 'nowhere' is not available"),
        (["x", "--out", "v.mp4", "--device", "meta"], "device 'meta' is not available"),
        (["--out", "v.mp4"], "give either a PROMPT or --prompts"),
        (["--prompts", "none.jsonl", "--out", "d"], "cannot read none.jsonl"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(run, arguments, message):
    status, error = run(*arguments)
    assert status == 2 and message in error and error.count("\n") == 1
    assert not list(Path().iterdir())


def test_upscale_and_tokens(run, debug_bundle):
    assert run("a red circle", "--out", "small", "--levels", "0", "--tokens")[0] == 0
    assert run("a red circle", "--out", "large", "--levels", "0", "--upscale", "--tokens", "--sheet")[0] == 0
    small, large = (Path(f"{name}.tokens.safetensors").read_bytes() for name in ("small", "large"))
    assert small == large  # the coarse tokens
    for name, side in (("small", 32), ("large", 96)):
        with Image.open(f"{name}/0004.png") as image:
            assert image.size == (side, side)
    info = json.loads(Path("large.json").read_text())
    assert info["options"]["upscale"] and "superres" in info["stages"] and info["seconds"]["superres"] > 0
    assert not json.loads(Path("small.json").read_text())["options"]["upscale"]


def test_upscale_without_its_adapter(run, debug_bundle, tmp_path):
    bare = shutil.copytree(debug_bundle, tmp_path / "bare")
    manifest = (bare / "bundle.toml").read_text().splitlines()
    (bare / "bundle.toml").write_text("\n".join(line for line in manifest if "superres.safetensors" not in line))
    status, error = run("x", "--out", "v.mp4", "--upscale", bundle=bare)
    assert status == 2 and error.count("\n") == 1 and "bare has no superres.safetensors" in error
    assert not Path("v.mp4").exists()


def test_prompts_file(run):
    lines = [
        {"prompt": "a red circle", "levels": 0},
        {"prompt": "一个红色圆形; rm -rf /", "out": "sub/b.gif", "levels": 0, "seed": 3},
        "not json",
        {"prompt": "x", "out": "../escape.mp4"},
        {"prompt": "x", "out": "/tmp/escape.mp4"},
        {"prompt": "x", "wrong": 1},
        {"prompt": "x", "seed": "1"},
        {"prompt": 5},
        {"prompt": "x", "out": "sub/b.gif"},
    ]
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    Path("p.jsonl").write_text(text)  # no newline at its end
    status, error = run("--prompts", "p.jsonl", "--out", "d")
    assert status == 1 and [line.split(":")[1].strip() for line in error.splitlines()] == [
        f"line {n}" for n in range(3, 10)
    ]
    made = sorted(str(p.relative_to("d")) for p in Path("d").rglob("*") if p.is_file())
    assert made == ["0001.mp4", "0001.mp4.json", "sub/b.gif", "sub/b.gif.json"]
    stamps = [Path("d", name).stat().st_mtime_ns for name in made]
    Path("d/sub/b.gif.json").rename("d/sub/b.gif.part")  # as if stopped before the last write
    run("--prompts", "p.jsonl", "--out", "d")
    after = [Path("d", name).stat().st_mtime_ns for name in made]
    assert after[:2] == stamps[:2] and after[2] != stamps[2]


def test_lines_of_equal_options_are_sampled_side_by_side(run, monkeypatch):
    """As many as the memory holds; the videos are the same one by one."""
    sizes = []
    plain = Pipeline.sample
    monkeypatch.setattr(Pipeline, "sample", lambda self, *a, **k: (sizes.append(len(a[0])), plain(self, *a, **k))[1])
    lines = [
        {"prompt": f"a {colour} circle", "levels": 1, "seed": n} for n, colour in enumerate(("red", "blue", "green"))
    ]
    lines.insert(1, {"prompt": "a red circle", "levels": 0, "first_frame": "none.png"})
    Path("p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for folder, memory in (("wide", "1"), ("narrow", "0.000001")):
        status, error = run("--prompts", "p.jsonl", "--out", folder, "--memory", memory)
        assert status == 1 and error.startswith("cogstyle: line 2: cannot read image") and error.count("\n") == 1
    assert sizes == [3, 1, 1, 1]  # the line without its image is not begun
    for name in ("0001.mp4", "0003.mp4", "0004.mp4"):
        assert Path("wide", name).read_bytes() == Path("narrow", name).read_bytes()
    assert run("--prompts", "p.jsonl", "--out", "x", "--memory", "0")[0] == 2


def test_python_side(debug_bundle, tmp_path):
    pipe = cogstyle.load(debug_bundle)
    video = pipe("a red circle moves right", frame_rate=2, seed=0, levels=1)
    assert video.frames.shape == (9, 32, 32, 3) and video.frames.dtype == "uint8" and video.fps == 4
    both = pipe(["a red circle moves right", "一个蓝色正方形"], frame_rate=2, seed=0, levels=1)
    assert (both[0].frames == video.frames).all()
    options = cogstyle.Options(frame_rate=2, levels=1)
    keys = pipe.keyframes(["a red circle moves right"], [0], options)
    fine = pipe.interpolate(keys, ["a red circle moves right"], [0], options)
    assert (pipe.decode(fine[0]) == video.frames).all()
    with pytest.raises(cogstyle.CogstyleError, match="exclude each other"):
        pipe("x", top_k=3, top_p=0.5)


@pytest.mark.parametrize("parts", [1, 3, 6])
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(run, monkeypatch, parts):
    arguments = ["a red circle", "--levels", "2", "--seed", "3", "--top-k", "5"]
    assert run(*arguments, "--out", "whole.webp")[0] == 0
    written, plain = [], cogstyle.sampling.partial_video.write_part

    def stop(*values):
        plain(*values)
        written.append(values)
        if len(written) == parts:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cogstyle.sampling.partial_video.write_part", stop)
        status, error = run(*arguments, "--out", "v.webp")
    assert status == 130 and "finished work is kept" in error
    assert Path("v.webp.part").exists() and not Path("v.webp").exists()
    for other, message in ((["--seed", "4"], "another prompt, options or weights"), (["--levels", "1"], "another")):
        status, error = run(*arguments, *other, "--out", "v.webp", "--resume")
        assert status == 2 and message in error
    monkeypatch.setattr("cogstyle.sampling.partial_video.write_part", lambda *values: written.append(values))
    assert run(*arguments, "--out", "v.webp", "--resume")[0] == 0
    assert len(written) == 7  # a first frame, 4 keyframes, 2 levels: none drawn twice
    assert Path("v.webp").read_bytes() == Path("whole.webp").read_bytes()
    assert not Path("v.webp.part").exists()


def test_a_damaged_part_is_refused(run):
    Path("v.webp.part").write_bytes(b"no part")
    status, error = run("x", "--out", "v.webp", "--levels", "0", "--resume")
    assert status == 2 and "cannot read v.webp.part" in error
    assert run("x", "--out", "v.webp", "--levels", "0")[0] == 0  # without --resume it is begun anew


def test_preview_grows(run, monkeypatch):
    sizes = []
    plain = outputs.write_png

    def note(path, picture):
        plain(path, picture)
        if str(path).endswith(".preview.png"):
            with Image.open(path) as image:
                sizes.append(image.size[0] * image.size[1])

    monkeypatch.setattr(outputs, "write_png", note)
    assert run("x", "--out", "v.webp", "--levels", "1", "--preview")[0] == 0
    assert len(sizes) == 6 and sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_processes_share_the_lines(run, monkeypatch):
    Path("p.jsonl").write_text("\n".join(json.dumps({"prompt": f"{n}", "levels": 0}) for n in range(5)))
    made = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert run("--prompts", "p.jsonl", "--out", "d")[0] == 0
        made.append({path.name for path in Path("d").glob("*.mp4")})
        run("x", "--out", f"{rank}.webp", "--levels", "0")
    assert made[0] == {"0002.mp4", "0004.mp4"} and len(made[1]) == 5
    assert [Path(f"{rank}.webp").exists() for rank in (0, 1)] == [True, False]  # one video, one process


def test_level_rates(run):
    options = ["x", "--levels", "2", "--frame-rate", "2", "--seed", "1"]
    for name, more in (("a", []), ("b", ["--level-rates", "4,8"]), ("c", ["--level-rates", "4,16"])):
        assert run(*options, *more, "--out", name + ".webp")[0] == 0
    a, b, c = (Path(f"{name}.webp").read_bytes() for name in "abc")
    assert a == b != c
    for wrong, message in (("4", "one a level, 2 in number"), ("4,5", "level rate 5.0 must be one of 0.25")):
        status, error = run(*options, "--level-rates", wrong, "--out", "d.webp")
        assert status == 2 and message in error


@pytest.mark.parametrize("dtype", ["int8", "float16", "bfloat16"])
def test_smaller_numbers(run, dtype):
    assert run("x", "--out", "v.webp", "--levels", "1", "--dtype", dtype)[0] == 0
    assert frames_of_webp(Path("v.webp")) == 9


def frames_of_webp(path: Path) -> int:
    with Image.open(path) as image:
        return image.n_frames
