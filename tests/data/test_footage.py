"""Pictures to train a tokenizer on, from anybody's files."""

import numpy as np
import pytest

from cogstyle.data.footage import CLIP, Footage, Squares, cut
from cogstyle.errors import ConfigError
from cogstyle.pictures import write_png
from cogstyle.video import Video

SIZE = 32


def picture(number, height=80, width=80):
    """A picture of its own: noise that no other number gives, in a colour that says the number."""
    coarse = np.random.default_rng(number).integers(0, 200, (8, 8, 3), np.uint8)
    coarse[..., 2] = number
    return coarse.repeat(-(-height // 8), 0).repeat(-(-width // 8), 1)[:height, :width]


def numbers(pictures):
    return set(np.unique(pictures[..., 2]).tolist())


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "pictures"
    place.mkdir()
    for number in range(20):
        write_png(place / f"{number}.png", picture(number))
    return place


def footage(*sources, cache, **options):
    return Footage(sources, size=SIZE, cache=cache, quiet=True, **options)


def test_draws_are_a_function_of_seed_and_step_and_never_of_what_is_held_back(folder, tmp_path):
    here, again = (footage(folder, cache=tmp_path / name) for name in ("one", "two"))
    drawn = [pictures.draw(np.random.default_rng([0, 3]), 40) for pictures in (here, again)]
    assert drawn[0].shape == (40, SIZE, SIZE, 3) and drawn[0].dtype == np.uint8 and np.array_equal(*drawn)
    other = here.draw(np.random.default_rng([0, 4]), 40)
    assert not np.array_equal(drawn[0], other)
    training = numbers(np.concatenate([here.draw(np.random.default_rng(n), 40) for n in range(9)]))
    held = numbers(here.draw(np.random.default_rng(0), 40, held_back=True))
    assert len(held) == 2 and not training & held and training | held == set(range(20))
    assert numbers(here.whole(9)) == held


def test_one_picture_in_many_sizes_is_held_back_as_one(folder, tmp_path):
    held = numbers(footage(folder, cache=tmp_path).draw(np.random.default_rng(0), 40, held_back=True))
    for number in held:
        for name, scale in (("a", 2), ("z", 3)):
            write_png(folder / f"{name}{number}.png", picture(number).repeat(scale, 0).repeat(scale, 1))
    source = Squares(folder, size=SIZE, cache=tmp_path)
    for number in held:
        copies = {
            held
            for item, held in zip(source.items, source.held, strict=True)
            if item["name"].strip("az") == f"{number}.png"
        }
        assert len(copies) == 1


def test_crops_keep_what_is_where_and_zoom_in(tmp_path):
    wide = np.zeros((64, 160, 3), np.uint8)
    wide[:, :, 0] = np.arange(160)
    left, _, right = squares = cut(wide.repeat(2, 1).repeat(2, 0), SIZE)
    assert [square.shape for square in squares] == [(96, 96, 3)] * 3
    assert left[0, 0, 0] <= 1 and right[0, -1, 0] >= 158
    assert cut(wide.swapaxes(0, 1), SIZE)[-1][-1, 0, 0] >= 158
    assert cut(wide[: SIZE - 1], SIZE) == []


def test_videos_give_clips_and_all_sources_their_share(folder, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(3):
        frames = np.stack([picture(200 + 9 * number + moment) for moment in range(9)])
        Video(frames, 4.0).save(videos / f"{number}.mp4")
    found = footage(folder, videos, cache=tmp_path / "cache", shares=(1.0, 3.0))
    bright = found.draw(np.random.default_rng(0), 400)[..., 2].mean((1, 2)) > 100
    assert 0.7 < bright.mean() < 0.8
    clips = found.clips(4)
    assert clips.shape == (1, CLIP, SIZE, SIZE, 3)
    assert np.all(np.diff(clips[0, ..., 2].mean((1, 2))) > 0.5)  # frames of a clip follow each other
    assert footage(folder, cache=tmp_path / "cache").clips(4).shape == (0, CLIP, SIZE, SIZE, 3)


def test_manifests_name_footage_too(folder, tmp_path):
    rows = "\n".join(f"pictures/{number}.png,," for number in range(5))  # captions are not needed
    (tmp_path / "list.csv").write_text(f"file_name,text,end\n{rows}\nnowhere.png,,\n")
    said = []
    found = Footage([tmp_path / "list.csv"], size=SIZE, cache=tmp_path / "cache", quiet=True, say=said.append)
    assert "1 of 6 files are left out" in said[0] and "nowhere.png" in said[0]
    assert numbers(found.draw(np.random.default_rng(0), 60)) < set(range(5))


def test_what_cannot_be_used_is_said(folder, tmp_path):
    (folder / "torn.png").write_bytes(b"no picture")
    write_png(folder / "tiny.png", picture(99, SIZE - 1, 80))
    said = []
    Footage([folder], size=SIZE, cache=tmp_path / "cache", quiet=True, say=said.append)
    assert len(said) == 1 and "2 of 22 files are left out" in said[0] and "tiny.png" in said[0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no pictures and no videos"),
        (
            {"a.png": (20, 64), "b.png": (64, 20)},
            "none of its 2 files can be used: a.png is smaller than a frame of 32 px",
        ),
        ({"a.png": (64, 64)}, "a single picture or video"),
        ({"a.png": (64, 64), ".b.png": (64, 64), "__MACOSX/c.png": (64, 64)}, "a single picture or video"),
    ],
)
def test_footage_without_pictures_is_refused(files, message, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    for name, shape in files.items():
        (place / name).parent.mkdir(exist_ok=True)
        write_png(place / name, picture(1, *shape))
    with pytest.raises(ConfigError, match=message) as refused:
        footage(place, cache=tmp_path / "cache")
    assert "\n" not in str(refused.value)
    with pytest.raises(ConfigError, match="does not exist"):
        footage(tmp_path / "nothing", cache=tmp_path / "cache")


def test_of_too_many_files_some_are_taken_evenly_which_is_said(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("cogstyle.data.footage.MOST_PICTURES", 7)
    said = []
    source = Squares(folder, size=SIZE, cache=tmp_path, say=said.append)
    assert len(source.items) == 7
    assert said == [
        f"footage {folder}: 7 of 20 files are taken, evenly; a source has at most 7 pictures and 2,000 videos"
    ]
