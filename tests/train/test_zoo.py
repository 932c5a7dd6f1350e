"""The zoo: everybody stays inside, what is held out is never shown or said, captions say what is shown."""

import csv
import importlib
import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageFont

import cogstyle
from cogstyle.sampling.options import Options

ZOO = Path(__file__).parents[2] / "train" / "zoo"
sys.path.insert(0, str(ZOO))
scenes, nouns, drawing, judge_networks = map(importlib.import_module, ("scenes", "nouns", "drawing", "judge_networks"))
sys.path.remove(str(ZOO))

PLAIN = [scenes.draw_scene(seed) for seed in range(400)]
HELD = [scenes.draw_scene(seed, held_out_pairs=True) for seed in range(60)]
needs_font = pytest.mark.skipif(not drawing.FONT.exists(), reason="no emoji font here")


def pairs(scene):
    return [(actor.noun, actor.action) for actor in scene.actors[: 1 if scene.together else 2]]


def test_a_twelfth_of_the_pairs_is_held_out_and_never_drawn():
    every = [(noun, action) for noun in nouns.NOUNS for action in (*scenes.SINGLE, *scenes.PAIRED)]
    assert len(nouns.NOUNS) > 60 and sum(scenes.held_out(*pair) for pair in every) == len(every) // 12
    assert not any(scenes.held_out(*pair) for scene in PLAIN for pair in pairs(scene))
    single = [scene for scene in HELD if not scene.together]
    assert single and all(scenes.held_out(*pairs(scene)[0]) for scene in single)
    assert scenes.draw_scene(5) == PLAIN[5] and {scene.background for scene in PLAIN} == set(scenes.BACKGROUNDS)


def test_everybody_stays_inside_and_a_path_is_half_the_canvas():
    for scene in PLAIN + HELD:
        for number, actor in enumerate(scene.actors):
            found = [scenes.state(scene, number, scene.duration * k / 16) for k in range(17)]
            for at in found:
                edge = at.half + scenes.MARGIN - 1e-9
                assert edge <= at.x <= 1 - edge and edge <= at.y <= 1 - edge, (scene, at)
            if actor.action == "move" and actor.direction == "right":
                assert found[-1].x - found[0].x == pytest.approx(0.5) and {at.faces for at in found} == {"right"}
            if actor.action == "return" and actor.direction == "left":
                assert (found[1].faces, found[-2].faces) == ("left", "right")


@pytest.mark.parametrize("language", [0, 1])
def test_a_fifth_of_the_phrasings_is_held_out(language):
    name, forms = ("en", scenes.ENGLISH) if language == 0 else ("zh", scenes.CHINESE)
    said, held = (scenes.phrasings(name, held_out=held) for held in (False, True))
    assert sorted(said + held) == list(range(len(forms))) and len(held) == len(forms) // 5
    texts = [scenes.captions(scene)[language] for scene in PLAIN]
    others = [scenes.captions(scene, held_out=True)[language] for scene in PLAIN]
    assert len(set(texts)) > 350 and all(
        text.strip() == text and "{" not in text and "  " not in text for text in texts
    )
    assert sum(a == b for a, b in zip(texts, others, strict=True)) < 20


def test_captions_name_nouns_places_and_speeds():
    for scene in PLAIN:
        english, chinese = scenes.captions(scene)
        for actor in scene.actors:
            noun = nouns.NOUNS[actor.noun]
            assert any(name in english for name in noun.english) and noun.chinese in chinese
        said = any(place in english for place in scenes.BACKGROUNDS[scene.background][0])
        assert said == scene.says_background == (scenes.BACKGROUNDS[scene.background][1] in chinese)
        assert (scene.speed == "slowly") == ("慢慢地" in chinese) == ("slowly" in english)


def run(*options):
    return subprocess.run(
        [sys.executable, ZOO / "make_videos.py", *map(str, options)], capture_output=True, text=True, cwd=ZOO.parents[1]
    )


@pytest.mark.slow
@needs_font
def test_videos_their_table_and_going_on(tmp_path):
    options = ("--count", 3, "--out", tmp_path / "zoo", "--size", 64, "--first-seed", 7)
    assert run(*options).returncode == 0
    with (tmp_path / "zoo" / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file_name"] for row in rows] == ["000007.mp4", "000008.mp4", "000009.mp4"]
    assert (rows[0]["caption"], rows[0]["caption_zh"]) == scenes.captions(scenes.draw_scene(7))
    truths = [json.loads(line) for line in (tmp_path / "zoo" / "scenes.jsonl").read_text("utf-8").splitlines()]
    for row, truth in zip(rows, truths, strict=True):
        with av.open(str(tmp_path / "zoo" / row["file_name"])) as container:
            assert float(container.streams.video[0].average_rate) == pytest.approx(32 / truth["duration"])
            assert len([*container.decode(video=0)]) == 33
    kept = (tmp_path / "zoo" / "000008.mp4").stat().st_mtime_ns
    (tmp_path / "zoo" / "000009.mp4").unlink()
    assert run(*options).returncode == 0
    assert (tmp_path / "zoo" / "000009.mp4").exists() and (tmp_path / "zoo" / "000008.mp4").stat().st_mtime_ns == kept


@needs_font
def test_pictures_of_as_many_scenes(tmp_path):
    options = ("--pictures", "--count", 2, "--out", tmp_path / "zoo", "--size", 64, "--first-seed", 8)
    assert run(*options).returncode == 0
    rows = list(csv.DictReader((tmp_path / "zoo" / "metadata.csv").read_text("utf-8").splitlines()))
    assert [row["file_name"] for row in rows] == ["000008.jpg", "000009.jpg"]
    scene = scenes.draw_scene(8)
    true = drawing.frames(scene, [0.0], 64, drawing.Font(drawing.FONT))[0]
    with Image.open(tmp_path / "zoo" / "000008.jpg") as picture:
        drawn = np.asarray(picture)
    assert np.abs(drawn.astype(int) - true).mean() < 4
    assert (rows[0]["caption"], rows[0]["caption_zh"]) == scenes.captions(scene)


@needs_font
def test_glyphs_face_the_way_they_are_told():
    font = drawing.Font(drawing.FONT)
    left, right = (font.glyph("elephant", way) for way in scenes.SIDES)
    assert np.array_equal(left, right[:, ::-1]) and not np.array_equal(left, right)
    assert np.array_equal(*(font.glyph("house", way) for way in scenes.SIDES))


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no font", "cannot use font"), (ImageFont.load_default(20).font_bytes, "has no colour glyphs for 65 of 65")],
)
def test_a_font_without_colours_is_refused(content, said, tmp_path):
    (tmp_path / "plain.ttf").write_bytes(content)
    found = run("--count", 1, "--out", tmp_path / "zoo", "--font", tmp_path / "plain.ttf")
    assert found.returncode == 2 and said in found.stderr and found.stderr.count("\n") == 1
    assert "plain.ttf" in found.stderr and "fonts-noto-color-emoji" in found.stderr and not (tmp_path / "zoo").exists()
    assert not (tmp_path / "zoo").exists()


def test_the_shipped_bundle_knows_its_grounds():
    """First frames of captions, read by the judge's networks: somebody is there, on the ground that was asked for."""
    pipe, eye = cogstyle.load("zoo"), judge_networks.load()
    grounds = ("on grass", "on the sea", "on sand", "on snow", "under a night sky")
    prompts = [f"a {noun} moves right {ground}" for ground in grounds for noun in ("panda", "rabbit")]
    drawn = pipe.sample(prompts, list(range(len(prompts))), Options(levels=0))
    found, shown = zip(*(eye.look(video.frames[:1]) for video in drawn), strict=True)
    assert sum(len(each[0]) > 0 for each in found) >= 7
    wanted = np.repeat([list(scenes.BACKGROUNDS).index(name) for name in ("meadow", "sea", "sand", "snow", "night")], 2)
    assert (np.stack(shown).argmax(1) == wanted).sum() >= 9
