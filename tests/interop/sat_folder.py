"""SAT checkpoint folders as SAT writes them, from our modules."""

import json
import random

import numpy as np
import torch

from cogstyle.interop import sat_checkpoint as sat

SAT_LAYER = {ours: theirs for theirs, ours in sat.LAYER_NAMES.items()}
SAT_TOP = {ours: theirs for theirs, ours in sat.TOP_NAMES.items()}


def sat_weights(model, adapter) -> dict[str, torch.Tensor]:
    """The inverse of our_name, written out again."""
    weights = {}
    for name, value in model.state_dict().items():
        parts = name.split(".")
        if parts[0] == "layers":
            weights[f"transformer.layers.{parts[1]}.{SAT_LAYER[parts[2]]}.{parts[3]}"] = value
        else:
            weights[f"transformer.{SAT_TOP[parts[0]]}.{parts[1]}"] = value
    for name, value in adapter.state_dict().items():
        parts = name.split(".")
        if name == "positions.weight":
            weights["mixins.extra_position_embedding.position_embeddings.weight"] = value
        elif parts[2] == "gate":
            weights[f"mixins.attention_plus.attn_distribution.{parts[1]}"] = value
        else:
            theirs = {"qkv": "query_key_value", "dense": "dense"}[parts[2]]
            weights[f"mixins.attention_plus.{theirs}.{parts[1]}.{parts[3]}"] = value
    return weights


def shard(name: str, value: torch.Tensor, rank: int, ranks: int) -> torch.Tensor:
    """What one tensor-parallel rank keeps of a weight."""
    if "query_key_value" in name:
        return torch.cat([third.chunk(ranks)[rank] for third in value.chunk(3)])
    if "dense_h_to_4h" in name or "word_embeddings" in name:
        return value.chunk(ranks)[rank]
    if ("dense_4h_to_h" in name or "dense" in name.split(".")) and name.endswith("weight"):
        return value.chunk(ranks, 1)[rank]
    return value


def write(folder, model, adapter, *, ranks=1, dtype=torch.float32):
    config, weights = model.config, sat_weights(model, adapter)
    (folder / "7").mkdir(parents=True)
    (folder / "latest").write_text("7")
    whole = config.text_span + config.frames * config.tokens
    described = {
        "model_class": "CogVideoModel",
        "num_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "vocab_size": config.vocabulary,
        "layernorm_order": "sandwich",
        "max_sequence_length": config.positions,
        "model_parallel_size": ranks,
        "layout": [config.text_span, config.text_span + config.tokens, whole],
        "window_size": adapter.window or -1,
        "additional_seqlen": config.extra_positions,
        "image_codes": config.codes,
        "text_positions": config.text_positions,
    }
    (folder / "model_config.json").write_text(json.dumps(described))
    for rank in range(ranks):
        module = {name: shard(name, value, rank, ranks).to(dtype).clone() for name, value in weights.items()}
        state = {
            "module": module,
            "iteration": 7,
            "optimizer": None,
            "random_rng_state": random.getstate(),
            "np_rng_state": np.random.get_state(),
            "torch_rng_state": torch.get_rng_state(),
        }
        torch.save(state, folder / "7" / f"mp_rank_{rank:02d}_model_states.pt")
    return weights
