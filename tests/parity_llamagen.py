"""Our numbers beside those of the released LlamaGen code; run by tests/parity.py."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from cogstyle.config import SamplingConfig
from cogstyle.interop.llamagen import NAMES, read_gpt, read_vq
from cogstyle.layout import Mark, image_layout
from cogstyle.model.llama import rotary, rotate
from cogstyle.model.transformer import Transformer
from cogstyle.sampling.decode import Texts, decode, finish
from cogstyle.sampling.decode_plan import plan_for
from cogstyle.sampling.logits import sampler, top_k, top_p
from cogstyle.tokenizers.llamagen import LlamaGenVQ
from cogstyle.tokenizers.vqvae import to_uint8
from cogstyle.training.loss import token_loss
from tests.parity import LOGITS, PIXELS, PROBABILITY, Finding, difference, unequal

HIDDEN, LOSS, GUIDED, TABLE = 5e-5, 2e-6, 5e-4, 5e-6


@cache
def gpt(path: Path) -> Transformer:
    said = json.loads(path.with_name("model.json").read_text()) if path.parent.name == "wrap" else None
    known = {} if said is None else {"heads": said["args"]["n_head"], "grid": round(said["args"]["block_size"] ** 0.5)}
    config, weights = read_gpt(path, **known)
    model = Transformer(config)
    model.load_state_dict(weights)
    return model.eval()


def states(features_BSC: Tensor, mask_BS: Tensor, *, unconditional: bool = False) -> Tensor:
    """The text that the golden's features and mask are."""
    mark_BS = mask_BS.float() * Mark.TEXT + Mark.UNCONDITIONAL * unconditional
    return torch.cat([features_BSC.float(), mark_BS[..., None], torch.zeros_like(mark_BS)[..., None]], 2)


def losses(model: Transformer, golden: dict[str, Tensor], *, unconditional: bool = False) -> Tensor:
    """Cross-entropy of every token, [B, N]."""
    return token_loss(logits(model, golden, unconditional=unconditional), golden["tokens"])


def logits(model: Transformer, golden: dict[str, Tensor], *, unconditional: bool = False) -> Tensor:
    text_BSE = states(golden["features"], golden["mask"], unconditional=unconditional)
    layout = image_layout(model.config, text_BSE.shape[1])
    return model.logits(model(text_BSE, golden["tokens"].long()[:, None], layout))


def places(sequence_R: Tensor, span: int) -> Tensor:
    """Rows of the released sequence in ours, where the last caption row lies in front of the frame once more."""
    return sequence_R.long() + (sequence_R >= span - 1)


def check_training(folder: Path, name: str) -> Iterator[Finding]:
    """Hidden states of every layer, logits, losses, gradients."""
    golden = load_file(folder / f"{name}.safetensors")
    said, model = json.loads((folder / f"{name}.json").read_text()), gpt(folder / f"gpt_{name.split('_')[0]}.pt")
    seen: dict[str, Tensor] = {}
    hooks = [model.norm.register_forward_hook(lambda _, given, out: seen.update(last=given[0], norm=out))]
    for index, layer in enumerate(model.layers):
        hooks.append(layer.register_forward_pre_hook(lambda _, args, k=index: seen.update({f"layer_in.{k}": args[1]})))
        hooks.append(layer.dense.register_forward_hook(lambda _, __, out, k=index: seen.update({f"attn_out.{k}": out})))
    model.zero_grad()
    losses_BN = losses(model, golden)
    losses_BN.mean().backward()
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        yield difference("logits", logits(model, golden), golden["logits"], LOGITS)
        yield difference("loss", losses_BN.mean(), golden["loss_valid11"], LOSS)
        if "rows" in golden:
            rows = places(golden["rows"], model.config.text_span)
            for kind, tensor in seen.items():
                wanted = golden[{"last": "last_layer_out", "norm": "final_norm"}.get(kind, kind)]
                yield difference(kind, tensor[:, rows], wanted, HIDDEN)
            captions = model.logits(seen["norm"][:, places(golden["caption_rows"], model.config.text_span)])
            yield difference("logits of caption rows", captions, golden["logits_caption_rows"], LOGITS)
            yield difference("loss of one valid", losses_BN[0].mean(), golden["loss_valid10"], LOSS)
            dropped = logits(model, golden, unconditional=True)
            yield difference("logits without caption", dropped[:, ::4], golden["logits_dropped_every4"], LOGITS)
            loss = losses(model, golden, unconditional=True).mean()
            yield difference("loss without caption", loss, golden["loss_dropped"], LOSS)
        for theirs, norm in said.get("grad_norms", {}).items():
            mine = next(model.get_parameter(released_to_ours(theirs, p)) for p in NAMES if released_to_ours(theirs, p))
            assert mine.grad is not None
            yield Finding(f"gradient of {theirs}, relative", abs(mine.grad.norm().item() / norm - 1), 1e-4)


def released_to_ours(name: str, pattern: str) -> str:
    match = re.fullmatch(pattern, name)
    return match.expand(NAMES[pattern]) if match else ""


def check_wraps(folder: Path, name: str) -> Iterator[Finding]:
    """One model in every layout of file."""
    golden, said = load_file(folder / f"{name}.safetensors"), json.loads((folder / f"{name}.json").read_text())
    for file in said["files"]:
        with torch.no_grad():
            yield difference(
                f"logits of {file}", logits(gpt(folder / Path(name).parent / file), golden), golden["logits"], LOGITS
            )


def drawn(model: Transformer, texts: Texts, pick) -> Tensor:
    """What the decode loop fills one frame with, [B, N]."""
    layout = image_layout(model.config, texts.prompts_BS.shape[1])
    blank_BFL = torch.zeros(len(texts.prompts_BS), 1, layout.tokens, dtype=torch.long)
    return finish(decode(model, texts, blank_BFL, plan_for(layout, ()), pick))[:, 0]


def check_sampling(folder: Path, name: str) -> Iterator[Finding]:
    """Logits of every step with given tokens, and the whole loop with the largest."""
    golden, train = load_file(folder / f"{name}.safetensors"), load_file(folder / "t2i_train.safetensors")
    model = gpt(folder / "gpt_t2i.pt")
    prompt, guide = (states(train["features"], train["mask"], unconditional=out) for out in (False, True))
    tokens_BN = golden["tokens"].long()

    def steps(texts: Texts) -> Tensor:
        kept: list[Tensor] = []

        def follow(logits_BPV: Tensor, places_P: Tensor) -> Tensor:
            kept.append(logits_BPV[:, 0])
            return tokens_BN[:, places_P]

        drawn(model, texts, follow)
        return torch.stack(kept)

    conditional = steps(Texts(prompt))
    yield difference("conditional logits", conditional, golden["cond_logits"], LOGITS)
    yield difference("unconditional logits", steps(Texts(guide)), golden["uncond_logits"], LOGITS)
    yield difference("logits of cfg 1", conditional[golden["cfg1_steps"]], golden["cfg1_logits"], LOGITS)
    guided = steps(Texts(prompt, guide, 7.5))[golden["guided_steps"]]
    yield difference("guided logits", guided, golden["guided_logits"], GUIDED)
    blind = states(train["features"], torch.ones_like(train["mask"]))
    yield difference("logits without mask", steps(Texts(blind))[:4], golden["nomask_cond_logits"], LOGITS)
    for scale in (1.0, 3.0, 7.5):
        layout = image_layout(model.config, prompt.shape[1])
        pick = sampler(SamplingConfig(top_k=1), [(0,)] * len(prompt), layout, None)
        greedy = drawn(model, Texts(prompt, guide, scale), pick)
        yield unequal(f"greedy tokens of cfg {scale}", greedy, golden[f"greedy_cfg{scale}"])


def check_draws(folder: Path, name: str) -> Iterator[Finding]:
    """Probabilities that a draw is made by. Rows of ties, whose order is not defined, are left out."""
    golden, said = load_file(folder / f"{name}.safetensors"), json.loads((folder / f"{name}.json").read_text())
    for combo, wanted in zip(said["combos"], golden["probs"], strict=True):
        ours = golden["logits"] / max(combo["temperature"], 1e-5)
        if combo["top_k"]:
            ours = top_k(ours, combo["top_k"])
        if combo["top_p"] < 1.0:
            ours = top_p(ours, combo["top_p"])
        tied = {6, 7} if combo["top_p"] < 1.0 or combo["top_k"] else set()
        rows = [row for row in range(len(ours)) if row not in tied]
        yield difference(f"probabilities of {combo}", ours.softmax(-1)[rows], wanted[rows], PROBABILITY)


def check_rope(folder: Path, name: str) -> Iterator[Finding]:
    """The table, what it does to a head, and tables of other sizes."""
    golden, model = load_file(folder / f"{name}.safetensors"), gpt(folder / "gpt_t2i.pt")
    span = model.config.text_span
    table = rotary(model.config, torch.arange(model.config.tokens))
    yield difference("table", table[1:], golden["table"][span:-1], TABLE)
    whole = torch.cat([torch.zeros(span, *table.shape[1:]), table[1:], golden["table"][-1:]])
    turned = rotate(golden["x"], whole[golden["x_pos"]][:, None])
    yield difference("rotated", turned, golden["x_rotated"], TABLE)


@torch.no_grad()
def check_vq(folder: Path, name: str) -> Iterator[Finding]:
    """Features, ids, entries and pixels."""
    golden, said = load_file(folder / f"{name}.safetensors"), json.loads((folder / f"{name}.json").read_text())
    config, weights = read_vq(folder / f"{name}.pt")
    model = LlamaGenVQ(config)
    model.load_state_dict(weights)
    images, across = golden["images"], golden["z"].shape[-1]
    yield difference("encoder", model.encoder(images), golden["encoder_out"], PIXELS)
    yield difference("features", model.features(images), golden["z"], PIXELS)
    ids = model.nearest(model.features(images))
    yield unequal("ids", ids.flatten(), golden["indices"])
    entries = model.quantize.unit()[ids].transpose(1, 2).reshape(golden["entry"].shape)
    yield difference("entries", entries, golden["entry"], PIXELS)
    yield difference("pixels again", model.pixels(ids, width=across), golden["recon"], PIXELS)
    width = said["decode_shape"][-1]
    ids = golden["decode_indices"].long().view(said["decode_shape"][0], -1)
    yield difference("pixels", model.pixels(ids, width=width), golden["decoded"], PIXELS)
    eight = (127.5 * golden["decoded"] + 128.0).clamp(0, 255).to(torch.uint8)
    yield unequal("8-bit pixels", to_uint8(golden["decoded"]), eight)


LLAMAGEN = {
    "rope": check_rope,
    "t2i_train": check_training,
    "gqa_train": check_training,
    "t2i_infer": check_sampling,
    "sampling": check_draws,
    "wrap/wrap": check_wraps,
    "vq16": check_vq,
    "vq8": check_vq,
}
