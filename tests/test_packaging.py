"""What is published: sdist and wheel are whole, and a wheel alone, installed anywhere, samples."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import cogstyle

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
BUILD = "from setuptools.build_meta import build_{0}; build_{0}('..')"
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


def build(kind: str, source: Path) -> Path:
    """The one file that setuptools makes of a source tree, put beside it."""
    before = set(source.parent.iterdir())
    subprocess.run([sys.executable, "-c", BUILD.format(kind)], cwd=source, check=True, capture_output=True)
    (made,) = (path for path in set(source.parent.iterdir()) - before if path.is_file())
    return made


def test_what_is_published_works_alone(tmp_path):
    """sdist -> wheel -> an environment that holds nothing of the source tree: the commands of a newcomer."""
    pytest.importorskip("setuptools", "77")
    source = tmp_path / "source"
    for name in ("cogstyle", "pretrained_adapters", "train"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    sdist = build("sdist", source)
    shutil.rmtree(source)
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    wheel = build("wheel", tmp_path / sdist.name.removesuffix(".tar.gz"))
    stem = f"cogstyle-{cogstyle.__version__}"
    assert sdist.name == f"{stem}.tar.gz" and wheel.name.startswith(f"{stem}-cp3")  # of one Python and processor
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert "cogstyle/py.typed" in inside
    if shutil.which("c++"):
        assert [name for name in inside if name.startswith("cogstyle/native/_portable.")]
    if importlib.util.find_spec("twine"):
        subprocess.run([sys.executable, "-m", "twine", "check", "--strict", sdist, wheel], check=True)

    home, desk = tmp_path / "home", tmp_path / "desk"
    desk.mkdir()
    venv.create(home, with_pip=False)
    packages = next(home.glob("lib/*/site-packages"))
    libraries = Path(importlib.util.find_spec("torch").origin).parents[1]
    (packages / "libraries.pth").write_text(str(libraries))  # torch and the others; not what is installed editable
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        home / "bin/python",
        "install",
        "--no-deps",
        "--no-index",
        wheel,
    ]
    subprocess.run(install, check=True, capture_output=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(program: str, *argv: object) -> str:
        done = subprocess.run(
            [home / "bin" / program, *argv], cwd=desk, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("python", "-c", USE, home)
    assert run("cogstyle", "--version") == run("python", "-m", "cogstyle", "--version")
    run("cogstyle", "sample", "a red circle moves right", "--levels", "0", "--out", "circle.mp4", "--quiet")
    assert (desk / "circle.mp4").stat().st_size > 0
    run("cogstyle", "recipes", "copy", "own_videos.toml")
    assert (desk / "own_videos.toml").read_bytes() == (ROOT / "train/own_videos.toml").read_bytes()
    assert run("cogstyle", "bundles").startswith("pictures ")
