"""Bundles on the hub: the real huggingface_hub against a small server; each command in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cogstyle.cli.main import main
from tests.hub_server import TOKEN, running_hub

pytest.importorskip("huggingface_hub")
pytestmark = pytest.mark.slow
PYTHON = "import cogstyle, sys; [print(cogstyle.load(name).bundle.name) for name in sys.argv[1:]]"
FAIL = """
import json, sys
from cogstyle.cli.main import main
print(json.dumps([main(argv) for argv in json.loads(sys.argv[1])]))
"""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub, and what runs a command that knows no other: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    with running_hub() as server:
        environment = clean | {
            "HF_ENDPOINT": server.address,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_TOKEN": TOKEN,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "HF_HUB_DISABLE_XET": "1",  # the small hub speaks LFS
            "NO_PROXY": "127.0.0.1",
        }

        def run(*argv: str, python: str | None = None, **changed: str) -> tuple[int, str, str]:
            program = ["-c", python] if python else ["-m", "cogstyle.cli.main"]
            command = [sys.executable, *program, *argv]
            done = subprocess.run(
                command, env=environment | changed, capture_output=True, text=True, timeout=120, cwd=tmp_path
            )
            return done.returncode, done.stdout, done.stderr

        def fail(*commands: list[str], **changed: str) -> list[str]:
            """What commands say that fail, one after the other in one process."""
            status, told, error = run(json.dumps(commands), python=FAIL, **changed)
            assert status == 0 and json.loads(told) == [2] * len(commands), error
            return error.splitlines()

        server.fail = fail
        server.run = run
        yield server


def sha(path: Path) -> str:
    info = json.loads(path.with_name(path.name + ".json").read_text())
    return json.dumps([info["files"], info["options"], info["frames"]])


def test_there_and_back(hub, debug_bundle, tmp_path):
    """Pushed with a card, sampled by name, cached, pinned to a revision, checked, and clear without a network."""
    bundle = Path(shutil.copytree(debug_bundle, tmp_path / "bundle"))
    status, told, error = hub.run("push", "bundle", "me/videos")
    assert status == 0 and told.startswith(f"{hub.address}/me/videos/commit/"), error
    first = told.strip().rpartition("/")[2]
    files = hub.commits[first]
    manifest = (bundle / "bundle.toml").read_bytes()
    weights = {name for name in files if name.endswith((".safetensors", ".model"))}
    assert files["bundle.toml"] == manifest and len(weights) == 7 and hub.large  # large ones go the way of LFS
    card = files["README.md"].decode()
    head = card.split("---")[1]
    for line in ("license: apache-2.0", "pipeline_tag: text-to-video", "library_name: cogstyle"):
        assert f"\n{line}\n" in head
    assert "--bundle me/videos" in card

    sample = ["sample", "a red circle", "--levels", "0", "--quiet", "--bundle"]
    status, _, error = hub.run(*sample, "me/videos", "--out", "hub.webp")
    assert status == 0, error
    assert main([*sample, "bundle", "--out", "local.webp"]) == 0
    assert sha(Path("hub.webp")) == sha(Path("local.webp"))
    assert Path("hub.webp").read_bytes() == Path("local.webp").read_bytes()

    (bundle / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    (bundle / "bundle.toml").write_bytes(manifest.replace(b'name = "', b'name = "second '))
    assert hub.run("push", "bundle", "me/videos")[0] == 0
    head = hub.commits[hub.revisions["me/videos"]["main"]]["README.md"].decode().split("---")[1]
    assert "license: mit" in head and "license: apache" not in head and "library_name: cogstyle" in head
    status, told, _ = hub.run("me/videos", f"me/videos@{first}", python=PYTHON)
    new, old = told.splitlines()
    assert status == 0 and new == f"second {old}"
    assert hub.run(*sample, "me/videos@v9", "--out", "x.webp")[2] == (
        "cogstyle: cannot get 'me/videos@v9' from the hub: there is no such revision\n"
    )

    asked = len(hub.asked)
    offline = {"HF_HUB_OFFLINE": "1"}
    assert hub.run("me/videos", python=PYTHON, **offline)[1].startswith("second ") and len(hub.asked) == asked
    cached = next((tmp_path / "cache").rglob(f"{first}/tokenizer.safetensors")).resolve()
    cached.write_bytes(cached.read_bytes()[:-1] + b"?")
    status, _, error = hub.run(*sample, f"me/videos@{first}", "--out", "x.webp")
    assert status == 2 and "tokenizer.safetensors is damaged" in error and error.count("\n") == 1


def test_what_the_hub_does_not_give_is_one_line(hub, debug_bundle, tmp_path):
    hub.commit("me/other", "main", {"model.bin": b"0", "README.md": b"# Other"})
    (tmp_path / "bundles").mkdir()
    damaged = Path(shutil.copytree(debug_bundle, tmp_path / "damaged"))
    weights = next(damaged.glob("image*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    push, nowhere = ["push", str(debug_bundle)], {"HF_ENDPOINT": "http://127.0.0.1:9"}
    cases = [
        (["inspect", "me/none"], "no such repository"),
        (["inspect", "me/other"], "is no bundle: it has no bundle.toml"),
        (["inspect", "bundles/none"], "no bundle 'bundles/none': looked for"),  # a folder of mine, not of the hub
        ([*push, "me"], "must be user/repo"),
        (["push", "damaged", "me/new"], "damaged"),
    ]
    said = hub.fail(*(argv for argv, _ in cases))
    said += hub.fail(["inspect", "me/none"], HF_HUB_OFFLINE="1")
    said += hub.fail(["inspect", "me/none"], [*push, "me/new"], **nowhere)
    said += hub.fail([*push, "me/new"], HF_TOKEN="hf_wrong")
    wanted = [*(words for _, words in cases), "offline?", "offline?", "offline?", "token"]
    assert len(said) == len(wanted), said
    for line, words in zip(said, wanted, strict=True):
        assert line.startswith("cogstyle: ") and words in line, line
    assert "me/new" not in hub.revisions and not [asked for asked in hub.asked if "bundles" in asked]
    assert not list((tmp_path / "cache").rglob("model.bin"))  # nothing but a bundle's files is taken
