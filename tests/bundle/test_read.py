"""Bundles are verified when read: one chain of files that stand on each other."""

import subprocess
import sys
import tomllib

import pytest
import tomli_w
import torch

from cogstyle.bundle import SHELVES, Bundle, check_replaced, open_bundle, share_files, update_bundle
from cogstyle.bundle.manifest import FORMAT
from cogstyle.cli.main import main
from cogstyle.errors import BundleError, CogstyleError, ConfigError, FileError
from cogstyle.files import read_tensors, sha256, write_tensors
from tests.bundle.changed import moved

IMAGE, KEYFRAMES, TOKENIZER = "image.safetensors", "keyframes.safetensors", "tokenizer.safetensors"


def edit(folder, change):
    """Change the manifest of a bundle by hand."""
    path = folder / "bundle.toml"
    manifest = tomllib.loads(path.read_text())
    change(manifest)
    path.write_text(tomli_w.dumps(manifest))


def test_everything_loads_and_is_frozen(debug_bundle):
    bundle = Bundle(debug_bundle)
    for module in (bundle.vqvae(), bundle.image_model(), bundle.adapter("keyframes"), bundle.adapter("interpolation")):
        assert not any(p.requires_grad for p in module.parameters()) and not module.training
    assert bundle.adapter("interpolation").window == bundle.model_config.window
    assert bundle.cluster_labels().shape == (bundle.model_config.codes,)


@pytest.mark.slow
def test_loading_takes_no_compiler(debug_bundle):
    """Starting values that are never used would import torch's compiler, a second at every start."""
    code = "import sys; from cogstyle.bundle import Bundle; b = Bundle(sys.argv[1], packed='float32'); "
    code += "b.vqvae(), b.image_model(), b.adapter('keyframes'); print({'torch._dynamo', 'sympy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, str(debug_bundle)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_damaged_file_is_refused(copy):
    path = copy / KEYFRAMES
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="is damaged: sha256 is"):
        Bundle(copy).adapter("keyframes")


def test_a_missing_file_is_named(copy):
    (copy / IMAGE).unlink()
    with pytest.raises(FileError, match=r"cannot read .*image\.safetensors"):
        Bundle(copy).image_model()


def test_an_adapter_refuses_another_base(copy):
    tensors = moved(copy, IMAGE)
    with pytest.raises(BundleError, match=r"keyframes\.safetensors, .* stand on its image\.safetensors"):
        update_bundle(copy, {IMAGE: tensors})
    write_tensors(copy / IMAGE, tensors)
    edit(copy, lambda manifest: manifest["files"].update({IMAGE: sha256(copy / IMAGE)}))
    with pytest.raises(BundleError, match="was trained on another image model"):
        Bundle(copy).adapter("keyframes")


@pytest.mark.parametrize("name", [TOKENIZER, "text.model"])
def test_the_image_model_is_bound_to_its_tokenizers(copy, name):
    """Tokens or ids of another tokenizer would be sampled into garbage without a word."""
    content = moved(copy, name) if name == TOKENIZER else (copy / name).read_bytes() + b"\x00"
    with pytest.raises(BundleError, match=rf"image\.safetensors of .* stand on its {name}"):
        update_bundle(copy, {name: content})
    with pytest.raises(BundleError, match=r"name a new folder"):
        check_replaced(copy, [name])
    assert Bundle(copy).image_model() is not None
    edit(copy, lambda manifest: manifest["files"].update({name: "0" * 64}))
    with pytest.raises(BundleError, match=rf"image\.safetensors was trained on another {name} \(sha256 .* \(0000"):
        Bundle(copy).image_model()


def test_a_decoder_may_learn_under_an_image_model(copy):
    update_bundle(copy, {TOKENIZER: moved(copy, TOKENIZER)}, same_codes=True)
    bundle = Bundle(copy)
    assert bundle.image_model() and bundle.manifest["stands_on"][IMAGE][TOKENIZER] == bundle.hashes()[TOKENIZER]


def test_bundles_of_format_0_are_read_and_the_shipped_one_is_bound(copy):
    def older(manifest):
        del manifest["format"], manifest["stands_on"]

    edit(copy, older)
    assert Bundle(copy).image_model() and Bundle(copy).manifest["format"] == FORMAT
    with pytest.raises(BundleError, match="stand on its text"):
        update_bundle(copy, {"text.model": b"another"})
    edit(copy, lambda manifest: manifest.update(format=FORMAT + 1))
    with pytest.raises(BundleError, match="format 2 is above 1; a newer cogstyle may read it"):
        Bundle(copy)
    shipped = tomllib.loads((SHELVES[0] / "shapes" / "bundle.toml").read_text())
    assert shipped["stands_on"][IMAGE] == {name: shipped["files"][name] for name in (TOKENIZER, "text.model")}


def test_adapters_of_two_bundles_on_one_base(debug_bundle, copy, tmp_path):
    update_bundle(copy, {KEYFRAMES: moved(copy, KEYFRAMES)}, sampling={"keyframes": {"guidance": 7.0}}, frame_rate=4.0)
    mixed = open_bundle([f"keyframes={copy}", f"interpolation={debug_bundle}"])
    first, second = Bundle(copy), Bundle(debug_bundle)
    assert mixed.hashes() == {**first.hashes(), **second.hashes(), KEYFRAMES: first.hashes()[KEYFRAMES]}
    assert mixed.sampling("keyframes").guidance == 7.0 and mixed.frame_rate == 4.0
    turned = open_bundle([debug_bundle, f"keyframes={copy}"], dtype=torch.bfloat16)
    assert turned.folder == debug_bundle and turned.sampling("keyframes").guidance == 7.0 and turned.frame_rate == 4.0
    ours = turned.adapter("keyframes").state_dict()
    for key, value in Bundle(copy, dtype=torch.bfloat16).adapter("keyframes").state_dict().items():
        assert torch.equal(ours[key], value)
    assert open_bundle([debug_bundle]).name == "bundle"
    for names, message in (
        ([], "no bundle is named"),
        ([debug_bundle, copy], "two whole bundles"),
        ([f"keyframes={copy}", f"keyframes={debug_bundle}"], "keyframes are named twice"),
        (["image=x"], "no bundle 'image=x'"),
        ([debug_bundle, "keyframes=nowhere"], "no bundle 'nowhere'"),
        ([debug_bundle, "superres=shapes"], r"another image\.safetensors"),
    ):
        with pytest.raises(CogstyleError, match=message):
            open_bundle(names)


def test_no_such_bundle(tmp_path):
    for name in ("nothing", "", "x" * 300, "a\0b", "a=b"):
        with pytest.raises(BundleError, match="no bundle "):
            Bundle(name)
    (tmp_path / "bundle.toml").write_text("not toml [")
    with pytest.raises(FileError, match="cannot read"):
        Bundle(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "name = 3", "licence = 3", "frame_rate = 'x'", "frame_rate = nan", "frame_rate = true", "frame_rate = -1",
        "files = 3", "files = {a = 3}", "files = {'../a' = '" + "0" * 64 + "'}", "sampling = [1]",
        "sampling = {image = 3}", "model = 'x'", "stands_on = 1", "stands_on = {a = {b = 1}}", "format = '1'",
        "a = " + "[" * 5000,
    ],
)  # fmt: skip
def test_wrong_types_in_a_manifest_are_one_line(tmp_path, line):
    (tmp_path / "bundle.toml").write_text(line)
    with pytest.raises(CogstyleError, match=r"bundle\.toml"):
        Bundle(tmp_path)


@pytest.mark.parametrize("key", ["name", "files", "model", "tokenizer", "sampling", "prompts", "stands_on", "licence"])
def test_a_key_that_is_missing(copy, key):
    """What needs it says so, and everything else works."""
    edit(copy, lambda manifest: manifest.pop(key, None))
    bundle = Bundle(copy)
    assert bundle.name == ("copy" if key == "name" else "bundle")
    for use in (bundle.vqvae, bundle.image_model, bundle.text, lambda: bundle.hashes()[TOKENIZER]):
        try:
            use()
        except CogstyleError as error:
            assert key in ("files", "model", "tokenizer"), error


def test_unknown_keys_in_the_manifest_are_errors(copy):
    path = copy / "bundle.toml"
    path.write_text(path.read_text().replace("code_width", "code_wide"))
    with pytest.raises(ConfigError, match="code_wide"):
        Bundle(copy).vqvae()


def test_a_bundle_on_shared_files_says_nothing_of_words_and_rates_of_others(tmp_path):
    share_files(Bundle("shapes"), tmp_path / "own", ["image.safetensors", "text.model"])
    own, shapes = Bundle(tmp_path / "own"), Bundle("shapes")
    assert own.words.unknown("a dog") == [] and shapes.words.unknown("a dog") == ["dog"]
    assert own.trained_rates("keyframes") == () and shapes.trained_rates("keyframes") == (1, 2, 4, 8)
    assert own.text().image_text("red circle") == shapes.text().image_text("red circle")  # as training saw it


def test_tokenizers_alone_are_said_to_have_no_image_model(debug_bundle, tmp_path, capsys):
    whole = Bundle(debug_bundle)
    tensors = read_tensors(whole.file("tokenizer.safetensors"))[0]
    update_bundle(tmp_path / "only", {"tokenizer.safetensors": tensors}, tokenizer=whole.tokenizer_config)
    only = Bundle(tmp_path / "only")
    assert only.frames == whole.frames and not only.has_model and only.vqvae().config == whole.tokenizer_config
    assert main(["inspect", str(only.folder)]) == 0
    said = capsys.readouterr().out
    assert "no image model; it holds tokenizer.safetensors" in said and "32 x 32 px, 4 x 4 of 32 codes" in said
    assert main(["sample", "a circle", "--out", str(tmp_path / "x.mp4"), "--bundle", str(only.folder)]) == 2
    said = capsys.readouterr().err
    assert "has no image model: it holds tokenizer.safetensors" in said and said.count("\n") == 1
