"""The Llama family: against a float64 reference written from the formulas, steps against the whole, and its size."""

from dataclasses import replace

import pytest
import torch

from cogstyle.adapter import adapter_from_image, superres_from_image
from cogstyle.config import FRAME_RATES, MODELS, SamplingConfig
from cogstyle.errors import ConfigError, LayoutError
from cogstyle.layout import Mark, image_layout, interpolation_layout, keyframe_layout
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.sampling import decode as decoding
from cogstyle.sampling import static_step
from cogstyle.sampling.decode import Texts, decode, finish
from cogstyle.sampling.decode_plan import plan_for
from cogstyle.sampling.logits import sampler
from cogstyle.training.transformer import fresh_transformer
from tests.conftest import disturb
from tests.pretend import recorded
from tests.reference import llama as reference

CONFIG = replace(MODELS["llama-debug"], frames=3, text_span=6)
KINDS = {"image": image_layout, "keyframes": keyframe_layout, "interpolation": interpolation_layout}
RATE = 3  # of FRAME_RATES


def disturbed():
    """An image model whose weights are not those of the start, and adapters on it."""
    torch.manual_seed(1)
    model = fresh_transformer(CONFIG)
    disturb(model)
    model = model.eval().requires_grad_(False)
    made = {"image": None, "keyframes": adapter_from_image(model), "interpolation": adapter_from_image(model, window=2)}
    for adapter in made.values():
        if adapter is not None:
            disturb(adapter)
            adapter.requires_grad_(False)
    return model, made


@pytest.fixture(scope="module")
def llama():
    return disturbed()


def texts(lengths, *, mark=0):
    """Random states, left-padded, of a clip at RATE."""
    text_BSE = torch.zeros(len(lengths), CONFIG.text_span, CONFIG.caption_width + 2)
    for row_SE, length in zip(text_BSE, lengths, strict=True):
        row_SE[-length:, :-2] = torch.randn(length, CONFIG.caption_width)
        row_SE[-length:, -2] = Mark.TEXT
        row_SE[:, -2] += mark
    text_BSE[..., -1] = (CONFIG.frames - 1) / FRAME_RATES[RATE]
    return text_BSE


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_reference(llama, kind):
    model, adapters = llama
    layout = KINDS[kind](CONFIG, CONFIG.text_span)
    text, tokens = texts([4]), torch.randint(CONFIG.codes, (1, layout.frames, CONFIG.tokens))
    ours = model.logits(model(text, tokens[:, list(layout.times)], layout, adapters[kind]))[0]
    ours = ours.unflatten(0, (layout.frames, -1))[torch.tensor(layout.times).argsort()].flatten(0, 1)
    wanted = reference.logits(model, text[0, -4:, :-2], tokens[0].tolist(), adapters[kind], kind, rate=RATE)
    torch.testing.assert_close(ours.double(), wanted, atol=2e-4, rtol=1e-4)


def test_without_an_adapter_every_frame_is_the_image_model(llama):
    model = Transformer(CONFIG).double()
    model.load_state_dict(llama[0].state_dict())
    text, tokens = texts([3, 6]).double(), torch.randint(CONFIG.codes, (2, 3, CONFIG.tokens))
    together = model(text, tokens, keyframe_layout(CONFIG, 6)).unflatten(1, (3, -1))
    for frame in range(3):
        alone = model(text, tokens[:, [frame]], image_layout(CONFIG, 6))
        torch.testing.assert_close(together[:, frame], alone, atol=1e-12, rtol=0)


def test_the_unconditional_embedding_stands_under_the_captions_mask(llama):
    model, layout = llama[0], image_layout(CONFIG, 6)
    tokens = torch.randint(CONFIG.codes, (2, 1, CONFIG.tokens))
    one, other = texts([2, 5], mark=Mark.UNCONDITIONAL), texts([2, 5], mark=Mark.UNCONDITIONAL)
    torch.testing.assert_close(model(one, tokens, layout), model(other, tokens, layout))  # whatever the states
    row = model.caption.unconditional[-5:]
    wanted = reference.logits(model, row, tokens[1].tolist())
    torch.testing.assert_close(model.logits(model(one, tokens, layout))[1].double(), wanted, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ahead", [1, 8])
def test_steps_compute_what_the_whole_does(llama, kind, ahead):
    model, adapter = llama[0], llama[1][kind]
    layout = KINDS[kind](CONFIG, CONFIG.text_span)
    text, guide = texts([2, 6]), texts([2, 6], mark=Mark.UNCONDITIONAL)
    plan = plan_for(layout, () if adapter is None else tuple(adapter.windows), ahead=ahead)
    pick, kept = sampler(SamplingConfig(), [(1,), (2,)], layout, None), {}

    def remember(logits_BPV, places_P):
        kept.update(zip(places_P.tolist(), logits_BPV.unbind(1), strict=True))
        return pick(logits_BPV, places_P)

    given = torch.randint(CONFIG.codes, (2, layout.frames, CONFIG.tokens))
    tokens = finish(decode(model, Texts(text, guide, 2.0), given, plan, remember, adapter=adapter))
    logits, away = (model.logits(model(t, tokens, layout, adapter)) for t in (text, guide))
    known = layout.known * CONFIG.tokens
    steps = torch.stack([kept[place] for place in range(known, layout.frames * CONFIG.tokens)], 1)
    torch.testing.assert_close(steps, (away + 2.0 * (logits - away))[:, known:], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_in_static_shapes_draw_the_same(llama, kind, monkeypatch):
    """As a GPU does them: replayed as a pretended CUDA graph, positions and signal included."""
    model, adapter = llama[0], llama[1][kind]
    layout, text = KINDS[kind](CONFIG, CONFIG.text_span), texts([2, 6])
    plan = plan_for(layout, () if adapter is None else tuple(adapter.windows))
    pick = sampler(SamplingConfig(), [(1,), (2,)], layout, None)
    given, drawn = torch.randint(CONFIG.codes, (2, layout.frames, CONFIG.tokens)), []
    monkeypatch.setattr(static_step, "captured", recorded)
    for there in (True, False):
        monkeypatch.setattr(decoding, "captures", lambda device, there=there: there)
        drawn.append(finish(decode(model, Texts(text), given, plan, pick, adapter=adapter)))
    assert torch.equal(*drawn)


def test_an_adapter_starts_as_the_frozen_channel_without_a_signal(llama):
    model = llama[0]
    adapter = adapter_from_image(model)
    assert not adapter.times.weight.any() and not adapter.rates.weight.any()
    for own, block in zip(adapter.layers, model.layers, strict=True):
        assert torch.equal(own.qkv.weight, block.qkv.weight) and torch.equal(own.dense.weight, block.dense.weight)
    text, tokens = texts([4]), torch.randint(CONFIG.codes, (1, 3, CONFIG.tokens))
    disturb(adapter)
    layout = keyframe_layout(CONFIG, 6)
    slow, fast = (torch.cat([text[..., :-1], torch.full_like(text[..., :1], s)], 2) for s in (8.0, 0.25))
    assert not torch.allclose(model(slow, tokens, layout, adapter), model(fast, tokens, layout, adapter))
    with pytest.raises(LayoutError, match="position 63 lies beyond the 48"):
        model(
            text,
            tokens[:, [0, 1, 2, 0]],
            replace(layout, times=(0, 1, 2, 3), roles=layout.roles + layout.roles[-1:]),
            adapter,
        )


def test_sizes_are_the_released_ones():
    config = MODELS["llamagen-xl"]
    with torch.device("meta"):
        model, adapter = Transformer(config), TemporalAdapter(config)
    assert sum(p.numel() for p in model.parameters()) == 777_678_080
    assert model.caption.unconditional.numel() == 245_760
    assert sum(p.numel() for p in adapter.layers.parameters()) == 36 * (4 * 1280**2 + 1280)
    for width, layers, heads, inner, count in ((768, 12, 12, 2048, 112_282_368), (3200, 24, 32, 8704, 3_110_249_600)):
        with torch.device("meta"):
            sized = Transformer(replace(config, width=width, layers=layers, heads=heads, inner=inner))
        assert sum(p.numel() for p in sized.parameters()) == count


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"heads": 16}, "head width 2 must be a multiple of 4"),
        ({"caption_width": 0}, "needs caption_width"),
        ({"vocabulary": 33}, "vocabulary 33 must be codes 32"),
    ],
)
def test_sizes_that_cannot_be(change, words):
    with pytest.raises(ConfigError, match=words):
        replace(CONFIG, **change)


def test_superresolution_is_refused(llama):
    with pytest.raises(ConfigError, match="learned positions"):
        superres_from_image(llama[0], factor=2)
