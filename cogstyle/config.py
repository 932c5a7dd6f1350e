"""Architectures as frozen dataclasses, each with presets; `debug` is the smallest that has every part."""

import re
from dataclasses import dataclass, field
from string import Formatter
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Interval

from cogstyle.errors import ConfigError
from cogstyle.growth_config import GrownWeights, LoraAdapters, running_order
from cogstyle.language_config import LanguageAdapters
from cogstyle.schema import Id, Rows, Size, Small, Temperature
from cogstyle.schema import from_dict as from_dict
from cogstyle.schema import require as require
from cogstyle.seq2seq_config import Seq2SeqConfig
from cogstyle.tokenizer_config import TOKENIZERS as TOKENIZERS
from cogstyle.tokenizer_config import HierarchicalConfig as HierarchicalConfig
from cogstyle.tokenizer_config import LlamaGenVQConfig as LlamaGenVQConfig
from cogstyle.tokenizer_config import TokenizerConfig as TokenizerConfig

C = TypeVar("C")

DTYPES = ("float32", "bfloat16", "float16", "int8")  # of the weights that sample
FRAME_RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # keyframes a second that a prompt can ask for
DECODERS = ("plain", "flow")  # the tokenizer's own, and the one of whole clips beside it
FlowSteps = Annotated[int, Interval(ge=1, le=100)]
LARGEST_MODEL = 10**14  # parameters: more than the memory of any cluster holds


@dataclass(frozen=True)
class TextEncoderConfig:
    """The frozen language model whose states are the text of a Llama-like image model."""

    t5: str  # a Hugging Face folder; a relative one lies beside bundle.toml
    sha256: str = ""  # of what is in it; empty: not checked


def preset(presets: dict[str, C], name: str) -> C:
    """Look up a preset by name.

    Raises:
        ConfigError: naming the known presets.
    """
    require(name in presets, f"unknown preset {name!r}; known are {', '.join(presets)}")
    return presets[name]


@dataclass(frozen=True)
class ModelConfig:
    """The dual-channel transformer: a frozen image model and what every adapter on it must know."""

    layers: Small
    width: Size
    heads: Size
    vocabulary: Rows  # rows of the token embedding: image ids, text ids, <start_of_image>, spare rows
    codes: Rows  # image ids 0 .. codes - 1, the only ids that can be generated
    start_of_image: Id  # id that stands in the first place of every frame
    pad: Id  # id that fills the text span on the left
    grid: tuple[Small, Small]  # tokens of a frame: rows, columns
    frames: Small = 5  # frames the temporal channel was made for
    text_span: Size = 64  # longest text, in tokens
    text_positions: Rows = 512  # position rows before those of the first frame
    positions: Rows = 1024  # rows of the frozen position table
    extra_positions: Id = 2000  # rows of an adapter's position table (frames 2, 3, ...)
    # side of the interpolation adapter's attention windows, in tokens; 0: full attention
    window: Annotated[int, Interval(ge=0, le=2**12)] = 10
    mlp_ratio: Annotated[int, Interval(ge=1, le=64)] = 4
    norm_eps: Annotated[float, Interval(gt=0.0, le=1.0)] = 1e-5
    # "sandwich": four LayerNorms a block, learned positions, text ids (CogView2); "llama": RMSNorm, SwiGLU, rotary
    # positions in the plane, states of a language model as text (LlamaGen), so no text ids, no <start_of_image>
    family: Literal["sandwich", "llama"] = "sandwich"
    caption_width: Annotated[int, Interval(ge=0, le=2**20)] = 0  # llama: of the states that are the text
    inner: Annotated[int, Interval(ge=0, le=2**22)] = 0  # width inside the MLP; 0: mlp_ratio times width
    rope_base: Annotated[float, Interval(gt=1.0, le=1e9)] = 10_000.0  # llama: of the angles
    grown: tuple[Id, ...] = ()  # of the layers, those that were added later, see `Growth.after`

    def __post_init__(self) -> None:
        size = 12 * self.layers * self.width**2 + (self.vocabulary + self.positions) * self.width
        require(size <= LARGEST_MODEL, f"a model of {size:,} parameters is over the limit of {LARGEST_MODEL:,}")
        require(len(self.grown) < self.layers, f"{self.layers} layers cannot have grown by {len(self.grown)}")
        running_order(self.layers - len(self.grown), self.grown)
        require(self.width % self.heads == 0, f"width {self.width} is no multiple of heads {self.heads}")
        require(
            not self.window or (self.grid[0] % self.window == 0 and self.grid[1] % self.window == 0),
            f"grid {self.grid} is no multiple of window {self.window}",
        )
        if self.family == "llama":
            require(self.head_width % 4 == 0, f"head width {self.head_width} must be a multiple of 4 for two rotations")
            require(self.caption_width > 0, "a llama model needs caption_width, the width of the states it reads")
            require(
                self.vocabulary == self.codes and not self.pad and not self.start_of_image,
                f"a llama model has no text ids: vocabulary {self.vocabulary} must be codes {self.codes}, "
                f"pad {self.pad} and start_of_image {self.start_of_image} 0",
            )
            return
        require(
            self.codes <= min(self.start_of_image, self.pad) and max(self.start_of_image, self.pad) < self.vocabulary,
            f"start_of_image {self.start_of_image} and pad {self.pad} must lie between codes {self.codes} "
            f"and vocabulary {self.vocabulary}",
        )
        require(
            self.text_span <= self.text_positions and self.text_positions + self.tokens <= self.positions,
            f"positions {self.positions} must hold text_positions {self.text_positions} and {self.tokens} tokens",
        )
        require(
            (self.frames - 1) * self.tokens <= self.extra_positions,
            f"extra_positions {self.extra_positions} must hold {self.frames - 1} frames of {self.tokens}",
        )

    @property
    def tokens(self) -> int:
        """Tokens of one frame (L)."""
        return self.grid[0] * self.grid[1]

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def inner_width(self) -> int:
        """Width inside the MLP."""
        return self.inner or self.mlp_ratio * self.width


def _small(codes: int, texts: int, **sizes: Any) -> ModelConfig:
    """A model whose vocabulary is `codes` image ids, `texts` text ids and <start_of_image>; <pad> is text id 0."""
    return ModelConfig(codes=codes, pad=codes, start_of_image=codes + texts, vocabulary=codes + texts + 1, **sizes)


def llama_config(codes: int, **sizes: Any) -> ModelConfig:
    """A model of the Llama family: its vocabulary is the image codes."""
    return ModelConfig(family="llama", codes=codes, vocabulary=codes, pad=0, start_of_image=0, **sizes)


MODELS = {
    "debug": _small(
        codes=32,
        texts=400,
        layers=2,
        width=32,
        heads=2,
        grid=(4, 4),
        window=2,
        text_span=48,
        text_positions=48,
        positions=64,
        extra_positions=64,
    ),
    "shapes": _small(
        codes=1024,
        texts=512,
        layers=6,
        width=160,
        heads=5,
        grid=(8, 8),
        window=0,
        text_span=64,
        text_positions=64,
        positions=128,
        extra_positions=256,
    ),
    "cogvideo-9b": ModelConfig(
        layers=48,
        width=3072,
        heads=48,
        vocabulary=150_010,
        codes=20_000,
        start_of_image=150_000,
        pad=20_003,
        grid=(20, 20),
    ),
    "llama-debug": llama_config(
        codes=32, layers=2, width=32, heads=2, grid=(4, 4), window=2, text_span=40, inner=64, caption_width=16
    ),
    "llama-shapes": llama_config(
        codes=1024, layers=5, width=128, heads=4, grid=(8, 8), window=0, text_span=64, inner=320, caption_width=64
    ),
    "llamagen-xl": llama_config(  # at 256 px; at 512 px the grid is (32, 32)
        codes=16_384,
        layers=36,
        width=1280,
        heads=20,
        grid=(16, 16),
        window=8,
        text_span=120,
        inner=3584,
        caption_width=2048,
    ),
}


@dataclass(frozen=True)
class SuperResConfig:
    """How super-resolution of tokens sits on its image model."""

    factor: Annotated[int, Interval(ge=1, le=64)] = 3  # fine tokens along the side of a coarse one
    coarse_offset: Id = 0  # position rows between the end of the text and the first coarse token
    text_span: Size = 64  # longest text, in tokens


@dataclass(frozen=True)
class FlowConfig:
    """A flow-matching decoder beside an image tokenizer."""

    layers: Small = 6
    width: Size = 192
    heads: Size = 6
    frames: Annotated[int, Interval(ge=2, le=65)] = 17  # of a clip to train on
    steps: FlowSteps = 1  # of decoding, unless sampling is told another number

    def __post_init__(self) -> None:
        whole = self.width % (4 * self.heads) == 0
        require(
            whole, f"width {self.width} is no multiple of four times heads {self.heads}: rows and columns turn pairs"
        )


@dataclass(frozen=True)
class Prompts:
    """How a caption becomes the text that a model reads; a guide is the unconditional text of guidance."""

    image: str = "{prompt}"
    image_guide: str = "<n>"
    video: str = "{seconds}秒<n>{prompt}"
    video_guide: str = "{seconds}秒<n>"

    def __post_init__(self) -> None:
        known = {"image": {"prompt"}, "image_guide": set(), "video": {"prompt", "seconds"}, "video_guide": {"seconds"}}
        for name, allowed in known.items():
            text = getattr(self, name)
            try:
                parts = list(Formatter().parse(text))
            except ValueError as error:
                raise ConfigError(f"{name} {text!r}: {error}") from None
            for _, place, form, conversion in parts:
                fits = place is None or (place in allowed and not form and not conversion)
                places = " and ".join(f"{{{place}}}" for place in sorted(allowed)) or "no place"
                require(fits, f"{name} {text!r:.60} may hold {places} and nothing else in braces")


@dataclass(frozen=True)
class SamplingConfig:
    """How one stage draws its tokens. Of `clusters`, `top_k` and `top_p` at most one is set."""

    # unconditional + guidance * (condition - unconditional); 1 = the condition alone
    guidance: Annotated[float, Interval(ge=0.0, le=1000.0)] = 1.0
    temperature: Temperature = 1.0
    clusters: Id = 0  # draw among this many best clusters (0 = no clusters)
    inner_temperature: Temperature = 0.89  # temperature inside the drawn cluster, on top of `temperature`
    top_k: Id = 0  # draw among this many best tokens (0 = all)
    # draw among the fewest best tokens that hold this share (1 = all)
    top_p: Annotated[float, Interval(gt=0.0, le=1.0)] = 1.0
    text_bias: float = 0.0  # added to the scores of text keys when there is no guidance

    def __post_init__(self) -> None:
        require(0.0 <= self.guidance <= 1000.0, f"guidance {self.guidance} must be 0 to 1000")
        for name in ("temperature", "inner_temperature"):
            value = getattr(self, name)
            require(1e-6 <= value <= 1e4, f"{name} {value} must be 0.000001 to 10000")
        require(self.clusters >= 0 and self.top_k >= 0, f"clusters {self.clusters} and top_k {self.top_k} must be >= 0")
        require(0.0 < self.top_p <= 1.0, f"top_p {self.top_p} must be above 0 and at most 1")
        chosen = (self.clusters > 0) + (self.top_k > 0) + (self.top_p < 1.0)
        require(chosen <= 1, "clusters, top_k and top_p exclude each other; set one")


@dataclass(frozen=True)
class StageSampling:
    """How each stage draws its tokens."""

    image: SamplingConfig = SamplingConfig()
    keyframes: SamplingConfig = SamplingConfig()
    interpolation: SamplingConfig = SamplingConfig()
    superres: SamplingConfig = SamplingConfig()


@dataclass(frozen=True)
class BundleManifest:
    """What bundle.toml says."""

    name: str = ""
    licence: str = ""
    frame_rate: float = 1.0  # default keyframe rate, frames a second
    tokenizer: TokenizerConfig | HierarchicalConfig | LlamaGenVQConfig | None = None
    text: TextEncoderConfig | None = None  # of a model that reads states instead of text ids
    prompts: Prompts = Prompts()
    model: ModelConfig | None = None
    sampling: StageSampling = StageSampling()
    superres: SuperResConfig = SuperResConfig()
    flow: FlowConfig = FlowConfig()
    decoder: Literal["plain", "flow"] = "plain"  # that turns tokens into pixels unless sampling is told another
    files: dict[str, str] = field(default_factory=dict)  # sha256 by name
    format: Annotated[int, Interval(ge=0)] = 0  # 0: before bundles said one
    stands_on: dict[str, dict[str, str]] = field(default_factory=dict)  # of a file: names and sha256 of its foundations
    words: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of the training captions, by what they name
    trained_rates: dict[str, tuple[float, ...]] = field(default_factory=dict)  # frames a second; none: not said
    growth: GrownWeights = GrownWeights()  # noqa: RUF009  (frozen)
    lora: LoraAdapters = LoraAdapters()  # noqa: RUF009  (frozen)
    language: LanguageAdapters = LanguageAdapters()  # noqa: RUF009  (frozen)
    language_model: Seq2SeqConfig | None = None  # that rewrites prompts
    recaption: str = ""  # another bundle's folder, whose language model does; a relative one lies beside bundle.toml
    world: Literal["", "shapes"] = ""  # whose words are known, so that a rewriting can be checked

    def __post_init__(self) -> None:
        rates = ", ".join(f"{rate:g}" for rate in FRAME_RATES)
        require(self.frame_rate in FRAME_RATES, f"frame_rate {self.frame_rate} must be one of {rates}")
        for files in (self.files, *self.stands_on.values()):
            for name, digest in files.items():
                require(re.fullmatch(r"\w[\w.-]{0,99}", name) is not None, f"[files]: {name!r:.60} is no file name")
                good = re.fullmatch(r"[0-9a-f]{64}", digest) is not None
                require(good, f"[files]: {name} {digest!r:.80} must be a sha256, 64 digits of 0-9 and a-f")
        if self.tokenizer is not None and self.model is not None:
            codes, side = self.tokenizer.codes, self.tokenizer.image_size // self.tokenizer.rate
            require(self.model.codes == codes, f"[model] codes {self.model.codes} must be the tokenizer's, {codes}")
            fits = self.model.grid == (side, side)
            require(fits, f"[model] grid {self.model.grid} must be the tokenizer's, {side} x {side}")
