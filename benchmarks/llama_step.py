"""A guided picture by a Llama-like model of random weights: the native step against PyTorch's, in turns, one thread.

python benchmarks/llama_step.py --runs 5
"""

import argparse
import os
import time
from statistics import median

import torch

from cogstyle.config import SamplingConfig, llama_config
from cogstyle.layout import Mark, image_layout
from cogstyle.model.packed import pack
from cogstyle.model.transformer import Transformer
from cogstyle.sampling.decode import Texts, decode, finish
from cogstyle.sampling.decode_plan import plan_for
from cogstyle.sampling.logits import sampler

CONFIG = llama_config(
    codes=4096, layers=12, width=512, heads=8, grid=(16, 16), window=0, text_span=40, inner=1408, caption_width=512
)


def packed(tensors: dict[str, torch.Tensor], kind: str, native: bool) -> Transformer:
    """The model with packed weights, for the native step or for PyTorch."""
    with torch.device("meta"):
        model = Transformer(CONFIG)
    rest, before = dict(tensors), os.environ.get("COGSTYLE_NATIVE", "")
    os.environ["COGSTYLE_NATIVE"] = before if native else "off"
    pack(model, rest, kind=kind)
    os.environ["COGSTYLE_NATIVE"] = before
    model.load_state_dict(rest, assign=True)
    return model.to(torch.bfloat16 if kind == "bfloat16" else torch.float32).requires_grad_(False)


def seconds(model: Transformer) -> float:
    """CPU seconds of the 256 tokens of a picture, one step after the other."""
    text = torch.randn(1, CONFIG.text_span, CONFIG.caption_width + 2, generator=torch.manual_seed(1))
    text[..., -2], text[..., -1] = int(Mark.TEXT), 0.0
    away = text.clone()
    away[..., -2] = int(Mark.TEXT | Mark.UNCONDITIONAL)
    layout = image_layout(CONFIG, CONFIG.text_span)
    pick = sampler(SamplingConfig(), [(1,)], layout, None)
    began = time.process_time()
    blank = torch.zeros(1, 1, CONFIG.tokens, dtype=torch.long)
    finish(decode(model, Texts(text, away, 2.0), blank, plan_for(layout, ()), pick))
    return time.process_time() - began


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of each, in turns")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    tensors = Transformer(CONFIG).state_dict()
    for kind in ("float32", "bfloat16", "int8"):
        models = {name: packed(tensors, kind, name == "native") for name in ("native", "torch")}
        found: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(options.runs):
            for name, model in models.items():
                found[name].append(seconds(model))
        native, plain = (1e3 * median(found[name]) / CONFIG.tokens for name in ("native", "torch"))
        print(f"{kind}: {native:.2f} ms a guided step, by PyTorch {plain:.2f}: {plain / native:.1f} times")


if __name__ == "__main__":
    main()
