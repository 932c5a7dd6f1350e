"""SAT folders into bundles and back: one base, roles checked, nothing left behind by a failure."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from cogstyle.adapter import adapter_from_image
from cogstyle.bundle import Bundle, update_bundle
from cogstyle.config import SuperResConfig
from cogstyle.errors import BundleError, ConfigError, FileError
from cogstyle.files import SCRATCH, read_tensors
from cogstyle.interop import sat_bundle, sat_checkpoint
from cogstyle.interop.sat_bundle import export_sat, import_sat, role_of
from cogstyle.model.superres import SuperResolution
from cogstyle.training.transformer import fresh_transformer
from tests.conftest import disturb
from tests.interop.sat_folder import write

IDS = {"codes": 32, "pad": 32, "start_of_image": 432, "text_positions": 48}


@pytest.fixture
def folders(model, adapters, tmp_path):
    for role, adapter in adapters.items():
        write(tmp_path / role, model, adapter, dtype=torch.float16)
    return tmp_path


def test_two_checkpoints_share_one_base(folders, model, adapters):
    target = folders / "bundle"
    assert import_sat(folders / "keyframes", target, **IDS) == ["image.safetensors", "keyframes.safetensors"]
    assert import_sat(folders / "interpolation", target, role="interpolation", **IDS) == ["interpolation.safetensors"]
    bundle = Bundle(target)
    assert bundle.model_config == model.config and bundle.frame_rate == 1.0
    assert bundle.sampling("keyframes").guidance == 3.0 and "高清摄影" in bundle.prompts.image
    assert read_tensors(target / "image.safetensors")[0]["embed.weight"].dtype == torch.float16
    for role, adapter in adapters.items():
        for name, value in bundle.adapter(role).state_dict().items():
            assert torch.equal(value, adapter.state_dict()[name].half().float()), name


@pytest.mark.parametrize("ranks", [1, 2])
def test_import_export_import_is_the_identity(folders, model, adapters, ranks):
    write(folders / "source", model, adapters["interpolation"], ranks=ranks)
    import_sat(folders / "source", folders / "one", **IDS)
    export_sat(Bundle(folders / "one"), folders / "again", role="interpolation")
    import_sat(folders / "again", folders / "two", **IDS)
    assert Bundle(folders / "one").hashes() == Bundle(folders / "two").hashes()
    first, second = (sat_checkpoint.read_checkpoint(folders / name) for name in ("source", "again"))
    assert first.weights.keys() == second.weights.keys()
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
    assert {k: second.config[k] for k in first.config if k != "model_parallel_size"} == {
        k: v for k, v in first.config.items() if k != "model_parallel_size"
    }


@pytest.mark.parametrize("first", [(), ("keyframes",)])
def test_an_interpolation_without_windows_stays_one(folders, first):
    import_sat(folders / "interpolation", folders / "one", **IDS)
    manifest = folders / "one" / "bundle.toml"
    manifest.write_text(manifest.read_text().replace("\nwindow = 2\n", "\nwindow = 0\n"))
    export_sat(Bundle(folders / "one"), folders / "full", role="interpolation")
    for name in (*first, "full"):
        import_sat(folders / name, folders / "two", **IDS)
    assert Bundle(folders / "two").adapter("interpolation").windows == [None, None]


def test_super_resolution_keeps_its_own_text_span(model, tmp_path, folders):
    torch.manual_seed(3)
    upscaler = SuperResolution(replace(model.config, positions=80), factor=3, coarse_offset=1)
    base = fresh_transformer(replace(model.config, positions=80))
    disturb(base)
    weights = {sat_checkpoint.sat_name("base", k): v for k, v in base.state_dict().items()}
    weights |= {sat_checkpoint.sat_name("adapter", k): v for k, v in upscaler.state_dict().items()}
    (tmp_path / "dsr" / "1").mkdir(parents=True)
    (tmp_path / "dsr" / "latest").write_text("1")
    superres = SuperResConfig(text_span=40, coarse_offset=1)
    described = sat_checkpoint.describe(base.config, "superres", superres)
    (tmp_path / "dsr" / "model_config.json").write_text(json.dumps(described))
    torch.save({"module": weights}, tmp_path / "dsr" / "1" / "mp_rank_00_model_states.pt")
    import_sat(tmp_path / "dsr", tmp_path / "bundle", role="superres", **IDS)
    bundle = Bundle(tmp_path / "bundle")
    assert (bundle.superres_config.text_span, bundle.superres_config.coarse_offset) == (40, 1)
    for name, value in bundle.superres().state_dict().items():
        assert torch.equal(value, upscaler.state_dict()[name])
    export_sat(bundle, tmp_path / "again", role="superres")
    assert json.loads((tmp_path / "again" / "model_config.json").read_text()) == described
    with pytest.raises(BundleError, match=r"positions 64 \(bundle: 80\)"):
        import_sat(folders / "keyframes", tmp_path / "bundle", **IDS)


def test_another_base_is_refused_by_name(folders, model, adapters):
    import_sat(folders / "keyframes", folders / "bundle", **IDS)
    before = Bundle(folders / "bundle").hashes()
    other = fresh_transformer(model.config)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.layers[1].up.bias += 1.0
    write(folders / "other", other, adapters["interpolation"], dtype=torch.float16)
    with pytest.raises(
        BundleError, match=r"1 of 36 weights differ \(layers\.1\.up\.bias\); import it into a bundle of"
    ):
        import_sat(folders / "other", folders / "bundle", **IDS)
    assert Bundle(folders / "bundle").hashes() == before and not (folders / "bundle/interpolation.safetensors").exists()


def test_wrong_roles_shapes_and_ids(folders, model, adapters):
    target = folders / "bundle"
    with pytest.raises(BundleError, match="holds the keyframes model, not interpolation"):
        import_sat(folders / "keyframes", target, role="interpolation", **IDS)
    with pytest.raises(ConfigError, match="start_of_image 433"):
        import_sat(folders / "keyframes", target, **{**IDS, "start_of_image": 433})
    adapter = adapter_from_image(model)
    adapter.layers[0].gate = torch.nn.Parameter(torch.zeros(31))
    write(folders / "odd", model, adapter)
    with pytest.raises(BundleError, match=r"keyframes: layers\.0\.gate is \(31,\), its config says \(32,\)"):
        import_sat(folders / "odd", target, **IDS)
    config = folders / "keyframes" / "model_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_layers": 3}))
    with pytest.raises(BundleError, match=r"image model: 16 weights too few or too many: layers\.2"):
        import_sat(folders / "keyframes", target, **IDS)
    config.write_text(json.dumps({"num_layers": 2}))
    with pytest.raises(BundleError, match="does not say its sizes"):
        import_sat(folders / "keyframes", target, **IDS)
    assert not target.exists()


def test_a_full_disk_leaves_nothing(folders, monkeypatch):
    import_sat(folders / "interpolation", folders / "whole", **IDS)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cogstyle.files.os.replace", full_disk)
    with pytest.raises(FileError, match="No space left"):
        import_sat(folders / "keyframes", folders / "bundle", **IDS)
    monkeypatch.setattr("cogstyle.files.os.rename", full_disk)
    with pytest.raises(FileError, match="No space left"):
        export_sat(Bundle(folders / "whole"), folders / "out", role="interpolation")
    assert sorted(path.name for path in folders.iterdir()) == ["interpolation", "keyframes", "whole"]


def test_exports_are_refused(folders, debug_bundle):
    with pytest.raises(FileError, match="exists; name a new folder"):
        export_sat(Bundle(debug_bundle), folders)
    bare = Bundle(debug_bundle)
    del bare.manifest["files"]["superres.safetensors"]
    with pytest.raises(BundleError, match=r"has no superres\.safetensors"):
        export_sat(bare, folders / "new", role="superres")
    with pytest.raises(BundleError, match="2 heads and 433 ids cannot be split evenly for 2 ranks"):
        export_sat(Bundle(debug_bundle), folders / "new", ranks=2)
    with pytest.raises(BundleError, match="unknown role 'image'"):
        export_sat(Bundle(debug_bundle), folders / "new", role="image")


def test_a_checkpoint_without_a_second_channel():
    with pytest.raises(BundleError, match=r"has no mixins\.attention_plus"):
        role_of(sat_checkpoint.SatCheckpoint({}, {}))


@pytest.mark.parametrize("dtypes", [(torch.float16, torch.float32), (torch.float32, torch.float16)])
def test_a_finetune_in_another_dtype_stands_on_the_same_base(model, adapters, tmp_path, dtypes):
    """SAT saves a finetune in half precision; equal numbers are equal, whatever holds them."""
    rounded = fresh_transformer(model.config)
    rounded.load_state_dict({name: value.half().float() for name, value in model.state_dict().items()})
    for role, dtype in zip(adapters, dtypes, strict=True):
        write(tmp_path / role, rounded, adapters[role], dtype=dtype)
        import_sat(tmp_path / role, tmp_path / "bundle", **IDS)
    bundle = Bundle(tmp_path / "bundle")
    assert set(bundle.hashes()) == {"image.safetensors", "keyframes.safetensors", "interpolation.safetensors"}
    assert {value.dtype for value in read_tensors(bundle.file("image.safetensors"))[0].values()} == {dtypes[0]}


@pytest.mark.parametrize("size", [0, 1, sat_bundle.BLOCK + 3])
def test_values_are_compared_in_blocks(size):
    ours = torch.zeros(size, dtype=torch.float16)
    assert sat_bundle.equal_values(ours, ours.bfloat16()) and not sat_bundle.equal_values(ours, ours[None])
    if size:
        other = ours.float()
        other[-1] = 1e-9  # half precision has no such number
        assert not sat_bundle.equal_values(ours, other)


def test_tokenizers_may_come_before_or_after_the_image_model(folders, debug_bundle):
    """Whatever the order, the image model is bound to them, and another one is refused."""
    tokenizer = {"tokenizer.safetensors": read_tensors(debug_bundle / "tokenizer.safetensors")[0]}
    for name, steps in (("before", "ti"), ("after", "it")):
        for step in steps:
            if step == "i":
                import_sat(folders / "keyframes", folders / name, **IDS)
            else:
                update_bundle(folders / name, tokenizer, half=False)
        bundle = Bundle(folders / name)
        marks = bundle.manifest["stands_on"]["image.safetensors"]
        assert marks == {"tokenizer.safetensors": bundle.hashes()["tokenizer.safetensors"]}
        with pytest.raises(BundleError, match=r"image\.safetensors of .* stand on its tokenizer\.safetensors"):
            update_bundle(folders / name, {"tokenizer.safetensors": {"other": torch.ones(1)}})


@pytest.mark.slow
def test_two_imports_at_once(folders, tmp_path):
    """Neither loses what the other brought."""
    code = (
        "import sys; from pathlib import Path; from cogstyle.interop.sat_bundle import import_sat\n"
        f"import_sat(Path(sys.argv[1]), Path(sys.argv[2]), **{IDS!r})"
    )
    target = tmp_path / "bundle"
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(folders / role), str(target)])
        for role in ("keyframes", "interpolation")
    ]
    assert [run.wait() for run in runs] == [0, 0]
    bundle = Bundle(target)
    assert bundle.adapter("keyframes") and bundle.adapter("interpolation").window == 2


def test_an_export_touches_no_folder_of_the_user_and_clears_what_a_killed_one_left(debug_bundle, tmp_path):
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "mine").write_text("kept")
    (tmp_path / f".out.0{SCRATCH}" / "1").mkdir(parents=True)
    export_sat(Bundle(debug_bundle), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.part"]
    assert (tmp_path / "out.part" / "mine").read_text() == "kept"
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "out.part").stat().st_mode
    assert sat_checkpoint.read_checkpoint(tmp_path / "out").weights
