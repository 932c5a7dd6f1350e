"""Our numbers beside those of the released CogVideo code and of icetk: `python -m tests.parity GOLDEN_DIR`.

GOLDEN_DIR holds the golden files of a small CogVideo (checkpoints of the keyframe, the interpolation and the
super-resolution model, and what the released code computed with them), or those of icetk or LlamaGen. One line a file:
the quantity nearest to its bound, the largest difference, the bound. Exit status 1 if one is beyond its bound,
or missing.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from cogstyle.config import MODELS, ModelConfig, Prompts, SamplingConfig, SuperResConfig
from cogstyle.errors import CogstyleError
from cogstyle.interop import sat_checkpoint as sat
from cogstyle.interop.icetk import read_image_tokenizer
from cogstyle.interop.sat_bundle import COARSE_OFFSET, SAMPLING, new_module
from cogstyle.layout import FrameLayout, image_layout, interpolation_layout, keyframe_layout
from cogstyle.model.packed import PackedLinear, pack, packs
from cogstyle.model.superres import SuperResolution
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.sampling import released
from cogstyle.sampling.decode import Texts, decode, finish
from cogstyle.sampling.decode_plan import Plan
from cogstyle.sampling.logits import best_clusters, cluster_weights, inside_cluster, sample, sampler
from cogstyle.sampling.schedule import Schedule, sequential
from cogstyle.tokenizers.hierarchical import RATES
from cogstyle.tokenizers.text import TextTokenizer
from cogstyle.training.loss import token_loss

LOGITS, FINAL_NORM, RELATIVE_LOSS, PROBABILITY, PIXELS = 2e-4, 5e-5, 1e-5, 1e-5, 1e-4


@dataclass(frozen=True)
class Finding:
    """The largest difference of one quantity."""

    quantity: str
    found: float
    bound: float

    @property
    def ok(self) -> bool:
        return self.found <= self.bound


def difference(quantity: str, ours: Tensor, golden: Tensor, bound: float) -> Finding:
    if ours.shape != golden.shape:
        return Finding(f"{quantity} {tuple(ours.shape)}, golden {tuple(golden.shape)}", float("inf"), bound)
    return Finding(quantity, (ours.double() - golden.double()).abs().max().item(), bound)


def unequal(quantity: str, ours: Tensor, golden: Tensor) -> Finding:
    """How many tokens differ; none may."""
    return difference(quantity, (ours.long() != golden.long()).sum(), torch.tensor(0), 0.0)


# ------------------------------------------------------------------- CogVideo


@cache
def models(folder: Path, role: str) -> tuple[Transformer, TemporalAdapter | SuperResolution]:
    """The released checkpoint of a role in our modules."""
    name = {"keyframes": "stage1_ckpt", "interpolation": "stage2_ckpt", "superres": "dsr_ckpt"}[role]
    checkpoint = sat.read_checkpoint(folder / name)
    start = int(load_file(folder / "train_stage1.safetensors")["input_tokens"][0, 64])
    config = sat.model_config(checkpoint, start_of_image=start)
    adapter = new_module(role, config, SuperResConfig(coarse_offset=COARSE_OFFSET))
    base = Transformer(config)
    for module, weights in zip((base, adapter), sat.split_weights(checkpoint.weights), strict=True):
        module.load_state_dict(weights, assign=True)
    assert isinstance(adapter, TemporalAdapter | SuperResolution)
    return base, adapter


@cache
def native(folder: Path, role: str) -> tuple[Transformer, TemporalAdapter]:
    """The same in float32, packed: their steps are the native ones where those were compiled."""
    copies = []
    for module in temporal(folder, role):
        tensors = dict(module.state_dict())
        window = {"window": module.window} if isinstance(module, TemporalAdapter) else {}
        with torch.device("meta"):
            copy = type(module)(module.config, **window)
        if packs("float32"):
            pack(copy, tensors, kind="float32")
        copy.load_state_dict(tensors, assign=True)
        copies.append(copy)
    base, adapter = copies
    if packs("float32"):
        base.head = PackedLinear(base.embed.weight[: base.config.codes], None, kind="float32")
    return base, adapter


def temporal(folder: Path, role: str) -> tuple[Transformer, TemporalAdapter]:
    model, adapter = models(folder, role)
    assert isinstance(adapter, TemporalAdapter)
    return model, adapter


@torch.no_grad()
def check_training(folder: Path, name: str) -> Iterator[Finding]:
    """Hidden states, losses and the masked loss, with left padding."""
    golden = load_file(folder / f"{name}.safetensors")
    first = name == "train_stage1"
    model, adapter = temporal(folder, "keyframes" if first else "interpolation")
    config, span = model.config, model.config.text_span
    labels = golden["labels_frames"].long()
    layout = keyframe_layout(config, span) if first else interpolation_layout(config, span, given_first=False)
    tokens = labels.unflatten(1, (config.frames, config.tokens))
    h = model(golden["input_tokens"][:, :span].long(), tokens, layout, adapter)
    yield difference("final LayerNorm", h, golden["final_ln"][:, span:], FINAL_NORM)
    for row, positions in enumerate(golden["full_positions"].long()):
        kept = positions >= span
        ours = model.logits(h[row, positions[kept] - span])
        yield difference("logits", ours, golden["logits_full"][row, kept], LOGITS)
    losses = token_loss(model.logits(h), labels)
    yield difference("loss of a token", losses, golden["per_token_loss"], LOGITS)
    graded = [1, 2, 3, 4] if first else [1, 3]
    loss = losses.unflatten(1, (config.frames, config.tokens))[:, graded].mean()
    relative = (loss - golden["loss"].reshape(())).abs() / golden["loss"].reshape(())
    yield Finding("loss, relative", relative.item(), RELATIVE_LOSS)


def plan(layout: FrameLayout, adapter: TemporalAdapter | None, steps: int) -> Plan:
    """The first `steps` places, one after the other."""
    schedule = Schedule(sequential(layout).steps[:steps], layout.tokens)
    return Plan(layout, schedule, () if adapter is None else tuple(adapter.windows))


def unconditional_texts(golden: dict[str, Tensor], span: int, pad: int) -> Tensor:
    """The unconditional text, left-padded to the prompt's length."""
    texts = golden["guider_seq"][:, : int(golden["guider_text_len"])].long()
    return torch.cat([texts.new_full((len(texts), span - texts.shape[1]), pad), texts], 1)


@torch.no_grad()
def check_sampling(folder: Path, name: str) -> Iterator[Finding]:
    """Every step's logits with forced tokens, and those of the prefill."""
    golden = load_file(folder / f"{name}.safetensors")
    interpolates, bare = "stage2" in name, "firstframe" in name
    model, adapter = native(folder, "interpolation" if interpolates else "keyframes")
    make = image_layout if bare else interpolation_layout if interpolates else keyframe_layout
    forced, span = golden["forced"].long(), int(golden["text_len"])
    layout = make(model.config, span)
    tokens = forced[:, span + 1 :].unflatten(1, (layout.frames, -1))
    text, bias = forced[:, :span], float(golden["log_text_attention_weights"])
    guided = "guider_seq" in golden
    unconditional = unconditional_texts(golden, span, model.config.pad) if guided else None
    steps, kept = len(golden["ar_predicted_index"]), []

    def follow(logits_BPV: Tensor, places_P: Tensor) -> Tensor:
        kept.append(logits_BPV[:, 0])
        return tokens.flatten(1)[:, places_P]

    finish(
        decode(
            model,
            Texts(text, unconditional, float(golden["guidance_alpha"]) if guided else 1.0, bias),
            tokens,
            plan(layout, None if bare else adapter, steps),
            follow,
            adapter=None if bare else adapter,
            prefill=released.prefill_late if name.endswith("reference_bug") else released.prefill,
        )
    )
    kind, stride = "ar_guided" if guided else "ar_logits", int(golden.get("ar_cols_step_stride", 1))
    every = torch.stack(kept[::stride])[..., golden["columns"].long()]
    yield difference("logits of the steps", every, golden[f"{kind}_cols"], LOGITS)
    full = torch.stack([kept[int(step)] for step in golden["ar_full_steps"]])
    yield difference("logits of the steps", full, golden[f"{kind}_full"], LOGITS)
    if bare:
        return
    known = tokens[:, : layout.known]
    h = released.forward(model, text, known, layout.first(layout.known), adapter, bias=bias)
    places = golden["prefill_positions"].long()
    ours = model.logits(h[:, places[places >= span] - span])[..., golden["columns"].long()]
    yield difference("logits of the prefill", ours, golden["prefill_logits_cols"][:, places >= span], LOGITS)


def greedy(config: SamplingConfig) -> SamplingConfig:
    """The most likely token of the most likely cluster."""
    return replace(config, clusters=1, inner_temperature=1e-5)


@torch.no_grad()
def check_greedy(folder: Path, name: str) -> Iterator[Finding]:
    """The whole loop with the largest instead of a draw, token for token."""
    golden = load_file(folder / f"{name}.safetensors")
    labels = load_file(folder / "coglm_strategy.safetensors")["cluster_labels"].long()
    first, keyframes = greedy(SAMPLING["image"]), greedy(SAMPLING["keyframes"])

    def loop(source: str, result: str, make: Callable[..., object], *, bare: bool = False, rows: int = 2) -> Finding:
        given = load_file(folder / f"{source}.safetensors")
        model, adapter = native(folder, "interpolation" if "stage2" in source else "keyframes")
        span = int(given["text_len"])
        layout = make(model.config, span)
        text = given["seq"][:rows, :span].long()
        whole = golden[result][:, span + 1 :].long()
        sequence = given["seq"][:rows, span + 1 :].long().clamp(min=0)
        guided = "guider_seq" in given
        drawn = whole.shape[1] - layout.known * layout.tokens
        seeds = [(0, row) for row in range(len(text))]
        pick = sampler(keyframes, seeds, layout, labels)
        if bare:
            pick = released.last_place(sampler(first, seeds, layout, labels), pick, layout)
        texts = Texts(
            text,
            unconditional_texts(given, span, model.config.pad)[:rows] if guided else None,
            float(given["guidance_alpha"]) if guided else 1.0,
            float(given["log_text_attention_weights"]),
        )
        tokens = sequence.unflatten(1, (layout.frames, -1))
        out = finish(
            decode(
                *(model, texts, tokens, plan(layout, None if bare else adapter, drawn), pick),
                adapter=None if bare else adapter,
                prefill=released.prefill,
            )
        )
        return unequal(f"tokens of {result}", out.flatten(1)[:, : whole.shape[1]], whole)

    yield loop("infer_stage1_firstframe", "firstframe_tokens", image_layout, bare=True, rows=1)
    yield loop("infer_stage1_guide", "stage1_guide_tokens", keyframe_layout)
    yield loop("infer_stage2_noguide", "stage2_tokens", interpolation_layout)


def check_clusters(folder: Path, name: str) -> Iterator[Finding]:
    """Cluster probabilities, which clusters are best, and the probabilities inside a drawn one."""
    golden = load_file(folder / f"{name}.safetensors")
    logits, labels = golden["logits"], golden["cluster_labels"].long()
    for kind, config in (("cogvideo", SAMPLING["keyframes"]), ("cogview2", SAMPLING["image"])):
        tempered = logits / config.temperature
        yield difference(
            "cluster probabilities",
            cluster_weights(tempered.softmax(-1), labels),
            golden[f"{kind}.cluster_probs"],
            PROBABILITY,
        )
        values, numbers = best_clusters(tempered, labels, config.clusters)
        yield difference("best clusters", values, golden[f"{kind}.top_scores"], PROBABILITY)
        drawn = values / values.sum(-1, keepdim=True)
        yield difference("cluster draw", drawn, golden[f"{kind}.cluster_sampling_probs"], PROBABILITY)
        same = numbers[:-1] == golden[f"{kind}.top_clusters"][:-1]  # the last row ties by design
        yield unequal("numbers of the best clusters", same, torch.ones_like(same))
        for rank in golden[f"{kind}.ranks"].tolist():
            chosen = golden[f"{kind}.top_clusters"][:, rank].long()
            ours = inside_cluster(tempered, labels, chosen, config.inner_temperature)
            wanted = torch.zeros_like(ours)
            index = golden[f"{kind}.final_probs_index"].long()
            here = index[:, 0] == golden[f"{kind}.ranks"].tolist().index(rank)
            wanted[index[here, 1], index[here, 2]] = golden[f"{kind}.final_probs_value"][here]
            yield difference("probabilities in a cluster", ours, wanted, PROBABILITY)


@torch.no_grad()
def check_superres(folder: Path, name: str) -> Iterator[Finding]:
    """Hidden states and logits of the fine places, cluster probabilities, greedy tokens."""
    golden = load_file(folder / f"{name}.safetensors")
    model, upscaler = models(folder, "superres")
    assert isinstance(upscaler, SuperResolution)
    text = golden["text_tokens"].long()
    h = upscaler(model, text, golden["image_tokens"].long())
    known = model.config.text_span + model.config.tokens  # the golden counts the padding of the text
    logits = model.logits(h)
    for quantity, places, ours, wanted, bound in (
        ("final LayerNorm", "sub_positions", h, "final_ln", FINAL_NORM),
        ("logits", "full_positions", logits, "logits_full", LOGITS),
    ):
        fine = golden[places] >= known
        yield difference(quantity, ours[:, golden[places][fine] - known], golden[wanted][:, fine], bound)
    labels = load_file(folder / "coglm_strategy.safetensors")["cluster_labels"].long()
    values, _ = best_clusters(logits[0, :8], labels, SAMPLING["superres"].clusters)
    renormalised = values / values.sum(-1, keepdim=True)
    yield difference("cluster draw", renormalised, golden["cluster_top6_renormalised_first8"], PROBABILITY)
    flat = logits.flatten(0, 1)
    tokens = sample(flat, torch.zeros(len(flat), 2), greedy(SAMPLING["superres"]), labels).view(logits.shape[:2])
    yield unequal("greedy tokens", tokens, golden["greedy_tokens"])


# ---------------------------------------------------------------------- icetk


def check_images(folder: Path, name: str) -> Iterator[Finding]:
    """Ids and pixels at every rate, in a batch."""
    golden = load_file(folder / f"{name}.safetensors")
    model = read_image_tokenizer(folder / "ice_image.pt")
    for rate in RATES:
        ids = golden[f"ids_rate{rate}"].flatten(1).long()
        yield unequal(f"ids at rate {rate}", model.encode_at(golden["images"], rate), ids)
        yield difference(f"pixels at rate {rate}", model.decode_at(ids, rate), golden[f"decoded_rate{rate}"], PIXELS)


def icetk_config(golden: dict) -> ModelConfig:
    """A config that only serves to count ids."""
    ids = {"pad": golden["special"]["<pad>"], "start_of_image": golden["special"]["<start_of_image>"]}
    return replace(MODELS["cogvideo-9b"], layers=1, width=64, heads=1, vocabulary=golden["num_tokens"], **ids)


def check_texts(folder: Path, name: str) -> Iterator[Finding]:
    """Ids of every text and back, special tokens."""
    golden = json.loads((folder / f"{name}.json").read_text("utf-8"))
    text = TextTokenizer((folder / "ice_text.model").read_bytes(), icetk_config(golden), Prompts())
    wrong = sum(text.encode(case["text"]) != case["ids"] for case in golden["encode"])
    yield Finding("texts with other ids", wrong, 0)
    kept = golden["encode_keep_linebreak"]
    yield Finding("texts with line breaks", sum(text.encode(c["text"], linebreaks=True) != c["ids"] for c in kept), 0)
    yield Finding("decoded texts", sum(text.decode(case["ids"]) != case["text"] for case in golden["decode"]), 0)
    yield Finding("special ids", sum(text.token_id(t) != index for t, index in golden["special"].items()), 0)
    yield Finding("tokens of ids", sum(text.token(int(i)) != t for i, t in golden["id_to_token"].items()), 0)


Check = Callable[[Path, str], Iterator[Finding]]
COGVIDEO: dict[str, Check] = {
    **{f"train_stage{stage}": check_training for stage in (1, 2)},
    **{f"infer_stage1_{kind}": check_sampling for kind in ("firstframe", "noguide", "guide", "log0")},
    **{f"infer_stage2_{kind}": check_sampling for kind in ("noguide", "guide_aligned", "guide_reference_bug", "log0")},
    "coglm_strategy": check_clusters,
    "greedy": check_greedy,
    "dsr": check_superres,
}
ICETK: dict[str, Check] = {"ice_image": check_images, "ice_text": check_texts}


def run_check(folder: Path, name: str, check: Check) -> Finding:
    """The finding of one golden file that lies nearest to its bound, or furthest beyond it."""
    try:
        return max(check(folder, name), key=lambda finding: (not finding.ok, finding.found / (finding.bound or 1.0)))
    except (CogstyleError, OSError, KeyError) as error:
        return Finding(f"missing: {' '.join(str(error).split())}", float("inf"), 0.0)


def checks(folder: Path) -> dict[str, Check]:
    """What there is to check of a folder of golden files."""
    if (folder / "gpt_t2i.pt").exists() or (folder / "vq16.pt").exists():
        from tests.parity_llamagen import LLAMAGEN  # it stands on this module

        return LLAMAGEN
    icetk = (folder / "ice_image.safetensors").exists() or (folder / "ice_text.json").exists()
    return ICETK if icetk else COGVIDEO


def main(folder: Path) -> int:
    """Print one line a golden file; 1 if any is beyond its bound or missing."""
    torch.set_num_threads(1)
    worst = 0
    for name, check in checks(folder).items():
        finding = run_check(folder, name, check)
        verdict = "ok" if finding.ok else "BEYOND ITS BOUND"
        print(
            f"{name:<33}{finding.found:>10.1e}  bound {finding.bound:<8.0e}{verdict:<18}{finding.quantity}", flush=True
        )
        worst = max(worst, not finding.ok)
    return worst


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(f"usage: python -m tests.parity GOLDEN_DIR\n{' '.join(sys.argv[1:])} is no folder")
    sys.exit(main(Path(sys.argv[1])))
