"""Tables and folders of videos: what is good is kept, what is bad says where it stands."""

import json
import os

import pytest

from cogstyle.data.manifest import Entry, read_manifest
from cogstyle.errors import ConfigError, FileError


def test_csv(tmp_path):
    path = tmp_path / "m.csv"
    lines = ["video,caption,start,end,language,note", 'a.mp4,"a cat,\n asleep",,,en,x', "b.mp4,a dog,1.5,4,,", ""]
    path.write_text("\n".join(lines), "utf-8-sig")
    manifest = read_manifest(path)
    assert manifest.folder == tmp_path and manifest.unused == ("note",)
    assert manifest.entries == [
        Entry("m.csv:3", "a.mp4", "a cat, asleep", language="en"),
        Entry("m.csv:4", "b.mp4", "a dog", 1.5, 4.0),
    ]


def test_jsonl(tmp_path):
    path = tmp_path / "m.jsonl"
    lines = [json.dumps({"video": "a.mp4", "caption": "一只猫", "start": 2, "end": None}), "", "{", "[1]"]
    path.write_text("\n".join(lines), "utf-8")
    good, broken, other = read_manifest(path).entries
    assert good == Entry("m.jsonl:1", "a.mp4", "一只猫", 2.0)
    assert broken.where == "m.jsonl:3" and "no JSON" in broken.problem
    assert other.where == "m.jsonl:4" and other.problem == "[1] is no JSON object"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (",a cat,,", "video is empty"),
        ("a.mp4, ,,", "caption is empty"),
        ("a.mp4", "caption is empty"),
        ("a.mp4,a cat,soon,", "start 'soon' is no number of seconds"),
        ("a.mp4,a cat,-1,", "start -1 must be 0 or more seconds"),
        ("a.mp4,a cat,nan,", "start nan must be 0 or more seconds"),
        ("a.mp4,a cat,5,5", "end 5 must lie after start 5"),
        ("a.mp4,a cat,1,2,3", "more fields than the header has"),
    ],
)
def test_a_bad_line_is_an_entry_with_a_problem(tmp_path, line, problem):
    path = tmp_path / "m.csv"
    path.write_text(f"video,caption,start,end\n{line}\nb.mp4,a dog,,\n")
    bad, good = read_manifest(path).entries
    assert (bad.where, bad.problem) == ("m.csv:2", problem) and not good.problem


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"caption": ["a", "b"]}, 'caption must be text, not ["a", "b"]'),
        ({"caption": {"en": "a"}}, 'caption must be text, not {"en": "a"}'),
        ({"caption": 5}, "caption must be text, not 5"),
        ({"caption": None}, "caption is empty"),
        ({"caption": "a \ud800"}, "its text holds half a character (a lone surrogate)"),
        ({"video": ["a.mp4"]}, 'video must be text, not ["a.mp4"]'),
        ({"language": {}}, "language must be text, not {}"),
        ({"start": True}, "start True is no number of seconds"),
        ({"start": "00:00:01"}, "start '00:00:01' is no number of seconds"),
        ({"start": [1]}, "start [1] is no number of seconds"),
        ({"end": 10**400}, "end 1" + 59 * "0" + " is no number of seconds"),
        ({"start": float("nan")}, "start nan must be 0 or more seconds"),
    ],
)
def test_values_of_other_kinds_are_refused(tmp_path, line, problem):
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({"video": "a.mp4", "caption": "a cat"} | line) + "\n" + "[" * 10**5 + "\n")
    bad, deep = read_manifest(path).entries
    assert bad.where == "m.jsonl:1" and bad.problem == problem and "no JSON" in deep.problem


def test_json_lines_as_they_are(tmp_path):
    """A byte order mark, CRLF, null for what is not given, and line breaks of Unicode inside strings."""
    path = tmp_path / "m.jsonl"
    good = json.dumps(
        {"video": "a.mp4", "caption": "a\u2028cat\u0085", "start": None, "language": None}, ensure_ascii=False
    )
    path.write_bytes(f"{good}\r\n\r\n{good}\n".encode("utf-8-sig"))
    assert read_manifest(path).entries == [Entry(f"m.jsonl:{n}", "a.mp4", "a cat") for n in (1, 3)]


def test_folders_hold_more_than_videos(tmp_path):
    """What macOS and git leave, sheets of `sample --sheet`, and folders of PNG files, which are one video each."""
    for name in ("a.mp4", "a.png", "._a.mp4", "__MACOSX/a.mp4", ".git/a.mp4", "b/0000.png", "b/0001.png", "c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        (tmp_path / name).with_suffix(".txt").write_text("a cat")
    (tmp_path / "b.txt").write_text("a dog")
    found = read_manifest(tmp_path).entries
    assert [(e.video, e.caption) for e in found] == [("a.mp4", "a cat"), ("b", "a dog"), ("c.png", "a cat")]


def test_folder(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.mp4", "a.MOV", "deep/c.webm", "notes.md"):
        (tmp_path / name).touch()
    (tmp_path / "a.txt").write_text("a cat\n")
    (tmp_path / "deep" / "c.txt").write_text("")
    a, b, c = read_manifest(tmp_path).entries
    assert a == Entry("a.MOV", "a.MOV", "a cat")
    assert b.problem == "there is no b.txt" and c.video == "deep/c.webm" and c.problem == "caption is empty"


def test_what_cannot_be_read_at_all(tmp_path):
    def refused(name, text, message):
        (tmp_path / name).write_bytes(text)
        with pytest.raises((ConfigError, FileError), match=message):
            read_manifest(tmp_path / name)

    refused("m.txt", b"", r"m\.txt must be a \.csv or \.jsonl file, or a folder")
    refused("m.csv", b"clip,caption\na,b\n", r"m\.csv has no column video \(or .*\); its columns are: clip, caption")
    refused("m.csv", b"", r"no column video \(or .*\) and caption \(or .*\); its columns are: none")
    refused("m.csv", b"video,caption\n", r"m\.csv has no rows")
    refused("m.csv", b'video,caption\na,"b\n', r"m\.csv:2: unexpected end of data")
    refused("m.csv", b"video,caption,caption\na,b,c\n", r"m\.csv has several columns caption")
    refused("m.jsonl", b"{}\n\xff\xfe", r"m\.jsonl, line 2: byte 0xff is not UTF-8")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(FileError, match="a pipe or device, not a file"):
        read_manifest(tmp_path / "pipe.csv")
    with pytest.raises(FileError, match=r"cannot read .*none\.csv: .*No such file"):
        read_manifest(tmp_path / "none.csv")
    videos = tmp_path / "videos"
    videos.mkdir()
    with pytest.raises(ConfigError, match="holds no videos"):
        read_manifest(videos)
    (videos / "a.mp4").touch()
    (videos / "captions.csv").touch()
    with pytest.raises(ConfigError, match=r"no video in .* has a \.txt file .*; give .*captions\.csv instead\?"):
        read_manifest(videos)
