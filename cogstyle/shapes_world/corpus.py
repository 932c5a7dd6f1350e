"""Captions of the shapes world, as a corpus for a text tokenizer."""

from collections.abc import Iterator

from cogstyle.shapes_world import world

CHINESE_WORDS = (
    *world.CHINESE.values(),
    *("圆形", "背景上,", "一个", "向", "移动", "再回来", "转圈", "变大", "变小", "消失再出现", "上下弹跳", "静止不动"),
)  # as normalised: NFKC makes a full-width comma an ASCII one


def captions(count: int, seed: int) -> Iterator[str]:
    """Captions of the training seeds, half of them without the actions."""
    for number in range(count):
        yield world.caption(world.draw_scene(seed + number), with_action=number % 2 == 0)
