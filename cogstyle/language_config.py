"""How adapters listen to a frozen language model: which one, in which words it is asked, and where they sit."""

from dataclasses import dataclass
from typing import Literal

from cogstyle.schema import Share, Size, require


@dataclass(frozen=True)
class Listening:
    """A language model, and the layers that hear it."""

    llm: str  # a Hugging Face folder, a GGUF file, or a name on the hub
    template: str = "{prompt}"  # in which the model reads a prompt; states of the prompt's own places alone are kept
    every: Literal[1, 2] = 1  # layers: each, or every second one
    longest: Size = 256  # tokens of a prompt

    def __post_init__(self) -> None:
        fine = [self.template.count(part) for part in ("{prompt}", "{", "}")] == [1, 1, 1]
        require(fine, f"template {self.template!r:.80} must hold {{prompt}} once, and no other braces")


@dataclass(frozen=True)
class LanguageConfig(Listening):
    """What the bundle says of an adapter that listens."""

    sha256: str = ""  # of what the model's states depend on
    width: Size = 1  # of a state
    rewritten: bool = False  # whether the adapter also hears what the prompt was rewritten to


@dataclass(frozen=True)
class LanguageTraining(Listening):
    """How such an adapter trains."""

    rewritten: str = ""  # a .jsonl file of {"prompt": caption, "rewritten": text}; the adapter then hears both
    alone: Share = 0.05  # share of the samples without the text, and as many without the language model

    def config(self, sha256: str, width: int) -> LanguageConfig:
        """What the bundle will say."""
        said = {name: getattr(self, name) for name in ("llm", "template", "every", "longest")}
        return LanguageConfig(**said, sha256=sha256, width=width, rewritten=bool(self.rewritten))


@dataclass(frozen=True)
class LanguageAdapters:
    """The language adapters of a bundle."""

    image: LanguageConfig | None = None
    keyframes: LanguageConfig | None = None
