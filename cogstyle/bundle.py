"""A bundle: one folder with a frozen image model, its tokenizers, the adapters on it, and how to sample.

`bundle.toml` names the files with their sha256; a file that does not match is refused. Weights are
safetensors; every write is whole or not at all.
"""

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cogstyle.config import (
    HierarchicalConfig,
    Manifest,
    ModelConfig,
    Prompts,
    SamplingConfig,
    SuperResConfig,
    TokenizerConfig,
    from_dict,
    require,
)
from cogstyle.errors import BundleError
from cogstyle.files import read_tensors, read_toml, sha256, to_toml, write_bytes, write_tensors
from cogstyle.model.linear import PackedLinear, pack
from cogstyle.model.superres import SuperResolution
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.tokenizers.image import KINDS, ImageTokenizer
from cogstyle.tokenizers.text import TextTokenizer

MANIFEST = "bundle.toml"
STAGES = ("image", "keyframes", "interpolation")
ADAPTERS = ("keyframes", "interpolation", "superres")
SHELVES = (
    Path(__file__).parents[1] / "pretrained_adapters",
    Path(sys.prefix) / "share" / "cogstyle" / "pretrained_adapters",
)


class _Unset(TorchFunctionMode):
    """Modules made inside get no starting values: what draws them on "meta" is a second's worth of imports."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a bundle's bundle.toml says, its top level checked.

    Raises:
        FileError, ConfigError: for a damaged file, unknown keys, wrong values.
    """
    manifest = read_toml(folder / MANIFEST)
    from_dict(Manifest, manifest, str(folder / MANIFEST))
    return manifest


class Bundle:
    """A folder of weights, read piece by piece as it is asked for.

    Args:
        name: a folder, or the name of a shipped bundle.
        dtype: of the transformer's weights once loaded; the image tokenizer is always float32.
        packed: one of `PACKED` packs the transformer's matrices so for the CPU (`PackedLinear`).

    Raises:
        BundleError: if there is no such bundle or its manifest is damaged.
    """

    def __init__(self, name: str | Path, *, dtype: torch.dtype = torch.float32, packed: str | None = None) -> None:
        self.dtype, self.packed = dtype, packed
        name = os.path.expanduser(name)
        places = [Path(name), *(shelf / name for shelf in SHELVES)]
        found = next((place for place in places if (place / MANIFEST).is_file()), None)
        if found is None:
            raise BundleError(f"no bundle {str(name)!r}: looked for {MANIFEST} in {', '.join(map(str, places))}")
        self.folder = found
        self.manifest = read_manifest(found)

    def _table(self, cls: type[Any], *path: str) -> Any:
        table = self.manifest
        for key in path:
            table = table.get(key, {})
        return from_dict(cls, table, f"{self.folder / MANIFEST} [{'.'.join(path)}]")

    @property
    def tokenizer_config(self) -> TokenizerConfig | HierarchicalConfig:
        kind = self.manifest.get("tokenizer", {}).get("kind", "vqvae")
        require(
            kind in KINDS,
            f"{self.folder / MANIFEST}: unknown tokenizer {kind!r}; known are {', '.join(KINDS)}",
        )
        return self._table(KINDS[kind][0], "tokenizer")

    @property
    def has_model(self) -> bool:
        """Whether it says what its image model is; tokenizers alone do not."""
        return "model" in self.manifest or self.has("image.safetensors")

    @property
    def model_config(self) -> ModelConfig:
        if not self.has_model:
            raise BundleError(
                f"bundle {self.folder} has no image model: it holds {', '.join(self.hashes()) or 'nothing'}"
            )
        return self._table(ModelConfig, "model")

    @property
    def frames(self) -> int:
        """Frames that the temporal channel sees; of tokenizers alone, those of a model by default."""
        return self.model_config.frames if self.has_model else ModelConfig.frames

    @property
    def superres_config(self) -> SuperResConfig:
        return self._table(SuperResConfig, "superres")

    @property
    def prompts(self) -> Prompts:
        return self._table(Prompts, "prompts")

    @property
    def frame_rate(self) -> float:
        """Default keyframe rate, frames a second."""
        return float(self.manifest.get("frame_rate", 1.0))

    def sampling(self, stage: str) -> SamplingConfig:
        """Default sampling options of "image", "keyframes", "interpolation" or "superres"."""
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

    def _load(self, module: torch.nn.Module, name: str, dtype: torch.dtype) -> dict[str, str]:
        path = self.file(name)
        tensors, meta = read_tensors(path)
        try:
            if self.packed is not None and not isinstance(module, ImageTokenizer):
                pack(module, tensors, kind=self.packed)
            module.load_state_dict({key: value.to(dtype) for key, value in tensors.items()}, assign=True)
        except (RuntimeError, KeyError) as error:
            raise BundleError(f"{path} does not fit its config: {str(error).splitlines()[-1].strip()}") from None
        module.eval().requires_grad_(False)
        return meta

    def vqvae(self) -> ImageTokenizer:
        """The image tokenizer."""
        config = self.tokenizer_config
        with torch.device("meta"), _Unset():
            model = KINDS[config.kind][1](config)
        self._load(model, "tokenizer.safetensors", torch.float32)
        return model.to(memory_format=torch.channels_last)

    def text(self) -> TextTokenizer:
        """The text tokenizer."""
        return TextTokenizer(self.file("text.model").read_bytes(), self.model_config, self.prompts)

    def image_model(self) -> Transformer:
        """The frozen text-to-image transformer."""
        with torch.device("meta"), _Unset():
            model = Transformer(self.model_config)
        self._load(model, "image.safetensors", self.dtype)
        if self.packed is not None:
            model.head = PackedLinear(model.embed.weight[: self.model_config.codes], None, kind=self.packed)
        return model

    def adapter(self, stage: str) -> TemporalAdapter:
        """The "keyframes" or "interpolation" adapter.

        Raises:
            BundleError: if it was trained on another image model.
        """
        config = self.model_config
        with torch.device("meta"), _Unset():
            adapter = TemporalAdapter(config, window=config.window if stage == "interpolation" else 0)
        self._load_beside(adapter, stage)
        return adapter

    def superres(self) -> SuperResolution:
        """The super-resolution adapter.

        Raises:
            BundleError: if it was trained on another image model.
        """
        config = self.superres_config
        with torch.device("meta"), _Unset():
            upscaler = SuperResolution(self.model_config, factor=config.factor, coarse_offset=config.coarse_offset)
        self._load_beside(upscaler, "superres")
        return upscaler

    def _load_beside(self, module: torch.nn.Module, stage: str) -> None:
        base = self._load(module, f"{stage}.safetensors", self.dtype).get("base_sha256")
        if base != self.manifest["files"]["image.safetensors"]:
            raise BundleError(
                f"{self.folder / stage}.safetensors was trained on another image model (sha256 {str(base)[:12]}...)"
            )

    def weights(self, stage: str) -> dict[str, Tensor]:
        """The tensors of "image" or of an adapter as float32, whatever they stand on."""
        return {name: value.float() for name, value in read_tensors(self.file(f"{stage}.safetensors"))[0].items()}

    def cluster_labels(self) -> Tensor | None:
        """Cluster of every image id, [V], or None if the bundle has no clusters."""
        if not self.has("clusters.safetensors"):
            return None
        return read_tensors(self.file("clusters.safetensors"))[0]["labels"].long()

    def hashes(self) -> dict[str, str]:
        """sha256 of every file."""
        return dict(self.manifest.get("files", {}))


def check_kin(source: Bundle, folder: Path, names: Sequence[str]) -> None:
    """Raise BundleError if `folder` is a bundle that holds other files under these names than `source`."""
    if not (folder / MANIFEST).is_file():
        return
    mine, theirs = source.hashes(), Bundle(folder).hashes()
    if other := [name for name in names if name in theirs and theirs[name] != mine.get(name)]:
        raise BundleError(f"{folder} has another {', '.join(other)} than {source.folder}; name a new folder")


def share_files(source: Bundle, folder: Path, names: Sequence[str]) -> None:
    """Give the bundle `folder` these files of `source`, and what its manifest says beside them of all but adapters.

    They are hard links where the disk allows it: no bundle changes a file, it writes a new one in its place.

    Raises:
        BundleError: if `folder` holds others, or cannot be written.
    """
    check_kin(source, folder, names)
    if (folder / MANIFEST).is_file():
        manifest = Bundle(folder).manifest
    else:
        sampling = {stage: table for stage, table in source.manifest.get("sampling", {}).items() if stage == "image"}
        manifest = {**source.manifest, "name": folder.name, "sampling": sampling, "files": {}}
        manifest.pop("superres", None)
    files = manifest["files"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            if source.has(name) and name not in files:
                _link((source.folder / name).resolve(), folder / name)
                files[name] = source.hashes()[name]
    except OSError as error:
        raise BundleError(f"cannot write {folder}: {error}") from None
    write_bytes(folder / MANIFEST, to_toml(manifest).encode())


def _link(path: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(path, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(path, target)


def update_bundle(
    folder: Path,
    files: Mapping[str, bytes | Mapping[str, Tensor]],
    *,
    half: bool = True,
    progress: Callable[[int], None] = lambda size: None,
    **tables: Any,
) -> None:
    """Write files into a bundle and note them, with `tables`, in its manifest; the manifest comes last.

    Adapters are marked with the sha256 of the image model they belong to. `tables` are dataclasses,
    dicts (laid over what the manifest holds under that key) or plain values. A bundle that did not exist is
    gone again if anything fails.

    Args:
        half: keep floating-point tensors as float16; otherwise as they are.
        progress: told the bytes of every tensor that is written.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _update(folder, files, half, progress, tables)
    except BaseException:
        if new:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _update(
    folder: Path,
    files: Mapping[str, bytes | Mapping[str, Tensor]],
    half: bool,
    progress: Callable[[int], None],
    tables: dict[str, Any],
) -> None:
    path = folder / MANIFEST
    manifest: dict[str, Any] = read_manifest(folder) if path.exists() else {"name": folder.name}
    hashes = manifest.pop("files", {})
    for name, content in files.items():
        if isinstance(content, bytes):
            write_bytes(folder / name, content)
        else:
            stage = name.removesuffix(".safetensors")
            base = {"base_sha256": hashes["image.safetensors"]} if stage in ADAPTERS else {}
            tensors = {
                key: value.half() if half and value.is_floating_point() else value for key, value in content.items()
            }
            write_tensors(folder / name, tensors, base, progress=progress)
        hashes[name] = sha256(folder / name)
    for key, value in tables.items():
        table = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        manifest[key] = {**manifest.get(key, {}), **table} if isinstance(table, dict) else table
    write_bytes(path, to_toml({**manifest, "files": hashes}).encode())
