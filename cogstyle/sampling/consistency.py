"""Whether a bundle computes what it should: what goes wrong silently, looked at in seconds.

Frames are random tokens, the hardest of all: every equality must hold for them too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cogstyle.bundle import Bundle, WeightFile
from cogstyle.config import ModelConfig
from cogstyle.errors import CogstyleError
from cogstyle.layout import FrameLayout, image_layout, interpolation_layout, keyframe_layout
from cogstyle.sampling.decode import Texts, decode, finish
from cogstyle.sampling.decode_plan import plan_for
from cogstyle.sampling.keyframes import TextConditions
from cogstyle.sampling.options import Options
from cogstyle.sampling.pipeline import Pipeline
from cogstyle.video import psnr

PROMPTS = ("a", "a red circle moves right")  # of different lengths, so that one is padded
STAGES = ("image", "keyframes", "interpolation")
TOLERANCE = {"float32": 1e-3, "float16": 0.05, "bfloat16": 1.0, "int8": 1.0}  # of log-probabilities
MARGIN = 1.0  # dB that a round trip must be better than wrong pictures
IMAGE, TEXT, TOKENIZER = WeightFile.IMAGE, WeightFile.TEXT, WeightFile.TOKENIZER


class Finding(NamedTuple):
    """What one check found; `ok` is None where the bundle has nothing that it could look at."""

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True)
class Case:
    """A stage at work on two samples: some frames known, one to be drawn."""

    stage: str
    layout: FrameLayout
    texts: tuple[Tensor, Tensor]  # prompts and unconditional texts, [B, S] each
    tokens_BFL: Tensor  # what the teacher says

    def row(self, pipe: Pipeline, number: int) -> "Case":
        """One sample alone, its text without the padding that the longer one gave it."""
        (case,) = (case for case in cases(pipe, [PROMPTS[number]]) if case.stage == self.stage)
        return Case(self.stage, case.layout, case.texts, self.tokens_BFL[number : number + 1])


def check_bundle(pipe: Pipeline) -> Iterator[Finding]:
    """Every check of `CHECKS`, one after the other; an error of one is a finding."""
    for name, needed, look in CHECKS:
        missing = [file for file in needed if not pipe.bundle.has(file)]
        if missing:
            yield Finding(name, None, f"the bundle has no {missing[0]}")
            continue
        try:
            yield Finding(name, *look(pipe))
        except CogstyleError as error:
            yield Finding(name, False, str(error))


def hashes(pipe: Pipeline) -> tuple[bool, str]:
    """Every file is what the manifest says."""
    wrong = []
    for name in pipe.bundle.hashes():
        try:
            pipe.bundle.file(name)
        except CogstyleError as error:
            wrong.append(str(error))
    return not wrong, "; ".join(wrong) or f"{len(pipe.bundle.hashes())} files"


def adapter_off(pipe: Pipeline) -> tuple[bool, str]:
    """After its adapters have worked, the image model computes what it does alone, to the bit."""
    alone = Pipeline(Bundle(pipe.bundle.folder, dtype=pipe.bundle.dtype, packed=pipe.bundle.packed), pipe.device)
    image = cases(alone)[0]
    wanted_BPV, steps_BPV = teacher_forced(alone, image), stepwise(alone, image)
    for case in cases(pipe)[1:]:
        teacher_forced(pipe, case)
    same = torch.equal(teacher_forced(pipe, image), wanted_BPV) and torch.equal(stepwise(pipe, image), steps_BPV)
    return same and bool(wanted_BPV.isfinite().all()), "to the bit" if same else "the image model alone differs"


def teacher_forcing(pipe: Pipeline) -> tuple[bool, str]:
    """Log-probabilities of all places at once, as in training, are those of one step after the other."""
    return _close(pipe, {case.stage: _apart(teacher_forced(pipe, case), stepwise(pipe, case)) for case in cases(pipe)})


def cached(pipe: Pipeline) -> tuple[bool, str]:
    """Steps that read a memory say what the whole computed anew says, and nobody sees what comes after."""
    found: dict[str, float] = {}
    for case in cases(pipe):
        steps_BPV, places = stepwise(pipe, case), case.layout.tokens
        for place in {0, places // 2, places - 1}:
            flat_BP = case.tokens_BFL.flatten(1).clone()
            later = flat_BP.shape[1] - places + place
            flat_BP[:, later:] = (flat_BP[:, later:] + 1) % pipe.bundle.model_config.codes
            other = Case(case.stage, case.layout, case.texts, flat_BP.view_as(case.tokens_BFL))
            apart = _apart(teacher_forced(pipe, other)[:, place], steps_BPV[:, place])
            found[case.stage] = max(found.get(case.stage, 0.0), apart)
    return _close(pipe, found)


def batches(pipe: Pipeline) -> tuple[bool | None, str]:
    """A sample is the same alone and beside others, with the bundle's own options, steps tried ahead."""
    different = []
    for case in cases(pipe):
        together = _drawn(pipe, case, (0, 1))
        alone = torch.cat([_drawn(pipe, case.row(pipe, number), (number,)) for number in (0, 1)])
        different += [case.stage] * (not torch.equal(together, alone))
    if different and pipe.dtype in ("bfloat16", "int8") and pipe.provenance()["step"] == "torch":
        return None, f"not promised with {pipe.dtype} without the native step; {', '.join(different)} differ"
    return not different, f"{', '.join(different)} differ" if different else "the same tokens"


def round_trip(pipe: Pipeline) -> tuple[bool, str]:
    """The image tokenizer gives back the pictures that it can say: better than one colour or another one would."""
    size = pipe.bundle.tokenizer_config.image_size
    shown = test_pictures(size)
    own = pipe.decode(pipe.encode(shown))
    again = pipe.decode(pipe.encode(own))
    flat = np.broadcast_to(own.mean((1, 2), keepdims=True), own.shape)
    back, worse = psnr(own, again), max(psnr(own, flat), psnr(own, np.roll(own, 1, 0)))
    others = f"{psnr(shown, own):.1f} of others"
    return back > worse + MARGIN, f"PSNR {back:.1f} dB of its own pictures (wrong ones: {worse:.1f}), {others}"


def given_frames(pipe: Pipeline) -> tuple[bool, str]:
    """In-betweening leaves the given frames as they are."""
    config = pipe.bundle.model_config
    given_BFL = random_tokens(config, 1, config.frames // 2 + 1)
    between_BFL = pipe.interpolate(given_BFL.to(pipe.device), PROMPTS[:1], [0], Options(levels=1)).cpu()
    kept = torch.equal(between_BFL[:, ::2], given_BFL)
    return kept, f"{given_BFL.shape[1]} of {between_BFL.shape[1]} frames kept" if kept else "given frames changed"


CHECKS: tuple[tuple[str, tuple[WeightFile, ...], Callable[[Pipeline], tuple[bool | None, str]]], ...] = (
    ("hashes", (), hashes),
    ("adapter off = image model", (IMAGE, TEXT), adapter_off),
    ("teacher forcing = steps", (IMAGE, TEXT), teacher_forcing),
    ("cached = full", (IMAGE, TEXT), cached),
    ("batch of 1 = batch of n", (IMAGE, TEXT), batches),
    ("tokenizer round trip", (TOKENIZER,), round_trip),
    ("given frames stay", (IMAGE, TEXT, WeightFile.INTERPOLATION), given_frames),
)


def cases(pipe: Pipeline, prompts: tuple[str, ...] | list[str] = PROMPTS) -> list[Case]:
    """Every stage that the bundle has weights of; the last frame in memory is the one to be drawn."""
    config, found = pipe.bundle.model_config, []
    conditions = TextConditions(list(prompts), list(range(len(prompts))), pipe.text, pipe.device)
    for stage in STAGES:
        if pipe.bundle.has(WeightFile.of(stage)):
            texts = conditions.texts(None if stage == "image" else (config.frames - 1) / pipe.bundle.frame_rate)
            layout = {
                "image": image_layout(config, texts[0].shape[1]),
                "keyframes": keyframe_layout(config, texts[0].shape[1], known=config.frames - 1),
                "interpolation": interpolation_layout(config, texts[0].shape[1], gaps=1),
            }[stage]
            tokens_BFL = random_tokens(config, len(prompts), layout.frames).to(pipe.device)
            found.append(Case(stage, layout, texts, tokens_BFL))
    return found


def random_tokens(config: ModelConfig, videos: int, frames: int) -> Tensor:
    """The same random tokens [B, F, L] each time."""
    return torch.randint(config.codes, (videos, frames, config.tokens), generator=torch.Generator().manual_seed(0))


def test_pictures(size: int) -> np.ndarray:
    """Four pictures, uint8 [4, size, size, 3]: discs on smooth grounds."""
    rng = np.random.default_rng(0)
    y_HW, x_HW = np.mgrid[0:size, 0:size] / size
    pictures = []
    for number in range(4):
        low_C, high_C = rng.uniform(40, 215, (2, 3))
        picture_HWC = low_C + (high_C - low_C) * (x_HW if number % 2 else y_HW)[..., None]
        for _ in range(3):
            (x, y), radius = rng.uniform(0.2, 0.8, 2), rng.uniform(0.1, 0.25)
            picture_HWC[(x_HW - x) ** 2 + (y_HW - y) ** 2 < radius**2] = rng.uniform(0, 255, 3)
        pictures.append(picture_HWC)
    return np.stack(pictures).round().astype(np.uint8)


@torch.inference_mode()
def teacher_forced(pipe: Pipeline, case: Case) -> Tensor:
    """Log-probabilities [B, L, V] of the drawn frame's places, from all tokens at once."""
    adapter = None if case.stage == "image" else pipe.adapter(case.stage)
    hidden_BPD = pipe.image_model(case.texts[0], case.tokens_BFL, case.layout, adapter)
    return pipe.image_model.logits(hidden_BPD[:, -case.layout.tokens :]).float().log_softmax(-1)


def stepwise(pipe: Pipeline, case: Case) -> Tensor:
    """The same from steps of decoding, each of which is answered with the teacher's tokens."""
    seen: list[Tensor] = []

    def pick(logits_BPV: Tensor, places_P: Tensor) -> Tensor:
        seen.append(logits_BPV.log_softmax(-1))
        return case.tokens_BFL.flatten(1)[:, places_P]

    adapter = None if case.stage == "image" else pipe.adapter(case.stage)
    plan = plan_for(case.layout, () if adapter is None else tuple(adapter.windows), ahead=1, device=pipe.device)
    finish(decode(pipe.image_model, Texts(case.texts[0]), case.tokens_BFL, plan, pick, adapter=adapter))
    places_P = plan.places_P - (case.layout.frames - 1) * case.layout.tokens
    return torch.cat(seen, 1)[:, places_P.argsort()]


def _drawn(pipe: Pipeline, case: Case, seeds: tuple[int, ...]) -> Tensor:
    stage = pipe.stage(case.stage, Options(), lambda tokens: None)
    return stage.fill(case.tokens_BFL, case.layout, case.texts, [(STAGES.index(case.stage), seed) for seed in seeds])


def _apart(a_BPV: Tensor, b_BPV: Tensor) -> float:
    return float((a_BPV - b_BPV).abs().max())


def _close(pipe: Pipeline, found: dict[str, float]) -> tuple[bool, str]:
    limit = TOLERANCE[pipe.dtype]
    worst = ", ".join(f"{stage} {apart:.1g}" for stage, apart in found.items())
    return all(apart <= limit for apart in found.values()), f"at most {worst} apart, of {limit:g}"
