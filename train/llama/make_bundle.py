"""A bundle to train a LlamaGen-like model of the shapes world in: the tokenizer of the shipped one, a frozen T5.

The T5 is small and its weights are random; its words are those of the captions. Run
`python train/llama/make_bundle.py` from the folder that holds `bundles`; then `cogstyle train` with the recipes beside
this file, in order.
"""

import re
import sys
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from cogstyle.bundle import Bundle, share_files
from cogstyle.config import FRAME_RATES, MODELS
from cogstyle.interop.llamagen import import_t5
from cogstyle.training.sources import TextCorpus

CONFIG = MODELS["llama-shapes"]
SPLIT = r"[0-9]+\.[0-9]+|[a-z]+|[^\sa-z]"  # numbers, words, other characters one by one
SPECIAL = ("<pad>", "</s>", "<unk>")


def write_t5(folder: Path, *, captions: int = 4_000, seed: int = 0) -> None:
    """A random T5 encoder whose vocabulary is the words of captions, Chinese ones character by character."""
    torch.manual_seed(seed)
    words = {word for text in TextCorpus(captions, seed).sentences() for word in pieces(text.lower())}
    words |= {f"{(CONFIG.frames - 1) / rate}" for rate in FRAME_RATES} | {"seconds", "."}
    ids = {word: number for number, word in enumerate([*SPECIAL, *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(SPLIT), "removed", invert=True)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    marks = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)
    sizes = {"d_model": CONFIG.caption_width, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
    T5EncoderModel(T5Config(**sizes, vocab_size=len(ids))).save_pretrained(folder)


def pieces(text: str) -> list[str]:
    return re.findall(SPLIT, text)


def main(folder: Path) -> None:
    write_t5(folder / "t5")
    share_files(Bundle("shapes"), folder, ["tokenizer.safetensors"])
    import_t5(folder / "t5", folder)
    print(f"{folder}: tokenizer of shapes, T5 in {folder / 't5'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "bundles/llama-shapes"))
