"""A checkpoint of CogVideo's sizes but one layer: width 3072, 150,010 ids; it imports and samples in bfloat16."""

import pytest

from benchmarks.official_size import main

pytestmark = pytest.mark.slow


def test_one_layer_of_the_official_model(tmp_path):
    figures = main(1, 2, tmp_path)
    assert figures["checkpoint, GB"] > 1.2
    peak = figures["import, peak of anonymous memory, GB"]
    assert peak < 0.5 * figures["checkpoint, GB"]  # it never holds a second copy
