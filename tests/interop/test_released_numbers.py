"""Training, token-by-token sampling and super-resolution against numbers of the released CogVideo code.

The numbers live outside the repository; without them these tests are skipped. Their twins always run: a
float64 reference in tests/model/test_transformer.py, steps against full forward in tests/sampling/test_decode.py.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cogstyle.interop import sat_checkpoint as sat
from cogstyle.layout import image_layout, interpolation_layout, keyframe_layout
from cogstyle.model.superres import SuperResolution
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.sampling.decode import decode
from cogstyle.training.loss import token_loss

GOLDENS = Path(__file__).parents[3] / "shared" / "parity" / "public"


pytestmark = pytest.mark.skipif(not GOLDENS.is_dir(), reason="the released numbers are not on this machine")


def load(stage: int) -> tuple[Transformer, TemporalAdapter]:
    checkpoint = sat.read_checkpoint(GOLDENS / f"stage{stage}_ckpt")
    config = sat.model_config(checkpoint, start_of_image=20_300)
    model, adapter = Transformer(config), TemporalAdapter(config, window=config.window if stage == 2 else 0)
    for module, weights in zip((model, adapter), sat.split_weights(checkpoint.weights), strict=True):
        module.load_state_dict(weights)
    return model, adapter


@pytest.mark.parametrize(("stage", "graded"), [(1, (1, 2, 3, 4)), (2, (1, 3))])
@torch.no_grad()
def test_training_forward(stage, graded):
    golden = load_file(GOLDENS / f"train_stage{stage}.safetensors")
    model, adapter = load(stage)
    config = model.config
    span = config.text_span
    text, labels = golden["input_tokens"][:, :span].long(), golden["labels_frames"].long()
    tokens = labels.unflatten(1, (config.frames, config.tokens))
    layout = keyframe_layout(config, span) if stage == 1 else interpolation_layout(config, span, given_first=False)
    h = model(text, tokens, layout, adapter)
    torch.testing.assert_close(h, golden["final_ln"][:, span:], rtol=0, atol=5e-5)
    losses = token_loss(model.logits(h), labels)
    torch.testing.assert_close(losses, golden["per_token_loss"], rtol=0, atol=2e-4)
    loss = losses.unflatten(1, (config.frames, config.tokens))[:, list(graded)].mean()
    torch.testing.assert_close(loss, golden["loss"].reshape(()), rtol=1e-5, atol=0)


CASES = [
    ("infer_stage1_firstframe", image_layout, False),
    ("infer_stage1_noguide", keyframe_layout, True),
    ("infer_stage1_guide", keyframe_layout, True),
    ("infer_stage2_noguide", interpolation_layout, True),
    ("infer_stage2_guide_aligned", interpolation_layout, True),
]


@pytest.mark.parametrize(("name", "make", "beside"), CASES, ids=[case[0] for case in CASES])
def test_sampling_with_forced_tokens(name, make, beside):
    golden = load_file(GOLDENS / f"{name}.safetensors")
    model, adapter = load(2 if "stage2" in name else 1)
    forced, span = golden["forced"].long(), int(golden["text_len"])
    layout = make(model.config, span)
    tokens = forced[:, span + 1 :].unflatten(1, (layout.frames, -1))
    guided = "guider_seq" in golden
    stride = int(golden.get("ar_cols_step_stride", 1))
    columns, kept = golden["columns"], []

    def follow(logits_BPV, places):
        if len(kept) % stride == 0:
            kept.append(logits_BPV[:, 0, columns])
        else:
            kept.append(None)
        return tokens.flatten(1)[:, places]

    out = decode(
        *(model, forced[:, :span], tokens, layout, follow),
        adapter=adapter if beside else None,
        guides_BS=left_padded(golden, span, model.config.pad) if guided else None,
        guidance=float(golden["guidance_alpha"]) if guided else 1.0,
        text_bias=float(golden["log_text_attention_weights"]),
        released=True,
    )
    assert torch.equal(out, tokens)
    found = torch.stack([row for row in kept if row is not None])
    expected = golden["ar_guided_cols" if guided else "ar_logits_cols"]
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)


def left_padded(golden, span, pad):
    guides = golden["guider_seq"][:, : int(golden["guider_text_len"])].long()
    return torch.cat([guides.new_full((len(guides), span - guides.shape[1]), pad), guides], 1)


@torch.no_grad()
def test_super_resolution():
    golden = load_file(GOLDENS / "dsr.safetensors")
    weights = sat.read_checkpoint(GOLDENS / "dsr_ckpt").weights
    config = replace(load(1)[0].config, text_span=96)
    model, upscaler = Transformer(config), SuperResolution(config, coarse_offset=1)
    for module, part in zip((model, upscaler), sat.split_weights(weights), strict=True):
        module.load_state_dict(part)
    h = upscaler(model, golden["text_tokens"].long(), golden["image_tokens"].long())
    known = 96 + config.tokens  # rows before the fine ones
    for places, found, expected, atol in (
        ("sub_positions", h, golden["final_ln"], 5e-5),
        ("full_positions", model.logits(h), golden["logits_full"], 2e-4),
    ):
        fine = golden[places] >= known
        torch.testing.assert_close(found[:, golden[places][fine] - known], expected[:, fine], rtol=0, atol=atol)
