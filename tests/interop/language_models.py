"""Tiny random language models, as `save_pretrained` writes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.interop.llamagen_files import WORDS, write_t5

KINDS = ("t5", "llama", "gpt2")


def write_llm(folder: Path, kind: str = "llama", *, width: int = 16, side: str = "right") -> Path:
    """A model that knows a few words; decoder-only but for "t5"."""
    if kind == "t5":
        return write_t5(folder, width=width)
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    size: dict[str, Any] = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
    if kind == "llama":
        config = LlamaConfig(
            hidden_size=width, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, **size
        )
        LlamaForCausalLM(config).save_pretrained(folder)
    else:
        GPT2LMHeadModel(GPT2Config(n_embd=width, n_layer=2, n_head=2, n_positions=64, **size)).save_pretrained(folder)
    write_tokenizer(folder, side=side)
    return folder


def write_tokenizer(folder: Path, words: Sequence[str] = WORDS, *, side: str = "right") -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["<unk>", "<s>", "</s>", *dict.fromkeys(words), "say", ":", "."]
    ids = {word: number for number, word in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    fast.padding_side = side
    fast.save_pretrained(folder)


def write_gguf(path: Path, *, width: int = 16) -> Any:
    """A tiny Llama as GGUF, float32, that reads letters; returns the model that it holds."""
    import gguf
    from transformers import LlamaConfig, LlamaForCausalLM

    letters = [*"abcdefghijklmnopqrstuvwxyz:.", "\u0120", "re", "red"]
    config = LlamaConfig(
        hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=len(letters) + 2
    )
    model = LlamaForCausalLM(config).eval()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(2)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<s>", "</s>", *letters])
    writer.add_token_types([3, 3, *[1] * len(letters)])
    writer.add_token_merges(["r e", "re d"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
             "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
             "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}  # fmt: skip
    for name, value in model.state_dict().items():
        if "q_proj" in name or "k_proj" in name:  # rotary pairs side by side, as llama.cpp has them
            value = value.view(2, 2, width // 4, width).transpose(1, 2).reshape(width, width)
        stem = name.removesuffix(".weight").replace("model.layers.", "blk.")
        for theirs, ours in names.items():
            stem = stem.replace(theirs, ours) if stem.endswith(theirs) else stem
        writer.add_tensor(f"{stem}.weight", value.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model
