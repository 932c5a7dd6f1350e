"""The scripts that measure run, on the smallest bundle."""

import runpy
from pathlib import Path

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
    assert sum("0.0 % of the image places" in line for line in lines) == 2
