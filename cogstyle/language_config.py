"""How adapters listen to a frozen language model: which one, in which words it is asked, and where they sit."""

from dataclasses import dataclass
from string import Formatter
from typing import Literal

from cogstyle.schema import Size, require


@dataclass(frozen=True)
class LanguageConfig:
    """The language model of an adapter, and the layers that hear it."""

    llm: str  # a Hugging Face folder, a GGUF file, or a name on the hub: what `--llm` reads by default
    sha256: str = ""  # of what its states depend on
    width: Size = 1  # of a state
    template: str = "{prompt}"  # in which the model reads a prompt; states of the prompt's own places alone are kept
    every: Literal[1, 2] = 1  # layers: each, or every second one
    longest: Size = 256  # tokens of a prompt
    rewritten: bool = False  # whether the adapter also hears what the prompt was rewritten to

    def __post_init__(self) -> None:
        fine = self.template.count("{prompt}") == 1
        try:
            fine = fine and [name for _, name, form, way in Formatter().parse(self.template) if name is not None] == [
                "prompt"
            ]
        except ValueError:
            fine = False
        require(fine, f"template {self.template!r:.80} must hold {{prompt}} once, and no other braces")


@dataclass(frozen=True)
class LanguageAdapters:
    """The language adapters of a bundle."""

    image: LanguageConfig | None = None
    keyframes: LanguageConfig | None = None
