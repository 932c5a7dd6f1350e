"""Files as LlamaGen has them, of tiny sizes and random weights; and a tiny random T5."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from cogstyle.config import MODELS, LlamaGenVQConfig, ModelConfig
from cogstyle.interop.llamagen import NAMES
from cogstyle.model.transformer import Transformer
from cogstyle.tokenizers.llamagen import LlamaGenVQ
from cogstyle.training.transformer import fresh_transformer

CONFIG = replace(MODELS["llama-debug"], text_span=24)
VQ = LlamaGenVQConfig(
    codes=32, code_width=4, latent=8, channels=32, encoder_channels=(32, 64), decoder_channels=(32, 64), image_size=8
)
WORDS = tuple("a red blue circle square moves right left 4.0 2.0 1.0 0.5 16.0 8.0 seconds. dog runs".split())  # noqa: SIM905


def released(name: str) -> str:
    """The released name of one of our weights."""
    for pattern, ours in NAMES.items():
        shape = re.escape(ours).replace(r"\\1", r"(\w+)")
        if match := re.fullmatch(shape, name):
            theirs = pattern.replace("\\.", ".")
            return re.sub(r"\(.*?\)", match[1], theirs) if match.groups() else theirs
    raise AssertionError(name)


def make_gpt(config: ModelConfig = CONFIG) -> tuple[Transformer, dict[str, torch.Tensor]]:
    """A model, and its weights under the released names."""
    model = fresh_transformer(config)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * torch.randn_like(value))
    return model.eval(), {released(name): value for name, value in model.state_dict().items()}


def make_vq(config: LlamaGenVQConfig = VQ) -> tuple[LlamaGenVQ, dict[str, torch.Tensor]]:
    model = LlamaGenVQ(config).eval()
    return model, {**model.state_dict(), "quantize.codebook_used": torch.zeros(8)}


def write(folder: Path) -> tuple[Transformer, LlamaGenVQ]:
    """GPT.pt and VQ.pt."""
    (model, weights), (vq, codes) = make_gpt(), make_vq()
    torch.save({"model": weights, "steps": 1}, folder / "GPT.pt")
    torch.save({"model": codes}, folder / "VQ.pt")
    return model, vq


def write_t5(folder: Path, *, width: int = 16, words: Sequence[str] = WORDS) -> Path:
    """A random T5 that knows a few words, as `save_pretrained` writes it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    ids = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *dict.fromkeys(words)])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    marks = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)
    sizes = {"d_model": width, "d_kv": 8, "d_ff": 2 * width, "num_layers": 2, "num_heads": 2, "vocab_size": len(ids)}
    T5EncoderModel(T5Config(**sizes)).save_pretrained(folder)
    return folder
