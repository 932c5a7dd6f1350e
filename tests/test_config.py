"""Configs refuse what cannot work, by name."""

from dataclasses import replace

import pytest

from cogstyle.config import MODELS, TOKENIZERS, SamplingConfig, TokenizerConfig, from_dict, preset
from cogstyle.errors import ConfigError


def test_presets_are_looked_up_by_name():
    assert preset(MODELS, "debug") is MODELS["debug"]
    with pytest.raises(ConfigError, match="unknown preset 'huge'; known are debug, shapes, cogvideo-9b"):
        preset(MODELS, "huge")


@pytest.mark.parametrize("name", ["debug", "shapes"])
def test_tokenizer_and_model_of_a_preset_fit(name):
    tokenizer, model = TOKENIZERS[name], MODELS[name]
    side = tokenizer.image_size // tokenizer.rate
    assert model.grid == (side, side) and model.codes == tokenizer.codes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 5}, "width 32 is no multiple of heads 5"),
        ({"positions": 60}, "positions 60 must hold"),
        ({"extra_positions": 63}, "extra_positions 63 must hold 4 frames of 16"),
        ({"window": 3}, "no multiple of window 3"),
        ({"pad": 5}, "pad 5 must lie between codes 32"),
    ],
)
def test_impossible_models(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(MODELS["debug"], **change)


def test_impossible_sampling_and_tokenizers():
    with pytest.raises(ConfigError, match="exclude each other"):
        SamplingConfig(clusters=3, top_k=2)
    with pytest.raises(ConfigError, match=r"top_p 1.5 must be above 0 and at most 1"):
        SamplingConfig(top_p=1.5)
    with pytest.raises(ConfigError, match="image_size 60 is no multiple of the rate 8"):
        TokenizerConfig(image_size=60)


def test_from_dict_refuses_unknown_keys():
    assert from_dict(SamplingConfig, {"top_k": 3}, "here").top_k == 3
    with pytest.raises(ConfigError, match="here: unknown key topk; known are guidance"):
        from_dict(SamplingConfig, {"topk": 3}, "here")
