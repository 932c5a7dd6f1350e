"""SAT checkpoint folders made here: merged ranks, allow-list, clear refusals."""

import json
import os

import pytest
import torch

from cogstyle.errors import BundleError
from cogstyle.interop import sat_checkpoint as sat
from tests.interop.sat_folder import write


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_come_back(model, adapters, tmp_path, ranks, dtype):
    adapter = adapters["interpolation"]
    write(tmp_path, model, adapter, ranks=ranks, dtype=dtype)
    checkpoint = sat.read_checkpoint(tmp_path)
    base, added = sat.split_weights(checkpoint.weights)
    for found, module in ((base, model), (added, adapter)):
        expected = module.state_dict()
        assert found.keys() == expected.keys()
        for name, value in found.items():
            assert value.dtype == dtype and torch.equal(value, expected[name].to(dtype)), name
    ids = {name: getattr(model.config, name) for name in ("codes", "pad", "start_of_image", "text_positions")}
    assert sat.model_config(checkpoint, **ids) == model.config


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_a_harmful_pickle_is_refused_and_does_nothing(model, adapters, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, model, adapters["keyframes"])
    path = tmp_path / "7" / "mp_rank_00_model_states.pt"
    torch.save({"module": {}, "extra": Harmful()}, path)
    with pytest.raises(BundleError, match=r"asks for (posix|nt)\.system, which no checkpoint of weights needs"):
        sat.read_checkpoint(tmp_path)
    assert not (tmp_path / "harmed").exists()


def test_damage_is_named(model, adapters, tmp_path):
    write(tmp_path, model, adapters["keyframes"], ranks=2)
    path = tmp_path / "7" / "mp_rank_01_model_states.pt"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match=r"cannot read checkpoint .*mp_rank_01"):
        sat.read_checkpoint(tmp_path)
    torch.save([1, 2], path)
    with pytest.raises(BundleError, match="no weights under the key 'module'"):
        sat.read_checkpoint(tmp_path)
    path.unlink()
    with pytest.raises(BundleError, match=r"of 2 ranks lacks .*mp_rank_01"):
        sat.read_checkpoint(tmp_path)
    (tmp_path / "latest").unlink()
    with pytest.raises(BundleError, match="is no SAT checkpoint"):
        sat.read_checkpoint(tmp_path)


def test_shares_that_do_not_fit_are_named(model, adapters, tmp_path):
    write(tmp_path, model, adapters["keyframes"], ranks=2)
    path = tmp_path / "7" / "mp_rank_01_model_states.pt"
    state = torch.load(path, weights_only=False)
    name = "transformer.layers.1.mlp.dense_4h_to_h.weight"
    state["module"][name] = state["module"][name][:-1].clone()
    torch.save(state, path)
    with pytest.raises(BundleError, match=rf"shares of {name} do not fit together: \(32, 64\), \(31, 64\)"):
        sat.read_checkpoint(tmp_path)


def test_unknown_weights_are_named():
    with pytest.raises(BundleError, match=r"unknown weight transformer\.layers\.0\.attention\.rotary"):
        sat.our_name("transformer.layers.0.attention.rotary.weight")
    for name in ("mixins.other.weight", "transformer.layers.0", "mixins.attention_plus.dense.0", "", "mixins"):
        with pytest.raises(BundleError, match=f"unknown weight {name}"):
            sat.our_name(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_parallel_size": "2"}, "model_parallel_size 2 must be a whole number, 1 to 1,000"),
        ({"model_parallel_size": 10**9}, "model_parallel_size 1000000000 must be"),
        ({"num_layers": 10**9}, "num_layers 1000000000 must be"),
        ({"num_layers": 9_999}, "says 9999 layers and has"),
        ({"num_layers": None}, "num_layers None must be"),
        ({"num_layers": True}, "num_layers True must be"),
        ({"num_attention_heads": 0}, "num_attention_heads 0 must be"),
        ({"window_size": 1.5}, "window_size 1.5 must be"),
        ({"layout": [48, 64]}, "layout .* must be three whole numbers"),
        ({"layout": [64, 48, 128]}, "must be three"),
        ({"layout": [48, 48, 128]}, "must be three"),
        ({"layout": [48, 63, 128]}, "frames of 15 tokens, which is no square"),
        ({"layout": "abc"}, "must be three"),
        ({"layout": [0, 10**18, 10**18]}, "must be three"),
        ([1], "holds a list, not a table"),
        ("[" * 100_000, "is no SAT checkpoint"),
        ("{", "is no SAT checkpoint"),
        (b"\xff", "is not UTF-8"),
    ],
)
def test_what_a_folder_says_is_checked(model, adapters, tmp_path, change, message):
    write(tmp_path, model, adapters["keyframes"])
    path = tmp_path / "model_config.json"
    if isinstance(change, dict):
        change = json.dumps(json.loads(path.read_text()) | change)
    elif isinstance(change, list):
        change = json.dumps(change)
    path.write_bytes(change if isinstance(change, bytes) else change.encode())
    with pytest.raises(BundleError, match=message):
        sat.model_config(sat.read_checkpoint(tmp_path), codes=32, pad=32, start_of_image=432, text_positions=48)


@pytest.mark.parametrize("latest", ["", "..", "../x", "/etc", "7/../7", "a" * 300])
def test_the_latest_step_is_a_folder_beside_it(model, adapters, tmp_path, latest):
    write(tmp_path, model, adapters["keyframes"])
    (tmp_path / "latest").write_text(latest)
    with pytest.raises(BundleError, match=r"must hold the name of a folder|lacks"):
        sat.read_checkpoint(tmp_path)
