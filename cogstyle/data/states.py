"""States of captions, computed once and kept in files, so that no training step runs a language model.

A file holds the states of some captions, by one model in one template; further captions make further files. They lie
beside the parts of a folder of shards, or in a folder of their own.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from cogstyle.config import require
from cogstyle.errors import BundleError
from cogstyle.files import fingerprint, read_tensors, read_text, write_tensors
from cogstyle.language_config import Listening
from cogstyle.tokenizers.states import PromptEncoder

CAPTIONS = 1000  # a file


class CaptionStates:
    """The states of captions by one language model in one template.

    Args:
        folders: where files of states lie; new ones go to the first.
        sha256: of the language model.

    Raises:
        FileError, BundleError: if a file is damaged.
    """

    def __init__(self, folders: Sequence[Path], listening: Listening, sha256: str) -> None:
        self.folders, self.listening = [Path(folder) for folder in folders], listening
        self.meta = {"llm_sha256": sha256, "template": listening.template}
        self.key = fingerprint(sha256, listening.template)
        self.width = 0  # unknown as long as there are none
        self.places: dict[str, tuple[Tensor, int, int]] = {}  # of a caption: states of its file, first row, end
        for folder in self.folders:
            for path in sorted(folder.glob(f"states-{self.key}-*.safetensors")):
                self._take(path)

    def _take(self, path: Path) -> None:
        tensors, meta = read_tensors(path)
        try:
            states, captions = tensors["states"], json.loads(bytes(tensors["captions"].numpy()))
            ends = tensors["lengths"].long().cumsum(0).tolist()
            whole = {key: meta.get(key) for key in self.meta} == self.meta and ends[-1] == len(states)
            if not whole or len(captions) != len(ends) or self.width not in (0, states.shape[1]):
                raise ValueError("it does not hold together")
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise BundleError(f"{path} is damaged ({error}); remove it, and its states are computed again") from None
        self.width = states.shape[1]
        for caption, first, end in zip(captions, [0, *ends], ends, strict=False):
            self.places[caption] = states, first, end

    def missing(self, captions: Iterable[str]) -> list[str]:
        """Those whose states are not there, each once."""
        return [caption for caption in dict.fromkeys(captions) if caption not in self.places]

    def add(
        self,
        captions: Iterable[str],
        open_encoder: Callable[[], PromptEncoder],
        *,
        keep: bool = True,
        quiet: bool = False,
    ) -> int:
        """Compute what is missing; the language model is opened only then. Returns how many were.

        Args:
            keep: write them down.

        Raises:
            PromptError: for a caption that is too long.
        """
        if not (wanted := self.missing(captions)):
            return 0
        encoder, folder = open_encoder(), self.folders[0]
        with tqdm(total=len(wanted), desc="states of captions", disable=quiet) as bar:
            for first in range(0, len(wanted), CAPTIONS):
                some = wanted[first : first + CAPTIONS]
                states = encoder.prompts(some, self.listening.template, self.listening.longest)
                if not keep:
                    self.width = encoder.width
                    self.places |= {text: (one, 0, len(one)) for text, one in zip(some, states, strict=True)}
                    continue
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f"states-{self.key}-{fingerprint(some)}.safetensors"
                text = torch.frombuffer(bytearray(json.dumps(some, ensure_ascii=False).encode()), dtype=torch.uint8)
                lengths = torch.tensor([len(one) for one in states], dtype=torch.int32)
                write_tensors(path, {"states": torch.cat(states), "captions": text, "lengths": lengths}, self.meta)
                self._take(path)
                bar.update(len(some))
        return len(wanted)

    def __call__(self, caption: str) -> Tensor:
        """Float16 [tokens, width]."""
        states, first, end = self.places[caption]
        return states[first:end]


def encoded_captions(folder: Path) -> list[str]:
    """The captions of all parts that are in a folder of shards."""
    found: list[str] = []
    for path in sorted(folder.glob("part-*.safetensors")):
        part = read_tensors(path)[0]
        found += bytes(part["captions"].numpy()).decode().split("\n") if len(part["seconds"]) else []
    return found


def read_rewritten(path: Path) -> dict[str, str]:
    """Captions, and what they were rewritten to: lines {"prompt": ..., "rewritten": ...}.

    Raises:
        FileError, ConfigError: naming the line.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            table = json.loads(line)
        except (ValueError, RecursionError):
            table = None
        values = (
            [str(table.get(key) or "").strip() for key in ("prompt", "rewritten")] if isinstance(table, dict) else []
        )
        good = len(values) == 2 and all(values)
        require(good, f'{path}, line {number}: must be {{"prompt": a text, "rewritten": a text}}, not {line[:60]!r}')
        found[values[0]] = values[1]
    return found
