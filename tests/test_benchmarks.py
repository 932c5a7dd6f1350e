"""The scripts that measure run, on the smallest bundle."""

import json
import os
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cogstyle.config import MODELS
from cogstyle.sampling import decode as decoding
from cogstyle.sampling.static_step import SWITCH

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_superres(debug_bundle, capsys):
    runpy.run_path(str(BENCHMARKS / "superres.py"))["main"]([str(debug_bundle), "--count", "2", "--frames", "3"])
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith(("| b", "| t", "| u"))]
    psnr, flicker = ({row[1].strip(): float(row[k]) for row in rows} for k in (2, 3))
    assert len(psnr) == 6 and psnr["bicubic, true small frame"] > 20
    assert flicker["upscaled, drawn, each frame its own"] > 3 * flicker["upscaled, drawn, numbers shared"]


def test_mixing(debug_bundle, capsys, tmp_path):
    sizes = ["--steps", "3", "--tokens", "160", "--rows", "24", "--validation-rows", "8", "--runs", str(tmp_path)]
    runpy.run_path(str(BENCHMARKS / "mixing.py"))["main"]([str(debug_bundle), *sizes])
    lines = capsys.readouterr().out.splitlines()
    start, alone, mixed = (line.split("|")[2:-1] for line in lines[2:5])
    assert len(start) == len(mixed) == 4 and start != alone
    assert sum("% of the text places are padding" in line for line in lines) == 2


def test_training_memory(capsys):
    script = runpy.run_path(str(BENCHMARKS / "training_memory.py"))
    script["main"](["--computed"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "cogvideo-9b: image model 5.90 G, adapter 1.82 G parameters" and len(lines) == 8
    script["measure"].__globals__["MIDDLE"] = MODELS["shapes"]
    frozen, full = (
        [float(part) for part in script["measure"](full=full, again=True).split(" | ")] for full in (False, True)
    )
    assert abs(full[1] - frozen[1] - frozen[0]) <= 1 and full[0] == 0 and frozen[3] < full[3]


def test_training_speed(capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    found = runpy.run_path(str(BENCHMARKS / "training_speed.py"))["main"](["--batch", "1", "--rounds", "1"])
    assert set(found) == {"fp32", "bf16"} and min(found.values()) > 0
    assert [line[:6] for line in capsys.readouterr().out.splitlines()[2:]] == ["| fp32", "| bf16"]


def test_sampling(capsys, tmp_path):
    sizes = ["--layers", "2", "--width", "64", "--codes", "64", "--side", "4", "--steps", "3"]
    main = runpy.run_path(str(BENCHMARKS / "sampling.py"))["main"]
    found = main([*sizes, "--paths", "float32", "int8", "--json", str(tmp_path / "found.json")])
    assert found == json.loads((tmp_path / "found.json").read_text()) and all(value > 0 for value in found.values())
    assert {
        "naive: interpolation step, ms",
        "int8: clip, whole clip, s",
        "float32: keyframe step, guided, start, ms",
    } <= set(found)


def test_targets(capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sizes = ["--layers", "2", "--width", "64", "--codes", "64", "--side", "4", "--steps", "3"]
    main = runpy.run_path(str(BENCHMARKS / "targets.py"))["main"]
    table = main([*sizes, "--batch", "2", "--levels", "0", "--rounds", "1"])
    assert len(table) == 5 and capsys.readouterr().out.count("\n| ") == 6
    verdicts = [row[-1] for row in table]
    assert all("not known" in one for one in verdicts[:2]) and {*verdicts[2:]} <= {"reached", "**missed**"}


def test_gpu_step(capsys, monkeypatch):
    """One line without a GPU; all of its measuring runs, here on the CPU."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    script = runpy.run_path(str(BENCHMARKS / "gpu_step.py"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert script["main"]([]) == {} and capsys.readouterr().out.count("\n") == 1
    monkeypatch.setenv(SWITCH, "on")
    monkeypatch.setattr(decoding, "captures", lambda device: os.environ[SWITCH] == "on")
    found = {}
    config = replace(MODELS["debug"], vocabulary=600)  # it draws texts from 500 ids
    script["measure"](config, torch.device("cpu"), torch.float32, found.__setitem__, numbers=1000)
    assert len(found) == 1 + 2 * 5 + 1 and all(value > 0 for value in found.values())


def test_llama_step(capsys, monkeypatch):
    """On the smallest model; both ways are timed in every kind of weights."""
    script = runpy.run_path(str(BENCHMARKS / "llama_step.py"))
    threads = torch.get_num_threads()
    monkeypatch.setitem(script["main"].__globals__, "CONFIG", MODELS["llama-debug"])
    script["main"](["--runs", "1"])
    torch.set_num_threads(threads)
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["float32", "bfloat16", "int8"]


def test_precision(debug_bundle, capsys):
    found = runpy.run_path(str(BENCHMARKS / "precision.py"))["main"]([str(debug_bundle), "--count", "1"])
    errors = {kind: figures["rms error of logits"] for kind, figures in found.items()}
    assert errors["float32"] == 0 <= errors["float16"] < errors["int8"]  # the file holds float16: the sums may be equal


def test_claims(debug_bundle, capsys, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    main = runpy.run_path(str(BENCHMARKS / "claims.py"))["main"]
    sizes = ["--steps", "4", "--rows", "24", "--validation-rows", "8", "--captions", "2", "--runs", str(tmp_path)]
    arguments = [str(debug_bundle), *sizes, "--seeds", "0", "1", "--images", str(tmp_path / "images"), "--only"]
    copied, released = tmp_path / "copied-0", tmp_path / "released-1"

    main([*arguments, "d", "--draw"])  # nothing is there
    assert "nothing found yet" in capsys.readouterr().out and not (tmp_path / "images").exists()

    main([*arguments, "d"])
    out = capsys.readouterr().out
    losses = [line.split("|")[2:4] for line in out.splitlines() if line.startswith("| adapter")]
    assert (
        [int(seeds) for seeds, _ in losses] == [2, 2] and losses[0] != losses[1] and all(" ± " in x for _, x in losses)
    )
    assert len((copied / "log.jsonl").read_text().splitlines()) == 5 and (tmp_path / "images" / "claims-d.png").exists()

    (released / "result.json").unlink()  # as if it had been stopped there
    (released / "log.jsonl").write_text('{"step": 0, "validation_loss": 3.0}\n{"st')
    main([*arguments, "d", "--draw"])
    assert "| adapter, output projection random | 1 |" in capsys.readouterr().out
    main([*arguments, "d"])
    assert (
        capsys.readouterr().out.split(" s\n")[0].startswith("released, seed 1:") and (released / "result.json").exists()
    )

    with pytest.raises(SystemExit, match="name another --runs"):
        main([*arguments, "d", "--lr", "1e-3"])


def test_claims_of_every_kind(debug_bundle, capsys, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    main = runpy.run_path(str(BENCHMARKS / "claims.py"))["main"]
    sizes = ["--steps", "1", "--rows", "24", "--validation-rows", "8", "--captions", "2", "--runs", str(tmp_path)]
    sizes += ["--precision", "bf16"]
    main([str(debug_bundle), *sizes, "--seeds", "0", "--images", str(tmp_path / "images")])
    tables = capsys.readouterr().out.split("### ")[1:]
    assert [table[:3] for table in tables] == [f"({claim})" for claim in "abcdef"]
    assert "nothing found" not in "".join(tables)
    frozen, trained = (
        next(line for line in tables[0].split("\n\n")[2].splitlines() if arm in line)
        for arm in ("copied", "everything trained, from the image")
    )
    assert "| 100 % |" in frozen.split("%", 1)[1] and frozen != trained
    assert {f"claims-{claim}.png" for claim in "abde"} == {path.name for path in (tmp_path / "images").iterdir()}


def test_continuation(debug_bundle, capsys):
    found = runpy.run_path(str(BENCHMARKS / "continuation.py"))["main"]([str(debug_bundle), "--count", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert found["rendered"]["motion"] > found["sampled"]["looks"]
    assert [line.split("|")[1].strip() for line in lines[4:]] == ["rendered", "rendered, coded", "sampled"]


def test_quality(debug_bundle, capsys, tmp_path):
    """Letters and rest are found with any tokenizer; captions by the judge alone, which reads nothing of this one's."""
    main = runpy.run_path(str(BENCHMARKS / "quality.py"))["main"]
    main(["--bundle", str(debug_bundle), "--count", "20", "--out", str(tmp_path), "--workers", "0"])
    rows = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines()]
    found = {row[1]: row[2:-1] for row in rows if len(row) == 11}
    assert found["flow at least 0.005"][4] == "100" and found["no text"][6] == "100"
    assert int(found["the three, without a judge"][3]) < 100
