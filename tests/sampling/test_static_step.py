"""Steps in static shapes, replayed as a pretended CUDA graph: the tokens of today's step, and nothing is waited for."""

import pytest
import torch

from cogstyle.config import SamplingConfig
from cogstyle.errors import SamplingError
from cogstyle.layout import image_layout, interpolation_layout, keyframe_layout
from cogstyle.sampling import decode as decoding
from cogstyle.sampling import static_step
from cogstyle.sampling.decode import Texts, decode, finish
from cogstyle.sampling.decode_plan import plan_for
from cogstyle.sampling.logits import sampler
from tests.model.test_transformer import some_text, some_tokens
from tests.pretend import Lists, Waits, recorded

LAYOUTS = {"image": image_layout, "keyframes": keyframe_layout, "interpolation": interpolation_layout}
OPTIONS = [{"temperature": 0.7}, {"top_k": 5}, {"top_k": 1}, {"top_p": 0.8}, {"clusters": 3}]


@pytest.fixture
def static(monkeypatch):
    """Decode as on a GPU, but for the graphs."""
    monkeypatch.setattr(decoding, "captures", lambda device: True)
    monkeypatch.setattr(static_step, "captured", recorded)


def frames(model, adapters, config, kind, *, options=(), guidance=2.0, bias=0.0, **more):
    """What a decoding of two samples yields; their texts are padded by several lengths."""
    torch.manual_seed(0)
    texts = Texts(some_text(config, [3, 6]), some_text(config, [2, 5], span=6), guidance, bias)
    layout, adapter = LAYOUTS[kind](config, 6), adapters.get(kind)
    labels = torch.arange(config.codes) % 7
    pick = sampler(SamplingConfig(**dict(options)), [(7,), (8,)], layout, labels)
    plan = plan_for(layout, () if adapter is None else tuple(adapter.windows))
    return decode(model, texts, some_tokens(config, 2, layout.frames), plan, pick, adapter=adapter, **more)


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize(("guidance", "bias"), [(1.0, 0.0), (1.0, 1.4), (3.0, 0.0)])
def test_tokens_are_those_of_todays_step(model, adapters, config, kind, guidance, bias, static, monkeypatch):
    """Every frame as it is finished, steps that fill several places included."""
    given = {"guidance": guidance, "bias": bias, "options": OPTIONS[0]}
    ours = list(frames(model, adapters, config, kind, **given))
    monkeypatch.setattr(decoding, "captures", lambda device: False)
    todays = list(frames(model, adapters, config, kind, **given))
    assert [part.shape for part in ours] == [part.shape for part in todays]
    assert all(torch.equal(*pair) for pair in zip(ours, todays, strict=True))
    assert ours[-1].unique().numel() > 8


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_way_of_drawing(model, adapters, config, options, static, monkeypatch):
    ours = finish(frames(model, adapters, config, "keyframes", options=options))
    monkeypatch.setattr(decoding, "captures", lambda device: False)
    assert torch.equal(ours, finish(frames(model, adapters, config, "keyframes", options=options)))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ["keyframes", "interpolation"])
def test_nothing_is_waited_for_inside_a_frame(model, adapters, config, kind, options, static, monkeypatch):
    """Not from one finished frame to the next; the twin, today's step, waits in every step."""

    def inside():
        """Waits after the first step of a frame and before its last."""
        told, borders = 0, []

        def progress(tokens):
            nonlocal told
            told += 1

        waits = Waits(lambda: told)
        with waits, Lists(waits):
            for _ in frames(model, adapters, config, kind, options=options, progress=progress):
                borders.append(told)
        assert told > config.tokens and borders[-1] == told and waits.found
        return [(step, name) for step, name in waits.found if step and step not in borders]

    assert inside() == []
    monkeypatch.setattr(decoding, "captures", lambda device: False)
    assert inside()


def test_numbers_that_are_none_are_found_at_the_end_of_the_frame(model, adapters, config, static, monkeypatch):
    plain = model.logits

    def broken(h):
        return plain(h).index_fill(-1, torch.tensor([3]), torch.nan)

    monkeypatch.setattr(model, "logits", broken)
    with pytest.raises(SamplingError, match="logits are not finite"):
        next(frames(model, adapters, config, "keyframes"))


def test_graphs_are_a_gpu_s_and_can_be_switched_off(monkeypatch):
    gpu = torch.device("cuda", 1)
    assert static_step.captures(gpu) and not static_step.captures(torch.device("cpu"))
    monkeypatch.setenv(static_step.SWITCH, "off")
    assert not static_step.captures(gpu)
