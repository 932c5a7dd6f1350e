"""Videos that join a batch while it runs are those that are drawn alone, whoever joins whom and where."""

import json

import pytest

import cogstyle
from cogstyle.errors import PromptError
from cogstyle.sampling.batch import make_videos
from cogstyle.sampling.continuous import LARGEST_BATCH, Continuous, Item
from cogstyle.sampling.options import Options
from cogstyle.sampling.outputs import Output, sidecar
from cogstyle.sampling.request import Request, begin, identify

PROMPTS = ["a red circle", "a blue square moves right", "x"]
PARTS = 7  # of a video with 2 levels: a first frame, 4 keyframes, 2 levels


@pytest.fixture(scope="module")
def pipe(debug_bundle):
    return cogstyle.load(debug_bundle)


@pytest.fixture(scope="module")
def alone(pipe):
    """The video of each prompt."""
    return [pipe.sample([prompt], [seed], Options(levels=2))[0] for seed, prompt in enumerate(PROMPTS)]


def items(pipe, folder, numbers, **changed) -> list[Item]:
    """What makes the videos of these prompts; the seed is the number."""
    found = []
    for number in numbers:
        request = identify(pipe, Request(PROMPTS[number], Options(levels=2, seed=number)))
        found.append(Item(begin(pipe, request), Output(folder / f"{number}.webp"), **changed))
    return found


def nothing(_: object) -> None:
    pass


@pytest.mark.parametrize(
    ("joins", "sizes"),
    [
        ({}, [3] * 7),
        ({1: [1, 2]}, [1] + [2] + [3] * 6),  # at the first border; they catch up at once
        ({3: [2], 5: [1]}, [1] * 7 + [2] + [3] * 4),
    ],
    ids=str,
)
def test_tokens_are_those_alone(pipe, alone, tmp_path, joins, sizes):
    late = [number for group in joins.values() for number in group]
    first = items(pipe, tmp_path, [number for number in range(3) if number not in late])
    drawn, made = [], {}
    videos = Continuous(pipe, first, lambda: items(pipe, tmp_path, joins.pop(len(drawn), [])))
    while group := videos.group():
        for item, video in videos.draw(
            group, on_part=lambda part: drawn.append(len(part.tokens_BFL)), progress=nothing
        ):
            made[item.request.options.seed] = video
    assert sorted(made) == [0, 1, 2] and not joins
    assert all((made[number].tokens == alone[number].tokens).all() for number in made)
    assert sum(drawn) == 3 * PARTS  # nothing is drawn twice
    assert drawn == sizes


def test_files_of_those_that_join(pipe, alone, tmp_path):
    """`make_videos` writes them too; a json does not say who joined, and no drawn keyframe is called given."""
    first, second, bad = *items(pipe, tmp_path, [0, 1]), items(pipe, tmp_path, [2])[0]
    bad = Item(Request(" ", Options(levels=2)), bad.output)
    shown = []

    def arrivals():
        return {PARTS - 1: [second], PARTS: [bad]}.get(len(shown), [])

    errors = make_videos(
        pipe, [first.request], [first.output], arrivals=arrivals, on_part=lambda *part: shown.append(part)
    )
    assert errors[:2] == [None, None] and isinstance(errors[2], PromptError)
    for number in range(2):
        path = tmp_path / f"{number}.webp"
        info = json.loads(sidecar(path).read_text())
        assert path.read_bytes() == alone[number].encoded(".webp") and "given_frames" not in info
        assert info["prompt"] == PROMPTS[number]


def test_who_is_drawn_next(pipe, tmp_path):
    """At most a batch of those least far; those set apart by themselves."""
    many = items(pipe, tmp_path, [0]) * (LARGEST_BATCH + 2)
    assert len(Continuous(pipe, many).group()) == LARGEST_BATCH
    videos = Continuous(pipe, items(pipe, tmp_path, [0, 1, 2]))
    videos.separate(videos.group()[1:])
    sizes = []
    while group := videos.group():
        sizes.append(len(group))
        videos.drop(group)
    assert sizes == [1, 1, 1]
