"""The small language model of a bundle, which rewrites prompts."""

from pathlib import Path

import torch
from sentencepiece import SentencePieceProcessor
from torch import Tensor

from cogstyle.bundle import Bundle, WeightFile
from cogstyle.errors import PromptError
from cogstyle.model.seq2seq import END, PAD, Seq2Seq
from cogstyle.tokenizers.text import read_pieces
from cogstyle.tokenizers.words import plain


class Rewriter:
    """Any phrasing -> the caption that the weights know. One prompt at a time: what it becomes hangs on nothing else.

    Args:
        name: a folder, or the name of a shipped bundle.

    Raises:
        BundleError: if it holds no language model, or a damaged one.
    """

    def __init__(self, name: str | Path) -> None:
        bundle = Bundle(name)
        self.model = bundle.language_model()
        path = bundle.file(WeightFile.LANGUAGE_PIECES)
        self.pieces = read_pieces(path.read_bytes(), str(path))
        self.world = str(bundle.manifest.get("world", ""))
        self.name, self.digest = bundle.name, bundle.sha256(WeightFile.LANGUAGE_MODEL)

    def __call__(self, prompt: str) -> str:
        """
        Raises:
            PromptError: for a prompt that is too long, or whose rewriting does not end.
        """
        ids, span = source_ids(self.pieces, prompt), self.model.config.span
        if len(ids) > span:
            raise PromptError(f"it has {len(ids)} tokens, the language model reads {span}")
        (found,) = rewrite(self.model, self.pieces, [ids])
        if not found:
            raise PromptError(f"its rewriting does not end within {span} tokens")
        return found


def source_ids(pieces: SentencePieceProcessor, text: str) -> list[int]:
    """Ids of what is to be rewritten: without upper case, END behind it."""
    return [*pieces.encode(plain(text)), END]


def padded(rows: list[list[int]]) -> Tensor:
    """Ids of any lengths -> [B, S], filled with PAD at the end."""
    span = max(map(len, rows))
    return torch.tensor([row + [PAD] * (span - len(row)) for row in rows])


def rewrite(model: Seq2Seq, pieces: SentencePieceProcessor, rows: list[list[int]]) -> list[str]:
    """Ids of sources -> texts; one that does not end is empty."""
    known = pieces.get_piece_size()
    drawn = model.rewrite(padded(rows).to(model.embed.weight.device))
    return [pieces.decode([i for i in ids if i < known]).strip() for ids in drawn]
