"""An installed package finds its weights and recipes without the source tree."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
BUILD = "from setuptools.build_meta import build_wheel; build_wheel('.')"
USE = """
import cogstyle, sys
from pathlib import Path
from cogstyle.bundle import Bundle
from cogstyle.shapes_report.classifier import shapes_classifier
from cogstyle.shipped import shipped_recipe
here = Path(sys.argv[1])
bundle = Bundle("shapes")
places = [Path(cogstyle.__file__), bundle.file("text.model"), shapes_classifier()]
places += [shipped_recipe(Path(name)) for name in ("shapes/image.toml", "train/shapes/image.toml", "own_videos.toml")]
assert all(place.is_relative_to(here) and place.is_file() for place in places), places
assert bundle.image_model() and set(bundle.hashes()) <= {path.name for path in bundle.folder.iterdir()}
"""


def test_a_wheel_holds_weights_and_recipes(tmp_path):
    pytest.importorskip("setuptools", "77")
    source, target = tmp_path / "source", tmp_path / "target"
    for name in ("cogstyle", "pretrained_adapters", "train"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-c", BUILD], cwd=source, check=True, capture_output=True)
    (wheel,) = source.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(target)
    shutil.rmtree(source)
    environment = os.environ | {"PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, "-c", USE, str(target)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
