"""`compat="released"`: each quirk of the released sampler on a small model, and only when it is asked for."""

import pytest
import torch

import cogstyle
from cogstyle.config import SamplingConfig
from cogstyle.errors import ConfigError
from cogstyle.layout import image_layout, interpolation_layout, keyframe_layout
from cogstyle.sampling import released
from cogstyle.sampling.decode import Texts, decode, finish, prefill
from cogstyle.sampling.decode_plan import plan_for
from cogstyle.sampling.logits import sampler
from cogstyle.sampling.stage import Stage


def test_known_frames_come_late_behind_a_shorter_unconditional_text(config):
    pad, tokens = config.pad, torch.arange(2 * 2 * 16).view(2, 2, 16)
    texts = torch.tensor([[pad, 40, 41, 42], [40, 41, 42, 43]])
    unconditional = torch.tensor([[pad, pad, pad, 40], [40, 41, 42, 43]])
    moved = released.misplaced(tokens, texts, unconditional, pad=pad)
    assert moved[0].flatten().tolist() == [-1, -1, *tokens[0].flatten()[:-2].tolist()]
    assert torch.equal(moved[1], tokens[1])


def test_an_unwritten_place_is_a_zero_vector(model):
    layout = image_layout(model.config, 2)
    text = torch.full((1, 2), model.config.pad + 3)
    tokens = torch.randint(0, model.config.codes, (1, 1, layout.tokens))
    missing = tokens.clone()
    missing[0, 0, 3] = -1
    seen = []
    hook = model.layers[0].norm1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        released.forward(model, text, tokens, layout)
        released.forward(model, text, missing, layout)
    hook.remove()
    whole, holed = seen
    first = model.config.text_positions
    torch.testing.assert_close(holed[0, 2 + 4], model.positions.weight[first + 4], rtol=0, atol=1e-6)
    holed[0, 2 + 4] = whole[0, 2 + 4]
    assert torch.equal(holed, whole)  # the input of the next place, and no other


@pytest.mark.parametrize("role", ["keyframes", "interpolation"])
def test_quirks_change_guided_sampling(model, adapters, role):
    """Frames late behind a shorter text and the open border move the tokens; the corrected sampler is the default."""
    config = model.config
    layout = keyframe_layout(config, 3) if role == "keyframes" else interpolation_layout(config, 3)
    pad = config.pad
    texts, unconditional = torch.tensor([[pad + 2, pad + 3, pad + 4]]), torch.tensor([[pad, pad, pad + 2]])
    tokens = torch.randint(0, config.codes, (1, config.frames, config.tokens))
    stage = Stage(model, adapters[role], SamplingConfig(guidance=3.0))
    plain = stage.fill(tokens, layout, (texts, unconditional), [(0,)])
    theirs = released.ReleasedStage(model, adapters[role], stage.config).fill(
        tokens, layout, (texts, unconditional), [(0,)]
    )
    assert not torch.equal(plain, theirs)
    assert torch.equal(plain[:, : layout.known], theirs[:, : layout.known])
    plan = plan_for(layout, tuple(adapters[role].windows))
    given = model, Texts(texts, unconditional, 3.0), tokens, plan
    pick = sampler(stage.config, [(0,)], layout, None)
    drawn = {
        way: finish(decode(*given, pick, adapter=adapters[role], prefill=way))
        for way in (prefill, released.prefill, released.prefill_late)
    }
    assert torch.equal(drawn[prefill], plain)
    assert torch.equal(drawn[released.prefill_late], theirs)
    assert not torch.equal(drawn[released.prefill], theirs)


def test_the_last_place_can_be_drawn_otherwise(model):
    layout = image_layout(model.config, 1)
    logits, places = torch.randn(1, 1, model.config.codes), torch.tensor([layout.tokens - 1])
    configs = SamplingConfig(temperature=100.0), SamplingConfig(top_k=1)
    hot, greedy = (sampler(config, [(5,)], layout, None) for config in configs)
    pick = released.last_place(hot, greedy, layout)
    assert pick(logits, places).item() == logits.argmax().item()
    drawn = [pick(logits, torch.tensor([place])).item() for place in range(layout.tokens - 1)]
    assert len(set(drawn)) > 3


def test_the_option(debug_bundle):
    pipe = cogstyle.load(debug_bundle)
    ours, theirs = (pipe("a red circle", levels=1, guidance=3.0, compat=compat) for compat in (None, "released"))
    assert (ours.frames != theirs.frames).any()
    assert theirs.info["options"]["compat"] == "released"
    with pytest.raises(ConfigError, match="compat 'old' must be 'released'"):
        cogstyle.Options(compat="old")
