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
