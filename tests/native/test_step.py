"""The native step against PyTorch's, in every build that this processor runs."""

import pytest
import torch

import cogstyle
from cogstyle import native
from cogstyle.adapter import add_low_rank, grow
from cogstyle.config import SamplingConfig
from cogstyle.errors import ConfigError
from cogstyle.growth_config import Growth, Lora
from cogstyle.layout import Mark, image_layout, interpolation_layout, keyframe_layout
from cogstyle.model.grown import GrownAdapter
from cogstyle.model.native_step import NativeLayers
from cogstyle.model.packed import PackedLinear, pack
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.sampling.decode import Texts, decode, finish
from cogstyle.sampling.decode_plan import plan_for
from cogstyle.sampling.logits import sampler
from tests.conftest import disturb
from tests.model.test_llama import CONFIG as LLAMA
from tests.model.test_llama import disturbed
from tests.model.test_llama import texts as states
from tests.model.test_transformer import some_text, some_tokens

LAYOUTS = {"image": image_layout, "keyframes": keyframe_layout, "interpolation": interpolation_layout}
BUILDS = [name for name in native.VARIANTS if native.find(name) is not None]
ERRORS = {"float32": 2e-5, "bfloat16": 0.05, "int8": 0.05}  # of logits: absolute in float32, else of their norm

pytestmark = pytest.mark.skipif(not BUILDS, reason="the native step was not compiled")


@pytest.fixture(params=BUILDS)
def build(request, monkeypatch):
    monkeypatch.setenv("COGSTYLE_NATIVE", request.param)
    return request.param


@pytest.fixture(scope="module")
def llama():
    return disturbed()


def packed(module, kind="float32"):
    """The same weights, packed."""
    tensors = dict(module.state_dict())
    with torch.device("meta"):
        window = {"window": module.window} if isinstance(module, TemporalAdapter) else {}
        window |= {"after": module.after, "lora": module.low_rank} if isinstance(module, GrownAdapter) else {}
        copy = type(module)(module.config, **window)
    pack(copy, tensors, kind=kind)
    copy.load_state_dict(tensors, assign=True)
    if isinstance(copy, Transformer) and not copy.llama:
        copy.head = PackedLinear(module.embed.weight[: module.config.codes], None, kind=kind)
    return copy.requires_grad_(False)


def check_logits(build, model, adapter, texts, tokens, plan, kind, slack=1.0):
    """Forced tokens: PyTorch's steps on plain weights against the native one's on packed weights."""

    def logits(model, adapter):
        kept = []

        def follow(logits_BPV, places_P):
            kept.append(logits_BPV)
            return tokens.flatten(1)[:, places_P]

        finish(decode(model, texts, tokens, plan, follow, adapter=adapter))
        return torch.cat(kept, 1)

    expected = logits(model, adapter)
    ours = packed(model, kind), None if adapter is None else packed(adapter, kind)
    assert NativeLayers.of(*ours).library.name == build and NativeLayers.of(model, adapter) is None
    error = logits(*ours) - expected
    worst = error.abs().max() if kind == "float32" else error.norm() / expected.norm()
    assert worst < ERRORS[kind] * (1.0 if kind == "float32" else slack)


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize(("stage", "guidance", "bias"), [("image", 3.0, 0.0), ("keyframes", 3.0, 0.0),
                         ("keyframes", 1.0, 1.4), ("interpolation", 1.0, 0.7)])  # fmt: skip
def test_logits_of_every_step(build, model, adapters, config, stage, guidance, bias, kind):
    """Forced tokens, texts padded by several lengths, both channels, windows, guidance and the bias of text keys."""
    layout, adapter = LAYOUTS[stage](config, 6), adapters.get(stage)
    texts = Texts(some_text(config, [3, 6]), some_text(config, [2, 5], span=6), guidance, bias)
    tokens, plan = some_tokens(config, 2, layout.frames), plan_for(layout, tuple(adapter.windows) if adapter else ())

    check_logits(build, model, adapter, texts, tokens, plan, kind)


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize(("stage", "guidance", "bias"), [("image", 2.0, 0.0), ("keyframes", 2.0, 0.0),
                         ("keyframes", 1.0, 1.4), ("interpolation", 2.0, 0.0)])  # fmt: skip
def test_logits_of_a_llama(build, llama, stage, guidance, bias, kind):
    """The same of the other family: rotary positions, the rate and the time, a text whose last row begins frames."""
    (model, adapters), layout = llama, LAYOUTS[stage](LLAMA, LLAMA.text_span)
    adapter, tokens = adapters[stage], some_tokens(LLAMA, 2, layout.frames)
    texts = Texts(states([2, 6]), states([2, 6], mark=Mark.UNCONDITIONAL), guidance, bias)
    plan = plan_for(layout, tuple(adapter.windows) if adapter else ())
    check_logits(build, model, adapter, texts, tokens, plan, kind, slack=2.0)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("stage", ["keyframes", "interpolation"])
def test_a_llama_draws_the_same_alone_and_at_its_own_pace(llama, stage, kind):
    (model, adapters), layout = llama, LAYOUTS[stage](LLAMA, LLAMA.text_span)
    lengths = [2, 6, 4, 3, 5, 1, 6, 2, 4, 3, 5, 2]
    ours, adapter = packed(model, kind), packed(adapters[stage], kind)
    text, given = states(lengths), some_tokens(LLAMA, len(lengths), 5)

    def drawn(rows, ahead):
        pick = sampler(SamplingConfig(temperature=0.5), [(row,) for row in rows], layout, None)
        plan = plan_for(layout, tuple(adapter.windows), ahead=ahead)
        known = given[rows, : layout.frames]
        return finish(decode(ours, Texts(text[rows]), known, plan, pick, adapter=adapter))

    rows = list(range(len(lengths)))
    alone = torch.cat([drawn([row], 1) for row in rows])
    assert torch.equal(drawn(rows, 8), alone) and len(alone[:, -1].unique(dim=0)) == len(lengths)


@pytest.mark.parametrize("stage", ["keyframes", "interpolation"])
def test_grown_layers_run_too_and_additions_are_left_to_pytorch(build, model, adapters, config, stage):
    layout, old = LAYOUTS[stage](config, 6), adapters[stage]
    text, tokens = Texts(some_text(config, [3, 6])), some_tokens(config, 2, layout.frames)
    ours = packed(model)
    assert NativeLayers.of(ours, packed(add_low_rank(old, Lora(2, 2.0)))) is None

    def drawn(adapter):
        plan = plan_for(layout, tuple(adapter.windows), ahead=4)
        pick = sampler(SamplingConfig(top_k=1), [(1,), (2,)], layout, None)
        return finish(decode(ours, text, tokens, plan, pick, adapter=adapter))

    grown = grow(model, old, Growth("prefix", 1))
    assert NativeLayers.of(ours, packed(grown)).library.name == build
    assert torch.equal(drawn(packed(grown)), drawn(packed(old)))
    disturb(grown.new, 0.3)
    new = packed(grown)
    assert torch.equal(drawn(new), drawn(grown))  # packed by the native step, or plain by PyTorch
    assert not torch.equal(drawn(new), drawn(packed(old)))


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("stage", ["keyframes", "interpolation"])
def test_tokens_depend_on_neither_batch_nor_tries(model, adapters, config, stage, kind):
    """24 samples to the bit, in any kind of weights: a row is summed alone, in an order that padding cannot change."""
    model, adapter = packed(model, kind), packed(adapters[stage], kind)
    letters, some = some_text(config, [20] * 24).tolist(), some_tokens(config, 24, 5)
    options, windows = SamplingConfig(temperature=0.3, top_k=3), tuple(adapter.windows)

    def sample(rows, ahead):
        texts = [letters[row][: 2 + row * 7 % 19] for row in rows]
        span = max(map(len, texts))
        layout = LAYOUTS[stage](config, span, **({"known": 3} if stage == "keyframes" else {}))
        pick = sampler(options, [(row,) for row in rows], layout, None)
        padded = torch.tensor(
            [[config.pad] * (span - len(ids)) + ids for ids in [*texts, *([letters[0][:2]] * len(rows))]]
        )
        plan = plan_for(layout, windows, ahead=ahead)
        both = Texts(*padded.split(len(rows)), 2.0)
        return finish(decode(model, both, some[rows, : layout.frames], plan, pick, adapter=adapter))

    alone = torch.cat([sample([row], 1 + 15 * (row % 2)) for row in range(24)])
    for size in (5, 16):
        for ahead in (1, 16):
            parts = [list(range(first, min(first + size, 24))) for first in range(0, 24, size)]
            assert torch.equal(torch.cat([sample(rows, ahead) for rows in parts]), alone)
    assert len(alone[:, -1].unique(dim=0)) == 24


@pytest.mark.parametrize("rows", [1, 5, 13, 100])
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
def test_a_matrix_of_odd_sizes(build, kind, rows):
    """Outputs that fill no block, inputs that fill no vector, with and without GELU; dense weights are those packed."""
    weight, bias, x = torch.randn(37, 19), torch.randn(37), torch.randn(rows, 19)
    expected = torch.nn.functional.linear(x, weight, bias)
    ours = native.PackedMatrix(native.library(), weight, bias, kind=kind)
    bound = {"float32": 1e-6, "bfloat16": 0.01, "int8": 0.02}[kind]
    assert (ours(x) - expected).norm() < bound * expected.norm()
    activated = torch.nn.functional.gelu(expected, approximate="tanh")
    assert (ours(x, gelu=True) - activated).norm() < bound * activated.norm()
    if kind == "bfloat16":
        assert torch.equal(ours.dense(), weight.bfloat16())


def test_whole_numbers_are_the_same_on_every_processor(monkeypatch):
    """The integer sums of 8-bit weights, the extremes included, in every build."""
    weight, x = torch.randn(40, 64), torch.randn(3, 64)
    weight[0], x[0] = 5.0, -3.0
    results = [native.PackedMatrix(native.find(name), weight, None, kind="int8")(x) for name in BUILDS]
    assert all(torch.equal(results[0], other) for other in results[1:])
    assert torch.allclose(results[0][0, 0], torch.tensor(-960.0))


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
def test_a_number_that_is_none_is_not_hidden(build, kind):
    x = torch.tensor([[1.0, float("nan"), 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]])
    y = native.PackedMatrix(native.library(), torch.ones(5, 4), None, kind=kind)(x)
    assert not y[0].isfinite().any() and y[1].isfinite().all()


def test_a_video_says_what_computed_its_steps(build):
    assert cogstyle.load("shapes").provenance()["step"] == f"native {build}"
    assert cogstyle.load("shapes", dtype="float16").provenance()["step"] == "torch"


def test_switched_off(monkeypatch, model, adapters):
    monkeypatch.setenv("COGSTYLE_NATIVE", "off")
    assert native.library() is None and NativeLayers.of(packed(model), None) is None
    monkeypatch.setenv("COGSTYLE_NATIVE", "sse9")
    with pytest.raises(ConfigError, match="COGSTYLE_NATIVE 'sse9' must be off, avx512, avx2, portable"):
        native.library()
    monkeypatch.setenv("COGSTYLE_NATIVE", "avx2")
    monkeypatch.setattr(native, "find", lambda name: None)
    with pytest.raises(ConfigError, match="'avx2' was not compiled, or does not run here"):
        native.library()
