"""Bundles: written whole, verified when read, adapters bound to their base."""

import shutil
import subprocess
import sys
from dataclasses import asdict

import pytest

from cogstyle.bundle import Bundle, update_bundle
from cogstyle.cli.main import main
from cogstyle.config import Prompts, SamplingConfig
from cogstyle.errors import BundleError, ConfigError, FileError
from cogstyle.files import read_tensors


@pytest.fixture
def copy(debug_bundle, tmp_path):
    return shutil.copytree(debug_bundle, tmp_path / "copy")


def test_everything_loads_and_is_frozen(debug_bundle):
    bundle = Bundle(debug_bundle)
    for module in (bundle.vqvae(), bundle.image_model(), bundle.adapter("keyframes"), bundle.adapter("interpolation")):
        assert not any(p.requires_grad for p in module.parameters()) and not module.training
    assert bundle.adapter("interpolation").window == bundle.model_config.window
    assert bundle.cluster_labels().shape == (bundle.model_config.codes,)


def test_loading_takes_no_compiler(debug_bundle):
    """Starting values that are never used would import torch's compiler, a second at every start."""
    code = "import sys; from cogstyle.bundle import Bundle; b = Bundle(sys.argv[1], packed='float32'); "
    code += "b.vqvae(), b.image_model(), b.adapter('keyframes'); print({'torch._dynamo', 'sympy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, str(debug_bundle)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_damaged_file_is_refused(copy):
    path = copy / "keyframes.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="is damaged: sha256 is"):
        Bundle(copy).adapter("keyframes")


def test_a_missing_file_is_named(copy):
    (copy / "image.safetensors").unlink()
    with pytest.raises(FileError, match=r"cannot read .*image\.safetensors"):
        Bundle(copy).image_model()


def test_an_adapter_refuses_another_base(copy):
    tensors, _ = read_tensors(copy / "image.safetensors")
    update_bundle(copy, {"image.safetensors": {k: v + 0.01 for k, v in tensors.items()}})
    with pytest.raises(BundleError, match="was trained on another image model"):
        Bundle(copy).adapter("keyframes")


def test_no_such_bundle(tmp_path):
    with pytest.raises(BundleError, match="no bundle 'nothing'"):
        Bundle("nothing")
    (tmp_path / "bundle.toml").write_text("not toml [")
    with pytest.raises(FileError, match="cannot read"):
        Bundle(tmp_path)


def test_unknown_keys_in_the_manifest_are_errors(copy):
    path = copy / "bundle.toml"
    path.write_text(path.read_text().replace("code_width", "code_wide"))
    with pytest.raises(ConfigError, match="unknown key code_wide"):
        Bundle(copy).vqvae()


def test_manifest_round_trip(tmp_path):
    update_bundle(tmp_path, {"x.bin": b"1"}, prompts=Prompts(image='a "quoted" \\ {prompt}'), frame_rate=2.0)
    update_bundle(tmp_path, {"y.bin": b"2"}, licence="Apache-2.0")
    update_bundle(tmp_path, {}, sampling={"image": {"top_k": 3}})
    update_bundle(tmp_path, {}, sampling={"keyframes": asdict(SamplingConfig(guidance=2.0))})
    bundle = Bundle(tmp_path)
    assert bundle.sampling("image").top_k == 3 and bundle.sampling("keyframes").guidance == 2.0
    assert bundle.prompts.image == 'a "quoted" \\ {prompt}'
    assert bundle.frame_rate == 2.0 and bundle.manifest["licence"] == "Apache-2.0"
    assert set(bundle.hashes()) == {"x.bin", "y.bin"}


@pytest.mark.parametrize("command", [["inspect"], ["sample", "a circle", "--out", "x.mp4", "--adapter"]])
def test_tokenizers_alone_are_said_to_have_no_image_model(command, debug_bundle, tmp_path, capsys):
    whole = Bundle(debug_bundle)
    tensors = read_tensors(whole.file("tokenizer.safetensors"))[0]
    update_bundle(tmp_path / "only", {"tokenizer.safetensors": tensors}, tokenizer=whole.tokenizer_config)
    only = Bundle(tmp_path / "only")
    assert only.frames == whole.frames and not only.has_model and only.vqvae().config == whole.tokenizer_config
    assert main([*command, str(only.folder)]) == 2
    said = capsys.readouterr().err
    assert "has no image model: it holds tokenizer.safetensors" in said and said.count("\n") == 1
