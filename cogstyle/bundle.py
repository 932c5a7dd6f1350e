"""A bundle: one folder with a frozen image model, its tokenizers, the adapters on it, and how to sample.

`bundle.toml` names the files with their sha256; a file that does not match is refused. Weights are
safetensors; every write is whole or not at all.
"""

import hashlib
import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cogstyle.config import ModelConfig, Prompts, SamplingConfig, TokenizerConfig, from_dict
from cogstyle.errors import BundleError
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.tokenizers.text import TextTokenizer
from cogstyle.tokenizers.vqvae import VQVAE

MANIFEST = "bundle.toml"
STAGES = ("image", "keyframes", "interpolation")
SHELVES = (
    Path(__file__).parents[1] / "pretrained_adapters",
    Path(sys.prefix) / "share" / "cogstyle" / "pretrained_adapters",
)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    scratch = path.with_name(path.name + ".part")
    try:
        scratch.write_bytes(data)
        os.replace(scratch, path)
    except OSError as error:
        raise BundleError(f"cannot write {path}: {error}") from None
    finally:
        scratch.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], meta: dict[str, str] | None = None) -> None:
    """Write a safetensors file whole or not at all."""
    scratch = path.with_name(path.name + ".part")
    try:
        save_file({name: value.detach().contiguous() for name, value in tensors.items()}, scratch, meta)
        scratch.chmod(0o644)  # safetensors makes its files private
        os.replace(scratch, path)
    except (OSError, SafetensorError) as error:
        raise BundleError(f"cannot write {path}: {error}") from None
    finally:
        scratch.unlink(missing_ok=True)


def read_tensors(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors and the metadata of a safetensors file.

    Raises:
        BundleError: if the file is missing or damaged.
    """
    try:
        with safe_open(path, "pt", device) as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BundleError(f"cannot read {path}: {error}") from None


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error}") from None


def to_toml(table: Mapping[str, Any], path: str = "") -> str:
    """Nested tables of strings, numbers, booleans and lists of numbers as TOML."""
    lines, tables = [], []
    for key, value in table.items():
        name = key if key.replace("_", "").isalnum() else f'"{key}"'
        if isinstance(value, Mapping):
            inner = f"{path}{name}"
            tables.append(f"\n[{inner}]\n{to_toml(value, inner + '.')}")
        elif isinstance(value, bool):
            lines.append(f"{name} = {str(value).lower()}\n")
        elif isinstance(value, str):
            escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            lines.append(f'{name} = "{escaped}"\n')
        else:
            lines.append(f"{name} = {list(value) if isinstance(value, tuple) else value}\n")
    return "".join(lines + tables)


class Bundle:
    """A folder of weights, read piece by piece as it is asked for.

    Args:
        name: a folder, or the name of a shipped bundle.

    Raises:
        BundleError: if there is no such bundle or its manifest is damaged.
    """

    def __init__(self, name: str | Path) -> None:
        places = [Path(name), *(shelf / name for shelf in SHELVES)]
        found = next((place for place in places if (place / MANIFEST).is_file()), None)
        if found is None:
            raise BundleError(f"no bundle {str(name)!r}: looked for {MANIFEST} in {', '.join(map(str, places))}")
        self.folder = found
        try:
            self.manifest: dict[str, Any] = tomllib.loads((found / MANIFEST).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise BundleError(f"cannot read {found / MANIFEST}: {error}") from None

    def _table(self, cls: type[Any], *path: str) -> Any:
        table = self.manifest
        for key in path:
            table = table.get(key, {})
        return from_dict(cls, table, f"{self.folder / MANIFEST} [{'.'.join(path)}]")

    @property
    def tokenizer_config(self) -> TokenizerConfig:
        return self._table(TokenizerConfig, "tokenizer")

    @property
    def model_config(self) -> ModelConfig:
        return self._table(ModelConfig, "model")

    @property
    def prompts(self) -> Prompts:
        return self._table(Prompts, "prompts")

    @property
    def frame_rate(self) -> float:
        """Default keyframe rate, frames a second."""
        return float(self.manifest.get("frame_rate", 1.0))

    def sampling(self, stage: str) -> SamplingConfig:
        """Default sampling options of "image", "keyframes" or "interpolation"."""
        return self._table(SamplingConfig, "sampling", stage)

    def has(self, file: str) -> bool:
        return file in self.manifest.get("files", {})

    def file(self, name: str) -> Path:
        """Path of a file, after its sha256 was checked against the manifest."""
        if not self.has(name):
            raise BundleError(f"bundle {self.folder} has no {name}")
        path, wanted = self.folder / name, self.manifest["files"][name]
        if (found := sha256(path)) != wanted:
            raise BundleError(f"{path} is damaged: sha256 is {found[:12]}..., {MANIFEST} says {wanted[:12]}...")
        return path

    def _load(self, module: torch.nn.Module, name: str) -> dict[str, str]:
        path = self.file(name)
        tensors, meta = read_tensors(path)
        try:
            module.load_state_dict({key: value.float() for key, value in tensors.items()}, assign=True)
        except RuntimeError as error:
            raise BundleError(f"{path} does not fit its config: {str(error).splitlines()[-1].strip()}") from None
        module.eval().requires_grad_(False)
        return meta

    def vqvae(self) -> VQVAE:
        """The image tokenizer."""
        with torch.device("meta"):
            model = VQVAE(self.tokenizer_config)
        self._load(model, "tokenizer.safetensors")
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def text(self) -> TextTokenizer:
        """The text tokenizer."""
        return TextTokenizer(self.file("text.model").read_bytes(), self.model_config, self.prompts)

    def image_model(self) -> Transformer:
        """The frozen text-to-image transformer."""
        with torch.device("meta"):
            model = Transformer(self.model_config)
        self._load(model, "image.safetensors")
        return model

    def adapter(self, stage: str) -> TemporalAdapter:
        """The "keyframes" or "interpolation" adapter.

        Raises:
            BundleError: if it was trained on another image model.
        """
        config, name = self.model_config, f"{stage}.safetensors"
        with torch.device("meta"):
            adapter = TemporalAdapter(config, window=config.window if stage == "interpolation" else 0)
        base = self._load(adapter, name).get("base_sha256")
        if base != self.manifest["files"]["image.safetensors"]:
            raise BundleError(f"{self.folder / name} was trained on another image model (sha256 {str(base)[:12]}...)")
        return adapter

    def cluster_labels(self) -> Tensor | None:
        """Cluster of every image id, [V], or None if the bundle has no clusters."""
        if not self.has("clusters.safetensors"):
            return None
        return read_tensors(self.file("clusters.safetensors"))[0]["labels"].long()

    def hashes(self) -> dict[str, str]:
        """sha256 of every file."""
        return dict(self.manifest.get("files", {}))


def update_bundle(folder: Path, files: Mapping[str, bytes | Mapping[str, Tensor]], **tables: Any) -> None:
    """Write files (bytes, or tensors as float16) into a bundle and note them, with `tables`, in its manifest.

    Adapters are marked with the sha256 of the image model they were trained on. `tables` are dataclasses,
    dicts (laid over what the manifest holds under that key) or plain values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MANIFEST
    manifest: dict[str, Any] = tomllib.loads(path.read_text("utf-8")) if path.exists() else {"name": folder.name}
    hashes = manifest.pop("files", {})
    for name, content in files.items():
        if isinstance(content, bytes):
            write_bytes(folder / name, content)
        else:
            base = (
                {"base_sha256": hashes["image.safetensors"]} if name.removesuffix(".safetensors") in STAGES[1:] else {}
            )
            half = {key: value.half() if value.is_floating_point() else value for key, value in content.items()}
            write_tensors(folder / name, half, base)
        hashes[name] = sha256(folder / name)
    for key, value in tables.items():
        table = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        manifest[key] = {**manifest.get(key, {}), **table} if isinstance(table, dict) else table
    write_bytes(path, to_toml({**manifest, "files": hashes}).encode())
