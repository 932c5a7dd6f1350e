"""The training forward against numbers that the released CogVideo code produced.

The numbers live outside the repository; without them these tests are skipped, and the twin in
tests/model/test_transformer.py (a float64 reference written from the formulas) still runs.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cogstyle.interop import sat_checkpoint as sat
from cogstyle.layout import interpolation_layout, keyframe_layout
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.training.loss import token_loss

GOLDENS = Path(__file__).parents[3] / "shared" / "parity" / "public"


@pytest.mark.skipif(not GOLDENS.is_dir(), reason="the released numbers are not on this machine")
@pytest.mark.parametrize(("stage", "graded"), [(1, (1, 2, 3, 4)), (2, (1, 3))])
@torch.no_grad()
def test_training_forward(stage, graded):
    golden = load_file(GOLDENS / f"train_stage{stage}.safetensors")
    checkpoint = sat.read_checkpoint(GOLDENS / f"stage{stage}_ckpt")
    config = sat.model_config(checkpoint, start_of_image=20_300)
    model, adapter = Transformer(config), TemporalAdapter(config, window=config.window if stage == 2 else 0)
    for module, weights in zip((model, adapter), sat.split_weights(checkpoint.weights), strict=True):
        module.load_state_dict(weights)
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
