"""SAT as a host: the same logits as ours in one process and in two, and a fine-tune that comes back.

Released checkpoints lie outside the repository and are tested where they are; the twins of random weights always run.
"""

import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cogstyle.adapter import adapter_from_image
from cogstyle.bundle import Bundle, share_files, update_bundle
from cogstyle.data import shards
from cogstyle.errors import BundleError
from cogstyle.interop.sat_bundle import export_sat, import_sat
from cogstyle.layout import Role, interpolation_layout, keyframe_layout
from cogstyle.shapes_world import rows
from cogstyle.training.loss import token_loss
from cogstyle.training.transformer import fresh_transformer
from tests.conftest import disturb
from tests.interop.sat_folder import sat_weights, shard, write

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
GOLDENS = ROOT.parent / "shared" / "parity" / "public"
STAGES = {"keyframes": "stage1", "interpolation": "stage2"}
LOGITS, PARAMETERS = 2e-4, 2e-6


def launch(ranks: int, *arguments: object) -> str:
    """Run tests.interop.sat_run in `ranks` processes; returns what the first printed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.interop.sat_run", *map(str, arguments)]
    world = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    running = []
    for rank in range(ranks):
        added = world | {"RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": 1}
        environment = os.environ | {name: str(value) for name, value in added.items()}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(command, cwd=ROOT, env=environment, **pipes))
    try:
        printed = [process.communicate(timeout=300) for process in running]
    finally:
        for process in running:
            process.kill()
    for process, (_, errors) in zip(running, printed, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return printed[0][0]


@pytest.fixture(scope="module")
def wide(config):
    """The debug model with a vocabulary that SAT splits."""
    torch.manual_seed(5)
    model = fresh_transformer(replace(config, vocabulary=1024))
    disturb(model)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def wide_adapters(wide):
    made = {"keyframes": adapter_from_image(wide), "interpolation": adapter_from_image(wide, window=2)}
    for adapter in made.values():
        disturb(adapter)
    return made


@pytest.fixture(scope="module")
def bundle(wide, wide_adapters, debug_bundle, tmp_path_factory):
    """The debug bundle's tokenizers around these weights."""
    folder = tmp_path_factory.mktemp("wide") / "bundle"
    share_files(Bundle(debug_bundle), folder, ["tokenizer.safetensors", "text.model"])
    files = {f"{name}.safetensors": module.state_dict() for name, module in {"image": wide, **wide_adapters}.items()}
    update_bundle(folder, files, half=False, model=wide.config)
    return folder


def draw(config):
    """Left-padded texts and tokens in time order."""
    text = torch.randint(config.codes + 1, config.start_of_image, (2, 6))
    text[1, :3] = config.pad
    return text, torch.randint(config.codes, (2, config.frames, config.tokens))


def written_out(config, text, tokens):
    """Inputs, positions and mask of SAT, place by place."""
    inputs, positions = [], []
    for ids, frames in zip(text.tolist(), tokens.tolist(), strict=True):
        padding = ids.count(config.pad)
        inputs.append(ids + [token for frame in frames for token in [config.start_of_image, *frame[:-1]]])
        image = range(config.text_positions, config.text_positions + config.frames * config.tokens)
        positions.append([0] * padding + list(range(len(ids) - padding)) + list(image))
    mask = (text != config.pad)[:, None, None].long()
    return {"input_ids": torch.tensor(inputs), "position_ids": torch.tensor(positions), "attention_mask": mask}


def time_order(config, role, text):
    return (
        keyframe_layout(config, text) if role == "keyframes" else interpolation_layout(config, text, given_first=False)
    )


def twin(folder, role, wide, wide_adapters, bundle, ranks):
    """A checkpoint of our weights, its inputs, and our logits of all image places."""
    if ranks == 1 or role == "keyframes":
        export_sat(Bundle(bundle), folder, role=role, ranks=ranks)
    else:  # as SAT itself would split it, with its bookkeeping
        write(folder, wide, wide_adapters[role], ranks=ranks)
    torch.manual_seed(6)
    text, tokens = draw(wide.config)
    inputs = written_out(wide.config, text, tokens)
    places = torch.arange(text.shape[1], inputs["input_ids"].shape[1]).expand(2, -1)
    save_file(inputs | {"places": places.contiguous()}, folder / "inputs.safetensors")
    with torch.no_grad():
        return wide.logits(wide(text, tokens, time_order(wide.config, role, text.shape[1]), wide_adapters[role]))


def released(folder, stage, ranks):
    """A released checkpoint, split if need be, and the released code's logits at some places, text among them."""
    shutil.copytree(GOLDENS / f"{stage}_ckpt", folder)
    path = folder / "1" / "mp_rank_00_model_states.pt"
    if ranks > 1:
        state = torch.load(path, weights_only=False)
        for rank in range(ranks):
            module = {name: shard(name, value, rank, ranks).clone() for name, value in state["module"].items()}
            torch.save(state | {"module": module}, path.with_name(f"mp_rank_{rank:02d}_model_states.pt"))
        described = json.loads((folder / "model_config.json").read_text())
        (folder / "model_config.json").write_text(json.dumps(described | {"model_parallel_size": ranks}))
    golden = load_file(GOLDENS / f"train_{stage}.safetensors")
    inputs = {"input_ids": golden["input_tokens"], "position_ids": golden["position_ids"]}
    inputs |= {"attention_mask": golden["attention_mask_totxt"], "places": golden["full_positions"]}
    save_file({name: value.long().contiguous() for name, value in inputs.items()}, folder / "inputs.safetensors")
    return golden["logits_full"]


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "tensor parallel"])
def hosted(request, wide, wide_adapters, bundle, tmp_path_factory):
    """Folders that SAT has loaded and run, and the logits that it should have found."""
    folder = tmp_path_factory.mktemp("hosted")
    wanted = {role: twin(folder / role, role, wide, wide_adapters, bundle, request.param) for role in STAGES}
    if GOLDENS.is_dir():
        wanted |= {stage: released(folder / stage, stage, request.param) for stage in STAGES.values()}
    launch(request.param, "logits", *(folder / name for name in wanted))
    return request.param, folder, wanted


@pytest.mark.parametrize("name", [*STAGES, *STAGES.values()])
def test_sat_computes_our_logits(hosted, name):
    ranks, folder, wanted = hosted
    if name not in wanted:
        pytest.skip("the released checkpoints are not on this machine")
    for rank in range(ranks):
        found = load_file(folder / name / f"logits_{rank}.safetensors")["logits"]
        assert found.shape == wanted[name].shape
        largest = (found - wanted[name]).abs().max().item()
        print(f"{name}, {ranks} ranks: {largest:.1e}")
        assert largest <= LOGITS


@pytest.mark.parametrize("role", list(STAGES))
def test_names_are_the_released_ones(hosted, wide, wide_adapters, role):
    _, folder, _ = hosted
    names = json.loads((folder / role / "names_0.json").read_text())
    assert names["class"] == "cogstyle.interop.sat_model.CogVideoModel"
    assert names["all"] == sorted(sat_weights(wide, wide_adapters[role]))
    assert names["trained"] == [name for name in names["all"] if name.startswith("mixins.")]


def test_what_does_not_fit_is_refused(wide, wide_adapters, bundle, tmp_path):
    twin(tmp_path / "folder", "keyframes", wide, wide_adapters, bundle, 1)
    launch(1, "refusals", tmp_path / "folder")


STEPS, RATE = 2, 0.01
WARMUP = 0.05  # SAT starts a fine-tune at this share of its learning rate


def train_here(wide, adapter, bundle, data, role):
    """The same steps in plain torch."""
    rows = shards.load(data, tokenizer_sha256=bundle.hashes()["tokenizer.safetensors"])
    text = torch.tensor([bundle.text().video_text(rows.captions[0], rows.seconds[0])])
    layout, tokens = time_order(wide.config, role, text.shape[1]), rows.tokens.long()
    graded = [frame for frame, kind in enumerate(layout.roles) if kind is Role.GENERATED]
    assert graded == ([1, 2, 3, 4] if role == "keyframes" else [1, 3])
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=RATE * WARMUP, betas=(0.9, 0.95), weight_decay=0.0)
    for _ in range(STEPS):
        h = wide(text, tokens, layout, adapter).unflatten(1, (layout.frames, -1))[:, graded].flatten(1, 2)
        loss = token_loss(wide.logits(h), tokens[:, graded].flatten(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(adapter.parameters(), 0.1)
        optimizer.step()


@pytest.mark.parametrize(("role", "ranks", "bare"), [("keyframes", 1, True), ("interpolation", 2, False)])
def test_a_fine_tune_comes_back(role, ranks, bare, wide, wide_adapters, bundle, tmp_path):
    """A shard of one row, so that the order of SAT's batches does not matter; `bare`: from the image model alone."""
    start = adapter_from_image(wide, window=wide_adapters[role].window)
    if not bare:
        start.load_state_dict(wide_adapters[role].state_dict())
    write(tmp_path / "start", wide, start, ranks=ranks)
    path = tmp_path / "start" / "model_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_dropout": 0.0}))
    if bare:
        file = tmp_path / "start" / "7" / "mp_rank_00_model_states.pt"
        state = torch.load(file, weights_only=False)
        torch.save({"module": {k: v for k, v in state["module"].items() if not k.startswith("mixins.")}}, file)
    source, size = Bundle(bundle), wide.config.frames
    make = {"keyframes": rows.keyframe_row, "interpolation": rows.interpolation_row}[role]
    digest = source.hashes()["tokenizer.safetensors"]
    row = partial(make, size=source.vqvae().config.image_size, frames=size)
    shards.encode(row, 1, tmp_path / "data", vqvae=source.vqvae(), tokenizer_sha256=digest, quiet=True)
    options = {"load": tmp_path / "start", "save": tmp_path / "out", "train-data": tmp_path / "data"}
    options |= {"train-iters": STEPS, "batch-size": 1, "lr": RATE, "weight-decay": 0, "num-workers": 0, "split": 1}
    options |= {"model-parallel-size": ranks}
    printed = launch(ranks, "finetune", bundle, *(f"--{name}={value}" for name, value in options.items()))
    saved = Path(printed.split("saved ")[1].strip())
    assert saved.parent == tmp_path / "out"

    import_sat(saved, tmp_path / "back", role=role, codes=32, pad=32, start_of_image=432)
    back = Bundle(tmp_path / "back")
    for name, value in back.image_model().state_dict().items():
        assert torch.equal(value, wide.state_dict()[name]), f"{name} is frozen"
    before = {name: value.clone() for name, value in start.state_dict().items()}
    train_here(wide, start.requires_grad_(True), source, tmp_path / "data", role)
    width = wide.config.width
    for name, value in back.adapter(role).state_dict().items():
        found, wanted, old = (x.clone() for x in (value, start.state_dict()[name], before[name]))
        if name.endswith("qkv.bias"):  # a bias of all keys changes nothing: its gradient is rounding error
            found, wanted, old = (torch.cat([x[:width], x[2 * width :]]) for x in (found, wanted, old))
        assert not torch.equal(wanted, old), f"{name} should train"
        assert (found - wanted).abs().max() <= PARAMETERS, name


def test_without_sat_the_reason_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "sat", None)
    monkeypatch.delitem(sys.modules, "cogstyle.interop.sat_model", raising=False)
    with pytest.raises(
        BundleError, match=r"SAT as a host needs SwissArmyTransformer .*: pip install 'cogstyle\[sat\]'"
    ):
        importlib.import_module("cogstyle.interop.sat_model")
