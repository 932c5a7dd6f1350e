"""Text <-> ids, with the seconds prefix that tells the model its frame rate."""

from collections.abc import Sequence
from functools import cached_property

import sentencepiece
import torch
from torch import Tensor

from cogstyle.config import ModelConfig, Prompts
from cogstyle.errors import BundleError, PromptError
from cogstyle.tokenizers.words import NO_WORDS, Words

LINEBREAK = "<n>"
SPECIALS = ("<start_of_image>", "<start_of_english>", "<start_of_chinese>")  # icetk's, after the last piece


def read_pieces(model: bytes, where: str) -> sentencepiece.SentencePieceProcessor:
    """A sentencepiece model from its bytes.

    Raises:
        BundleError: naming `where`, if they are no such model.
    """
    try:
        pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces.get_piece_size()
    except (RuntimeError, TypeError, OSError):
        raise BundleError(f"{where} is no sentencepiece model") from None
    return pieces


class TextTokenizer:
    """A sentencepiece model whose ids follow the image ids.

    Args:
        model: bytes of a sentencepiece model.
        config: gives the offset (`codes`), the padding id and the longest text.
        prompts: templates that turn a caption into model text.
        words: of the captions that the weights were trained with.
    """

    def __init__(self, model: bytes, config: ModelConfig, prompts: Prompts, words: Words = NO_WORDS) -> None:
        self.config, self.prompts, self.words = config, prompts, words
        self.model = model
        room = config.start_of_image - config.codes
        if len(self.pieces) > room:
            raise BundleError(f"text model has {len(self.pieces)} pieces, the vocabulary has room for {room}")

    @cached_property
    def pieces(self) -> sentencepiece.SentencePieceProcessor:
        return read_pieces(self.model, "the text model")

    def read(self) -> None:
        """Read now what is read when it is first needed."""
        _ = self.pieces

    def encode(self, text: str, *, linebreaks: bool = False) -> list[int]:
        """Ids of a text, image ids excluded.

        Args:
            linebreaks: keep line breaks, as `<n>`; otherwise they are spaces.

        Raises:
            PromptError: if it is no text, or has more tokens than the text span holds.
        """
        if linebreaks:
            text = text.replace("\n", LINEBREAK)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise PromptError(f"prompt is not UTF-8: character {error.start + 1} of {text!a:.60}") from None
        ids = [piece + self.config.codes for piece in self.pieces.encode(text)]
        if len(ids) > self.config.text_span:
            raise PromptError(f"prompt has {len(ids)} tokens, the text span holds {self.config.text_span}: {text!r}")
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; padding is left out, `<n>` breaks the line."""
        pieces = [i - self.config.codes for i in ids if i != self.config.pad]
        return self.pieces.decode(pieces).replace(LINEBREAK, "\n")

    def token(self, index: int) -> str:
        """The piece of an id: `<image_17>` for image ids, then text pieces, then the special ones."""
        if index < self.config.codes:
            return f"<image_{index}>"
        if index >= self.config.start_of_image:
            return SPECIALS[index - self.config.start_of_image]
        return self.pieces.id_to_piece(index - self.config.codes)

    def token_id(self, token: str) -> int:
        """The inverse of `token`; unknown pieces give the id of `<unk>`."""
        if token.startswith("<image_") and token[7:-1].isdigit():
            return int(token[7:-1])
        if token in SPECIALS:
            return self.config.start_of_image + SPECIALS.index(token)
        return self.pieces.piece_to_id(token) + self.config.codes

    def image_text(self, prompt: str | None, *, unconditional: bool = False) -> list[int]:
        """Ids for the image model; None gives the unconditional text."""
        prompt = None if unconditional else prompt
        template = self.prompts.image_guide if prompt is None else self.prompts.image
        return self._fill(template, prompt)

    def video_text(self, prompt: str | None, seconds: float, *, unconditional: bool = False) -> list[int]:
        """Ids for a video adapter; `seconds` is the time the frames span, None gives the unconditional text."""
        prompt = None if unconditional else prompt
        template = self.prompts.video_guide if prompt is None else self.prompts.video
        return self._fill(template, prompt, seconds=float(seconds))

    def _fill(self, template: str, prompt: str | None, **values: float) -> list[int]:
        """Ids of a template; a prompt that begins like no caption has its first word as inside a text."""
        ids = self.encode(template.format(prompt=prompt, **values))
        if prompt is None or not self.words.opens_anew(prompt):
            return ids
        inside = template.format(prompt=f" {prompt}", **values)
        lost = inside[0] == " "  # at the beginning of a text, but not after a line break
        inside_ids = self.encode(LINEBREAK + inside)[1:] if lost else self.encode(inside)
        return inside_ids if len(inside_ids) <= len(ids) else ids

    def pad(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Texts of any length -> left-padded ids [B, S], S the longest of them."""
        span = max(len(ids) for ids in texts)
        return torch.tensor([[self.config.pad] * (span - len(ids)) + list(ids) for ids in texts])
