"""Token-by-token sampling with caches equals one full forward, in any batch and any layout."""

import pytest
import torch

from cogstyle.bundle import Bundle
from cogstyle.config import SamplingConfig
from cogstyle.errors import LayoutError
from cogstyle.layout import image_layout, interpolation_layout, keyframe_layout
from cogstyle.model.packed import packs
from cogstyle.sampling.cost import memory_bytes
from cogstyle.sampling.decode import Texts, decode, finish
from cogstyle.sampling.decode_plan import plan_for
from cogstyle.sampling.interpolate import refine
from cogstyle.sampling.keyframes import OVERLAP, TextConditions, keyframes
from cogstyle.sampling.logits import apply_guidance, sampler
from cogstyle.sampling.stage import Stage
from tests.model.test_transformer import some_text, some_tokens
from tests.reference import naive_loop

LAYOUTS = {"image": image_layout, "keyframes": keyframe_layout, "interpolation": interpolation_layout}


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_steps_equal_full_forward(model, adapters, config, kind, guidance):
    texts, unconditional = some_text(config, [3, 6]), some_text(config, [2, 2], span=6)
    layout, adapter = LAYOUTS[kind](config, 6), adapters.get(kind)
    tokens = some_tokens(config, 2, layout.frames)
    pick = sampler(SamplingConfig(temperature=0.7), [(7,), (8,)], layout, None)
    plan = plan_for(layout, () if adapter is None else tuple(adapter.windows))
    drawn = finish(decode(model, Texts(texts, unconditional, guidance), tokens, plan, pick, adapter=adapter))
    logits = model.logits(model(texts, drawn, layout, adapter))
    if guidance != 1.0:
        logits = apply_guidance(logits, model.logits(model(unconditional, drawn, layout, adapter)), guidance)
    first = layout.known * layout.tokens
    expected = pick(logits[:, first:], torch.arange(first, logits.shape[1]))
    assert torch.equal(drawn.flatten(1)[:, first:], expected)
    assert torch.equal(drawn[:, : layout.known], tokens[:, : layout.known])
    assert drawn.flatten(1)[:, first:].unique().numel() > 3  # the model is not stuck on one token


def test_text_bias_reaches_every_step(model, adapters, config):
    """The bias of prefill and steps together equals a full forward with the bias in both channels."""
    texts, layout = some_text(config, [5]), keyframe_layout(config, 5)
    tokens, pick = some_tokens(config, 1, 5), sampler(SamplingConfig(), [(1,)], layout, None)
    plan = plan_for(layout, tuple(adapters["keyframes"].windows))
    drawn = finish(decode(model, Texts(texts, bias=1.4), tokens, plan, pick, adapter=adapters["keyframes"]))
    h = model(texts, drawn, layout, adapters["keyframes"], spatial_bias=1.4, temporal_bias=1.4)
    places = torch.arange(config.tokens, 5 * config.tokens)
    assert torch.equal(drawn.flatten(1)[:, places], pick(model.logits(h)[:, places], places))


class Words:
    """A text tokenizer whose ids are the letters of the prompt."""

    def __init__(self, config):
        self.config = config

    def video_text(self, prompt, seconds, unconditional=False):
        text = f"{seconds}" if unconditional else f"{seconds}{prompt}"
        return [self.config.codes + 1 + ord(letter) % 100 for letter in text]

    image_text = None

    def pad(self, texts):
        span = max(map(len, texts))
        return torch.tensor([[self.config.pad] * (span - len(ids)) + ids for ids in texts])


def test_a_sample_does_not_depend_on_its_batch(model, adapters, config):
    words, options = Words(config), SamplingConfig(guidance=2.0)
    stages = {name: Stage(model, adapter, options) for name, adapter in adapters.items()}
    first = some_tokens(config, 3, 1)

    def run(prompts, seeds, first):
        conditions = TextConditions(prompts, seeds, words)
        key = finish(keyframes(stages["keyframes"], first, conditions, frame_rate=2.0))
        return refine(stages["interpolation"], key, conditions, frame_rate=4.0)

    together = run(["a", "bcde", "fg"], [5, 6, 7], first)
    alone = run(["bcde"], [6], first[1:2])
    assert together.shape == (3, 9, config.tokens)
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(together[1:2], run(["bcde"], [8], first[1:2]))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
def test_refine_fills_every_gap_and_keeps_what_is_known(model, adapters, config, count):
    conditions, stage = (
        TextConditions(["a"], [0], Words(config)),
        Stage(model, adapters["interpolation"], SamplingConfig()),
    )
    coarse = some_tokens(config, 1, count)
    fine = refine(stage, coarse, conditions, frame_rate=4.0)
    assert fine.shape == (1, 2 * count - 1, config.tokens)
    assert torch.equal(fine[:, ::2], coarse)
    assert all(len(frame.unique()) > 1 for frame in fine[0, 1::2])  # drawn, not left blank


def test_one_frame_has_no_gap(model, adapters, config):
    conditions, stage = (
        TextConditions(["a"], [0], Words(config)),
        Stage(model, adapters["interpolation"], SamplingConfig()),
    )
    with pytest.raises(LayoutError, match="1 frame cannot be interpolated"):
        refine(stage, some_tokens(config, 1, 1), conditions, frame_rate=4.0)


def test_a_longer_video_goes_on_from_its_last_frames(model, adapters, config):
    conditions, stage = TextConditions(["a"], [3], Words(config)), Stage(model, adapters["keyframes"], SamplingConfig())

    def run(known, windows=1):
        return list(keyframes(stage, known, conditions, frame_rate=2.0, windows=windows))

    first = run(some_tokens(config, 1, 1))[-1]
    parts = run(first[:, :1], windows=3)
    longer = parts[-1]
    assert [part.shape[1] for part in parts] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert torch.equal(longer[:, :5], first)
    assert all(torch.equal(part, longer[:, : part.shape[1]]) for part in parts)
    alone = run(longer[:, 2:5])[-1]
    assert not torch.equal(alone[:, OVERLAP:], longer[:, 5:7])  # each window has its own random numbers
    for part in parts[:-1]:  # stopped anywhere, it goes on the same
        assert torch.equal(run(part, windows=3)[-1], longer)
    with pytest.raises(LayoutError, match="9 known keyframes, must be 1 to 8"):
        run(longer, windows=3)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_naive_loop_draws_the_same(model, adapters, config, kind, guidance):
    """Two forwards, growing caches, full logits and one place a step, against caches, plans and steps tried ahead."""
    text, unconditional_text = [config.codes + 3, config.codes + 5, config.codes + 4], [config.codes + 2]
    layout, adapter = LAYOUTS[kind](config, 3), adapters.get(kind)
    tokens, texts = some_tokens(config, 1, layout.frames), [text, unconditional_text] if guidance != 1.0 else [text]
    pick = sampler(SamplingConfig(temperature=0.7), [(7,)], layout, None)
    expected = naive_loop.decode(model, texts, tokens[0], layout, pick, adapter=adapter, guidance=guidance)
    windows = () if adapter is None else tuple(adapter.windows)
    plan = plan_for(layout, windows, ahead=4)
    both = Texts(torch.tensor([text]), torch.tensor([[config.pad] * 2 + unconditional_text]), guidance)
    drawn = finish(decode(model, both, tokens, plan, pick, adapter=adapter))
    assert torch.equal(drawn[0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "plain"])
@pytest.mark.parametrize("kind", ["image", "keyframes", "interpolation"])
def test_shipped_weights_draw_what_the_naive_loop_draws(kind, dtype):
    """Packed and plain weights of the shapes bundle at its own options, guidance and steps tried ahead included."""
    bundle, options = Bundle("shapes"), Bundle("shapes").sampling(kind)
    config, text = bundle.model_config, bundle.text()
    plain = bundle.image_model(), bundle.adapter(kind) if kind != "image" else None
    if dtype == "float32" and packs(dtype):
        bundle = Bundle("shapes", packed=dtype)
        assert not [name for name in bundle.image_model().state_dict() if name.endswith("qkv.weight")]
    ids = [text.video_text("a red circle moves right", 2.0), text.video_text(None, 2.0)]
    layout, guided = LAYOUTS[kind](config, max(map(len, ids))), options.guidance != 1.0
    tokens, pick = some_tokens(config, 1, layout.frames), sampler(options, [(7,)], layout, None)
    if kind == "keyframes":  # the last frame of five
        layout = keyframe_layout(config, layout.text, known=4)
    expected = naive_loop.decode(
        *(plain[0], ids[: 1 + guided], tokens[0], layout, pick), adapter=plain[1], guidance=options.guidance
    )
    model, adapter = bundle.image_model(), bundle.adapter(kind) if kind != "image" else None
    prompt, unconditional_text = text.pad(ids).split(1)
    plan = plan_for(layout, () if adapter is None else tuple(adapter.windows), ahead=16)
    drawn = finish(
        decode(model, Texts(prompt, unconditional_text, options.guidance), tokens, plan, pick, adapter=adapter)
    )
    assert torch.equal(drawn[0], expected)


@pytest.mark.parametrize("kind", ["keyframes", "interpolation"])
def test_predicted_memory_is_what_is_allocated(model, adapters, config, kind):
    layout, adapter = LAYOUTS[kind](config, 6), adapters[kind]
    plan = plan_for(layout, tuple(adapter.windows), ahead=4)
    memory = plan.memory(model, 3)
    memories = [memory.spatial, memory.temporal]
    allocated = sum(b.numel() * b.element_size() for m in memories for b in (*m.keys, *m.values))
    frames_in_flight = plan.spatial.runs.length // (layout.text + layout.tokens)
    assert memory_bytes(config, layout, 3, 4, window=adapter.window, frames_in_flight=frames_in_flight) == allocated
