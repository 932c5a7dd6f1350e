"""Training the bilingual text tokenizer on the captions of the shapes world."""

import io
from collections.abc import Iterator

import sentencepiece

from cogstyle.config import ModelConfig
from cogstyle.shapes_world import world

SECONDS = tuple(f"{seconds}秒" for seconds in (16.0, 8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.125, 0.0625))
CHINESE_WORDS = (
    *world.CHINESE.values(),
    *("圆形", "背景上,", "一个", "向", "移动", "再回来", "转圈", "变大", "变小", "消失再出现", "上下弹跳", "静止不动"),
)  # as normalised: NFKC makes a full-width comma an ASCII one


def corpus(captions: int, seed: int) -> Iterator[str]:
    """Captions of the training seeds, half of them without the actions."""
    for number in range(captions):
        yield world.caption(world.draw_scene(seed + number), with_action=number % 2 == 0)


def train_text_model(config: ModelConfig, *, captions: int = 4_000, seed: int = 0) -> bytes:
    """A sentencepiece BPE model with byte fallback, as bytes. Piece 0 is <pad>; letters lose their case.

    Chinese words of the world, which no spaces part, and the seconds prefixes are pieces of their own;
    English words are learned.
    """
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(captions, seed),
        model_writer=out,
        model_type="bpe",
        vocab_size=config.start_of_image - config.codes,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc_cf",
        add_dummy_prefix=False,
        user_defined_symbols=["<n>", *SECONDS, *CHINESE_WORDS],
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    return out.getvalue()
