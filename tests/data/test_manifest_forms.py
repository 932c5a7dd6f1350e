"""Manifests in the forms that people have: other columns, several captions, lists of lines, folders of pictures."""

import json

import pytest

from cogstyle.data.manifest import read_manifest
from cogstyle.errors import ConfigError


def rows(manifest):
    return [(entry.video, entry.caption) for entry in manifest.entries if not entry.problem]


@pytest.mark.parametrize("video", ["video", "file_name", "file", "path"])
@pytest.mark.parametrize("text", ["caption", "text", "prompt"])
def test_columns_by_their_usual_names(video, text, tmp_path):
    (tmp_path / "a.csv").write_text(f"{text},{video},width\na dog,x.mp4,3\n")
    (tmp_path / "a.jsonl").write_text(json.dumps({video: "x.mp4", text: "a dog", "width": 3}) + "\n")
    for name in ("a.csv", "a.jsonl"):
        manifest = read_manifest(tmp_path / name)
        assert rows(manifest) == [("x.mp4", "a dog")] and manifest.unused == ("width",)
        plain = (video, text) == ("video", "caption")
        assert manifest.taken == ("" if plain else f"videos from {video}, captions from {text}")


def test_of_several_columns_the_first_known_is_taken_for_the_whole_file(tmp_path):
    lines = [{"path": "p.mp4", "video": "v.mp4", "text": "t"}, {"path": "p.mp4", "text": "t"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    manifest = read_manifest(tmp_path / "a.jsonl")
    assert rows(manifest) == [("v.mp4", "t")] and manifest.unused == ("path",)
    assert manifest.entries[1].problem == "video is empty"


def test_further_captions_are_texts_of_the_same_row(tmp_path):
    (tmp_path / "metadata.csv").write_text(
        "file_name,caption,caption_zh,caption_de\nx.mp4,a dog,一只狗,ein Hund\ny.mp4,,一只猫,\nz.mp4,a bird,,\n",
        "utf-8",
    )
    manifest = read_manifest(tmp_path)  # a folder as Hugging Face's videofolder has it
    assert [entry.texts for entry in manifest.entries] == [
        (("", "a dog"), ("de", "ein Hund"), ("zh", "一只狗")),
        (("zh", "一只猫"),),
        (("", "a bird"),),
    ]
    assert manifest.taken == "videos from file_name, captions from caption and caption_de and caption_zh"
    (tmp_path / "bad.jsonl").write_text('{"video": "x.mp4", "caption": "a dog", "caption_zh": 3}\n')
    assert read_manifest(tmp_path / "bad.jsonl").entries[0].problem == "caption_zh must be text, not 3"


def test_two_lists_of_lines(tmp_path):
    (tmp_path / "videos.txt").write_text("v/1.mp4\nv/2.mp4\n")
    (tmp_path / "prompts.txt").write_text("a dog\na cat\n\n")
    manifest = read_manifest(tmp_path)
    assert rows(manifest) == [("v/1.mp4", "a dog"), ("v/2.mp4", "a cat")] and "videos.txt" in manifest.taken
    (tmp_path / "prompts.txt").write_text("a dog\n")
    with pytest.raises(ConfigError, match=r"videos\.txt has 2 lines, prompts\.txt 1"):
        read_manifest(tmp_path)


def test_pictures_with_and_without_captions(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ConfigError, match="--caption gives all of them one"):
        read_manifest(tmp_path)
    assert rows(read_manifest(tmp_path, caption="a cat")) == [(name, "a cat") for name in ("a.png", "b.png", "c.png")]
    (tmp_path / "b.txt").write_text("a dog")
    assert rows(read_manifest(tmp_path)) == [("b.png", "a dog")]
    assert rows(read_manifest(tmp_path, caption="a cat"))[1] == ("b.png", "a dog")


def test_missing_columns_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("name,title\na,b\n")
    names = r"video \(or file_name, file, path\) and caption \(or text, prompt\); its columns are: name, title"
    with pytest.raises(ConfigError, match=f"has no column {names}"):
        read_manifest(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("file\na.mp4\n")
    with pytest.raises(ConfigError, match=r"has no column caption \(or text, prompt\); its columns are: file"):
        read_manifest(tmp_path / "b.csv")
    assert rows(read_manifest(tmp_path / "b.csv", caption="a dog")) == [("a.mp4", "a dog")]
