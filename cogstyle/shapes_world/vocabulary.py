"""The words and phrasings of the shapes world's captions, in English and Chinese; how they are used: phrasings.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cogstyle.shapes_world import world

Forms = Sequence[str]  # of one meaning, the usual one first


@dataclass(frozen=True)
class Language:
    """Words and phrasings of a language; a phrasing is of one actor and of the whole, the canonical one first."""

    moving: Sequence[tuple[str, str]]
    resting: Sequence[tuple[str, str]]  # without actions
    colours: Mapping[str, Forms]
    shapes: Mapping[str, Forms]
    sizes: Mapping[str, Forms]
    actions: Mapping[str, Forms]
    directions: Mapping[str, Forms]
    speeds: Mapping[str, Forms]
    places: Forms  # a background, where "on a black background" stands
    grounds: Forms  # a background, named at the end
    joins: Forms  # of two actors
    sides: Mapping[str, Forms]
    beside: Forms  # how the place of one actor beside another is added


ENGLISH = Language(
    moving=(
        ("{a} {v}{late}", "{clauses}{place}"),
        ("{a} {ing}{late}", "{clauses}{place}"),
        ("{n} {v}{late}", "{clauses}{place}"),
        ("{n} {ing}{late}", "{clauses}{place}"),
        ("{n} is {ing}{late}", "{clauses}{place}"),
        ("the {n} {v}{late}", "{clauses}{place}"),
        ("{a} is {ing}{late}", "{clauses}{place}"),
        ("{a} {v}{late}", "{front}{clauses}"),
        ("{a} {ing}{late}", "{front}{clauses}"),
        ("{n} {ing}{late}", "{front}{clauses}"),
        ("the {n} {v}{late}", "{front}{clauses}"),
        ("{a} {early}{v}", "{clauses}{place}"),
        ("{a} {early}{ing}", "{clauses}{place}"),
        ("the {n} is {ing}{late}", "{front}{clauses}"),
        ("the {n} is {early}{ing}", "{clauses}{place}"),
        ("{n} {early}{v}", "{front}{clauses}"),
        ("{a} {ing}{late}", "a video of {clauses}{place}"),
        ("{a} that {v}{late}", "{clauses}{place}"),
        ("{a}, {ing}{late}", "{clauses}{place}"),
        ("{a}, {v}{late}", "{front}{clauses}"),
        ("{a} {ing}{late}", "there is {clauses}{place}"),
        ("{a} {v}{late}", "{clauses}{ground}"),
        ("{n} {ing}{late}", "{clauses}{ground}"),
        ("{fast} {v}", "{clauses}{place}"),
        ("the {n} {v}{late}", "in this video {clauses}{ground}"),
        ("the {n} {v}{late}", "in this video {clauses}{place}"),
        ("{a} is shown {ing}{late}", "{clauses}{place}"),
        ("{a} {base}{late}", "show {clauses}{place}"),
        ("{a}{here} {v}{late}", "{clauses}"),
        ("{n}{here} {ing}{late}", "{clauses}"),
    ),
    resting=(
        ("{a}", "{clauses}{place}"),
        ("{n}", "{clauses}{place}"),
        ("the {n}", "{clauses}{place}"),
        ("{a}", "{front}{clauses}"),
        ("{n}", "{clauses}{ground}"),
        ("{a}", "a picture of {clauses}{place}"),
        ("{a}", "there is {clauses}{place}"),
    ),
    colours={name: (name,) for name in (*world.COLOURS, *world.BACKGROUNDS)}
    | {"purple": ("purple", "violet"), "grey": ("grey", "gray")},
    shapes={
        "circle": ("circle", "ball", "disc", "disk", "dot"),
        "square": ("square", "box", "block"),
        "triangle": ("triangle",),
        "star": ("star", "five-pointed star"),
        "cross": ("cross", "plus", "plus sign"),
        "ring": ("ring", "hoop", "donut", "annulus"),
    },
    sizes={"small": ("small", "little", "tiny", "miniature"), "large": ("large", "big", "huge", "giant")},
    actions={
        "move": ("*move {d}", "*go {d}", "*travel {d}", "*slide {d}", "*proceed {d}"),
        "return": (
            "*go {d} and *come back",
            "*move {d} and *return",
            "*move {d} and *come back",
            "*go {d} and back",
            "*travel {d} and back again",
        ),
        "circle": ("*circle {d}", "*move in a circle {d}", "*go around in a circle {d}", "*orbit {d}"),
        "grow": ("*grow", "*get bigger", "*get larger", "*become bigger", "*expand", "*swell"),
        "shrink": ("*shrink", "*get smaller", "*become smaller", "*contract", "*dwindle"),
        "blink": (
            "*disappear and *come back",
            "*vanish and *reappear",
            "*disappear and *reappear",
            "*fade out and *come back",
            "*vanish and *return",
        ),
        "bounce": ("*bounce", "*bounce up and down", "*hop up and down", "*hop", "*spring up and down"),
        "still": (
            "*stay still",
            "not move|does not move|not moving",
            "*stand still",
            "*remain still",
            "*stay in place",
            "*remain motionless",
        ),
    },
    directions={
        "left": ("left", "to the left", "leftwards", "leftward", "towards the left", "to the left-hand side"),
        "right": ("right", "to the right", "rightwards", "rightward", "towards the right", "to the right-hand side"),
        "up": ("up", "upwards", "upward", "skywards"),
        "down": ("down", "downwards", "downward", "earthwards"),
        "clockwise": ("clockwise", "in a clockwise direction"),
        "counterclockwise": (
            "counterclockwise",
            "anticlockwise",
            "counter-clockwise",
            "in a counterclockwise direction",
            "in an anticlockwise direction",
        ),
    },
    speeds={
        "slowly": ("slowly", "at a slow pace", "at low speed", "unhurriedly"),
        "quickly": ("quickly", "fast", "rapidly", "at high speed", "swiftly"),
    },
    places=(
        "on a {b} background",
        "on {b} background",
        "on the {b} background",
        "against a {b} background",
        "on a plain {b} background",
        "against a {b} backdrop",
        "over a {b} background",
        "in front of a {b} background",
    ),
    grounds=(", {b} background", ", the background is {b}", ", with a {b} background", ", background {b}"),
    joins=(" and ", ", ", ", and ", " while ", " whereas "),  # the last two between whole sentences only
    sides={
        "left": ("left of", "to the left of"),
        "right": ("right of", "to the right of"),
        "above": ("above", "higher than"),
        "below": ("below", "lower than"),
    },
    beside=(", the {x} {side} the {y}", ", with the {x} {side} the {y}", ", the {x} starting {side} the {y}"),
)
ADJECTIVES = {"slowly": ("slow", "slow-moving"), "quickly": ("fast", "quick", "fast-moving")}

CHINESE = Language(
    moving=(
        ("{a}{adv}{v}", "{front}{clauses}"),
        ("{a}{adv}{v}", "{clauses}{place}"),
        ("{n}{adv}{v}", "{front}{clauses}"),
        ("{a}正在{adv}{v}", "{front}{clauses}"),
        ("{n}{adv}{v}", "{clauses}{place}"),
        ("{a}在{adv}{v}", "{front}{clauses}"),
        ("有{a}{adv}{v}", "{on}{clauses}"),
        ("{a}，{adv}{v}", "{front}{clauses}"),
        ("{a}{adv}{v}", "{clauses}{ground}"),
        ("{n}正在{adv}{v}", "{clauses}{ground}"),
        ("{a}{adv}{v}", "视频里，{clauses}{ground}"),
        ("{n}正{adv}{v}", "{clauses}{ground}"),
        ("{a}{here}{adv}{v}", "{clauses}"),
        ("有{a}正在{adv}{v}", "{front}{clauses}"),
        ("{n}{here}{adv}{v}", "{clauses}"),
    ),
    resting=(
        ("{a}", "{front}{clauses}"),
        ("{a}", "{clauses}{place}"),
        ("{n}", "{front}{clauses}"),
        ("有{a}", "{on}{clauses}"),
        ("{a}", "{clauses}{ground}"),
    ),
    colours={
        name: tuple(world.CHINESE[name].replace("色", kind) for kind in ("色", "色的", ""))
        for name in (*world.COLOURS, *world.BACKGROUNDS)
    },
    shapes={
        "circle": ("圆形", "球", "圆", "圆盘", "圆球"),
        "square": ("正方形", "方块", "方形"),
        "triangle": ("三角形", "三角"),
        "star": ("星形", "星星", "五角星"),
        "cross": ("十字形", "十字", "加号"),
        "ring": ("圆环", "环", "环形"),
    },
    sizes={"small": ("小", "小小的", "很小的", "微小的"), "large": ("大", "大大的", "很大的", "巨大的")},
    actions={
        "move": ("向{d}移动", "往{d}移动", "向{d}走", "朝{d}移动", "向{d}运动", "向{d}方行进"),
        "return": ("向{d}移动再回来", "往{d}移动再回来", "向{d}移动然后返回", "向{d}移动后又回来", "向{d}去而复返"),
        "circle": ("{d}转圈", "{d}绕圈", "沿{d}方向转圈", "{d}兜圈子"),
        "grow": ("变大", "越来越大", "变得更大", "膨胀"),
        "shrink": ("变小", "越来越小", "变得更小", "缩小"),
        "blink": ("消失再出现", "消失后又出现", "消失然后重新出现", "隐去再现身"),
        "bounce": ("上下弹跳", "上下跳动", "弹跳", "蹦蹦跳跳"),
        "still": ("静止不动", "一动不动", "保持不动", "静止", "纹丝不动"),
    },
    directions={
        **{name: (world.CHINESE[name], world.CHINESE[name] + "边") for name in ("left", "right")},
        **{name: (world.CHINESE[name],) for name in ("up", "down", "clockwise")},
        "counterclockwise": ("逆时针", "反时针"),
    },
    speeds={
        "slowly": ("慢慢地", "缓慢地", "缓缓地", "慢悠悠地"),
        "quickly": ("快速地", "迅速地", "很快地", "飞快地"),
    },
    places=("{b}背景上", "在{b}背景上", "在{b}背景中", "在{b}的背景上", "以{b}为底"),
    grounds=("，背景是{b}", "，背景为{b}", "，{b}背景", "，{b}的底"),
    joins=("，", "，同时", "，而", "，与此同时"),
    sides={"left": ("左边", "左侧"), "right": ("右边", "右侧"), "above": ("上方", "上面"), "below": ("下方", "下面")},
    beside=("，{x}在{y}的{side}", "，开始时{x}在{y}的{side}"),
)
LANGUAGES = {"en": ENGLISH, "zh": CHINESE}

# What people say too. No phrasing does, so no weights were trained on it: prompts are read by it alone.
Also = Mapping[str, Mapping[str, Forms]]
_ALSO: Also = {
    "actions": {
        "move": (
            "*roll {d}",
            "*drift {d}",
            "*glide {d}",
            "*fly {d}",
            "*float {d}",
            "*run {d}",
            "*head {d}",
            "*sail {d}",
        ),
        "return": ("*go {d} then *come back", "*move {d} then *come back", "*move {d} and back", "*move {d} then back"),
        "circle": (
            *("*rotate {d}", "*revolve {d}", "*spin {d}", "*turn {d}", "*loop {d}"),
            *("*spin around {d}", "*turn around {d}", "*go in circles {d}", "*move in circles {d}", "*go round {d}"),
        ),
        "grow": ("*enlarge", "*inflate", "*increase in size"),
        "shrink": ("*diminish", "*deflate", "*decrease in size"),
        "blink": ("*blink", "*vanish then *reappear", "*disappear then *reappear", "*disappear then *come back"),
        "bounce": ("*jump", "*jump up and down", "*bob", "*bob up and down", "*leap", "*leap up and down"),
        "still": ("*rest", "*sit still", "*sit there", "*stand there", "*do nothing", "motionless"),
    },
    "directions": {
        "left": ("from right to left", "from the right to the left", "right to left"),
        "right": ("from left to right", "from the left to the right", "left to right"),
        "up": ("from bottom to top", "from the bottom to the top", "to the top"),
        "down": ("from top to bottom", "from the top to the bottom", "to the bottom"),
    },
    "colours": {"red": ("scarlet", "crimson"), "blue": ("navy",), "yellow": ("golden", "gold")},
    "shapes": {"circle": ("sphere",), "square": ("cube",)},
}
_ALSO_CHINESE: Also = {
    "actions": {
        "move": (
            *(f"{to}{{d}}{verb}" for to in "向往朝" for verb in ("走", "滚动", "滚", "飞", "飘", "滑动", "去")),
            "{d}移动",
        ),
        "circle": ("{d}旋转", "{d}打转"),
        "bounce": ("跳", "跳动", "蹦", "上下跳", "跳来跳去"),
        "still": ("不动", "停着"),
    },
    "directions": {
        "left": ("从右往左", "从右向左", "从右到左"),
        "right": ("从左往右", "从左向右", "从左到右"),
        "up": ("从下往上", "从下向上", "从下到上"),
        "down": ("从上往下", "从上向下", "从上到下"),
    },
    "speeds": {"slowly": ("慢慢", "缓慢", "缓缓"), "quickly": ("快速", "迅速", "很快", "飞快")},
}


def _heard(of: Language, also: Also) -> Language:
    """A language with more forms."""
    tables = {name: getattr(of, name) for name in also}
    more: dict[str, Any] = {
        n: {key: (*forms, *also[n].get(key, ())) for key, forms in table.items()} for n, table in tables.items()
    }
    return replace(of, **more)


HEARD = {"en": _heard(ENGLISH, _ALSO), "zh": _heard(CHINESE, _ALSO_CHINESE)}
# Verbs that say where something moves themselves, and words that say nothing of a scene.
VERTICAL: Mapping[str, Forms] = {"up": ("*rise", "*ascend", "*climb"), "down": ("*fall", "*drop", "*descend", "*sink")}
FILLERS: Mapping[str, Forms] = {
    "en": (
        *("a", "an", "the", "is", "that", "just", "please", "gently", "across", "all the way", "across the screen"),
        *("a video of", "a clip of", "an animation of", "video of", "in this video", "there is", "into the air"),
        *("show", "show me", "make", "draw", "create", "generate", "is shown"),
    ),
    "zh": ("一个", "一只", "一颗", "一枚", "一块", "有", "有一个", "正在", "正", "在", "的", "视频里", "请画"),
}
