"""Every phrasing of a scene says the scene's facts: read back by other lists of words than those that write it."""

import re
from dataclasses import replace

import numpy as np
import pytest

from cogstyle.shapes_world import phrasings, rows, vocabulary, world
from cogstyle.shapes_world.captions import parse
from cogstyle.training.sources import PhrasedCaptions, SceneData

SHAPES = {
    "circle": r"circle|ball|dis[ck]|dot|圆形|圆盘|圆球|球|圆(?!环)", "square": "square|box|block|正方形|方块|方形",
    "triangle": "triangle|三角形|三角", "star": "five-pointed star|star|五角星|星形|星星",
    "cross": "cross|plus sign|plus|十字形|十字|加号", "ring": "ring|hoop|donut|annulus|圆环|环形|环",
}  # fmt: skip
COLOURS = {
    "red": "red|红", "green": "green|绿", "blue": "blue|蓝", "yellow": "yellow|黄",
    "purple": "purple|violet|紫", "orange": "orange|橙",
}  # fmt: skip
SIZES = {"small": "small|little|tiny|miniature|小", "large": "large|big|huge|giant|大"}
SPEEDS = {
    "slowly": "slow|low speed|unhurried|慢地|缓地|慢悠悠地",
    "quickly": "quick|fast|rapid|high speed|swift|快|迅速",
}
BACKGROUNDS = {"black": "black|黑色", "white": "white|白色", "grey": "gr[ea]y|灰色"}
DIRECTIONS = {
    "left": "left|左", "right": "right|右", "up": r"\bup|sky|[向往朝]上", "down": r"\bdown|earthward|[向往朝]下",
    "counterclockwise": "counter-?clockwise|anticlockwise|逆时针|反时针", "clockwise": "clockwise|顺时针",
}  # fmt: skip
ACTIONS = {  # the first that fits
    "blink": "disappear|vanish|fade|fading|消失|隐去",
    "circle": "circl(?:e|es|ing)|orbit|圈",
    "return": r"\bback\b|return|回|返|复",
    "bounce": "bounc|hop(?!s? )|hops?|hopping|spring|跳",
    "grow": "grow|bigger|larger|expand|swell|变大|更大|越来越大|膨胀",
    "shrink": "shrink|smaller|contract|dwindl|变小|更小|越来越小|缩小",
    "still": "still|not mov|stay|motionless|不动|静止",
    "move": r"move|moving|\bgo|travel|slid|proceed|移动|走|运动|行进",
}
BESIDE = (  # what may follow: where one is beside the other
    r", (?:with )?the [^,]* (?:starting|left|right|to|above|below|higher|lower)\b"
    r"|，(?:开始时)?[^，]*在[^，]*的[左右上下][边侧方面]"
)


def first(patterns, text):
    """The name of the first pattern that is in the text."""
    return next((name for name, pattern in patterns.items() if re.search(pattern, text)), None)


def facts(text):
    """What a caption says, however it is phrased: its background, its speed words, and each actor."""
    text = re.sub(r"on a plain|，以|slow-moving|fast-moving", lambda m: m[0].split("-")[0], text.lower())
    shapes, colours, sizes = ("|".join(d.values()) for d in (SHAPES, COLOURS, SIZES))
    size = rf"(?:很|微|巨)?(?:{sizes})[小大]?的? ?"
    noun = rf"({size})?((?:{colours})) ?(?:色的?)?({size})?({shapes})\b|({size})?({colours})色?的?({size})?({shapes})"
    found = list(re.finditer(noun, text))
    said = []
    for number, match in enumerate(found):
        groups = match.groups()
        before, colour, after, shape = groups[:4] if groups[1] else groups[4:]
        end = found[number + 1].start() if number + 1 < len(found) else len(text)
        rest = re.sub(
            r"(?:在|\b(?:on|over|against|in front of)\b)[^，]*?(?:背景[上中]?|的背景上|backdrop|background)",
            "",
            text[match.end() : end],
        )
        action = first(ACTIONS, rest)
        way = first(DIRECTIONS, rest) if action in world.DIRECTIONS else None
        said.append(
            (
                first(COLOURS, colour),
                first(SHAPES, f"{shape} "),
                first(SIZES, (before or "") + (after or "")),
                action,
                way,
            )
        )
    speeds = {name: len(re.findall(pattern, text)) for name, pattern in SPEEDS.items()}
    return first(BACKGROUNDS, text), said, {name: count for name, count in speeds.items() if count}


def asked(scene):
    actors = [(a.colour, a.shape, a.size, a.action, a.direction) for a in scene.actors]
    moving = sum(actor.action != "still" for actor in scene.actors)
    background = scene.background if scene.says_background else None
    return background, actors, {scene.speed: moving} if scene.speed and moving else {}


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("held_out_words", [False, True])
def test_every_phrasing_says_what_the_scene_is(language, held_out, held_out_words):
    how = {"language": language, "held_out": held_out, "held_out_words": held_out_words}
    for seed in range(500):
        scene = world.draw_scene(seed)
        said = phrasings.phrase(scene, np.random.default_rng(seed), **how)
        assert facts(said) == asked(scene), said


@pytest.mark.parametrize("language", ["en", "zh"])
def test_without_actions_only_a_still_image_is_told(language):
    for seed in range(100):
        scene = world.draw_scene(seed)
        said = phrasings.phrase(scene, np.random.default_rng(seed), language=language, with_action=False)
        background, actors, _ = asked(scene)
        assert facts(said) == (background, [(*actor[:3], None, None) for actor in actors], {}), said


def test_the_canonical_caption_is_one_of_them_and_draws_nothing():
    rng = np.random.default_rng(3)
    for seed in range(50):
        scene = world.draw_scene(seed)
        said = phrasings.phrase(scene, rng, language=scene.language, canonical=True)
        assert said == world.caption(scene)
        assert asked(parse(said)) == asked(scene) == facts(said)
    assert rng.random() == np.random.default_rng(3).random()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_fifth_of_the_phrasings_and_some_words_are_held_out(language):
    told, held = (phrasings.phrasings(language, held_out=held) for held in (False, True))
    of = vocabulary.LANGUAGES[language]
    assert told[0] == of.moving[0] and not set(told) & set(held) and len(held) * 5 == len(of.moving)
    spared = set()
    for table in (of.shapes, of.sizes, of.actions, of.directions, of.speeds):
        for forms in table.values():
            kept, last = phrasings.synonyms(forms), phrasings.synonyms(forms, held_out=True)
            assert forms[0] in kept and (len(forms) < 4 or (len(last) == 1 and last[0] not in kept))
            spared |= {*last} - {*kept}
    assert len(spared) >= 10
    scenes = [world.draw_scene(seed) for seed in range(300)]
    said = [phrasings.phrase(s, np.random.default_rng(n), language=language).lower() for n, s in enumerate(scenes)]
    assert not [
        caption for caption in said if re.search("annulus|miniature|giant|swiftly|微小的|飞快地|兜圈子", caption)
    ]


def test_where_one_actor_is_beside_the_other_is_true_of_all_their_points():
    seen = set()
    for seed in range(300):
        scene = world.draw_scene(seed, actors=2)
        for side in phrasings.relations(scene):
            alone = [world.render(replace(scene, actors=(actor,)), 0.0, 64) for actor in scene.actors]
            rows, columns = zip(
                *(np.nonzero((image != world.BACKGROUNDS[scene.background]).any(-1)) for image in alone), strict=True
            )
            (a, b), sign = (columns if side in ("left", "right") else rows), (1 if side in ("left", "above") else -1)
            assert max(sign * a) <= min(sign * b)
            seen.add(side)
        said = phrasings.phrase(scene, np.random.default_rng(seed), language="en", beside=1.0)
        tail = re.search(r"(left of|right of|above|higher|below|lower)", said.split(", ")[-1].lower())
        assert bool(tail) == bool(phrasings.relations(scene)), said
        if tail:
            names = {"left of": "left", "right of": "right", "higher": "above", "lower": "below"}
            assert names.get(tail[1], tail[1]) in phrasings.relations(scene)
    assert seen == set(phrasings.SIDES)


def test_words_are_those_that_captions_use():
    known = phrasings.words("en")
    for seed in range(300):
        for held in (False, True):
            scene, rng = world.draw_scene(seed), np.random.default_rng(seed)
            said = phrasings.phrase(scene, rng, language="en", held_out=held, held_out_words=held, beside=1.0)
            assert not set(re.findall(r"\w+(?:-\w+)*", said.lower())) - known, said


@pytest.mark.parametrize("kind", ["image", "keyframe", "interpolation", "continuation"])
def test_rows_say_the_same_scenes_as_people_write(kind):
    make, sizes = getattr(rows, f"{kind}_row"), (32,) if kind == "image" else (32, 5)
    canonical = 0
    for seed in range(40):
        plain, phrased = (make(seed, *sizes, emphasis=rows.Emphasis(phrasings=on)) for on in (False, True))
        assert np.array_equal(plain.frames, phrased.frames) and plain.seconds == phrased.seconds
        told = re.split(BESIDE, phrased.caption, flags=re.I)[0]
        assert facts(told) == facts(plain.caption), phrased.caption
        canonical += plain.caption == phrased.caption
    assert 2 <= canonical <= 25


def test_a_recipe_asks_for_phrasings():
    data = SceneData(rows=8, phrasings=True)
    assert data.emphasis.phrasings and data.even.phrasings and not SceneData(rows=8).even.phrasings
    said = PhrasedCaptions(phrasings=True).symbols
    assert {"一个", "球", "正在"} <= {*said} and not {"兜圈子", "飞快地"} & {*said}
    assert any("moving" in caption for caption in data.captions_of())
