"""Scores of rows: measures see what they are for, columns come with encoding or later, old shards stay readable."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cogstyle.bundle import Bundle
from cogstyle.cli.main import main
from cogstyle.data import measures
from cogstyle.data.encode import Encoding, make_index
from cogstyle.data.manifest import read_manifest
from cogstyle.data.quality import Quality, duplicates, scores_of
from cogstyle.data.shards import load_videos, scores_path
from cogstyle.evaluation.opinions import ScriptScorer
from cogstyle.video import psnr
from tests.videos import write_frames

JUDGE = "def judge(frames, times, asked):\n    return {'right': 'circle' in asked['prompt'], 'five': len(times) == 5}\n"


def scene(first: int = 10, step: float = 2.0, size: int = 96) -> list[np.ndarray]:
    """17 frames of a textured square that moves right by `step` pixels a frame over a textured ground."""
    rng = np.random.default_rng(first)
    ground = cv2.resize(rng.integers(60, 200, (12, 12, 3)).astype(np.uint8), (size, size))
    square = cv2.resize(rng.integers(0, 255, (6, 6, 3)).astype(np.uint8), (28, 28), interpolation=cv2.INTER_NEAREST)
    found = []
    for k in range(17):
        frame, left = ground.copy(), first + round(step * k)
        frame[30:58, left : left + 28] = square
        found.append(frame)
    return found


def lettered(frames):
    found = [frame.copy() for frame in frames]
    for frame in found:
        cv2.putText(frame, "SAMPLE.ORG", (4, 88), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return found


def barred(frames):
    found = [frame.copy() for frame in frames]
    for frame in found:
        frame[:12] = frame[-12:] = 0
    return found


CLIPS = {
    "plain": scene(),
    "still": [scene(11)[0]] * 17,
    "soft": [cv2.GaussianBlur(frame, (0, 0), 3) for frame in scene(12)],
    "text": lettered(scene(13)),
    "bars": barred(scene(14)),
    "cut": [*scene(15)[:8], *(255 - frame for frame in scene(30)[8:])],
    "other": scene(24, 1.0),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A video of each of the clips, and a copy of the first, coded anew."""
    folder = tmp_path_factory.mktemp("videos")
    for name, frames in CLIPS.items():
        write_frames(folder / f"{name}.mp4", frames, options={"crf": "16"})
    write_frames(folder / "copy.mp4", CLIPS["plain"], options={"crf": "26"})
    names = [*CLIPS, "copy"]
    lines = ["video,caption", *(f"{name}.mp4,{'a circle' if name == 'other' else 'a ring'}" for name in names)]
    (folder / "m.csv").write_text("\n".join(lines))
    (folder / "judge.py").write_text(JUDGE)
    return folder


def encode(folder: Path, to: Path, bundle: Path, **choices):
    index = make_index(read_manifest(folder / "m.csv"), Bundle(bundle), "keyframes", entries_per_part=3, **choices)
    Encoding(read_manifest(folder / "m.csv"), to, index, Bundle(bundle)).run(quiet=True, workers=0)
    return index


def rows_of(to: Path, index, **options):
    sizes = {"frames": index.frames, "size": index.size, "tokenizer_sha256": index.tokenizer_sha256}
    return load_videos([to], index.kind, **sizes, **options)


def test_measures_see_what_they_are_for():
    found = {name: np.stack(frames) for name, frames in CLIPS.items()}
    sharp = {name: measures.sharpness(frames) for name, frames in found.items()}
    assert sharp["soft"] < 0.2 * sharp["plain"]
    speeds = {name: measures.flow(frames, 8.0) for name, frames in found.items()}
    assert speeds["still"] == 0 and abs(speeds["plain"] - 16 / 96) < 0.03 and abs(speeds["other"] - 8 / 96) < 0.03
    assert math.isnan(measures.flow(found["plain"][:1], 8.0))
    assert {name for name, frames in found.items() if measures.text_boxes(frames[::4])} == {"text"}
    assert measures.bars(found["bars"]) == pytest.approx(0.25) and measures.bars(found["plain"]) == 0
    dark = np.zeros((5, 64, 64, 3), np.uint8)
    dark[:, 20:40, 20:40] = 200  # a dark ground is no bar
    assert measures.bars(dark) == 0


def test_rows_are_scored_from_their_videos(folder, debug_bundle, tmp_path):
    index = encode(folder, tmp_path, debug_bundle, flip="all")
    before = rows_of(tmp_path, index, scored=True)
    assert "psnr" not in before.facts[0] and scores_of(tmp_path) == {}  # an index without columns is read as before
    quality = Quality(tmp_path, Bundle(debug_bundle), folder, {})
    assert quality.run(workers=0, quiet=True) == 16 and quality.run(workers=0, quiet=True) == 0
    data = rows_of(tmp_path, index, scored=True)
    assert torch.equal(data.tokens, before.tokens)
    names = [Path(facts["video"]).stem for facts in data.facts]
    best = {key: max(data.facts, key=lambda facts, key=key: facts[key])["video"] for key in ("text", "bars", "cuts")}
    assert best == {"text": "text.mp4", "bars": "bars.mp4", "cuts": "cut.mp4"}
    assert [facts["cuts"] for facts in data.facts] == [float(name == "cut") for name in names]
    assert all(facts["flow"] < 0.005 for facts, name in zip(data.facts, names, strict=True) if name == "still")
    scores = scores_of(tmp_path)
    assert scores["duplicates"].tolist() == [float(name == "copy") for name in names]  # mirrored rows are none
    assert scores["from_video"].tolist() == [1.0] * 16
    vqvae, tokens = Bundle(debug_bundle).vqvae(), data.tokens.long()
    for row, facts in enumerate(data.facts):  # of the mirrored row too
        small = [cv2.resize(f, (32, 32), interpolation=cv2.INTER_AREA) for f in CLIPS.get(names[row], CLIPS["plain"])]
        truth = np.stack(small)[::4][:, :, :: -1 if facts.get("flipped") else 1]
        wanted = psnr(vqvae.decode(tokens[row]).permute(0, 2, 3, 1).numpy(), truth)
        assert facts["psnr"] == pytest.approx(wanted, abs=0.3)


def test_scores_follow_their_rows(folder, debug_bundle, tmp_path, capsys):
    """Encoded again, a part is scored again; without its videos from its tokens; an opinion fills its column."""
    index = encode(folder, tmp_path, debug_bundle)
    options = ["--bundle", str(debug_bundle), "--workers", "1", "--quiet"]
    assert main(["encode", str(tmp_path), "--quality", "--judge", f"{folder / 'judge.py'}:judge", *options]) == 0
    assert "8 rows scored" in capsys.readouterr().out
    scores = scores_of(tmp_path)
    assert scores["from_video"].tolist() == [0.0] * 8 and not scores["psnr"].isfinite().any()
    assert scores["sharpness"].isfinite().all() and scores["read"].tolist() == [0.0] * 6 + [1.0, 0.0]
    Quality(tmp_path, Bundle(debug_bundle), folder, {}).run(workers=0, quiet=True)
    scores = scores_of(tmp_path)
    assert scores["psnr"].isfinite().all() and scores["read"][6] == 1.0  # what the judge said stays
    (tmp_path / "part-00001.safetensors").unlink()
    videos = read_manifest(folder / "m.csv")
    (folder / "cut.mp4").touch()
    Encoding(videos, tmp_path, index, Bundle(debug_bundle)).run(quiet=True, workers=0)
    facts = rows_of(tmp_path, index, scored=True).facts
    assert ["psnr" in one for one in facts] == [True] * 3 + [False] * 3 + [True] * 2  # the old scores are another's
    scores_path(tmp_path, 0).write_bytes(b"broken")
    assert main(["encode", str(tmp_path), "--quality", *options]) == 2
    assert "cannot read" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_network_gives_a_score(tmp_path):
    class Bright(torch.nn.Module):
        def forward(self, clips):
            return clips.mean((1, 2, 3, 4))[:, None]

    torch.jit.script(Bright()).save(str(tmp_path / "bright.pt"))
    (tmp_path / "bright.toml").write_text("frames = 2\nsize = 16\n")
    scorer = ScriptScorer(tmp_path / "bright.pt")
    assert scorer(np.full((5, 32, 32, 3), 51, np.uint8), [0, 1, 2, 3, 4], "") == pytest.approx(0.2)


def test_duplicates_are_found_among_many():
    """Copies within the allowed bits are found wherever they differ; two rows of one line are none."""
    rng = np.random.default_rng(0)
    looks = rng.integers(-(2**62), 2**62, (200, 4))
    looks[:, 3] &= 0xFFFFFF
    facts = [{"entry": row, "look": look.tolist()} for row, look in enumerate(looks)]
    for row in range(20):
        near = looks[row].copy()
        for bit in rng.choice(186, 8, replace=False):
            near[bit // 62] ^= 1 << int(bit % 62)
        facts.append({"entry": 300 + row, "look": near.tolist()})
    facts.append({"entry": 0, "look": looks[0].tolist()})
    assert np.flatnonzero(duplicates(facts)).tolist() == list(range(200, 220))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--judge", "shapes"], "--judge has no effect without --quality"),
        (["--quality", "--judge", "nobody"], "no judge 'nobody'"),
        (["--quality", "--scorer", "none.pt"], "no extractor none.pt"),
        (["--quality"], "missing --to: the folder of the shards"),
    ],
)
def test_wrong_calls_are_one_line(folder, options, message, capsys):
    assert main(["encode", str(folder / "m.csv"), *options]) == 2
    assert message in capsys.readouterr().err
