"""What has just grown gives what it gave, to the bit, and what it has grown runs and learns."""

import pytest
import torch

from cogstyle.adapter import adapter_from_image, add_low_rank, grow
from cogstyle.config import MODELS, SamplingConfig
from cogstyle.errors import ConfigError
from cogstyle.growth_config import Grown, Growth, Lora, running_order
from cogstyle.layout import image_layout, interpolation_layout, keyframe_layout
from cogstyle.model import grown as grown_module
from cogstyle.model.grown import GrownAdapter
from cogstyle.model.temporal import layer_windows
from cogstyle.sampling.cost import memory_bytes
from cogstyle.sampling.decode import Texts, decode, finish
from cogstyle.sampling.decode_plan import plan_for
from cogstyle.sampling.logits import sampler
from cogstyle.training.optim import decay_groups
from cogstyle.training.plain import compute_layers_again
from cogstyle.training.transformer import fresh_transformer
from tests.conftest import disturb
from tests.model.test_transformer import some_text, some_tokens

LAYOUTS = {"keyframes": keyframe_layout, "interpolation": interpolation_layout}
GROWTHS = {"insert": Growth("insert", 2), "prefix": Growth("prefix", 1), "suffix": Growth("suffix", 2)}


@pytest.fixture(scope="module", params=["sandwich", "llama"])
def family(request, model, adapters):
    """A model with both of its adapters, all disturbed."""
    if request.param == "sandwich":
        return model, adapters
    torch.manual_seed(1)
    llama = fresh_transformer(MODELS["llama-debug"]).eval().requires_grad_(False)
    made = {"keyframes": adapter_from_image(llama), "interpolation": adapter_from_image(llama, window=2)}
    for module in (llama, *made.values()):
        disturb(module)
    return llama, {name: adapter.requires_grad_(False) for name, adapter in made.items()}


def inputs(model, kind):
    config = model.config
    layout = LAYOUTS[kind](config, 5)
    text = some_text(config, [3, 5]) if not model.llama else torch.randn(2, 5, config.caption_width + 2)
    if model.llama:
        text[..., -2:] = 1.0
    return text, some_tokens(config, 2, config.frames), layout


def drawn(model, adapter, text, tokens, layout):
    """What cached decoding draws."""
    plan = plan_for(layout, tuple(adapter.windows), ahead=4)
    pick = sampler(SamplingConfig(top_p=0.9), [(1,), (2,)], layout, None)
    return finish(decode(model, Texts(text, text.flip(0), 2.0), tokens, plan, pick, adapter=adapter))


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("how", [*GROWTHS, "lora"])
def test_what_has_just_grown_gives_what_it_gave(family, kind, how):
    model, old = family[0], family[1][kind]
    new = add_low_rank(old, Lora(3, 3.0)) if how == "lora" else grow(model, old, GROWTHS[how])
    text, tokens, layout = inputs(model, kind)
    before, after = (model(text, tokens, layout, adapter) for adapter in (old, new))
    assert torch.equal(before, after)
    if not model.llama:
        assert torch.equal(drawn(model, old, text, tokens, layout), drawn(model, new, text, tokens, layout))
    assert all(torch.equal(new.state_dict()[name], value) for name, value in old.state_dict().items())
    disturb(new.new)
    assert not torch.equal(before, model(text, tokens, layout, new))


@pytest.mark.parametrize("kept", ["norm3.bias", "norm4.bias", "norm3.weight"])
def test_zero_gains_alone_would_not_do(model, adapters, monkeypatch, kept):
    names = tuple(name for name in grown_module.SILENT["sandwich"] if name != kept)
    monkeypatch.setitem(grown_module.SILENT, "sandwich", names)
    text, tokens, layout = inputs(model, "keyframes")
    new = grow(model, adapters["keyframes"], GROWTHS["insert"])
    assert not torch.equal(model(text, tokens, layout, adapters["keyframes"]), model(text, tokens, layout, new))


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("how", [*GROWTHS, "lora"])
def test_cached_decoding_goes_through_what_has_grown(model, adapters, config, kind, how):
    """Greedy tokens are the likeliest of the full forward pass over themselves, once the new weights have moved."""
    old = adapters[kind]
    new = add_low_rank(old, Lora(3, 6.0)) if how == "lora" else grow(model, old, GROWTHS[how])
    disturb(new.new, 0.3)
    text, tokens, layout = inputs(model, kind)
    plan = plan_for(layout, tuple(new.windows), ahead=4)
    pick = sampler(SamplingConfig(top_k=1), [(1,), (2,)], layout, None)
    found = finish(decode(model, Texts(text), tokens, plan, pick, adapter=new))
    best = model.logits(model(text, found, layout, new)).argmax(-1).unflatten(1, (layout.frames, -1))
    assert torch.equal(best[:, layout.known :], found[:, layout.known :])
    memory = plan.memory(model, 2)
    kept = sum(b.numel() * 4 for m in (memory.spatial, memory.temporal) for b in (*m.keys, *m.values))
    frames = plan.spatial.runs.length // (layout.text + layout.tokens)
    grown = None if how == "lora" else Grown(how, len(new.grown), GROWTHS[how].after(config.layers))
    said = memory_bytes(config, layout, 2, 4, window=new.window, frames_in_flight=frames, grown=grown)
    assert said == kept


def test_at_the_first_step_the_four_norm_vectors_alone_have_a_gradient(model, adapters):
    new = grow(model, adapters["keyframes"], GROWTHS["insert"])
    text, tokens, layout = inputs(model, "keyframes")
    new.requires_grad_(False)
    new.new.requires_grad_()
    model(text, tokens, layout, new).square().sum().backward()
    moved = {name for name, p in new.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    vectors = {f"grown.{k}.block.{name}" for k in range(2) for name in grown_module.SILENT["sandwich"]}
    assert moved == vectors
    decaying = [p for group in decay_groups(new.parameters(), 0.1) if group["weight_decay"] for p in group["params"]]
    assert not {id(p) for p in decaying} & {id(new.get_parameter(name)) for name in vectors}


def test_low_rank_additions_learn_where_activations_are_computed_again(config, adapters):
    base = fresh_transformer(config).requires_grad_(False)
    new = add_low_rank(adapters["keyframes"], Lora(2, 4.0))
    disturb(new.new)
    text, tokens, layout = inputs(base, "keyframes")
    plain = base(text, tokens, layout, new)
    compute_layers_again(base)
    new.new.requires_grad_()
    again = base(text, tokens, layout, new)
    torch.testing.assert_close(again, plain)
    again.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in new.new.parameters())


def test_where_new_layers_run():
    assert Growth("insert", 2).after(6) == (3, 6)
    assert Growth("insert", 12).after(6) == (1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6)
    assert Growth("prefix", 2).after(6) == (0, 0)
    assert Growth("suffix", 2).after(6) == (6, 6)
    assert running_order(2, (0, 2)) == [(0, 0), (0, None), (1, None), (1, 1)]
    shifts = [window.shift for window in layer_windows(4, 2, (1, 2))]
    assert shifts == [0, 0, 1, 1]  # a copy has the window of what it copies
    for blocks, layers in ((4, 6), (9, 6), (2, 5)):
        with pytest.raises(ConfigError, match=f"{blocks} blocks cannot be inserted evenly into {layers} layers"):
            Growth("insert", blocks).after(layers)
    with pytest.raises(ConfigError, match="behind layer 3, and there are 2"):
        running_order(2, (3,))


def test_nothing_grows_twice_and_lora_is_as_large_as_two_blocks(model, adapters):
    new = grow(model, adapters["keyframes"], GROWTHS["prefix"])
    with pytest.raises(ConfigError, match="grown already"):
        grow(model, new, GROWTHS["prefix"])
    with torch.device("meta"):
        sizes = [GrownAdapter(MODELS["shapes"], **how).new for how in ({"after": (3, 6)}, {"lora": Lora(54, 54.0)})]
    grown, lora = (sum(p.numel() for p in module.parameters()) for module in sizes)
    assert lora == 6 * 16 * 160 * 54 and abs(grown / lora - 1) < 0.01


def test_an_image_is_drawn_without_the_adapter(model, adapters, config):
    text, tokens = some_text(config, [4]), some_tokens(config, 1, 1)
    before = model(text, tokens, image_layout(config, 4))
    disturb(grow(model, adapters["keyframes"], GROWTHS["insert"]))
    assert torch.equal(before, model(text, tokens, image_layout(config, 4)))
