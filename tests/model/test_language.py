"""Layers that hear a language model: nothing at first, to the bit; then the same in steps as in one forward."""

import pytest
import torch

from cogstyle.adapter import adapter_from_image, add_low_rank, grow
from cogstyle.config import MODELS, SamplingConfig
from cogstyle.errors import ConfigError
from cogstyle.growth_config import Growth, Lora
from cogstyle.language_config import LanguageConfig
from cogstyle.layout import image_layout, keyframe_layout
from cogstyle.model.language import CrossAttention, Heard, LanguageAdapter, Segment
from cogstyle.model.native_step import NativeLayers
from cogstyle.sampling.decode import Texts, decode, finish
from cogstyle.sampling.decode_plan import plan_for
from cogstyle.sampling.logits import apply_guidance, sampler
from cogstyle.training.plain import compute_layers_again
from cogstyle.training.transformer import fresh_transformer
from tests.conftest import disturb
from tests.model.test_transformer import some_text, some_tokens

E = 12
LAYOUTS = {"image": image_layout, "keyframes": keyframe_layout}


@pytest.fixture(scope="module", params=["sandwich", "llama"])
def family(request, model, adapters):
    """A model and its adapters, by stage."""
    if request.param == "sandwich":
        return model, {"image": None, "keyframes": adapters["keyframes"]}
    torch.manual_seed(1)
    llama = fresh_transformer(MODELS["llama-debug"]).eval().requires_grad_(False)
    adapter = adapter_from_image(llama).requires_grad_(False)
    for module in (llama, adapter):
        disturb(module)
    return llama, {"image": None, "keyframes": adapter}


def language(config, *, every=1, moved=True):
    torch.manual_seed(3)
    made = LanguageAdapter(config, LanguageConfig("llm", width=E, every=every))
    if moved:
        disturb(made)
    return made.requires_grad_(False)


def prompts(*lengths):
    """Two rows of states, a prompt of so many places each, and the first again as what was rewritten."""
    torch.manual_seed(4)
    rows = [[(Segment.ORIGINAL, torch.randn(length, E).half())] for length in lengths]
    rows[0].insert(0, (Segment.REWRITTEN, torch.randn(2, E).half()))
    return rows


def inputs(model, stage):
    config, layout = model.config, LAYOUTS[stage](model.config, 5)
    text = some_text(config, [3, 5]) if not model.llama else torch.randn(2, 5, config.caption_width + 2)
    if model.llama:
        text[..., -2:] = 1.0
    return text, some_tokens(config, 2, layout.frames), layout


def drawn(model, adapter, text, tokens, layout, scale=2.0):
    pick = sampler(SamplingConfig(top_p=0.9), [(1,), (2,)], layout, None)
    plan = plan_for(layout, () if adapter is None else tuple(adapter.windows), ahead=4)
    return finish(decode(model, Texts(text, text.flip(0), scale), tokens, plan, pick, adapter=adapter)), pick


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("stage", LAYOUTS)
def test_at_the_start_nothing_is_heard_to_the_bit(family, stage, every):
    model, adapter = family[0], family[1][stage]
    text, tokens, layout = inputs(model, stage)
    new = language(model.config, every=every, moved=False)
    listening = model.listening(new.listen(Heard.of(prompts(4, 6), E)))
    assert torch.equal(model(text, tokens, layout, adapter), listening(text, tokens, layout, adapter))
    four = model.listening(new.listen(Heard.of([*prompts(4, 6), [], []], E)))
    before, after = (drawn(one, adapter, text, tokens, layout)[0] for one in (model, four))
    assert torch.equal(before, after)
    disturb(new)
    heard = model.listening(new.listen(Heard.of(prompts(4, 6), E)))(text, tokens, layout, adapter)
    assert not torch.equal(model(text, tokens, layout, adapter), heard)
    assert not model.listens and four.listens and four.embed is model.embed


def test_only_gain_and_bias_behind_the_layers_have_a_gradient_at_first(model):
    new = language(model.config, moved=False).requires_grad_()
    text, tokens, layout = inputs(model, "image")
    model.listening(new.listen(Heard.of(prompts(4, 6), E)))(text, tokens, layout).square().sum().backward()
    moving = {name for name, p in new.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moving == {f"layers.{layer}.norm_out.{name}" for layer in (0, 1) for name in ("weight", "bias")}
    width = model.config.width
    assert sum(p.numel() for p in CrossAttention(width, 2).parameters()) == 4 * width**2 + 4 * width


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("stage", LAYOUTS)
def test_steps_hear_what_one_forward_hears(family, stage, scale):
    model, adapter = family[0], family[1][stage]
    text, tokens, layout = inputs(model, stage)
    new, rows = language(model.config), prompts(4, 6)
    guides = [[], []] if scale != 1.0 else []
    view = model.listening(new.listen(Heard.of([*rows, *guides], E)))
    found, pick = drawn(view, adapter, text, tokens, layout, scale)
    logits = model.logits(model.listening(new.listen(Heard.of(rows, E)))(text, found, layout, adapter))
    if guides:
        silent = model.listening(new.listen(Heard.of(guides, E)))
        away = model.logits(silent(text.flip(0), found, layout, adapter))
        logits = apply_guidance(logits, away, scale)
    first = 0 if stage == "image" else layout.tokens
    places = torch.arange(first, logits.shape[1])
    assert torch.equal(found.flatten(1)[:, first:], pick(logits[:, first:], places))


def test_a_prompt_is_heard_alike_in_any_batch_and_text_rows_hear_nothing(model):
    new, rows = language(model.config), prompts(4, 9)
    both, alone = (new.listen(Heard.of(part, E)) for part in (rows, rows[:1]))
    x = torch.randn(2, 7, model.config.width)
    assert torch.allclose(both[0](x)[:1], alone[0](x[:1]), atol=1e-5)
    changed = [[(Segment.ORIGINAL, rows[0][0][1]), *rows[0][1:]]]
    assert not torch.allclose(new.listen(Heard.of(changed, E))[0](x[:1]), alone[0](x[:1]), atol=1e-3)
    guides = [new.listen(Heard.of(part, E))[0] for part in ([[]], [[], rows[1]])]
    assert torch.allclose(guides[0](x[:1]), guides[1](x)[:1], atol=1e-5)
    view = model.listening(both)
    got = []
    view.layers[0].listener = lambda x_BPD: got.append(x_BPD.shape[1]) or x_BPD
    text, tokens, layout = inputs(model, "image")
    view(text, tokens, layout)
    assert got == [layout.tokens]


@pytest.mark.parametrize("how", ["insert", "lora"])
def test_frozen_layers_listen_in_adapters_that_have_grown(model, adapters, how):
    old = adapters["keyframes"]
    new = grow(model, old, Growth("insert", 2)) if how == "insert" else add_low_rank(old, Lora(2, 2.0))
    text, tokens, layout = inputs(model, "keyframes")
    view = model.listening(language(model.config).listen(Heard.of(prompts(4, 6), E)))
    assert torch.equal(view(text, tokens, layout, old), view(text, tokens, layout, new))
    assert not torch.equal(view(text, tokens, layout, new), model(text, tokens, layout, new))


def test_activations_can_be_computed_again(config):
    model, new = fresh_transformer(config), language(config).requires_grad_()
    text, tokens, layout = inputs(model, "image")
    found = []
    for _ in range(2):
        view = model.listening(new.listen(Heard.of(prompts(4, 6), E)))
        view(text, tokens, layout).square().sum().backward()
        found.append([p.grad.clone() for p in new.parameters()])
        new.zero_grad()
        compute_layers_again(model)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))
    assert any(grad.abs().sum() > 0 for grad in found[1])


def test_what_listens_is_torch_s(model):
    view = model.listening(language(model.config).listen(Heard.of(prompts(4, 6), E)))
    assert NativeLayers.of(view, None) is None


@pytest.mark.parametrize(
    "template", ["", "{prompt} {prompt}", "{other}", "{prompt", "{prompt!r}", "{prompt} {x}", "{{x}} {prompt}"]
)
def test_a_template_holds_the_prompt_once(template):
    with pytest.raises(ConfigError, match="template"):
        LanguageConfig("llm", template=template)
