"""What the tests of SAT as a host run in processes of their own: SAT keeps its groups in globals.

`python -m tests.interop.sat_run logits FOLDER...` lets SAT's AutoModel build and load each folder, feeds it the
folder's `inputs.safetensors` and writes `logits_RANK.safetensors` and `names_RANK.json` beside them; `refusals FOLDER`
tries what must be refused; `finetune BUNDLE OPTION...` fine-tunes.
"""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cogstyle.errors import ConfigError, LayoutError
from cogstyle.interop import sat_model
from cogstyle.training.sat_host import finetune_on_shards


@torch.no_grad()
def logits(*folders: str) -> None:
    from sat.model import AutoModel

    for folder in map(Path, folders):
        model, _ = AutoModel.from_pretrained(str(folder))
        given = load_file(folder / "inputs.safetensors")
        found = model(given["input_ids"], given["position_ids"], given["attention_mask"])[0]
        kept = torch.stack([row[places] for row, places in zip(found, given["places"], strict=True)])
        rank = os.environ["RANK"]
        save_file({"logits": kept}, folder / f"logits_{rank}.safetensors")
        model.disable_untrainable_params()
        names = {
            "class": f"{type(model).__module__}.{type(model).__name__}",
            "all": sorted(model.state_dict()),
            "trained": sorted(name for name, value in model.named_parameters() if value.requires_grad),
        }
        (folder / f"names_{rank}.json").write_text(json.dumps(names))


@torch.no_grad()
def refusals(folder: str) -> None:
    model, args = sat_model.CogVideoModel.from_pretrained(folder)
    for changes, message in (
        ({"layout": [48, 63, 123]}, "frames of 15 tokens, which is no square"),
        ({"window_size": 3}, "window_size 3 does not divide the 4 rows"),
        ({"max_sequence_length": 60}, "max_sequence_length 60 must hold text_positions 48 and 16 tokens"),
        ({"additional_seqlen": 63}, "additional_seqlen 63 must hold the 64 tokens"),
        ({"vocab_size": 433, "model_parallel_size": 2}, "vocab_size 433 must be 1000 or more"),
        ({"vocab_size": 1537, "model_parallel_size": 2}, "vocab_size 1537 .* a multiple of model_parallel_size 2"),
        ({"parallel_output": True}, "parallel_output has no effect"),
    ):
        with pytest.raises(ConfigError, match=message):
            sat_model.CogVideoModel(type(args)(**{**vars(args), **changes}))
    given = load_file(Path(folder) / "inputs.safetensors")
    inputs, positions, mask = (given[name] for name in ("input_ids", "position_ids", "attention_mask"))
    with pytest.raises(LayoutError, match=r"attention_mask has shape \(2, 6\)"):
        model(inputs, positions, mask[:, 0, 0])
    with pytest.raises(LayoutError, match=r"position_ids has shape \(2, 85\)"):
        model(inputs, positions[:, :-1], mask)
    with pytest.raises(LayoutError, match="after 6 text tokens are not those of frames of 16 tokens"):
        model(inputs[:, :-1], positions[:, :-1], mask)
    with pytest.raises(LayoutError, match="after 6 text tokens are not those of frames of 16 tokens"):
        model(inputs, positions + (positions == 50), mask)
    with pytest.raises(LayoutError, match="after 6 text tokens are not those of frames of 16 tokens"):
        model(inputs, positions - 16 * (positions >= 48), mask)
    with pytest.raises(LayoutError, match="after 6 text tokens are not those of frames of 16 tokens"):
        model(inputs[:, :6], positions[:, :6], mask)
    with pytest.raises(LayoutError, match="position 143 lies beyond the 128 rows of the tables"):
        model(inputs, positions + 16 * (positions >= 48), mask)
    with pytest.raises(ConfigError, match="missing option --save, --train-data"):
        sat_model.finetune(["--load", folder, "--train-iters", "1"], *[print] * 3)
    with pytest.raises(ConfigError, match=r"deepspeed_config x\.json is read only where there is a GPU"):
        sat_model.finetune(["--deepspeed_config", "x.json", "--train-iters", "1"], *[print] * 3)


def finetune(bundle: str, *options: str) -> None:
    print("saved", finetune_on_shards(bundle, options))


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"logits": logits, "refusals": refusals, "finetune": finetune}[sys.argv[1]](*sys.argv[2:])
