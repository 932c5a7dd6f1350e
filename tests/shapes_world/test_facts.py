"""A rewriting keeps what a text says: synonyms pass, what is lost or becomes something else does not."""

import pytest

from cogstyle.shapes_world.facts import canonical, lost
from cogstyle.shapes_world.pairs import KINDS, LANGUAGES, held_back_pairs


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_phrasing_keeps_its_caption_and_no_other(kind, language):
    pairs = held_back_pairs(kind, language, 40)
    for (said, caption), (_, other) in zip(pairs, pairs[1:] + pairs[:1], strict=True):
        assert lost(said, caption) == ""
        assert canonical(caption)
        assert caption == other or lost(said, other)


@pytest.mark.parametrize(
    "asked, drawn",
    [
        ("red ball rolls to the right", "a red circle moves right"),
        ("The red balll moovs rigth!", "a red circle moves right"),
        ("a red ball goes slowly to the left, then comes back", "a red circle goes left and comes back slowly"),
        ("a ball that is red bounces", "a red circle bounces"),
        ("something round, a red circle, moves clockwise", "a red circle circles clockwise"),
        ("a red circle moves right", "a small red circle moves right slowly on a grey background"),
        ("向右移动的红球", "一个红色圆形向右移动"),
    ],
)
def test_what_is_kept(asked, drawn):
    assert lost(asked, drawn) == ""


@pytest.mark.parametrize(
    "asked, drawn, said",
    [
        ("a red circle moves right", "a red circle moves left", "direction right became left"),
        ("a red circle moves right", "a red circle grows", "action move became grow"),
        ("a red circle moves right", "a red square moves right", "shape circle became square"),
        ("a red circle moves right", "a blue circle moves right", "colour red became blue"),
        ("a red circle moves right", "a red circle", "action move became none"),
        ("a red circle and a blue box bounce", "a red circle bounces", "the prompt names red circle and"),
        ("a banana moves right", "a red circle moves right", "the prompt names no shape"),
        ("a red circle dances", "a red circle bounces", "not in the prompt, as far as it can be read (not: dances"),
        ("a red circle moves right quickly", "a red circle moves right", "quickly is lost"),
        ("a red circle grows on black background", "a red circle grows", "background black became none"),
        ("a yellow star is dancing", "a yellow star", "dancing may say what happens"),
        ("红球向左移动", "一个红色圆形向右移动", "direction left became right"),
    ],
)
def test_what_is_lost(asked, drawn, said):
    assert said in lost(asked, drawn)


def test_captions_are_known_to_the_letter():
    for text in (
        "a red circle moves right",
        "a small red ring on a grey background",
        "一个红色圆形向右移动",
        "黑色背景上，一个蓝色圆环",
    ):
        assert canonical(text)
    for text in (
        "A red circle moves right",
        "a red circle moves right.",
        "red circle moves right",
        "a red ball grows",
        "a red circle and a blue ring grows",
    ):
        assert not canonical(text)
