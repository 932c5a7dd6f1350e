"""Configs refuse what cannot work, by name."""

from dataclasses import asdict, replace

import pytest

from cogstyle.config import MODELS, TOKENIZERS, BundleManifest, SamplingConfig, TokenizerConfig, from_dict, preset
from cogstyle.errors import ConfigError, FileError
from cogstyle.files import read_toml


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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"top_k": "2"}, "here: top_k '2' must be a valid integer"),
        ({"top_k": True}, "top_k True must be a valid integer"),
        ({"top_k": 1.5}, "top_k 1.5 must be a valid integer"),
        ({"top_k": -1}, "top_k -1 must be greater than or equal to 0"),
        ({"top_k": 10**30}, "top_k 1000000000000000000000000000000 must be less than or equal to"),
        ({"guidance": float("nan")}, "guidance nan must be a finite number"),
        ({"guidance": float("inf")}, "guidance inf must be a finite number"),
        ({"temperature": 0}, "temperature 0 must be greater than or equal to 0.000001"),
        ({"temperature": [1.0]}, r"temperature \[1.0\] must be a valid number"),
        ({"clusters": 3, "top_k": 2}, "here: clusters, top_k and top_p exclude each other"),
        ([], r"here must be a table, not \[\]"),
    ],
)
def test_from_dict_refuses_wrong_values(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(SamplingConfig, values, "here")


def test_whole_numbers_may_be_floats_and_floats_whole():
    made = from_dict(SamplingConfig, {"top_k": 3.0, "guidance": 2}, "here")
    assert made == SamplingConfig(top_k=3, guidance=2.0) and isinstance(made.top_k, int)


def manifest(**changes):
    table = {"model": asdict(MODELS["debug"]), "tokenizer": asdict(TOKENIZERS["debug"]), "files": {"a.b": "0" * 64}}
    for path, value in changes.items():
        *keys, last = path.split("__")
        inner = table
        for key in keys:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return from_dict(BundleManifest, table, "bundle.toml")


def test_a_manifest():
    assert manifest(licence="MIT", sampling__image__top_k=3).sampling.image.top_k == 3
    assert manifest(model__grid=[4.0, 4]).model == MODELS["debug"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__layers": "2"}, r"bundle.toml \[model\]: layers '2' must be a valid integer"),
        ({"model__layers": 10**9}, "layers 1000000000 must be less than or equal to 4096"),
        (
            {"model__layers": 4096, "model__width": 2**20},
            "a model of 54,043,196,.* parameters is over the limit of 100,",
        ),
        ({"model__grid": [4]}, r"\[model\]: grid"),
        ({"model__grid": [4, "4"]}, r"grid\[1\] '4' must be a valid integer"),
        ({"model__grid": [2, 2], "model__window": 2}, r"\[model\] grid \(2, 2\) must be the tokenizer's, 4 x 4"),
        ({"tokenizer__codes": 31}, r"\[model\] codes 32 must be the tokenizer's, 31"),
        ({"tokenizer__kind": {"a": 1}}, r"\[tokenizer\]: kind {'a': 1} must be 'vqvae'"),
        ({"tokenizer__encoder_channels": [8] * 40}, r"\[tokenizer\]: encoder_channels .* at most 12 items"),
        ({"licence": 3}, "bundle.toml: licence 3 must be a valid string"),
        ({"licance": "MIT"}, "unknown key licance; known are name, licence"),
        ({"frame_rate": 3}, "frame_rate 3.0 must be one of 0.25, 0.5"),
        ({"sampling__images": {}}, r"\[sampling\]: unknown key images"),
        ({"sampling": 3}, r"\[sampling\] must be a table, not 3"),
        ({"prompts__video": "{prompt!r:>9999999999}"}, r"\[prompts\]: video .* may hold {prompt} and {seconds}"),
        ({"prompts__image": "{"}, r"\[prompts\]: image '{': "),
        ({"files__../x": "0" * 64}, r"\[files\]: '../x' is no file name"),
        ({"files__x": "0"}, r"\[files\]: x '0' must be a sha256"),
    ],
)
def test_wrong_manifests(changes, message):
    with pytest.raises(ConfigError, match=message):
        manifest(**changes)


@pytest.mark.parametrize("text", ["\ufefftop_k = 3", "top_k = 3\n"])
def test_toml_with_and_without_a_byte_order_mark(tmp_path, text):
    (tmp_path / "x.toml").write_text(text, "utf-8")
    assert read_toml(tmp_path / "x.toml") == {"top_k": 3}


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"a = [", "x.toml: "), (b"a = " + b"[" * 50_000, "x.toml: "), (b"\xff", "line 1: byte 0xff is not UTF-8")],
)
def test_files_that_are_no_toml(tmp_path, data, message):
    (tmp_path / "x.toml").write_bytes(data)
    with pytest.raises(FileError, match=message):
        read_toml(tmp_path / "x.toml")
