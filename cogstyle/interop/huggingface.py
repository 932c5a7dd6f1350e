"""Language models in Hugging Face's form: a folder, or the name of one that the hub's cache holds. Never the network.

Weights are read from safetensors alone, and no code of the folder runs. The package `transformers` is the extra `llm`.
"""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cogstyle.errors import BundleError
from cogstyle.files import sha256
from cogstyle.hub import cached

READ = ("*.json", "*.safetensors", "*.model")  # what says what the states are


class T5:
    """The encoder of a T5, frozen; see `tokenizers.states.Encoder`.

    Args:
        folder: as `find_folder` gives it.

    Raises:
        BundleError: if transformers is not installed, or the folder holds no T5 encoder.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from transformers import AutoTokenizer, T5EncoderModel
            from transformers.utils import logging
        except ImportError:
            raise BundleError(
                f"the language model {folder} needs the package transformers: pip install 'cogstyle[llm]'"
            ) from None
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.tokenizer = AutoTokenizer.from_pretrained(folder, **options)
                options |= {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
                load: Any = T5EncoderModel.from_pretrained
                model, info = load(folder, **options)
        except Exception as error:  # whatever a damaged folder makes of it
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise BundleError(f"{folder} holds no T5 encoder that can be read: {reason}") from None
        if missing := sorted(info["missing_keys"]):
            raise BundleError(f"{folder} holds no whole T5 encoder: it has no {missing[0]}")
        self.model = model.eval().requires_grad_(False)
        self.width = int(model.config.d_model)

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text).input_ids)

    @torch.no_grad()
    def states(self, ids: Sequence[int]) -> Tensor:
        """Float32 [n, width]."""
        return self.model(torch.tensor([list(ids)])).last_hidden_state[0].float()


def find_folder(name: str | Path, beside: Path | None = None) -> Path:
    """The folder of a language model: as named, beside a bundle's manifest, or in the hub's cache.

    Raises:
        BundleError: if it is in none of these; nothing is fetched.
    """
    places = [*([] if beside is None else [beside / name]), Path(name).expanduser()]
    for place in places:
        if (place / "config.json").is_file():
            return place
    for there in cached():
        if str(name) in (there.name, there.name.partition("@")[0]) and (there.folder / "config.json").is_file():
            return there.folder
    raise BundleError(
        f"no language model {str(name)!r}: it is no folder with a config.json, and the hub's cache on this machine has "
        "none of that name (nothing is fetched here; download it first)"
    )


def digest(folder: Path) -> str:
    """sha256 of all that the states depend on."""
    files = sorted({path for pattern in READ for path in folder.glob(pattern) if path.is_file()})
    return hashlib.sha256(repr([(path.name, sha256(path)) for path in files]).encode()).hexdigest()


def open_t5(name: str | Path, *, wanted: str = "", beside: Path | None = None) -> T5:
    """The T5 of a bundle.

    Args:
        wanted: the digest that it must have; empty: any.
        beside: the bundle's folder.

    Raises:
        BundleError: if it is missing, or another one.
    """
    folder = find_folder(name, beside)
    if wanted and (found := digest(folder)) != wanted:
        raise BundleError(
            f"{folder} is another language model than the bundle's: {found[:12]}..., not {wanted[:12]}..."
        )
    return T5(folder)
