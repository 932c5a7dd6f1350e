"""Bundles on the hub: a repository holds what a bundle's folder holds, and its model card as README.md."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogstyle import hub
from cogstyle.bundle.manifest import MANIFEST, WeightFile, hashed_pattern
from cogstyle.errors import BundleError
from cogstyle.files import is_file, read_bytes, read_text

if TYPE_CHECKING:
    from cogstyle.bundle.read import Bundle

CARD = "README.md"
HEAD = "# {name}\n\nA bundle of cogstyle: text to video by autoregressive transformers.\n"
USE = """
## Use

```
pip install "cogstyle[hub]"
cogstyle sample "a red circle moves right" --bundle {repo} --out video.mp4
```
"""


def fetch_bundle(name: str) -> Path:
    """The folder, in the cache, of the bundle user/repo[@revision]; its files are checked as those of any bundle.

    Raises:
        FileError: if the hub has none of this name, or cannot be reached.
        BundleError: if the repository is no bundle.
    """
    folder = hub.fetch(name, [MANIFEST, CARD, *map(hashed_pattern, WeightFile)])
    if not is_file(folder / MANIFEST):
        raise BundleError(f"{name} on the hub is no bundle: it has no {MANIFEST}")
    return folder


def push_bundle(bundle: "Bundle", name: str, *, private: bool = False) -> str:
    """Write a bundle, its files checked, into the repository user/repo as one commit; returns the commit's address.

    The model card is the bundle's own, or a short one; what it lacks of metadata is added.

    Raises:
        BundleError: if a file of the bundle is missing or damaged.
        FileError: if the hub cannot be reached, or refuses.
    """
    files: dict[str, Path | bytes] = {file: bundle.file(file) for file in bundle.hashes()}
    files[MANIFEST] = read_bytes(bundle.folder / MANIFEST)
    files[CARD] = _card(bundle, name).encode()
    return hub.push(name, files, message=f"Bundle {bundle.name}", private=private)


def _card(bundle: "Bundle", name: str) -> str:
    path = bundle.folder / CARD
    text = read_text(path) if is_file(path) else HEAD.format(name=bundle.name)
    text += "" if "--bundle" in text else USE.format(repo=name)
    metadata: dict[str, Any] = {
        "license": (bundle.manifest.get("licence") or "unknown").lower(),
        "pipeline_tag": "text-to-video",
        "library_name": "cogstyle",
        "tags": ["cogstyle", "autoregressive"],
    }
    return hub.model_card(text, metadata)
