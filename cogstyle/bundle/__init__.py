"""A bundle: one folder with a frozen image model, its tokenizers, the adapters on it, and how to sample.

`bundle.toml` names the files with their sha256, and what the image model stands on; what does not match is refused.
Weights are safetensors. A bundle is replaced file by file beside the old ones, its manifest last.
"""

from cogstyle.bundle.grow import bypass_bundle, grow_bundle, said_of
from cogstyle.bundle.manifest import LANGUAGE, MANIFEST, WeightFile
from cogstyle.bundle.read import ADAPTERS, SHELVES, STAGES, Bundle, holds_bundle
from cogstyle.bundle.remote import push_bundle
from cogstyle.bundle.several import open_bundle
from cogstyle.bundle.write import check_replaced, check_shared_files, share_files, update_bundle, writing

__all__ = [
    "ADAPTERS",
    "LANGUAGE",
    "MANIFEST",
    "SHELVES",
    "STAGES",
    "Bundle",
    "WeightFile",
    "bypass_bundle",
    "check_replaced",
    "check_shared_files",
    "grow_bundle",
    "holds_bundle",
    "open_bundle",
    "push_bundle",
    "said_of",
    "share_files",
    "update_bundle",
    "writing",
]
