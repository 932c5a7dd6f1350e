"""Prompts as a language model says them: what a stage hears beside its text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cogstyle.model.language import Heard, LanguageAdapter, Segment
from cogstyle.model.transformer import Transformer


class Prompt(str):
    """A prompt that remembers what it was before it was rewritten."""

    original: str

    @classmethod
    def of(cls, drawn: str, original: str) -> "Prompt":
        prompt = cls(drawn.strip())
        prompt.original = original.strip()
        return prompt

    def strip(self, characters: str | None = None) -> str:
        """Itself: nothing is around it."""
        return self


def original_of(prompt: str) -> str:
    """What a prompt was before it was rewritten, if it was."""
    return prompt.original if isinstance(prompt, Prompt) else prompt


@dataclass(frozen=True)
class Hearing:
    """A language adapter, and what gives the states of a prompt, [tokens, width]."""

    adapter: LanguageAdapter
    states: Callable[[str], Tensor]

    def row(self, prompt: str) -> list[tuple[Segment, Tensor]]:
        """What a row of a batch hears of a prompt: what it was rewritten to, if the adapter knows such, and itself."""
        original = original_of(prompt)
        found = [(Segment.ORIGINAL, self.states(original))]
        if prompt != original and self.adapter.language.rewritten:
            found.insert(0, (Segment.REWRITTEN, self.states(prompt)))
        return found

    @torch.no_grad()
    def listening(
        self, model: Transformer, rows: Sequence[Sequence[tuple[Segment, Tensor]]], device: torch.device
    ) -> Transformer:
        """The model hearing these rows; one without prompt is a guide's."""
        heard = Heard.of(rows, self.adapter.language.width).to(device)
        return model.listening(self.adapter.listen(heard))
