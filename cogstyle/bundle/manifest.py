"""`bundle.toml`: how it is read, checked and brought up to date.

Format 1 adds to format 0 (which had no number) the table `stands_on`, and file names that carry their hash:
`image.safetensors` may lie as `image.safetensors` or as `image-0dcf7cf2328a.safetensors`.
"""

import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Any

import tomli_w

from cogstyle.config import BundleManifest, from_dict
from cogstyle.errors import BundleError
from cogstyle.files import read_toml, write_bytes

MANIFEST = "bundle.toml"
FORMAT = 1


class WeightFile(StrEnum):
    """The files that a bundle may hold, by what is in them."""

    TEXT = "text.model"
    TOKENIZER = "tokenizer.safetensors"
    CLUSTERS = "clusters.safetensors"  # of the image tokens, by which sampling draws
    IMAGE = "image.safetensors"
    KEYFRAMES = "keyframes.safetensors"
    INTERPOLATION = "interpolation.safetensors"
    SUPERRES = "superres.safetensors"
    LANGUAGE_IMAGE = "language-image.safetensors"  # adapters that listen to a language model
    LANGUAGE_KEYFRAMES = "language-keyframes.safetensors"
    FLOW = "flow.safetensors"  # a decoder beside the tokenizer's own
    LANGUAGE_MODEL = "language_model.safetensors"  # rewrites prompts
    LANGUAGE_PIECES = "language_model.model"  # its text tokenizer

    @classmethod
    def of(cls, part: str) -> "WeightFile":
        """The file of "image", "keyframes", "tokenizer" and so on, or of the task that trains it."""
        return cls.KEYFRAMES if part == "preference" else cls[part.removesuffix("_decoder").upper()]


IMAGE = WeightFile.IMAGE
LANGUAGE = (WeightFile.LANGUAGE_IMAGE, WeightFile.LANGUAGE_KEYFRAMES)
FOUNDATIONS = (WeightFile.TOKENIZER, WeightFile.TEXT)  # what the image model stands on


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle's folder in today's format.

    Raises:
        FileError, ConfigError: for a damaged file, unknown keys, wrong values, or one of a newer version.
    """
    path = folder / MANIFEST
    manifest = read_toml(path)
    number = manifest.get("format", 0)
    if type(number) is int and number > FORMAT:
        raise BundleError(f"{path}: format {number} is above {FORMAT}; a newer cogstyle may read it")
    from_dict(BundleManifest, manifest, str(path))
    manifest.setdefault("name", folder.resolve().name)
    manifest.setdefault("files", {})
    if number == 0 and IMAGE in manifest["files"]:  # said nothing: its files are taken to belong together
        manifest.setdefault("stands_on", {IMAGE: foundations(manifest["files"])})
    return manifest | {"format": FORMAT}


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest whole or not at all; from then on the folder is this bundle.

    Raises:
        ConfigError: if it could not be read back.
    """
    text = tomli_w.dumps(manifest | {"format": FORMAT})
    from_dict(BundleManifest, tomllib.loads(text), str(folder / MANIFEST))
    write_bytes(folder / MANIFEST, text.encode())


def foundations(files: dict[str, str]) -> dict[str, str]:
    """The files of a bundle that its image model stands on."""
    return {name: files[name] for name in FOUNDATIONS if name in files}


def hashed_name(name: str, digest: str) -> str:
    """`image.safetensors` and its sha256 -> `image-0dcf7cf2328a.safetensors`."""
    path = Path(name)
    return f"{path.stem}-{digest[:12]}{path.suffix}"


def hashed_pattern(name: str) -> str:
    """A pattern that `name` and its hashed names match."""
    return f"{Path(name).stem}*{Path(name).suffix}"


def is_hashed_name(found: str, name: str) -> bool:
    """Whether `found` is the name of a version of `name`."""
    path = Path(name)
    return re.fullmatch(f"{re.escape(path.stem)}-[0-9a-f]{{12}}{re.escape(path.suffix)}", found) is not None


def find_file(folder: Path, name: str, digest: str) -> Path:
    """Where a file of a bundle lies: under the name that carries its hash, or under its plain one."""
    path = folder / hashed_name(name, digest)
    return path if path.is_file() else folder / name
