"""One prompts file on this machine, on a Ray cluster, and in shares: the same videos; shares of a SLURM array."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cogstyle.cli.machines import parse_shard
from cogstyle.cli.main import main
from cogstyle.cluster import Actor
from cogstyle.errors import ConfigError
from tests.cli.test_sample import run  # noqa: F401  (a fixture)

LINES = [{"prompt": f"a red circle {k}", "seed": k, "levels": int(k == 7)} for k in range(1, 41)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def in_a_process(*argv: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "cogstyle", *argv]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)


def prompts(*lines: dict) -> None:
    Path("p.jsonl").write_text("\n".join(json.dumps({"levels": 0, **line}) for line in lines))


def videos(folder: str) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).glob("*.mp4")}


def test_shares_make_what_one_machine_makes(run, monkeypatch):  # noqa: F811
    prompts(*LINES[:7], {"prompt": " "})
    assert run("--prompts", "p.jsonl", "--out", "all")[0] == 1
    assert run("--prompts", "p.jsonl", "--out", "shares", "--shard", "1/2")[0] == 0
    assert len(videos("shares")) == 4
    for name, value in {"ID": 4, "COUNT": 2, "MIN": 2, "STEP": 2}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))  # the second of --array=2-4:2
    status, error = run("--prompts", "p.jsonl", "--out", "shares")
    assert status == 1 and error == "cogstyle: line 8: the prompt is empty\n"
    assert videos("shares") == videos("all") and len(videos("all")) == 7


@pytest.mark.parametrize(
    ("task", "share"),
    [
        ({}, (1, 1)),
        ({"ID": "1", "COUNT": "2"}, (1, 2)),
        ({"ID": "0", "COUNT": "8", "MIN": "0", "STEP": "1"}, (1, 8)),
        ({"ID": "7", "COUNT": "8", "MIN": "0", "STEP": "1"}, (8, 8)),
        ({"ID": "6", "COUNT": "3", "MIN": "2", "STEP": "2"}, (3, 3)),
        ({"ID": "5", "COUNT": "3", "MIN": "1", "STEP": "1"}, None),  # --array=1,3,5
        ({"ID": "0", "COUNT": "2"}, None),
        ({"ID": "x", "COUNT": "2"}, None),
    ],
)
def test_a_task_of_a_slurm_array_is_a_share(monkeypatch, task, share):
    for name, value in task.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    if share is None:
        with pytest.raises(ConfigError, match="give --shard i/n"):
            parse_shard(None)
    else:
        assert parse_shard(None) == share
    assert parse_shard("2/3") == (2, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["x", "--engine", "ray"], "share out --prompts"),
        (["x", "--shard", "1/2"], "share out --prompts"),
        (["--prompts", "p.jsonl", "--workers", "2"], "--workers are actors of --engine ray"),
        (["--prompts", "p.jsonl", "--shard", "3/2"], "shard '3/2' must be i/n"),
    ],
)
def test_what_cannot_be_shared_is_said(run, options, message):  # noqa: F811
    prompts(LINES[0])
    status, error = run(*options, "--out", "d")
    assert status == 2 and message in error and error.count("\n") == 1


def test_without_ray_its_engine_says_what_to_install(run, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "ray", None)
    prompts(LINES[0])
    status, error = run("--prompts", "p.jsonl", "--out", "d", "--engine", "ray")
    assert status == 2 and error == 'cogstyle: --engine ray needs ray (pip install "cogstyle[cluster]")\n'


def test_a_row_that_raises_takes_no_other_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def work(rows):
        for row in rows:
            yield {"id": row["id"], "file": "", "ok": 1 // row["n"] == 1, "error": "", "made": True, "notes": []}

    found = Actor(lambda: work, str(tmp_path))({"id": ["1", "2", "3"], "n": ["1", "0", "1"]})
    assert found["ok"] == ["true", "false", "true"] and "ZeroDivisionError" in found["error"][1]


def kill_one_actor(folder: Path, killed: list[int]) -> None:
    """Kill one of our actors once it has made a video."""
    while not killed:
        time.sleep(0.05)
        for entry in Path("/proc").glob("[0-9]*") if any(folder.glob("*.mp4")) else ():
            try:
                titled, cwd = (entry / "cmdline").read_bytes(), Path(os.readlink(entry / "cwd"))
            except OSError:
                continue
            if titled.startswith(b"ray::") and b"MapBatches" in titled and cwd == folder.parent:
                os.kill(int(entry.name), signal.SIGKILL)
                killed.append(int(entry.name))
                return


@pytest.mark.slow
def test_ray_makes_the_same_though_a_worker_is_killed(run, debug_bundle, tmp_path):  # noqa: F811
    pytest.importorskip("ray.data")
    prompts(*LINES, {"prompt": " "})
    assert run("--prompts", "p.jsonl", "--out", "all")[0] == 1
    killed: list[int] = []
    threading.Thread(target=kill_one_actor, args=(tmp_path / "ray", killed), daemon=True).start()
    command = ["sample", "--prompts", "p.jsonl", "--out", "ray", "--quiet", "--device", "cpu"]
    done = in_a_process(*command, "--bundle", str(debug_bundle), "--engine", "ray", "--workers", "2")
    assert done.returncode == 1 and "cogstyle: line 41: the prompt is empty\n" in done.stderr, done.stderr
    assert killed and re.search(r"made, \d+ there already, 1 failed; all in ray", done.stdout)
    assert videos("ray") == videos("all") and len(videos("all")) == 40


@pytest.mark.slow
def test_ray_writes_the_same_shards(debug_bundle, tmp_path, monkeypatch):
    pytest.importorskip("ray.data")
    monkeypatch.chdir(tmp_path)
    assert main(["world", "--count", "10", "--out", "clips", "--size", "32"]) == 0
    with open("clips/captions.csv", "a") as file:
        file.write("none.mp4,a red circle\n")
    options = ["--bundle", str(debug_bundle), "--quiet", "--entries-per-part", "4", "--flip", "no", "--workers", "2"]
    assert main(["encode", "clips/captions.csv", "--to", "here", *options]) == 0
    done = in_a_process("encode", "clips/captions.csv", "--to", "ray", "--engine", "ray", *options)
    assert done.returncode == 0 and done.stderr.count("refused captions.csv:12") == 1, done.stderr
    here, ray = ({path.name: path.read_bytes() for path in Path(name).iterdir()} for name in ("here", "ray"))
    assert len(here) >= 6 and here == {**ray, "README.md": here["README.md"]}


DEADLY = """
import os, sys
from cogstyle.cluster import on_ray
from cogstyle.errors import ConfigError
def make_work():
    def work(rows):
        for row in rows:
            if row["id"] == 2:
                os._exit(1)
            yield {"id": row["id"], "ok": True}
    return work
try:
    print(sum(row["ok"] for row in on_ray(make_work, [{"id": k} for k in range(4)], workers=2, gpus=0, batch=1)))
except ConfigError as error:
    sys.exit(f"said: {error}")
"""


@pytest.mark.slow
def test_a_row_that_ends_every_worker_ends_the_run():
    pytest.importorskip("ray.data")
    done = subprocess.run([sys.executable, "-c", DEADLY], env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "said: the run on Ray ended: " in done.stderr, done.stderr
