"""Read bundles: tokenizers, models and adapters, each verified when it is read."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cogstyle.bundle.manifest import IMAGE, MANIFEST, WeightFile, find_file, read_manifest
from cogstyle.bundle.unset import Unset
from cogstyle.config import (
    FlowConfig,
    HierarchicalConfig,
    LlamaGenVQConfig,
    ModelConfig,
    Prompts,
    SamplingConfig,
    SuperResConfig,
    TextEncoderConfig,
    TokenizerConfig,
    from_dict,
    require,
)
from cogstyle.errors import BundleError
from cogstyle.files import is_file, read_tensors, sha256
from cogstyle.growth_config import GrownWeights, LoraAdapters
from cogstyle.language_config import LanguageAdapters
from cogstyle.model.grown import GrownAdapter
from cogstyle.model.language import LanguageAdapter
from cogstyle.model.packed import PackedLinear, pack
from cogstyle.model.seq2seq import Seq2Seq
from cogstyle.model.superres import SuperResolution
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.seq2seq_config import Seq2SeqConfig
from cogstyle.shipped import shelves
from cogstyle.tokenizers.flow import FlowDecoder
from cogstyle.tokenizers.image import KINDS, ImageTokenizer
from cogstyle.tokenizers.states import StateText, encoder_opener
from cogstyle.tokenizers.text import TextTokenizer
from cogstyle.tokenizers.words import Words

STAGES = ("image", "keyframes", "interpolation")
ADAPTERS = ("keyframes", "interpolation", "superres")
SHELVES = shelves("pretrained_adapters")


class Bundle:
    """A folder of weights, read piece by piece as it is asked for.

    Args:
        name: a folder, or the name of a shipped bundle.
        dtype: of the transformer's weights once loaded; the image tokenizer is always float32.
        packed: one of `DTYPES` packs the transformer's matrices so for the CPU (`PackedLinear`).

    Raises:
        BundleError: if there is no such bundle or its manifest is damaged.
    """

    def __init__(self, name: str | Path, *, dtype: torch.dtype = torch.float32, packed: str | None = None) -> None:
        self.dtype, self.packed = dtype, packed
        found = next((place for place in places(name) if holds_bundle(place)), None)
        if found is None:
            searched = ", ".join(map(str, places(name)))
            raise BundleError(f"no bundle {str(name)!r}: looked for {MANIFEST} in {searched}")
        self.folder, self.manifest = found, read_manifest(found)
        self.elsewhere: dict[str, Path] = {}  # files of adapters taken from other bundles

    def _table(self, cls: type[Any], *path: str) -> Any:
        table = self.manifest
        for key in path:
            table = table.get(key, {})
        return from_dict(cls, table, f"{self.folder / MANIFEST} [{'.'.join(path)}]")

    @property
    def tokenizer_config(self) -> TokenizerConfig | HierarchicalConfig | LlamaGenVQConfig:
        kind = self.manifest.get("tokenizer", {}).get("kind", "vqvae")
        require(
            isinstance(kind, str) and kind in KINDS,
            f"{self.folder / MANIFEST}: unknown tokenizer {kind!r}; known are {', '.join(KINDS)}",
        )
        return self._table(KINDS[kind][0], "tokenizer")

    @property
    def has_model(self) -> bool:
        """Whether the bundle describes an image model, not tokenizers alone."""
        return "model" in self.manifest or self.has(IMAGE)

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
    def growth(self) -> GrownWeights:
        """The layers that were added to the image model or to adapters."""
        return self._table(GrownWeights, "growth")

    @property
    def lora(self) -> LoraAdapters:
        """The low-rank additions of adapters."""
        return self._table(LoraAdapters, "lora")

    @property
    def languages(self) -> LanguageAdapters:
        """The language model of each adapter that listens to one."""
        return self._table(LanguageAdapters, "language")

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

    @property
    def decoder(self) -> str:
        """The decoder that sampling uses unless it is told another."""
        return str(self.manifest.get("decoder", "plain"))

    @property
    def words(self) -> Words:
        """The words of the captions that the weights were trained with, as far as the bundle lists them."""
        return Words.of(self.manifest.get("words", {}))

    def trained_rates(self, stage: str) -> tuple[float, ...]:
        """Frame rates that "keyframes" or "interpolation" was trained at; none: the bundle does not say."""
        return tuple(self.manifest.get("trained_rates", {}).get(stage, ()))

    def sampling(self, stage: str) -> SamplingConfig:
        """Default sampling options of "image", "keyframes", "interpolation" or "superres"."""
        return self._table(SamplingConfig, "sampling", stage)

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    def has(self, file: str) -> bool:
        return file in self.manifest["files"]

    def sha256(self, name: str) -> str:
        """The sha256 of a file, from the manifest.

        Raises:
            BundleError: if the bundle has none of this name.
        """
        if not self.has(name):
            raise BundleError(f"bundle {self.folder} has no {name}")
        return str(self.manifest["files"][name])

    def path(self, name: str) -> Path:
        """Path of a file, without a check of its sha256."""
        return self.elsewhere.get(name) or find_file(self.folder, name, self.sha256(name))

    def file(self, name: str) -> Path:
        """Path of a file, after its sha256 was checked against the manifest."""
        wanted, path = self.sha256(name), self.path(name)
        if (found := sha256(path)) != wanted:
            raise BundleError(f"{path} is damaged: sha256 is {found[:12]}..., {MANIFEST} says {wanted[:12]}...")
        return path

    def _load(self, module: torch.nn.Module, name: str, dtype: torch.dtype) -> dict[str, str]:
        path = self.file(name)
        tensors, meta = read_tensors(path)
        try:
            if self.packed is not None and isinstance(module, Transformer | TemporalAdapter | SuperResolution):
                pack(module, tensors, kind=self.packed)
            module.load_state_dict({key: value.to(dtype) for key, value in tensors.items()}, assign=True)
        except (RuntimeError, KeyError) as error:
            raise BundleError(f"{path} does not fit its config: {str(error).splitlines()[-1].strip()}") from None
        module.eval().requires_grad_(False)
        return meta

    def vqvae(self) -> ImageTokenizer:
        """The image tokenizer."""
        config = self.tokenizer_config
        with torch.device("meta"), Unset():
            model = KINDS[config.kind][1](config)
        self._load(model, WeightFile.TOKENIZER, torch.float32)
        return model.to(memory_format=torch.channels_last)

    def flow(self) -> FlowDecoder:
        """The flow-matching decoder beside the image tokenizer.

        Raises:
            BundleError: if it was trained beside another one.
        """
        tokenizer = self.tokenizer_config
        require(isinstance(tokenizer, TokenizerConfig), "a flow decoder stands on a tokenizer of kind vqvae")
        assert isinstance(tokenizer, TokenizerConfig)
        with torch.device("meta"), Unset():
            model = FlowDecoder(self._table(FlowConfig, "flow"), tokenizer)
        ours = self.sha256(WeightFile.TOKENIZER)
        if (theirs := self._load(model, WeightFile.FLOW, torch.float32).get("tokenizer_sha256")) != ours:
            raise BundleError(
                f"{self.path(WeightFile.FLOW)} was trained beside another {WeightFile.TOKENIZER} (sha256 "
                f"{str(theirs)[:12]}...) than the bundle has ({ours[:12]}...)"
            )
        return model

    def text(self) -> TextTokenizer:
        """The text tokenizer, or what gives captions as states of a language model.

        Raises:
            BundleError: if there is none. A language model is read when it is first needed.
        """
        if self.model_config.family == "llama":
            if "text" not in self.manifest:
                raise BundleError(f"bundle {self.folder} names no language model that its image model reads")
            opener = encoder_opener(self._table(TextEncoderConfig, "text"), self.folder)
            return StateText(opener, self.model_config, self.prompts, self.words)
        return TextTokenizer(self.file(WeightFile.TEXT).read_bytes(), self.model_config, self.prompts, self.words)

    def image_model(self) -> Transformer:
        """The frozen text-to-image transformer.

        Raises:
            BundleError: if it was trained on another image tokenizer or text model.
        """
        self.check_foundations()
        with torch.device("meta"), Unset():
            model = Transformer(self.model_config)
        self._load(model, IMAGE, self.dtype)
        if self.packed is not None and not model.llama:
            model.head = PackedLinear(model.embed.weight[: self.model_config.codes], None, kind=self.packed)
        return model

    def check_foundations(self) -> None:
        """Raise BundleError unless the image model was trained on the tokenizers that are there."""
        for name, wanted in self.manifest.get("stands_on", {}).get(IMAGE, {}).items():
            if self.has(name) and (found := self.sha256(name)) != wanted:
                raise BundleError(
                    f"{self.path(IMAGE)} was trained on another {name} (sha256 {wanted[:12]}...) than the bundle has "
                    f"({found[:12]}...): put that one back, or train the image model again"
                )

    def adapter(self, stage: str) -> TemporalAdapter:
        """The "keyframes" or "interpolation" adapter.

        Raises:
            BundleError: if it was trained on another image model.
        """
        config = self.model_config
        growth, lora = getattr(self.growth, stage), getattr(self.lora, stage)
        window = config.window if stage == "interpolation" else 0
        with torch.device("meta"), Unset():
            adapter = TemporalAdapter(config, window=window)
            if growth is not None or lora is not None:
                adapter = GrownAdapter(config, window=window, after=growth.after if growth else (), lora=lora)
        self._load_adapter(adapter, stage)
        return adapter

    def superres(self) -> SuperResolution:
        """The super-resolution adapter.

        Raises:
            BundleError: if it was trained on another image model.
        """
        config = self.superres_config
        with torch.device("meta"), Unset():
            upscaler = SuperResolution(self.model_config, factor=config.factor, coarse_offset=config.coarse_offset)
        self._load_adapter(upscaler, "superres")
        return upscaler

    def language(self, stage: str) -> LanguageAdapter:
        """The adapter of "image" or "keyframes" that listens to a language model.

        Raises:
            BundleError: if there is none, or it was trained on another image model or language model.
        """
        file, config = WeightFile.of(f"language_{stage}"), getattr(self.languages, stage)
        if config is None:
            raise BundleError(f"bundle {self.folder} has no {file}: none of its {stage} listens to a language model")
        with torch.device("meta"), Unset():
            adapter = LanguageAdapter(self.model_config, config)
        if (llm := self._load_adapter(adapter, f"language_{stage}").get("llm_sha256")) != config.sha256:
            raise BundleError(
                f"{self.path(file)} was trained with another language model (sha256 {str(llm)[:12]}...) than "
                f"{MANIFEST} says ({config.sha256[:12]}...)"
            )
        return adapter

    def _load_adapter(self, module: torch.nn.Module, stage: str) -> dict[str, str]:
        meta = self._load(module, WeightFile.of(stage), self.dtype)
        base = meta.get("base_sha256")
        if base != self.sha256(IMAGE):
            raise BundleError(
                f"{self.path(WeightFile.of(stage))} was trained on another image model (sha256 {str(base)[:12]}...)"
            )
        return meta

    def language_model(self) -> Seq2Seq:
        """The small language model that rewrites prompts."""
        self.sha256(WeightFile.LANGUAGE_MODEL)
        with torch.device("meta"), Unset():
            model = Seq2Seq(self._table(Seq2SeqConfig, "language_model"))
        self._load(model, WeightFile.LANGUAGE_MODEL, torch.float32)
        return model

    def weights(self, stage: str) -> dict[str, Tensor]:
        """The tensors of "image" or of an adapter as float32, whatever they stand on."""
        return {name: value.float() for name, value in read_tensors(self.file(WeightFile.of(stage)))[0].items()}

    def cluster_labels(self) -> Tensor | None:
        """Cluster of every image id, [V], or None if the bundle has no clusters."""
        if not self.has(WeightFile.CLUSTERS):
            return None
        return read_tensors(self.file(WeightFile.CLUSTERS))[0]["labels"].long()

    def hashes(self) -> dict[str, str]:
        """sha256 of every file; a missing name raises a BundleError that says it."""
        return _Hashes(self.folder, self.manifest["files"])


class _Hashes(dict[str, str]):
    def __init__(self, folder: Path, files: dict[str, str]) -> None:
        super().__init__(files)
        self.folder = folder

    def __missing__(self, name: str) -> str:
        raise BundleError(f"bundle {self.folder} has no {name}")


def places(name: str | Path) -> list[Path]:
    return [Path(name).expanduser(), *(shelf / name for shelf in SHELVES)]


def holds_bundle(folder: Path) -> bool:
    """Whether a folder has a manifest."""
    return is_file(folder / MANIFEST)
