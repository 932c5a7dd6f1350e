"""Servers of the debug bundle; without the extra `serve` there is nothing to test here."""

import pytest

from tests.server.running import serving


@pytest.fixture(scope="module")
def server(debug_bundle, tmp_path_factory):
    pytest.importorskip("fastapi")
    with serving(tmp_path_factory.mktemp("data"), debug_bundle) as running:
        yield running
