"""Text <-> ids: both languages, any input, the seconds prefix, padding, limits."""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from cogstyle.bundle import Bundle
from cogstyle.config import MODELS
from cogstyle.errors import PromptError
from cogstyle.shapes_world import world
from cogstyle.shapes_world.phrasings import phrase
from cogstyle.tokenizers.text import TextTokenizer, read_pieces
from cogstyle.tokenizers.words import Words
from cogstyle.training.sources import PhrasedCaptions, TextCorpus
from cogstyle.training.text import PROMPTS, SYMBOLS, learn_pieces


@pytest.fixture(scope="module")
def text():
    return Bundle("shapes").text()


def test_captions_come_back(text):
    for seed in range(200):
        caption = world.caption(world.draw_scene(seed))
        ids = text.encode(caption)
        assert text.decode(ids) == caption.replace("，", ",")  # NFKC makes full-width commas plain
        assert min(ids) >= text.config.codes and max(ids) < text.config.start_of_image


def test_no_input_is_impossible(text):
    for words in ("emoji 🦁", "Ünïcödé", "\x00\x01", "日本語", "<pad>", "a\tb\nc"):
        assert text.pieces.unk_id() + text.config.codes not in text.encode(words)


def test_words_of_the_world_are_single_pieces(text):
    assert len(text.encode("一个红色圆形慢慢地向右移动再回来")) == 8
    assert len(text.encode("a red circle moves right quickly")) == 6
    assert text.encode("A Red CIRCLE") == text.encode("a red circle")


def test_seconds_prefix(text):
    ids = text.video_text("a red circle", 4)
    assert text.decode(ids) == "4.0秒\na red circle"  # as icetk does, <n> is a line break
    assert ids[:2] == text.video_text(None, 4.0) == text.encode("4.0秒<n>")
    assert text.video_text("a", 0.5) != text.video_text("a", 1.0)


def test_padding_is_on_the_left(text):
    a, b, c = text.encode("a red circle")
    padded = text.pad([[a, b, c], [b]])
    assert padded.tolist() == [[a, b, c], [text.config.pad, text.config.pad, b]]
    assert text.decode(padded[1].tolist()) == text.decode([b])


def test_a_long_prompt_names_the_limit(text):
    with pytest.raises(PromptError, match=r"prompt has \d+ tokens, the text span holds 64"):
        text.encode("a red circle " * 40)


def test_line_breaks_and_tokens(text):
    assert text.encode("red\nblue") == text.encode("red blue")
    kept = text.encode("red\nblue", linebreaks=True)
    assert text.token_id("<n>") in kept and text.decode(kept) == "red\nblue"
    for index in (0, 17, text.config.codes + 2, text.config.start_of_image, text.config.start_of_image + 2):
        assert text.token_id(text.token(index)) == index
    assert text.token(17) == "<image_17>" and text.token(text.config.start_of_image) == "<start_of_image>"


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("red circle", ["▁red", "▁circle"]),
        ("Red Circle moves right", ["▁red", "▁circle", "▁moves", "▁right"]),
        ("up goes a star", ["▁up", "▁goes", "▁a", "▁star"]),
        ("a red circle", ["a", "▁red", "▁circle"]),
        ("an orange ring", ["an", "▁orange", "▁ring"]),
        ("红色圆形", ["红色", "圆形"]),
        ("pink ring", ["p", "in", "k", "▁ring"]),  # longer inside a text: the vocabulary does not have that form
    ],
)
def test_the_first_word_has_the_form_that_training_saw(text, prompt, pieces):
    assert [text.token(index) for index in text.image_text(prompt)] == pieces
    video = [text.token(index) for index in text.video_text(prompt, 2)]
    assert video == ["2.0秒", "<n>", *pieces]


def test_captions_are_what_they_were(text):
    plain = TextTokenizer(text.model, text.config, text.prompts)
    captions = [world.caption(world.draw_scene(seed)) for seed in range(300)]
    assert all(text.image_text(caption) == plain.image_text(caption) for caption in captions)
    assert all(text.video_text(caption, 4) == plain.video_text(caption, 4) for caption in captions)
    assert not [word for caption in captions for word in text.words.unknown(caption)]
    assert plain.image_text("red circle") == plain.encode("red circle")  # a bundle without a list changes nothing


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("a dog runs, and a dog sleeps", ["dog", "runs", "sleeps"]),
        ("A PINK circle", ["pink"]),
        ("a red circle moving right", ["moving"]),
        ("一个红色狗在奔跑", ["狗在奔跑"]),
        ("ａ ｒｅｄ circle", []),
        ("...", []),
    ],
)
def test_words_that_no_caption_had_are_named(text, prompt, unknown):
    assert text.words.unknown(prompt) == unknown and Words().unknown(prompt) == []


def test_a_prompt_that_is_no_text_is_named(text):
    with pytest.raises(PromptError, match="prompt is not UTF-8: character 3"):
        text.encode("a \udcff")


@pytest.fixture(scope="module")
def learned():
    """A small tokenizer, learned now, of the phrasings."""
    data = PhrasedCaptions(phrasings=True)
    captions = list(TextCorpus(3000, phrasings=True).sentences())
    model = learn_pieces(captions, pieces=1200, symbols=(*SYMBOLS, *data.symbols))
    size = read_pieces(model, "it").get_piece_size()
    config = replace(MODELS["shapes"], codes=0, pad=0, start_of_image=size, vocabulary=size + 1)
    return TextTokenizer(model, config, PROMPTS)


@pytest.mark.parametrize("word", ["red", "Circle", "moving", "a", "the", "ball"])
def test_a_learned_tokenizer_has_one_piece_for_a_word_wherever_it_stands(learned, word):
    piece = f"▁{word.lower()}"
    for prompt in (f"{word} circle moves", f"a {word} circle", f"a circle {word}", f"moving {word}.", f"  {word}, a"):
        for ids in (learned.image_text(prompt), learned.video_text(prompt, 2)):
            assert piece in [learned.token(index) for index in ids], prompt
    assert learned.image_text("red ball")[0] == learned.image_text("a red ball")[1]
    video = [learned.token(index) for index in learned.video_text("red ball.", 2)]
    assert video == ["▁", "2.0秒", "<n>", "▁red", "▁ball", "."]
    assert learned.video_text(None, 2) == learned.video_text("red", 2)[:3]


def test_phrasings_are_short_in_pieces(learned):
    for seed, language, held in product(range(100), ("en", "zh"), (False, True)):
        scene = world.draw_scene(world.VALIDATION_SEED + seed)
        said = phrase(scene, np.random.default_rng(seed), language=language, held_out=held, beside=0.5)
        pieces = [learned.token(index) for index in learned.video_text(said, 2)]  # no error: it fits
        words = re.findall(r"\w+", said) if language == "en" else []
        most = 1.3 * len(words) if words else 0.8 * len(said)
        assert len(words) <= len(pieces) <= most + 6, (said, pieces)
        assert not [piece for piece in pieces if piece.startswith("<0x")], said
