"""What must not change unnoticed: the shipped bundle's samples, to the token, and the rows that seeds draw.

A new training of the bundle renews PROMPTS' hashes; nothing renews ROWS: seeds are data.
"""

import hashlib

import numpy as np
import pytest
import torch

import cogstyle
from cogstyle.sampling.options import Options
from cogstyle.shapes_world import rows

PROMPTS = {
    "a red circle moves right": "efa7d6 3b1867 e17c9a 7debbe 551a10",
    "a small blue square stays still on a white background": "4133af 7e3d0f c2c1d7 ef2ade c99f68",
    "a large yellow star bounces quickly": "2ea464 776a30 6cfdb6 d3fe73 74a180",
    "an orange triangle shrinks and a green cross goes up and comes back": "15ea90 23911c 20e8ac e91a98 fa724b",
    "一个蓝色正方形慢慢地顺时针转圈": "65346b 83aa02 c1f1b5 94ff46 a09d18",
    "白色背景上，一个红色圆形慢慢地向右移动": "fb2ab3 926ab7 d31760 28172f 860011",
    "一个大紫色三角形消失再出现": "8c00a3 8e3753 cd733e ff660e e3fccf",
    "灰色背景上，一个黄色圆环快速地变大，一个小橙色十字形静止不动": "1284f2 009e28 9aae30 dee84f 5c1fdf",
}
ROWS = {
    "image": "7814db2fc9880ddb",
    "keyframes": "9a47d8399f858119",
    "interpolation": "9c08c3fccd23f837",
    "continuation": "91eb6d7a6a2f10b6",
    "superres": "0456138f16b739a1",
}
SEEDS = 64


def digest(*arrays: np.ndarray | str | float) -> str:
    """A short hash of values, shapes and kinds."""
    made = hashlib.sha256()
    for value in arrays:
        made.update(repr((value.shape, str(value.dtype)) if isinstance(value, np.ndarray) else value).encode())
        made.update(value.tobytes() if isinstance(value, np.ndarray) else b"")
    return made.hexdigest()[:16]


@pytest.fixture(scope="module")
def parts() -> dict[str, list[str]]:
    """For every prompt the hashes of its first frame, of its keyframes and of each refinement level."""
    pipe = cogstyle.load("shapes")
    found: dict[str, list[str]] = {prompt: [] for prompt in PROMPTS}
    for part in pipe.stream([*PROMPTS], range(len(PROMPTS)), Options()):
        if part.tokens_BFL.shape[1] == 1 or part.whole:
            for prompt, tokens in zip(PROMPTS, part.tokens_BFL.to(torch.int32).numpy(), strict=True):
                found[prompt].append(digest(tokens)[:6])
    return found


@pytest.mark.parametrize("prompt", PROMPTS)
def test_samples_of_the_shipped_bundle_stay_the_same(parts, prompt):
    assert " ".join(parts[prompt]) == PROMPTS[prompt]


@pytest.mark.parametrize("kind", ROWS)
def test_rows_of_seeds_stay_the_same(kind):
    draw = {
        "image": lambda seed: rows.image_row(seed, 32),
        "keyframes": lambda seed: rows.keyframe_row(seed, 32, 5),
        "interpolation": lambda seed: rows.interpolation_row(seed, 32, 5),
        "continuation": lambda seed: rows.continuation_row(seed, 32, 5),
        "superres": lambda seed: rows.superres_row(seed, 32, 2),
    }[kind]
    values: list[np.ndarray | str | float] = []
    for seed in range(SEEDS):
        row = draw(seed)
        values += [row.frames, row.caption, row.seconds, *([] if row.fine is None else [row.fine])]
    assert digest(*values) == ROWS[kind]
