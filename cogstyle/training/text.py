"""The text tokenizer: learned from captions, or a sentencepiece model that the user has."""

import io
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sentencepiece

from cogstyle.bundle import Bundle, WeightFile, holds_bundle, share_files, update_bundle
from cogstyle.config import MODELS, ModelConfig, Prompts, preset, require
from cogstyle.errors import ConfigError
from cogstyle.files import fingerprint, read_bytes, read_text, write_bytes
from cogstyle.sampling.options import LEVEL_RATES
from cogstyle.tokenizers.text import LINEBREAK, read_pieces
from cogstyle.tokenizers.words import WORD, plain
from cogstyle.training.recipes import TextRecipe
from cogstyle.training.sources import TextCorpus

FRAMES = 5  # of a clip, whose seconds captions begin with
SYMBOLS = (LINEBREAK, *(f"{(FRAMES - 1) / rate}秒" for rate in LEVEL_RATES))  # always pieces of their own
PROMPTS = Prompts(video="{seconds}秒<n> {prompt}")  # of text models that are learned here
TEXT, PAD = WeightFile.TEXT, "<pad>"
CONTROL, USER_DEFINED = 3, 4  # types of a piece in a sentencepiece model
MOST_WORDS = 20_000  # more say nothing about a caption


def make_text_tokenizer(recipe: TextRecipe, note: Path) -> str:
    """Write the text tokenizer of a recipe into its bundle, unless it is there; says what it is.

    Args:
        note: file that says what has been made.
    """
    folder = Path(recipe.bundle)
    captions = recipe.data.captions_of() if recipe.data else [] if recipe.model else list(TextCorpus().sentences())
    given = read_bytes(Path(recipe.model)) if recipe.model else b""
    wanted = fingerprint(asdict(recipe), captions, given)
    if holds_bundle(folder) and note.exists() and read_text(note) == f"{wanted} {Bundle(folder).hashes().get(TEXT)}":
        return f"{TEXT} of {folder} was made before"
    if recipe.model is not None:
        model = with_symbols(given, recipe.model)
    elif recipe.data is not None:
        symbols = (*SYMBOLS, *recipe.data.symbols)
        model = learn_pieces(captions, pieces=recipe.pieces, kind=recipe.kind, symbols=symbols)
    else:
        model = train_text_model(preset(MODELS, recipe.preset or "shapes"), seed=recipe.seed)
    tables: dict[str, Any] = {"prompts": PROMPTS if captions else Prompts()}
    tables["words"] = words_of(captions) if captions else {}
    if recipe.base is not None:
        base = Bundle(recipe.base)
        size = recipe.size or base.tokenizer_config.image_size
        check_size(base, size)
        share_files(base, folder, (WeightFile.TOKENIZER, WeightFile.CLUSTERS))
        tables["tokenizer"] = {"image_size": size}
    update_bundle(folder, {TEXT: model}, **tables)
    write_bytes(note, f"{wanted} {Bundle(folder).sha256(TEXT)}".encode())
    return f"{TEXT} of {read_pieces(model, str(folder)).get_piece_size()} pieces in {folder}"


def check_size(base: Bundle, size: int) -> None:
    """Raise ConfigError unless a bundle's image tokenizer can code frames of `size` pixels."""
    rate = base.tokenizer_config.rate
    require(size % rate == 0, f"size {size} is no multiple of {rate}, the pixels of a token of {base.folder}")


def train_text_model(config: ModelConfig, *, captions: int = 4_000, seed: int = 0) -> bytes:
    """The pieces of the shapes world's captions; its Chinese words, which no spaces part, are pieces of their own."""
    corpus = TextCorpus(captions, seed)
    pieces = config.start_of_image - config.codes
    return learn_pieces(corpus.sentences(), pieces=pieces, symbols=(*SYMBOLS, *corpus.pieces))


def learn_pieces(
    captions: Iterable[str], *, pieces: int, kind: str = "bpe", symbols: Sequence[str] = SYMBOLS, **others: Any
) -> bytes:
    """A sentencepiece model with byte fallback, as bytes. Piece 0 is <pad>; letters lose their case.

    The first word of a text is the piece that it is after a space; `PROMPTS` see to it behind a line break too.

    Args:
        pieces: the most that it has.
        kind: "bpe" or "unigram".
        symbols: pieces of their own.
        others: options of sentencepiece that replace ours.

    Raises:
        ConfigError: if the letters of the captions alone are more pieces.
    """
    out = io.BytesIO()
    ours = {"normalization_rule_name": "nmt_nfkc_cf", "add_dummy_prefix": True, "bos_id": -1, "eos_id": -1}
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(captions),
            model_writer=out,
            model_type=kind,
            vocab_size=pieces,
            hard_vocab_limit=False,
            byte_fallback=True,
            character_coverage=1.0,
            user_defined_symbols=list(symbols),
            pad_id=0,
            unk_id=1,
            minloglevel=2,
            **{**ours, **others},
        )
    except RuntimeError as error:
        raise ConfigError(f"pieces {pieces} cannot be learned from these captions: {str(error)[-200:]}") from None
    return out.getvalue()


def with_symbols(model: bytes, where: str) -> bytes:
    """A user's sentencepiece model, to which padding and `SYMBOLS` are added where it lacks them; ids stay.

    Raises:
        BundleError: naming `where`, if it is no such model.
    """
    found = read_pieces(model, where)
    missing = [(symbol, USER_DEFINED) for symbol in SYMBOLS if found.piece_to_id(symbol) == found.unk_id()]
    missing += [(PAD, CONTROL)] if found.pad_id() < 0 else []
    return model + b"".join(_piece(symbol, type_) for symbol, type_ in missing)


def _piece(symbol: str, type_: int) -> bytes:
    """One more of the repeated field `pieces`: a message of text (field 1), score 0 (2) and type (3)."""
    name = symbol.encode()
    body = b"\x0a" + bytes([len(name)]) + name + b"\x15" + bytes(4) + b"\x18" + bytes([type_])
    return b"\x0a" + bytes([len(body)]) + body


def words_of(captions: Iterable[str]) -> dict[str, list[str]]:
    """The [words] of a bundle: those of its captions.

    Letters without case, such as Chinese ones, which no spaces part into words, count one by one.
    """
    words: dict[str, None] = {}
    for caption in map(plain, captions):
        for word in WORD.findall(caption):
            words |= dict.fromkeys(word) if _uncased(word) else {word: None}
    return {"words": sorted(words) if len(words) <= MOST_WORDS else []}


def _uncased(word: str) -> bool:
    return any(unicodedata.category(letter) == "Lo" for letter in word)
