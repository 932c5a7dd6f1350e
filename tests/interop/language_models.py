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
