"""Language models in Hugging Face's form: a folder, a GGUF file, or a name that the hub's cache holds.

Decoder-only or encoder and decoder, all by one path: the last hidden states. Weights are read from safetensors or GGUF
alone, and no code of the folder runs, its chat template neither: some insert today's date, and states that are kept
must be the same tomorrow. The packages `transformers`, `gguf` and `accelerate` are the extra `llm`.
"""

import hashlib
import warnings
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cogstyle import hub
from cogstyle.errors import BundleError, PromptError
from cogstyle.files import sha256

READ = ("*.json", "*.safetensors", "*.model", "*.gguf")  # what says what the states are
PICKLES = ("*.bin", "*.pt", "*.pth")
TOGETHER = 16  # prompts that the model reads in one pass
LARGEST = 65504.0  # of float16, in which states are kept


class LanguageModel:
    """A frozen language model; see `tokenizers.states.Encoder` and `PromptEncoder`. It is loaded when it is first used.

    Args:
        place: as `find_model` gives it.

    Raises:
        BundleError: if transformers is not installed, or the place holds no model that can be read whole.
    """

    def __init__(self, place: Path, device: torch.device | None = None) -> None:
        self.place, self.device = place, device or torch.device("cpu")
        try:
            from transformers import AutoConfig, AutoTokenizer
            from transformers.utils import logging
        except ImportError:
            raise BundleError(
                f"the language model {place} needs the package transformers: pip install 'cogstyle[llm]'"
            ) from None
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.file = weights_of(place)
        self.folder = place if place.is_dir() else place.parent
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        if self.file is not None:
            options["gguf_file"] = self.file.name
        with _Reading(place):
            self.config: Any = AutoConfig.from_pretrained(self.folder, **options)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(self.folder, **options)
        self.options = options

    @cached_property
    def model(self) -> Any:
        from transformers import (
            MODEL_FOR_TEXT_ENCODING_MAPPING,
            AutoModel,
            AutoModelForCausalLM,
            AutoModelForTextEncoding,
        )

        encodes = self.config.is_encoder_decoder or type(self.config) in MODEL_FOR_TEXT_ENCODING_MAPPING
        load: Any = AutoModelForTextEncoding if encodes else AutoModel
        if self.file is not None and not encodes:
            load = AutoModelForCausalLM  # names in a GGUF are those of the whole: AutoModel would find none of them
        options = self.options | {"dtype": torch.float32, "output_loading_info": True}
        options |= {} if self.file is not None else {"use_safetensors": True}
        with _Reading(self.place):
            model, info = load.from_pretrained(self.folder, **options)
        if missing := sorted(info["missing_keys"]):  # else they would be random
            raise BundleError(f"{self.place} holds no whole language model: it has no {missing[0]}")
        model = model.base_model if load is AutoModelForCausalLM else model
        return model.eval().requires_grad_(False).to(self.device)

    @cached_property
    def width(self) -> int:
        """Of a state."""
        try:
            known = int(self.config.get_text_config().hidden_size)
        except (ValueError, AttributeError, TypeError):  # it has several, or none: the model knows
            known = len(self._states([[0]])[0][0])
        return known

    @cached_property
    def sha256(self) -> str:
        """See `digest`."""
        return digest(self.place)

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text).input_ids)

    def states(self, ids: Sequence[int]) -> Tensor:
        """Float32 [n, width]."""
        return self._states([ids])[0]

    def prompts(self, texts: Sequence[str], template: str, longest: int) -> list[Tensor]:
        """States of each text in a template, float16 [its own tokens, width]; the template's places are cut off.

        Raises:
            PromptError: for a text that is empty, or has more tokens than `longest`.
        """
        rows = [self._places(text, template, longest) for text in texts]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row][0]))  # little padding
        found: dict[int, Tensor] = {}
        for first in range(0, len(order), TOGETHER):
            numbers = order[first : first + TOGETHER]
            for number, states in zip(numbers, self._states([rows[n][0] for n in numbers]), strict=True):
                found[number] = states[rows[number][1]].clamp(-LARGEST, LARGEST).half()
        return [found[number] for number in range(len(texts))]

    def _places(self, text: str, template: str, longest: int) -> tuple[list[int], Tensor]:
        """Ids of a text in a template, and which of them are the text's own."""
        before, _, _ = template.partition("{prompt}")
        first, last = len(before), len(before) + len(text)
        try:
            read = self.tokenizer(template.replace("{prompt}", text), return_offsets_mapping=True)
        except NotImplementedError:
            raise BundleError(f"the tokenizer of {self.place} does not say where its tokens stand in a text") from None
        own = [n for n, (a, b) in enumerate(read.offset_mapping) if max(a, first) < min(b, last)]
        if not 0 < len(own) <= longest:
            raise PromptError(
                f"prompt has {len(own)} tokens of the language model, it must have 1 to {longest}: {text!r:.60}"
            )
        return list(read.input_ids), torch.tensor(own)

    @torch.no_grad()
    def _states(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:
        """Last hidden states of each row; they do not depend on the others: what fills short rows comes last."""
        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        found = self.model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device)).last_hidden_state
        return [states[: len(row)].float().cpu() for states, row in zip(found, rows, strict=True)]


class _Reading:
    """Whatever a damaged folder makes of reading it, as one BundleError; without its warnings."""

    def __init__(self, place: Path) -> None:
        self.place, self.quiet = place, warnings.catch_warnings()

    def __enter__(self) -> None:
        self.quiet.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.quiet.__exit__(kind, error, trace)
        if isinstance(error, Exception):
            reason = (str(error).strip().splitlines() or [kind.__name__])[0]
            raise BundleError(f"{self.place} holds no language model that can be read: {reason}") from None


def weights_of(place: Path) -> Path | None:
    """The GGUF file of a model; None: it has safetensors.

    Raises:
        BundleError: if there are neither, or several GGUF files to choose from.
    """
    if place.is_file():
        return place
    if any(place.glob("*.safetensors")):
        return None
    files = sorted(place.glob("*.gguf"))
    if len(files) > 1:
        raise BundleError(f"{place} holds several models, {', '.join(file.name for file in files)}; name one of them")
    if not files:
        pickles = sorted(path.name for pattern in PICKLES for path in place.glob(pattern))
        why = f"it has pickles alone ({pickles[0]}), which could run anything" if pickles else "it has none at all"
        raise BundleError(f"{place} holds no weights as safetensors or GGUF: {why}")
    return files[0]


def find_model(name: str | Path, beside: Path | None = None, *, fetch: bool = False) -> Path:
    """The folder (or GGUF file) of a language model: as named, beside a bundle's manifest, or in the hub's cache.

    Args:
        fetch: download it if it is in none of these.

    Raises:
        BundleError, FileError: if it is nowhere.
    """
    places = [*([] if beside is None else [beside / name]), Path(name).expanduser()]
    for place in places:
        if (place / "config.json").is_file() or (place.suffix == ".gguf" and place.is_file()):
            return place
        if place.is_dir() and any(place.glob("*.gguf")):
            return place
    for there in hub.cached():
        if str(name) in (there.name, there.name.partition("@")[0]) and (there.folder / "config.json").is_file():
            return there.folder
    if fetch and hub.is_hub_name(str(name)):
        return hub.fetch(str(name), list(READ[:3]))
    raise BundleError(
        f"no language model {str(name)!r}: it is no folder with a config.json or a .gguf, and the hub's cache on this "
        "machine has none of that name (nothing is fetched here; download it first)"
    )


def digest(place: Path) -> str:
    """sha256 of all that the states depend on."""
    found = {place} if place.is_file() else {path for pattern in READ for path in place.glob(pattern)}
    files = sorted(path for path in found if path.is_file())
    hashes = [(path.name, _sha256(path, path.stat().st_size, path.stat().st_mtime_ns)) for path in files]
    return hashlib.sha256(repr(hashes).encode()).hexdigest()


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, time: int) -> str:
    """Weights are large, and asked for often."""
    return sha256(path)


def open_model(
    name: str | Path,
    *,
    wanted: str = "",
    beside: Path | None = None,
    fetch: bool = False,
    device: torch.device | None = None,
) -> LanguageModel:
    """A language model by its name.

    Args:
        wanted: the digest that it must have; empty: any.
        beside: the folder of a bundle, in which it may lie.
        fetch: see `find_model`.

    Raises:
        BundleError: if it is missing, or another one.
    """
    place = find_model(name, beside, fetch=fetch)
    if wanted and (found := digest(place)) != wanted:
        raise BundleError(f"{place} is another language model than the bundle's: {found[:12]}..., not {wanted[:12]}...")
    return LanguageModel(place, device)
