"""Captions of the shapes world, as a corpus for a text tokenizer."""

from collections.abc import Iterator

from cogstyle.shapes_world import phrasings, world
from cogstyle.shapes_world.rows import Emphasis

CHINESE_WORDS = (
    *world.CHINESE.values(),
    *("圆形", "背景上,", "一个", "向", "移动", "再回来", "转圈", "变大", "变小", "消失再出现", "上下弹跳", "静止不动"),
)  # as normalised: NFKC makes a full-width comma an ASCII one


def chinese_words() -> tuple[str, ...]:
    """Of the phrasings too, but not of those that are held out."""
    return tuple(dict.fromkeys((*CHINESE_WORDS, *sorted(phrasings.words("zh", held_out=False)))))


def captions(count: int, seed: int, *, phrased: bool = False) -> Iterator[str]:
    """Captions of the training seeds, half of them without the actions; `phrased`: as people write them."""
    says = Emphasis(phrasings=phrased)
    for number in range(seed, seed + count):
        yield says.caption(world.draw_scene(number), number, with_action=(number - seed) % 2 == 0)
