"""A whole report of perfect weights: every part, written as it finishes, and gone on with."""

import json
from pathlib import Path

import numpy as np
import pytest

from cogstyle.errors import ConfigError, FileError
from cogstyle.files import one_writer
from cogstyle.shapes_report import report, sections, wordings
from cogstyle.shapes_report.protocol import TUNING_SEED, draw_scenes, in_other_language, slow_movers
from cogstyle.shapes_report.sections import RATES, Evaluation
from tests.shapes_world.truth import Truth

PLAN = Evaluation(count=2, levels=1, sweep=(1.0,))


@pytest.fixture(scope="module")
def pipe():
    scenes = [pair for kind in PLAN.kinds() for pair in PLAN.scenes(*kind)]
    scenes += in_other_language(PLAN.scenes(1, False))
    return Truth([*scenes, *slow_movers(PLAN.first_seed, 2), *draw_scenes(TUNING_SEED, 2)])


@pytest.fixture(scope="module")
def whole(pipe, tmp_path_factory):
    folder, progress, begun = tmp_path_factory.mktemp("report"), [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sections, "TRUE_CLIPS", 4)
        found = report.evaluate(
            pipe, PLAN, folder, command="cogstyle evaluate", progress=progress.append, begun=begun.append
        )
        work = sum(part.work for part in sections.sections_of(PLAN))
    assert sum(progress) == pytest.approx(work) and begun == list(found["parts"])
    return folder, found


def test_every_part_is_there(whole):
    folder, found = whole
    assert list(found["parts"]) == [
        "reader", "one actor", "two actors", "one actor, held-out pair", "two actors, held-out pair", "language",
        "frame rate", "stages, one actor", "stages, two actors", "diversity", "sweep",
    ]  # fmt: skip
    on_disk = json.loads((folder / "report.json").read_text("utf-8"))
    assert on_disk["made"]["count"] == 2 and list(on_disk["parts"]) == list(found["parts"])
    pages = {page for part in on_disk["parts"].values() for page in part["pages"]}
    assert {path.name for path in folder.iterdir()} == {"report.json", "report.md"} | pages
    assert {"one-actor.png", "frame-rate.png", "stages-one-actor.png", "diversity.png"} <= pages
    for part in on_disk["parts"].values():
        assert part["seconds"] >= 0 and part["command"] == "cogstyle evaluate" and part["machine"].startswith("cpu")


def test_the_truth_is_right(whole):
    found = whole[1]["parts"]
    assert found["reader"]["met"] and found["reader"]["changed"]["n"] >= 14
    for name in ("one actor", "two actors", "one actor, held-out pair", "two actors, held-out pair"):
        for way in ("alignment", "keyframes"):
            assert found[name][way]["all"]["share"] == 1.0, (name, way)
        assert found[name]["first_frame"]["colour"]["share"] == 1.0
    assert all(found["language"]["right"].values())
    assert [row["frame_rate"] for row in found["frame rate"]["rates"]] == list(RATES)
    for row in found["frame rate"]["rates"]:
        assert row["mean"] == pytest.approx(row["true"], abs=0.005) and row["lost"] == 0
    assert found["frame rate"]["slope"] == pytest.approx(1.0, abs=0.05)
    assert found["frame rate"]["correlation"] > 0.99
    for stage in found["stages, one actor"]["stages"].values():
        assert stage["alignment"]["all"]["share"] == 1.0 and stage["temporal"]["flicker"]["mean"] < 0.05
    assert list(found["one actor"]["distances"]) == ["skipped"]  # clips of 9 frames
    for text in found["diversity"]["texts"]:
        assert text["found"]["pixels"] < 1.0 < text["true"]["pixels"]  # this pipeline always draws the same


def test_markdown_has_every_section(whole):
    text = (whole[0] / "report.md").read_text("utf-8")
    for words in (
        "# Evaluation of truth", "## The reader itself", "## What of the caption", "## English and Chinese",
        "## What limits it: one actor", "## What limits it: two actors", "## Frame-rate control",
        "## Temporal quality", "## FVD, KVD and IS", "## Diversity", "## Guidance", "## Pictures", "## Time",
        "100 % (34-100)", "never trained", "Chinese less English +0 points",
    ):  # fmt: skip
        assert words in text, words


def test_finished_parts_are_kept(whole, pipe, monkeypatch):
    folder, found = whole
    report.evaluate(pipe, PLAN, folder)
    pipe.calls.clear()
    kept = json.loads((folder / "report.json").read_text("utf-8"))
    del kept["parts"]["one actor"]
    (folder / "report.json").write_text(json.dumps(kept))
    again = report.evaluate(pipe, PLAN, folder)
    assert list(again["parts"]) == list(found["parts"])
    assert pipe.calls and {call["levels"] for call in pipe.calls} == {1}


def test_no_other_report_is_written_over(pipe, tmp_path):
    report.evaluate(pipe, PLAN, tmp_path, names=["one actor"])
    first = (tmp_path / "report.json").read_text()
    with pytest.raises(
        ConfigError, match=r"report.json is a report of other count \(2, now 1\), sweep .*another --out"
    ):
        report.evaluate(pipe, Evaluation(count=1, levels=1), tmp_path, names=["two actors"])
    assert (tmp_path / "report.json").read_text() == first
    for text in ("[1]", "{}", '{"made": {}, "parts": 5}'):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(ConfigError, match="is no report of cogstyle evaluate"):
            report.evaluate(pipe, PLAN, tmp_path, names=["one actor"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.md").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds other files \(report.md\)"):
        report.evaluate(pipe, PLAN, tmp_path / "mine", names=["one actor"])
    with pytest.raises(FileError, match="cannot write into"):
        report.evaluate(pipe, PLAN, tmp_path / "report.json" / "x", names=["one actor"])
    with one_writer(tmp_path / "mine"), pytest.raises(FileError, match="another process is writing"):
        report.evaluate(pipe, PLAN, tmp_path / "mine", names=["one actor"])
    (tmp_path / "report.json").write_text(first[:50])
    with pytest.raises(ConfigError, match=r"cannot read .*report.json"):
        report.evaluate(pipe, PLAN, tmp_path, names=["one actor"])


def test_unknown_parts_and_bad_plans():
    with pytest.raises(ConfigError, match="no part dessert; this evaluation has reader; one actor;"):
        report.chosen_sections(PLAN, ["dessert"])
    with pytest.raises(ConfigError, match="first-seed 5 must be 1000000 or more"):
        Evaluation(first_seed=5)
    with pytest.raises(ConfigError, match="the last below 2000000"):
        Evaluation(first_seed=TUNING_SEED - 1, count=2)
    with pytest.raises(ConfigError, match="count 0 must be positive"):
        Evaluation(count=0)
    assert [part.name for part in sections.sections_of(Evaluation(actors=(2,), held_out=(True,)))] == [
        "reader",
        "two actors, held-out pair",
    ]


def test_a_rate_that_does_nothing_has_no_slope():
    line = sections._line([(0.1, 0.2), (0.2, 0.2), (0.1, 0.2)])
    assert line["slope"] is None and sections._line([])["correlation"] is None
    line = sections._line([(x, 2 * x + 0.1 + e) for x in (0.1, 0.2, 0.3) for e in (-0.01, 0.01)])
    assert line["slope"] == pytest.approx(2.0) and line["slope_low"] <= 2.0 <= line["slope_high"]


def test_pages_show_failures(pipe, tmp_path):
    """Right and wrong rows carry their colour at the left edge."""
    from PIL import Image

    from cogstyle.evaluation.pages import RIGHT, WRONG, PageRow, page

    clip = np.zeros((5, 64, 64, 3), np.uint8)
    picture = page([PageRow(clip, "asked", "read", True), PageRow(clip, "asked " * 99, "read", False)], columns=3)
    colours = {tuple(colour) for colour in picture[:, 0].tolist()}
    assert {RIGHT, WRONG} <= colours and picture.dtype == np.uint8
    Image.fromarray(picture).save(Path(tmp_path) / "page.png")


def test_scenes_are_asked_for_as_people_write(tmp_path):
    plan = Evaluation(count=2, levels=0, actors=(1,), phrasings=True)
    scenes = plan.scenes(1, False)
    pipe = Truth(scenes)
    trained, held_out = (
        {wordings.said(seed, scene, held_out=held): scene for seed, scene in scenes} for held in (False, True)
    )
    pipe.scenes |= trained | dict.fromkeys(held_out, scenes[0][1])  # asked so, it shows the first scene only
    found = report.evaluate(pipe, plan, tmp_path, names=["phrasings, one actor"])["parts"]["phrasings, one actor"]
    shares = {name: part["shares"]["all"]["share"] for name, part in found["phrasings"].items()}
    assert shares == {"training phrasings": 1.0, "held-out phrasings": 0.5}
    assert found["phrasings"]["held-out phrasings"]["wrong"] == {list(held_out)[1]: scenes[1][0]}
    row = next(line for line in (tmp_path / "report.md").read_text().splitlines() if "held-out phrasings" in line)
    assert row.startswith("| one actor, held-out phrasings | ") and row.endswith("50 % (9-91) |")
    (tmp_path / "other").mkdir()
    assert "phrasings" not in report.start(pipe, Evaluation(count=2), tmp_path / "other")["made"]
