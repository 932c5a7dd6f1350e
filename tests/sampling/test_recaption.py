"""Prompts that are rewritten first: by a function, a file, a folder; what is refused, and what the json says."""

import json
import shutil
from pathlib import Path

import pytest

from cogstyle.bundle import Bundle, update_bundle
from cogstyle.cli.main import main
from cogstyle.errors import CogstyleError, PromptError
from cogstyle.sampling.pipeline import load
from cogstyle.sampling.recaption import Recaption, find_recaption

FUNCTIONS = """
import cogstyle.errors
SAYS = {"red ball goes right": "a red circle moves right", "blue box grows": "a red square grows"}
def rewrite(prompt):
    return SAYS.get(prompt, prompt)
def fails(prompt):
    raise ValueError("no idea\\nat all")
def gives(prompt):
    return 3
nothing = 4
"""
CAPTION = "a red circle moves right"


@pytest.fixture
def shapes(debug_bundle, tmp_path, monkeypatch) -> Path:
    """A bundle of the shapes world, in a folder with functions and files."""
    monkeypatch.chdir(tmp_path)
    bundle = shutil.copytree(debug_bundle, tmp_path / "bundle")
    assert Bundle(bundle).manifest["world"] == "shapes"  # its recipes draw scenes
    Path("own.py").write_text(FUNCTIONS)
    return bundle


def sample(bundle: Path, *arguments: str) -> int:
    return main(["sample", *arguments, "--bundle", str(bundle), "--levels", "0", "--quiet"])


def info(name: str) -> dict:
    return json.loads(Path(f"{name}.mp4.json").read_text())


def test_both_prompts_stand_in_the_json(shapes, capsys):
    assert sample(shapes, " red ball goes right", "--out", "a.mp4", "--recaption", "own.py:rewrite") == 0
    said = capsys.readouterr().err
    assert "note: 'red ball goes right' is drawn as 'a red circle moves right', says own.py:rewrite" in said
    found = info("a")
    assert found["prompt"] == found["recaption"]["drawn"] == CAPTION
    assert found["recaption"]["asked"] == "red ball goes right" and found["recaption"]["by"] == "own.py:rewrite"
    assert sample(shapes, CAPTION, "--out", "b.mp4") == 0
    assert "recaption" not in info("b") and Path("a.mp4").read_bytes() == Path("b.mp4").read_bytes()
    video = load(shapes)("red ball goes right", levels=0, recaption=lambda prompt: CAPTION)
    assert video.info["recaption"]["asked"] == "red ball goes right" and video.info["prompt"] == CAPTION


def test_a_rewriting_that_loses_what_was_asked_is_refused(shapes, capsys):
    assert sample(shapes, "blue box grows", "--out", "a.mp4", "--recaption", "own.py:rewrite") == 0
    said = "'blue box grows' is drawn as it is, not as own.py:rewrite rewrites it: colour blue became red"
    assert said in capsys.readouterr().err
    assert info("a")["prompt"] == "blue box grows" and info("a")["recaption"]["refused"] == "colour blue became red"
    with pytest.warns(UserWarning) as caught:
        load(shapes)("red ball goes right", levels=0, recaption=lambda prompt: "a red circle moves left")
    assert any("direction right became left" in str(one.message) for one in caught)
    update_bundle(shapes, {}, world="")  # of unknown words nothing is refused
    assert sample(shapes, "blue box grows", "--out", "b.mp4", "--recaption", "own.py:rewrite") == 0
    assert info("b")["prompt"] == "a red square grows"


def test_captions_and_what_cannot_be_rewritten_stay():
    def never(prompt: str) -> str:
        raise PromptError("too long")

    recaption = Recaption("it", never, world="shapes")
    caption, other = recaption([CAPTION, "red ball goes right"])
    assert (caption.drawn, caption.note, caption.info) == (CAPTION, "", {})
    assert (other.drawn, other.refused) == ("red ball goes right", "too long") and other.info["refused"]


def test_a_prompts_file(shapes, capsys):
    prompts = ["red ball goes right", "blue box grows", CAPTION]
    Path("prompts.jsonl").write_text(
        "\n".join(json.dumps({"prompt": p, "out": f"{k}.mp4"}) for k, p in enumerate(prompts))
    )
    Path("lines.txt").write_text("a red circle moves right\na blue square grows\nwhatever\n")
    asked = ["--prompts", "prompts.jsonl", "--out", "out", "--recaption"]
    for how in ("own.py:rewrite", "lines.txt"):
        assert sample(shapes, *asked, how) == 0
        said = "a red circle moves right" if how == "own.py:rewrite" else "a blue square grows"
        assert f"is drawn as '{said}'" in capsys.readouterr().err
        drawn = [info(f"out/{k}")["prompt"] for k in range(3)]
        assert drawn == [CAPTION, "blue box grows" if how == "own.py:rewrite" else "a blue square grows", CAPTION]
    table = [{"prompt": p, "rewritten": CAPTION} for p in (prompts[0], prompts[2])]
    Path("table.jsonl").write_text("\n".join(map(json.dumps, table)))
    assert sample(shapes, *asked, "table.jsonl") == 1
    said = capsys.readouterr()
    assert "line 2: recaption table.jsonl has no line for the prompt 'blue box grows'" in said.err
    assert "0 made, 2 there already, 1 failed" in said.out


def test_the_bundle_names_its_language_model(shapes, tmp_path):
    for how in ("auto", None):  # its world is known: words are read without one
        found = find_recaption(how, Bundle(shapes))(["red ball goes right", "a red circle dances"])
        assert [one.drawn for one in found] == [CAPTION, "a red circle dances"] and not found[1].refused
        assert found[0].by == "cogstyle.shapes_world.restating"
    update_bundle(shapes, {}, recaption="../other")
    with pytest.raises(CogstyleError, match=r"no bundle '.*bundle/\.\./other'"):
        find_recaption("auto", Bundle(shapes))
    assert find_recaption(None, Bundle(shapes)).name == "cogstyle.shapes_world.restating"
    update_bundle(shapes, {}, recaption="rewriter")  # on the shelf
    assert "rewriter" in find_recaption("auto", Bundle(shapes)).name
    update_bundle(shapes, {}, recaption="", world="")
    with pytest.raises(CogstyleError, match="bundle bundle names no language model"):
        find_recaption("auto", Bundle(shapes))
    assert find_recaption(None, Bundle(shapes)).name == "off"


def test_the_shipped_language_model_rewrites_what_it_can():
    recaption = find_recaption("auto", Bundle("shapes"))
    for asked, drawn in (
        ("Big red ball rolling to the left.", "a large red circle moves left"),
        (
            "a YELLOW Star goes up and back, on white background!",
            "a yellow star goes up and comes back on a white background",
        ),
        ("the little green hoop is slowly getting bigger", "a small green ring grows slowly"),
        ("红色的球慢慢地向左移动。", "一个红色圆形慢慢地向左移动"),
        (CAPTION, CAPTION),
    ):
        (found,) = recaption([asked])
        assert (found.drawn, found.refused) == (drawn, "")
    for asked in ("a banana moves right", "a red circle dances"):
        (found,) = recaption([asked])
        assert found.drawn == asked and found.refused
    folder = Bundle("rewriter").folder
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6


@pytest.mark.parametrize(
    "how, said",
    [
        ("nowhere", "no bundle 'nowhere'"),
        ("bundle", "has no language_model.safetensors"),
        ("own.py:nothing", "cannot load recaption own.py:nothing: own.py has no function nothing"),
        ("none.py:rewrite", "cannot load recaption none.py:rewrite: no file none.py"),
        ("no.such.module:f", "cannot load recaption no.such.module:f: No module named 'no'"),
        ("own.py:fails", "recaption own.py:fails fails on 'red ball': no idea"),
        ("own.py:gives", "recaption own.py:gives must give a text for 'red ball', not 3"),
        ("two.txt", "recaption two.txt has 2 lines for 1 prompts; give one a prompt"),
        ("gap.txt", "recaption gap.txt:1 is empty"),
        ("bad.jsonl", 'recaption bad.jsonl:1 must be {"prompt": a text, "rewritten": a text}'),
        ("twice.jsonl", "recaption twice.jsonl:2 rewrites 'a' anew and otherwise"),
        ("", "recaption is empty"),
    ],
)
def test_bad_input(shapes, capsys, how, said):
    Path("two.txt").write_text("a\nb\n")
    Path("gap.txt").write_text("\nb\n")
    Path("bad.jsonl").write_text('{"prompt": "a"}')
    Path("twice.jsonl").write_text('{"prompt": "a", "rewritten": "b"}\n{"prompt": "a", "rewritten": "c"}')
    assert sample(shapes, "red ball", "--out", "a.mp4", "--recaption", how) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not Path("a.mp4").exists()
    Path("prompts.jsonl").write_text('{"prompt": "red ball"}\n')
    failed = sample(shapes, "--prompts", "prompts.jsonl", "--out", "out", "--recaption", how)
    assert failed == (1 if how in ("own.py:fails", "own.py:gives") else 2) and said in capsys.readouterr().err
