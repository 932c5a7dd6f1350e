"""A copy of the debug bundle that a test may change."""

import shutil

import pytest


@pytest.fixture
def copy(debug_bundle, tmp_path):
    return shutil.copytree(debug_bundle, tmp_path / "copy")
