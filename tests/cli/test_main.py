"""What the command itself does about errors, whatever the subcommand."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cogstyle.cli import inspect
from cogstyle.cli.main import main
from tests.conftest import debug_recipe
from tests.training.tiny import fork, statuses


def told(capsys, error, monkeypatch):
    """What is said when a subcommand raises `error`."""

    def fails(arguments):
        raise error

    monkeypatch.setattr(inspect, "run", fails)
    status = main(["inspect", "x"])
    return status, capsys.readouterr().err


def allocation(allocate):
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        allocate()
    return caught.value


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (lambda: allocation(lambda: np.empty(1 << 60, np.uint8)), "out of memory: 1.00 EiB at once were asked for"),
        (lambda: allocation(lambda: torch.empty(1 << 60)), "out of memory: 4611686018427387904 bytes at once"),
        (lambda: MemoryError(), "out of memory; ask for less"),
        (lambda: RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (lambda: PermissionError(13, "Permission denied", "a/b.mp4"), "a/b.mp4: Permission denied"),
    ],
)
def test_what_the_machine_refuses_is_one_line(monkeypatch, capsys, error, message):
    status, line = told(capsys, error(), monkeypatch)
    assert status == 2 and line.startswith("cogstyle: ") and message in line and line.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), ValueError("x"), AssertionError()])
def test_our_own_faults_are_not_hidden(monkeypatch, capsys, error):
    with pytest.raises(type(error)):
        told(capsys, error, monkeypatch)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["sample", "\udcff", "--out", "v.mp4"], r"argument '\udcff' is not UTF-8"),
        (["sample", "x", "--out", "v.mp4", "--seed", "one"], "argument --seed: invalid int value: 'one'; see cogstyle"),
        (["sing"], "invalid choice: 'sing'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_wrong_arguments_are_one_line(capsys, argv, message):
    try:
        status = main(argv)
    except SystemExit as error:
        status = error.code
    line = capsys.readouterr().err
    assert status == 2 and line.startswith("cogstyle: ") and message in line and line.count("\n") == 1


def test_a_terminal_that_knows_ascii_only(monkeypatch, capsys, tmp_path):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", out)
    assert main(["inspect", str(tmp_path / "名前")]) == 2
    out.flush()
    assert rb"\u540d\u524d" in out.buffer.getvalue()


def test_a_reader_that_has_seen_enough(debug_bundle):
    """As `cogstyle inspect shapes | head -1`."""

    def work():
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        os._exit(main(["inspect", str(debug_bundle)]))

    assert statuses([fork(work)]) == [141]


def test_home_in_paths(debug_bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(debug_bundle.parent))
    assert main(["inspect", "~/bundle"]) == 0
    recipe = debug_recipe(tmp_path, "image", bundle=Path("~/bundle"))
    assert main(["train", str(recipe), f"--runs=~/{tmp_path.name}", "--dry-run", "--quiet"]) == 0
    assert (debug_bundle.parent / tmp_path.name / "image" / "first-batch.png").is_file() and not Path("~").exists()
