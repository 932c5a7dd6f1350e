"""What can be read for sure becomes its caption; whatever may mean something else is left alone."""

import pytest

from cogstyle.shapes_world.pairs import KINDS, LANGUAGES, held_back_pairs
from cogstyle.shapes_world.restating import restated


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_phrasings_of_one_actor_are_read(kind, language):
    for said, caption in held_back_pairs(kind, language, 60, actors=1):
        assert restated(said) == caption


@pytest.mark.parametrize(
    "asked, caption",
    [
        ("a red circle moves from left to right", "a red circle moves right"),
        ("video of a green star flying upwards", "a green star moves up"),
        ("a blue square sliding from top to bottom", "a blue square moves down"),
        ("the red ball falls", "a red circle moves down"),
        ("A scarlet disk slides across to the right!", "a red circle moves right"),
        ("the red ball rolls left slowly on black", "a red circle moves left slowly on a black background"),
        ("a small red ring jumping up and down", "a small red ring bounces"),
        ("purple cross rotates clockwise, white background", "a purple cross circles clockwise on a white background"),
        ("a big yellow ring that just sits there", "a large yellow ring stays still"),
        ("a yellow star is blinking", "a yellow star disappears and comes back"),
        ("小红圆慢慢地向上移动", "一个小红色圆形慢慢地向上移动"),
        ("红色圆形从左往右移动", "一个红色圆形向右移动"),
        ("蓝色方块慢慢变大", "一个蓝色正方形慢慢地变大"),
    ],
)
def test_what_is_read_in_other_words(asked, caption):
    assert restated(asked) == caption


UNSURE = """
a red circle dances
a cat runs
a pink square moves left
a circle moves
a red circle
three red circles grow
a red circle is not growing
no red circle moves left
a red circle does not move right
a red circle grows to the left
a red circle moves left and then grows
a red circle moves up and left
a big small red circle grows
four red balls grow
a red and blue circle moves left
two red balls move left
red balls move left
a red ball moves left and a red ball
a bright red ball moves
a red star winks
a red clock grows
a red ball moves outwards
a red ball grows and shakes
a tall red square moves up
a red and white ball grows
a red ball that grows white
a red ball disappears
a red ball moves left on a red background
a red ball is on the right
a red ball is left
a red ball slows down
a red ball moves a little to the left
a red ball moves back up
a red ball blinks two times
a red ball left the screen
a red ball grows then shrinks and a blue square grows
a red ball shrinks into a red square
a red right triangle moves
a red ball moves left above a blue square
a red ball that moves left is small
a red ball moves left on a light background
红球不向右移动
粉色的方块变大
一只猫在跑
红球上下移动
两个红球向左移动
红白球向左移动
红色背景上红球变大
红球变小小的
红色方块有时向左移动
红球是大的，向左移动
"""


@pytest.mark.parametrize("asked", UNSURE.split("\n"))
def test_what_cannot_be_read_for_sure(asked):
    """Another word, no, a number, several things of one actor, a place: nothing is said for it."""
    assert restated(asked) is None
