"""Videos made from Python as the command line makes them: requests of tokens, batches, parts, errors one by one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cogstyle
from cogstyle.cli.main import main
from cogstyle.errors import BundleError, ConfigError, MediaError, PromptError
from cogstyle.sampling.batch import batches, make_videos, prepare, read_prompts
from cogstyle.sampling.outputs import SHEET, Output, read_sidecar
from cogstyle.sampling.partial_video import PartialVideo
from cogstyle.sampling.request import Request, begin, from_values, identify
from cogstyle.sampling.token_file import SUFFIX, read_tokens


@pytest.fixture(scope="module")
def pipe(debug_bundle):
    return cogstyle.load(debug_bundle)


@pytest.fixture
def picture(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save("a.png")
    return "a.png"


def ready(pipe, output: Output, *, resume: bool = False, **values) -> Request:
    return prepare(pipe, identify(pipe, from_values(values)), output, resume=resume)


def test_python_makes_what_the_command_line_makes(pipe, debug_bundle, picture):
    command = f"x --out c.webp --levels 1 --seed 3 --first-frame {picture} --sheet --tokens --quiet".split()
    assert main(["sample", *command, "--bundle", str(debug_bundle)]) == 0
    output = Output(Path("p.webp"), (SHEET, SUFFIX))
    request = ready(pipe, output, prompt="x", levels=1, seed=3, first_frame=picture, guidance=None)
    assert isinstance(request.start, PartialVideo) and request.given == {"first_frame": picture}
    assert make_videos(pipe, [request], [output]) == [None]
    for suffix in ("", SHEET):
        assert Path(f"p.webp{suffix}").read_bytes() == Path(f"c.webp{suffix}").read_bytes()
    ours, theirs = (read_sidecar(Path(name)) for name in ("p.webp", "c.webp"))
    assert {**ours, "seconds": 0} == {**theirs, "seconds": 0} and not output.part.exists()


def test_tokens_that_are_given_are_part_of_what_a_video_is(pipe):
    tokens = torch.zeros(1, 1, 16, dtype=torch.long)
    asked = [Request("x", start=start) for start in (None, PartialVideo(tokens), PartialVideo(tokens + 1))]
    assert len({identify(pipe, request).mark for request in asked}) == 3
    assert begin(pipe, identify(pipe, asked[1])).known == 1


def test_a_stopped_batch_goes_on_from_its_parts(pipe, tmp_path):
    outputs = [Output(tmp_path / f"{name}.webp", (SUFFIX,)) for name in "ab"]

    def requests(resume: bool) -> list[Request]:
        return [ready(pipe, one, resume=resume, prompt="x", seed=k, levels=1) for k, one in enumerate(outputs)]

    def tokens() -> list[torch.Tensor]:
        return [read_tokens(Path(f"{one.path}{SUFFIX}"), pipe.bundle).tokens_FL for one in outputs]

    assert make_videos(pipe, requests(False), outputs) == [None, None]
    shown, whole = [], tokens()

    def stop(output: Output, part: PartialVideo) -> None:
        shown.append((output.path.name, part.tokens_BFL.shape[:2]))
        if len(shown) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_videos(pipe, requests(False), outputs, on_part=stop)
    assert shown == [("a.webp", (1, 1)), ("b.webp", (1, 1)), ("a.webp", (1, 2)), ("b.webp", (1, 2))]
    going_on = requests(True)
    assert [one.start.tokens_BFL.shape[1] for one in going_on] == [2, 2] and [*batches(pipe, going_on, 1e9)] == [[0, 1]]
    assert make_videos(pipe, going_on, outputs) == [None, None]
    assert all(torch.equal(*pair) for pair in zip(whole, tokens(), strict=True))


def test_a_part_of_another_request_is_refused(pipe, tmp_path):
    output = Output(tmp_path / "v.webp")
    with pytest.raises(KeyboardInterrupt):
        make_videos(pipe, [ready(pipe, output, prompt="x", levels=0)], [output], on_part=_interrupt)
    with pytest.raises(BundleError, match="another prompt"):
        ready(pipe, output, resume=True, prompt="y", levels=0)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_each_video_of_a_failed_batch_says_why(pipe, tmp_path):
    outputs = [Output(tmp_path / f"{k}.webp") for k in range(3)]
    requests = [ready(pipe, one, prompt="x", levels=0) for one in outputs]
    requests[1] = replace(requests[1], prompt=" ")
    first, second, third = make_videos(pipe, requests, outputs)
    assert first is third is None and isinstance(second, PromptError)
    assert [one.path.exists() for one in outputs] == [True, False, True]


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        ({"seed": 1}, ConfigError, "missing key prompt"),
        ({"prompt": "x", "speed": 1}, ConfigError, "unknown key speed"),
        ({"prompt": "x", "levels": 9}, ConfigError, "levels 9 must be 0 to 3"),
        ({"prompt": " "}, PromptError, "the prompt is empty"),
        ({"prompt": 3}, ConfigError, "prompt must be a text"),
        ({"prompt": "x", "first_frame": "none.png"}, MediaError, "cannot read image none.png"),
        ({"prompt": "x", "images": ["a.png", "none.png"]}, MediaError, "cannot read image none.png"),
        ({"prompt": "x", "images": "a.png"}, ConfigError, "images must be a list of files"),
        ({"prompt": "x", "first_frame": "a.png", "images": ["a.png", "a.png"]}, ConfigError, "exclude each other"),
    ],
)
def test_what_is_wrong_with_values_is_said_before_sampling(pipe, picture, values, error, says):
    with pytest.raises(error, match=says):
        ready(pipe, Output(Path("v.webp")), **values)


def test_a_prompts_file_from_python(pipe, tmp_path):
    file, folder = tmp_path / "p.jsonl", Output(tmp_path / "d")
    lines = [
        {"prompt": "a", "seed": 5},
        {"prompt": ""},
        {"prompt": "b", "levels": 1},
        {"prompt": "c", "out": "0001.mp4"},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    found = read_prompts(pipe, file, folder, {"levels": 0})
    assert [(one.options.seed, one.options.levels) for one in found.requests] == [(5, 0), (0, 1)]
    assert (
        found.numbers == [1, 3] and [*found.failures] == [2, 4] and [*batches(pipe, found.requests, 1e9)] == [[0], [1]]
    )
    assert make_videos(pipe, found.requests[:1], found.outputs[:1]) == [None]
    again = read_prompts(pipe, file, folder, {"levels": 0})
    assert again.kept == 1 and again.numbers == [3]
