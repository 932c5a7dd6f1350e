"""Training the bilingual text tokenizer on captions."""

import io

import sentencepiece

from cogstyle.config import ModelConfig
from cogstyle.training.sources import TextCorpus


def train_text_model(config: ModelConfig, *, captions: int = 4_000, seed: int = 0) -> bytes:
    """A sentencepiece BPE model with byte fallback, as bytes. Piece 0 is <pad>; letters lose their case.

    Chinese words of the captions, which no spaces part, and the seconds prefixes are pieces of their own;
    English words are learned.
    """
    out, corpus = io.BytesIO(), TextCorpus(captions, seed)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus.sentences(),
        model_writer=out,
        model_type="bpe",
        vocab_size=config.start_of_image - config.codes,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc_cf",
        add_dummy_prefix=False,
        user_defined_symbols=["<n>", *corpus.pieces],
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    return out.getvalue()
