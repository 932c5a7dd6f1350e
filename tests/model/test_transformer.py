"""The model against its slow twin, and the properties that its layouts promise."""

import pytest
import torch

from cogstyle.adapter import adapter_from_image
from cogstyle.config import MODELS
from cogstyle.errors import LayoutError
from cogstyle.layout import image_layout, interpolation_layout, keyframe_layout
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from tests.reference import transformer as reference

TOLERANCE = dict(rtol=0, atol=2e-4)
LAYOUTS = {"keyframes": keyframe_layout, "interpolation": interpolation_layout}


def some_text(config, lengths, span=None):
    span = span or max(lengths)
    low, high = config.codes + 1, config.start_of_image
    return torch.tensor([[config.pad] * (span - n) + torch.randint(low, high, (n,)).tolist() for n in lengths])


def some_tokens(config, batch, frames):
    return torch.randint(config.codes, (batch, frames, config.tokens))


@pytest.mark.parametrize("kind", ["image", "keyframes", "interpolation"])
def test_equals_slow_reference(model, adapters, config, kind):
    text, tokens = some_text(config, [3]), some_tokens(config, 1, 1 if kind == "image" else config.frames)
    adapter = adapters.get(kind)
    make = LAYOUTS.get(kind, image_layout)
    layout = make(config, 3)
    h = model(text, tokens[:, list(layout.times)], layout, adapter)
    back = torch.tensor(layout.times).argsort()
    fast = model.logits(h).unflatten(1, (layout.frames, -1))[0, back].flatten(0, 1)
    slow = reference.logits(model, text[0].tolist(), tokens[0].tolist(), adapter, kind)
    torch.testing.assert_close(fast.double(), slow, **TOLERANCE)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_left_padding_changes_nothing(model, adapters, config, kind):
    text, tokens = some_text(config, [4]), some_tokens(config, 1, config.frames)
    padded = torch.cat([torch.full((1, 5), config.pad), text], 1)
    plain = model(text, tokens, LAYOUTS[kind](config, 4), adapters[kind])
    wide = model(padded, tokens, LAYOUTS[kind](config, 9), adapters[kind])
    torch.testing.assert_close(plain, wide, rtol=0, atol=2e-5)


def test_batch_of_one_equals_batch_of_many(model, adapters, config):
    text, tokens = some_text(config, [4, 2, 6]), some_tokens(config, 3, config.frames)
    layout = keyframe_layout(config, 6)
    many = model(text, tokens, layout, adapters["keyframes"])
    one = model(text[1:2], tokens[1:2], layout, adapters["keyframes"])
    torch.testing.assert_close(many[1:2], one, rtol=0, atol=2e-5)


def test_time_order_equals_given_first_order(model, adapters, config):
    text, tokens = some_text(config, [4, 2]), some_tokens(config, 2, config.frames)
    memory = interpolation_layout(config, 4)
    in_time = model(text, tokens, interpolation_layout(config, 4, given_first=False), adapters["interpolation"])
    in_memory = model(text, tokens[:, list(memory.times)], memory, adapters["interpolation"])
    back = torch.tensor(memory.times).argsort()
    torch.testing.assert_close(in_time, in_memory.unflatten(1, (5, -1))[:, back].flatten(1, 2), rtol=0, atol=2e-5)


def test_pb_relax_changes_nothing(model, adapters, config):
    text, tokens = some_text(config, [4, 2]), some_tokens(config, 2, config.frames)
    for kind, make in LAYOUTS.items():
        layout = make(config, 4)
        plain = model(text, tokens, layout, adapters[kind])
        relaxed = model(text, tokens, layout, adapters[kind], pb_relax=True)
        torch.testing.assert_close(plain, relaxed, rtol=0, atol=2e-5)


def test_causality_by_gradient(model, adapters, config):
    """The state of a keyframe place moves with no later token, and does move with earlier frames."""
    layout = keyframe_layout(config, 4)
    text, tokens = some_text(config, [4]), some_tokens(config, 1, config.frames)
    place = 2 * config.tokens + 5
    shifted = model.shift(tokens)
    x = model.embed_image(shifted, layout.image_positions(), adapters["keyframes"]).detach().requires_grad_()
    model.embed_image = lambda *_: x  # type: ignore[method-assign]
    try:
        model(text, tokens, layout, adapters["keyframes"])[0, place].sum().backward()
    finally:
        del model.embed_image
    moved = x.grad[0].abs().sum(1) > 0
    assert not moved[place + 1 :].any()
    assert moved[: place + 1].all()


def test_fresh_adapter_on_one_frame_is_the_image_model(model, config):
    """With the output projection copied, both channels agree on a single frame, whatever the gate."""
    adapter = adapter_from_image(model)
    with torch.no_grad():
        for layer in adapter.layers:
            layer.gate.normal_()
    text, tokens = some_text(config, [4]), some_tokens(config, 1, 1)
    layout = image_layout(config, 4)
    plain, mixed = model(text, tokens, layout), model(text, tokens, layout, adapter)
    torch.testing.assert_close(plain, mixed, rtol=0, atol=2e-5)
    released = adapter_from_image(model, copy_output=False)
    assert (plain - model(text, tokens, layout, released)).abs().max() > 1e-2


def test_adapter_from_image_freezes_the_base(config):
    base = Transformer(config)
    adapter = adapter_from_image(base)
    assert not any(p.requires_grad for p in base.parameters())
    assert all(p.requires_grad for p in adapter.parameters())
    first = base.positions.weight[config.text_positions : config.text_positions + config.tokens]
    torch.testing.assert_close(adapter.positions.weight[2 * config.tokens : 3 * config.tokens], first)


def test_shift_is_an_attribute_of_the_layer(adapters):
    shifts = [window.shift for window in adapters["interpolation"].windows]
    assert shifts == [0, 1]
    assert adapters["keyframes"].windows == [None, None]


def test_official_size_is_counted_on_meta():
    config = MODELS["cogvideo-9b"]
    with torch.device("meta"):
        base, adapter = Transformer(config), TemporalAdapter(config, window=config.window)
    frozen, trained = (sum(p.numel() for p in module.parameters()) for module in (base, adapter))
    assert frozen == pytest.approx(5.9e9, rel=0.01)
    assert trained == pytest.approx(1.8e9, rel=0.02)
    assert frozen + 2 * trained == pytest.approx(9.4e9, rel=0.02)


def test_wrong_shapes_are_named(model, adapters, config):
    with pytest.raises(LayoutError, match=r"text_BS has shape \(1, 5\), expected \(\*, 4\)"):
        model(some_text(config, [5]), some_tokens(config, 1, 5), keyframe_layout(config, 4), adapters["keyframes"])
    with pytest.raises(LayoutError, match="beyond the 16 rows"):
        model(some_text(config, [4]), some_tokens(config, 1, 5), keyframe_layout(config, 4))
