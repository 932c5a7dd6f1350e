"""Plain torch and every ZeRO stage, in one process and in two, train alike; frozen weights cost their own size only."""

import importlib.util
import json

import pytest
import torch

from cogstyle.devices import find_device
from cogstyle.errors import ConfigError
from cogstyle.files import read_tensors, write_tensors
from cogstyle.training import dry_run
from cogstyle.training.engine import EngineConfig, start
from cogstyle.training.export import export
from cogstyle.training.job import OptimConfig, Share, seed_step
from cogstyle.training.processes import Processes, join
from tests.training.tiny import OPTIM, VideoJob, fork_all, statuses

CPU = torch.device("cpu")
CASES = {
    "plain": EngineConfig(),
    "plain, accumulated": EngineConfig(accumulate=2),
    "plain bf16": EngineConfig(precision="bf16"),
    "plain fp16": EngineConfig(precision="fp16"),
    "zero 1": EngineConfig(zero=1),
    "zero 1 fp16": EngineConfig(zero=1, precision="fp16"),
    "zero 2": EngineConfig(zero=2, accumulate=2),
    "zero 2 bf16, offload": EngineConfig(zero=2, precision="bf16", offload="optimizer"),
    "zero 3": EngineConfig(zero=3),
    "zero 3, offload, layers again": EngineConfig(zero=3, offload="parameters", activation_checkpointing=True),
}
RESUMED = ("plain, accumulated", "zero 2", "zero 3")  # go on from what another engine has saved
EXACT, HALF = 2e-6, 2e-3  # largest difference of a loss of 3.5
SKIPPED = 1  # a step that is refused


def go(engine, steps):
    losses = []
    for step in steps:
        seed_step(0, step)
        losses.append(engine.backward(step)["loss"])
        engine.update(step, skip=step == SKIPPED)
    return losses


def held(job):
    """Bytes of weights, and of gradients of what is frozen, between two steps."""
    params = [p for module in (job.module, job.base) if module is not None for p in module.parameters()]
    weights = sum((p.ds_tensor if hasattr(p, "ds_tensor") else p).nbytes for p in params)
    frozen = [p for p in params if not p.requires_grad]
    return weights, sum(p.grad.nbytes for p in frozen if p.grad is not None)


def optimiser_bytes(engine):
    """Bytes of the float32 copies of the weights and of the optimiser's state."""
    if hasattr(engine, "ds"):
        shares, states = engine._shares(), engine.basic.state
        return sum(share.nbytes for share in shares), sum(v.nbytes for s in shares for v in states[s].values())
    copies = sum(exact.nbytes for _, exact, _ in engine.rounded)
    return copies, sum(v.nbytes for state in engine.optimizer.state.values() for v in state.values())


def two_processes(folder):
    """Each case from its start, then from what one plain process has saved."""
    import deepspeed

    deepspeed.get_accelerator().is_fp16_supported = lambda: True  # it says no on many a CPU that does it
    with join("cpu") as processes:
        for name, config in CASES.items():
            job = VideoJob()
            engine = start(config, job, OPTIM, processes, ema=0.9)
            figures = {"losses": go(engine, range(3)), "held": held(job), "optimiser": optimiser_bytes(engine)}
            figures["validation"] = engine.call(job.validate)["validation_loss"]
            state = engine.state()
            if name in RESUMED:
                again = start(config, VideoJob(), OPTIM, processes, ema=0.9)
                again.load(read_tensors(folder / "half.safetensors")[0])
                figures["resumed"] = go(again, [2])
            if processes.first:
                export(job, state)
                assert all(torch.equal(value, state[f"optim.{key}.ema"]) for key, value in job.exported.items()), name
                write_tensors(folder / f"{name}.safetensors", state)
                (folder / f"{name}.json").write_text(json.dumps(figures))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Losses, halfway state, final state and validation loss of one plain process in float32."""
    engine = start(EngineConfig(), VideoJob(), OPTIM, Processes(), ema=0.9)
    losses = go(engine, range(2))
    folder = tmp_path_factory.mktemp("two")
    write_tensors(folder / "half.safetensors", engine.state())
    losses += go(engine, [2])
    state = {name: value.clone() for name, value in engine.state().items()}
    return folder, losses, state, engine.call(engine.job.validate)["validation_loss"]


@pytest.fixture(scope="module")
def together(alone):
    assert statuses(fork_all(2, two_processes, alone[0])) == [0, 0]
    return alone[0]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one(name, alone, together):
    _, losses, state, validation = alone
    found, tensors = json.loads((together / f"{name}.json").read_text()), read_tensors(together / f"{name}.safetensors")
    half = CASES[name].precision != "auto"
    close = {"rel": 0.0, "abs": HALF if half else EXACT}
    assert found["losses"] == pytest.approx(losses, **close)
    assert found.get("resumed") == (pytest.approx(losses[2:], **close) if name in RESUMED else None)
    assert found["validation"] == pytest.approx(validation, **close)
    assert tensors[0].keys() - {"engine.scale"} == state.keys()
    for key, value in state.items():
        assert (tensors[0][key] - value).abs().max() < (0.05 if half else 2e-4), key


@pytest.mark.parametrize("name", ["plain", "zero 2", "zero 2 bf16, offload", "zero 3"])
def test_one_process_goes_on_from_two(name, alone, together):
    """What any engine saves, any other loads: here the next two steps, in plain torch."""
    engine = start(EngineConfig(), VideoJob(), OPTIM, Processes(), ema=0.9)
    engine.load({name: value.clone() for name, value in alone[2].items()})
    wanted = go(engine, range(3, 5))
    other = start(EngineConfig(), VideoJob(), OPTIM, Processes(), ema=0.9)
    other.load(read_tensors(together / f"{name}.safetensors")[0])
    assert go(other, range(3, 5)) == pytest.approx(wanted, rel=0.0, abs=HALF if "bf16" in name else 1e-5)


@pytest.mark.parametrize("name", CASES)
def test_frozen_weights_cost_their_own_size_only(name, together):
    """No gradient, no float32 copy and no optimiser state of them; what trains costs what the plan says."""
    found, job, config = json.loads((together / f"{name}.json").read_text()), VideoJob(), CASES[name]
    sizes = [sum(p.numel() for p in module.parameters()) for module in (job.module, job.base)]
    memory, host = dry_run.state_memory(*sizes, 2 * sizes[0], config, Processes(size=2), ema=True)
    memory |= host
    slack = 20_000  # pieces are padded, and ZeRO 3 keeps small ones whole; the frozen weights are 167,000 bytes
    assert found["held"][1] == 0
    assert found["optimiser"][1] == pytest.approx(memory["optimiser"] + memory["running mean"], abs=slack)
    assert found["optimiser"][0] == pytest.approx(memory["float32 copies"], abs=slack)
    if config.precision in ("bf16", "fp16") and not config.zero:  # between the steps what trains is float32
        memory["trained weights"] *= 2
    assert found["held"][0] == pytest.approx(memory["frozen weights"] + memory["trained weights"], abs=slack)


def test_what_trains_costs_more_than_what_is_frozen():
    found = []
    for whole in (False, True):
        job = VideoJob(whole)
        made = dry_run.estimate(job, OPTIM, EngineConfig(), Processes(), ema=False)
        engine = start(EngineConfig(), job, OPTIM, Processes())
        go(engine, [0])
        assert optimiser_bytes(engine)[1] == pytest.approx(made.memory["optimiser"], abs=1000)
        found.append(made)
    frozen, full = found
    assert frozen.trained + frozen.frozen == full.trained and full.frozen == 0 and frozen.tokens == full.tokens == 320
    assert sum(full.memory.values()) - sum(frozen.memory.values()) > 12 * frozen.frozen  # gradient and two moments


def test_activation_checkpointing_keeps_less():
    kept = [
        dry_run.estimate(VideoJob(), OPTIM, EngineConfig(activation_checkpointing=again), Processes(), ema=False)
        for again in (False, True)
    ]
    assert kept[1].memory["activations"] < 0.5 * kept[0].memory["activations"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"zero": 4}, "zero 4 must be 0, 1, 2 or 3"),
        ({"offload": "disk"}, "offload 'disk' must be one of"),
        ({"offload": "optimizer"}, "offload 'optimizer' has no effect with zero 0: it needs 1"),
        ({"zero": 2, "offload": "parameters"}, "no effect with zero 2: it needs 3"),
        ({"precision": "int8"}, "precision 'int8' must be one of"),
        ({"accumulate": 0}, "accumulate 0 must be 1 or more"),
        ({"device": "tpu"}, "device 'tpu' must be one of"),
        ({"accumulate": 3}, "batch 4 does not divide among 2 processes x accumulate 3"),
        ({"zero": 1, "precision": "fp16"}, "precision 'fp16' with zero 1 needs a GPU"),
    ],
)
def test_settings_that_cannot_be(table, message):
    with pytest.raises(ConfigError, match=message):
        EngineConfig(**table).check(OPTIM, 2, CPU)


def test_muon_needs_whole_matrices():
    with pytest.raises(ConfigError, match="optimizer 'muon' needs whole matrices"):
        EngineConfig(zero=2).check(OptimConfig(steps=9, batch=4, warmup=0, optimizer="muon"), 1, CPU)


def test_a_missing_deepspeed_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"zero 2 needs DeepSpeed: pip install 'cogstyle\[train\]'"):
        EngineConfig(zero=2).check(OPTIM, 1, CPU)


def test_a_missing_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ConfigError, match="process 1 of this machine has no GPU: there are 0"):
        find_device("cuda")


def test_shares_are_parts_of_one_batch():
    rows = list(range(12))
    assert [Share(k, 3).of(rows) for k in range(3)] == [rows[:4], rows[4:8], rows[8:]]
    with pytest.raises(ConfigError, match="a batch of 12 does not divide into 5 parts"):
        Share(0, 5).of(rows)
