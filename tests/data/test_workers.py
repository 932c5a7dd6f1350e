"""Work in processes that may die: every item comes back once, and the one that kills is named."""

import os
from functools import partial

import pytest

from cogstyle.data.workers import spread
from cogstyle.errors import ConfigError


def doubling(deadly):
    """Give the work of a process: an item that is `deadly` ends it."""

    def work(chunk):
        if deadly in chunk:
            os._exit(7)
        return [2 * item for item in chunk]

    return work


def broken():
    raise RuntimeError("no such weights")


def test_no_worker_is_this_process():
    chunks = [[1, 2], [3]]
    assert list(spread(partial(doubling, None), chunks, workers=0, lost=lambda item: [])) == [
        ([1, 2], [2, 4]),
        ([3], [6]),
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_death_loses_one_item(workers):
    chunks = [[k, k + 1] for k in range(0, 20, 2)]
    pairs = list(spread(partial(doubling, 7), chunks, workers=workers, lost=lambda item: [f"lost {item}"]))
    items = [item for chunk, _ in pairs for item in chunk]
    assert sorted(items) == list(range(20))
    results = {item: result for chunk, results in pairs for item, result in zip(chunk, results, strict=True)}
    assert results == {item: f"lost {item}" if item == 7 else 2 * item for item in range(20)}


@pytest.mark.filterwarnings("ignore")
def test_processes_that_cannot_start_are_an_error(capfd):
    with pytest.raises(ConfigError, match="worker processes cannot start"):
        list(spread(broken, [[1], [2]], workers=2, lost=lambda item: None))
