"""Bundles are written whole or not at all, whatever happens meanwhile."""

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict

import pytest
import torch

from cogstyle.bundle import Bundle, update_bundle, writing
from cogstyle.bundle.manifest import hashed_name
from cogstyle.config import Prompts, SamplingConfig
from cogstyle.errors import BundleError, ConfigError, FileError
from cogstyle.files import read_tensors
from tests.bundle.changed import moved

IMAGE, KEYFRAMES = "image.safetensors", "keyframes.safetensors"


def test_new_files_lie_beside_the_old_ones_until_the_manifest_names_them(copy):
    before, tensors = Bundle(copy), moved(copy, KEYFRAMES)
    update_bundle(copy, {KEYFRAMES: tensors})
    after = Bundle(copy)
    digest = after.hashes()[KEYFRAMES]
    assert after.path(KEYFRAMES).name == hashed_name(KEYFRAMES, digest) and not (copy / KEYFRAMES).exists()
    (copy / hashed_name(KEYFRAMES, "a" * 64)).write_bytes(b"left by a killed writer")
    (copy / "keyframes-mine.safetensors").write_bytes(b"the user's own")
    update_bundle(copy, {KEYFRAMES: {key: value + 0.01 for key, value in tensors.items()}})
    update_bundle(copy, {KEYFRAMES: tensors})
    assert Bundle(copy).hashes() == after.hashes() and after.adapter("keyframes")
    names = {after.path(name).name for name in after.hashes()} | {"bundle.toml", "keyframes-mine.safetensors"}
    assert set(os.listdir(copy)) == names
    assert set(before.hashes()) == set(after.hashes())


# Forks writers that count what changes a folder and die at every number in turn, as a kill there would.
KILLED = """
import os, shutil, sys
from pathlib import Path
import torch
from cogstyle.bundle import Bundle, share_files, update_bundle
from cogstyle.files import read_tensors
IMAGE, KEYFRAMES = "image.safetensors", "keyframes.safetensors"
folder = Path(sys.argv[1], "b")

def write(number, limit):
    left = [limit]
    def dying(call):
        def wrapper(*args, **options):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            return call(*args, **options)
        return wrapper
    for name in ("replace", "fsync", "unlink", "link", "mkdir"):
        setattr(os, name, dying(getattr(os, name)))
    tensors = {"a": torch.full((5,), float(number))}
    update_bundle(folder, {IMAGE: tensors, KEYFRAMES: tensors, "x.bin": str(number).encode()})
    share_files(Bundle(folder), folder.with_name("shared"), ["x.bin", IMAGE])

write_all = os.fork()
if not write_all:
    write(0, 10**6)
    os._exit(0)
os.waitpid(write_all, 0)
shutil.rmtree(folder.with_name("shared"))
for limit in range(200):
    child = os.fork()
    if not child:
        write(limit + 1, limit)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    bundle = Bundle(folder)
    assert set(bundle.hashes()) == {IMAGE, KEYFRAMES, "x.bin"}
    version = int(bundle.file("x.bin").read_bytes())
    assert read_tensors(bundle.file(IMAGE))[0]["a"][0] == version
    assert read_tensors(bundle.file(KEYFRAMES))[1]["base_sha256"] == bundle.hashes()[IMAGE]
    shared = folder.with_name("shared")
    if (shared / "bundle.toml").exists():
        assert [Bundle(shared).file(name) for name in ("x.bin", IMAGE)]
    print("new" if version == limit + 1 else "old", status)
    shutil.rmtree(shared, ignore_errors=True)
    if status == 0:
        break
assert len(os.listdir(folder)) == 4, os.listdir(folder)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_bundle(tmp_path):
    """Every file is whole and of one version; the next writer clears away what the killed one left."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "old 9" and "new 9" in lines and lines[-1] == "new 0" and len(lines) > 20


@pytest.mark.slow
def test_two_writers_take_turns(tmp_path, monkeypatch):
    """Both of them find all they wrote; one that would wait too long is refused in one line."""
    code = (
        "import sys, torch; from pathlib import Path; from cogstyle.bundle import update_bundle\n"
        "for n in range(5): update_bundle(Path(sys.argv[1]), {sys.argv[2]: bytes([n])})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "b"), f"{name}.bin"]) for name in "pq"]
    assert [writer.wait() for writer in writers] == [0, 0]
    bundle = Bundle(tmp_path / "b")
    assert [bundle.file(f"{name}.bin").read_bytes() for name in "pq"] == [b"\4", b"\4"]
    monkeypatch.setattr("cogstyle.bundle.write.WAIT", 0.0)
    code = "import sys; from cogstyle.bundle import writing; from pathlib import Path\n"
    code += "with writing(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "b")], **pipes) as other:
        other.stdout.readline()
        with pytest.raises(FileError, match="another process is writing"):
            update_bundle(tmp_path / "b", {"p.bin": b"5"})
        other.kill()
    with writing(tmp_path / "b"):
        update_bundle(tmp_path / "b", {"p.bin": b"5"})  # nests


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_at_any_moment_leaves_the_old_or_the_new_bundle(tmp_path, monkeypatch, trouble):
    """Calls that change the disk fail one after the other, and once more behind each; what stands is whole."""
    folder, seen = tmp_path / "b", set()
    for name in ("replace", "fsync", "open", "unlink"):
        for limit in range(40):
            number = hash((name, limit))
            tensors = {"a": torch.full((5,), float(number % 1000))}
            left, call = [limit], getattr(os, name)

            def failing(*args, left=left, call=call, **options):
                left[0] -= 1
                if left[0] == -1:
                    raise trouble
                return call(*args, **options)

            with monkeypatch.context() as patch:
                patch.setattr(os, name, failing)
                with suppress(FileError, KeyboardInterrupt):
                    update_bundle(folder, {IMAGE: tensors, KEYFRAMES: tensors, "x.bin": str(number).encode()})
            if not folder.exists():
                continue
            bundle = Bundle(folder)
            assert {bundle.file(name) for name in (IMAGE, KEYFRAMES, "x.bin")}
            assert read_tensors(bundle.file(KEYFRAMES))[1]["base_sha256"] == bundle.hashes()[IMAGE]
            seen.add(int(bundle.file("x.bin").read_bytes()) == number)
            if left[0] >= 0:
                break
    update_bundle(folder, {"x.bin": b"last"})
    assert seen == {True, False} and len(os.listdir(folder)) == 4


def test_a_failure_leaves_the_bundle_as_it_was(copy, monkeypatch):
    before, listed = (copy / "bundle.toml").read_bytes(), sorted(os.listdir(copy))

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cogstyle.bundle.manifest.write_bytes", full_disk)
    with pytest.raises(BundleError, match="No space left"):
        update_bundle(copy, {KEYFRAMES: moved(copy, KEYFRAMES)})
    assert (copy / "bundle.toml").read_bytes() == before and sorted(os.listdir(copy)) == listed
    with pytest.raises(BundleError, match=r"has no image\.safetensors that keyframes"):
        update_bundle(copy.parent / "new", {KEYFRAMES: {"a": torch.ones(1)}})
    assert not (copy.parent / "new").exists()


@pytest.mark.parametrize("licence", ["Apache-2.0", "MIT\r\n", 'a "b" \\ \x00\x7f\u2028 秒'])
def test_manifest_round_trip(tmp_path, licence):
    update_bundle(tmp_path, {"x.bin": b"1"}, prompts=Prompts(image='a "quoted" \\ {prompt}'), frame_rate=2.0)
    update_bundle(tmp_path, {"y.bin": b"2"}, licence=licence)
    update_bundle(tmp_path, {}, sampling={"image": {"top_k": 3}})
    update_bundle(tmp_path, {}, sampling={"keyframes": asdict(SamplingConfig(guidance=2.0))})
    bundle = Bundle(tmp_path)
    assert bundle.sampling("image").top_k == 3 and bundle.sampling("keyframes").guidance == 2.0
    assert bundle.prompts.image == 'a "quoted" \\ {prompt}'
    assert bundle.frame_rate == 2.0 and bundle.manifest["licence"] == licence
    assert set(bundle.hashes()) == {"x.bin", "y.bin"}
    with pytest.raises(ConfigError, match="frame_rate"):
        update_bundle(tmp_path, {}, frame_rate=float("nan"))
