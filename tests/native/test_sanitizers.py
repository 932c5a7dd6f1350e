"""The tests of the native step on a build that stops at any stray access and at undefined behaviour (ASan, UBSan)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cogstyle import native
from cogstyle.native.variants import FLAGS, VARIANTS

pytestmark = pytest.mark.slow

SOURCE = Path(native.__file__).with_name("step.cpp")
SANITIZED = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def test_no_stray_access(tmp_path):
    compiler, build = shutil.which("g++"), next((name for name in VARIANTS if native.find(name)), None)
    if compiler is None or build is None:
        pytest.skip("needs g++ and a build that runs here")
    runtime = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    if not Path(runtime).is_absolute():
        pytest.skip("needs libasan")
    made = tmp_path / "step.so"
    flags = [*FLAGS, *VARIANTS[build], *SANITIZED, "-fPIC", "-shared"]
    subprocess.run([compiler, *flags, "-o", made, SOURCE], check=True)
    environment = os.environ | {"NATIVE_BUILD": f"{build}:{made}", "LD_PRELOAD": runtime, "OMP_NUM_THREADS": "1"}
    environment |= {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1", "COGSTYLE_NATIVE": ""}
    chosen = [
        "tests/native/test_step.py",
        "-k",
        "logits or odd or none",
        "-p",
        "tests.native.sanitized",
        "-p",
        "no:xdist",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *chosen],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
