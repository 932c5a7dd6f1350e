"""What docs/serve.md shows, run against a server."""

import json
import re
import shlex
import shutil
import subprocess

import pytest
from PIL import Image

from cogstyle.server.orders import Fields
from tests.server.running import ROOT

GUIDE = (ROOT / "docs/serve.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", GUIDE, re.M | re.S)
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture
def desk(tmp_path, monkeypatch):
    for name in ("picture", "a", "b", "c"):
        Image.new("RGB", (64, 64), "white").save(tmp_path / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_python_client(server, desk):
    pytest.importorskip("openai")
    (code,) = (text for kind, text in BLOCKS if kind == "python")
    names: dict = {}
    exec(compile(code.replace(ADDRESS, server.address), "docs/serve.md", "exec"), names)
    names["client"].close()
    assert (desk / "circle.mp4").stat().st_size > 0 and (desk / "keyframes.png").stat().st_size > 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(server, desk):
    lines = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]
    assert len(lines) == 3
    answers = []
    for line in lines:
        argv = shlex.split(line.replace(ADDRESS, server.address))
        answers.append(json.loads(subprocess.run(argv, capture_output=True, check=True).stdout))
    first, between, listed = answers
    assert (first["pictures"], between["pictures"]) == (1, 3), answers
    assert [video["id"] for video in listed["data"]] == [between["id"], first["id"]]
    assert {server.finished(video["id"])["status"] for video in (first, between)} == {"completed"}


def test_every_field_is_in_its_table():
    table = "".join(re.findall(r"^\| (`.*?) \|", GUIDE, re.M))
    assert set(Fields.model_fields) <= set(re.findall(r"`(\w+)`", table))
