"""`bundle.toml`: how it is read, checked and brought up to date.

Format 1 adds to format 0 (which had no number) the table `stands_on`, and file names that carry their hash:
`image.safetensors` may lie as `image.safetensors` or as `image-0dcf7cf2328a.safetensors`.
"""

import math
import re
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from cogstyle.config import Manifest, from_dict
from cogstyle.errors import BundleError
from cogstyle.files import read_text, write_bytes

MANIFEST = "bundle.toml"
FORMAT = 1
IMAGE = "image.safetensors"
FOUNDATIONS = ("tokenizer.safetensors", "text.model")  # what the image model stands on
TABLES = ("tokenizer", "prompts", "model", "sampling", "superres", "files", "stands_on")
PLAIN_NAME = re.compile(r"\w[\w.-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle's folder in today's format.

    Raises:
        FileError: if it cannot be read, is no manifest, or was written by a newer version.
    """
    path = folder / MANIFEST
    try:
        manifest = tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"cannot read {path}: {error}") from None
    number = manifest.get("format", 0)
    if type(number) is not int or not 0 <= number <= FORMAT:
        raise BundleError(f"{path}: format {number!r} must be 0 to {FORMAT}; a newer cogstyle may read it")
    _check(manifest, path)
    manifest.setdefault("name", folder.resolve().name)
    manifest.setdefault("files", {})
    if number == 0 and IMAGE in manifest["files"]:  # said nothing: its files are taken to belong together
        manifest.setdefault("stands_on", {IMAGE: foundations(manifest["files"])})
    return manifest | {"format": FORMAT}


def _check(manifest: dict[str, Any], path: Path) -> None:
    """Raise BundleError for what no schema of a table checks: the tables themselves, names, hashes."""

    def expect(fits: bool, key: str, value: object, wanted: str) -> None:
        if not fits:
            raise BundleError(f"{path}: {key} {value!r} must be {wanted}")

    for key in ("name", "licence"):
        expect(isinstance(manifest.get(key, ""), str), key, manifest.get(key), "text")
    rate = manifest.get("frame_rate", 1.0)
    number = isinstance(rate, int | float) and not isinstance(rate, bool)
    expect(number and rate > 0 and math.isfinite(rate), "frame_rate", rate, "a number above 0")
    for key in TABLES:
        expect(isinstance(manifest.get(key, {}), dict), key, manifest.get(key), "a table")
    for key in ("sampling", "stands_on"):
        for name, table in manifest.get(key, {}).items():
            expect(isinstance(table, dict), f"{key}.{name}", table, "a table")
    for table in (manifest.get("files", {}), *manifest.get("stands_on", {}).values()):
        for name, digest in table.items():
            expect(PLAIN_NAME.fullmatch(name) is not None, "files", name, "the name of a file beside it")
            hexadecimal = isinstance(digest, str) and SHA256.fullmatch(digest) is not None
            expect(hexadecimal, f"files.{name}", digest, "a sha256, 64 hexadecimal digits")
    lists: dict[str, Any] = {key: manifest[key] for key in ("words", "trained_rates") if key in manifest}
    from_dict(Manifest, lists, str(path))


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write it whole or not at all; from then on the folder is this bundle.

    Raises:
        BundleError: if it could not be read back.
    """
    _check(manifest, folder / MANIFEST)
    write_bytes(folder / MANIFEST, tomli_w.dumps(manifest | {"format": FORMAT}).encode())


def foundations(files: dict[str, str]) -> dict[str, str]:
    """Of a bundle's files, those that its image model stands on."""
    return {name: files[name] for name in FOUNDATIONS if name in files}


def hashed_name(name: str, digest: str) -> str:
    """`image.safetensors` and its sha256 -> `image-0dcf7cf2328a.safetensors`."""
    path = Path(name)
    return f"{path.stem}-{digest[:12]}{path.suffix}"


def is_hashed_name(found: str, name: str) -> bool:
    """Whether a file is called as one of the versions of `name`."""
    path = Path(name)
    return re.fullmatch(f"{re.escape(path.stem)}-[0-9a-f]{{12}}{re.escape(path.suffix)}", found) is not None


def find_file(folder: Path, name: str, digest: str) -> Path:
    """Where a file of a bundle lies: under the name that carries its hash, or under its plain one."""
    path = folder / hashed_name(name, digest)
    return path if path.is_file() else folder / name
