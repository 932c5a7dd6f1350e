"""Files are whole or not there, tensors come back as they were."""

import fcntl
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from cogstyle.errors import BundleError, FileError
from cogstyle.files import (
    SAFETENSORS,
    SCRATCH,
    expect_regular,
    fingerprint,
    one_writer,
    read_bytes,
    read_tensors,
    read_text,
    sha256,
    whole_file,
    write_bytes,
    write_tensors,
)


def test_tensors_of_every_kind_come_back(tmp_path):
    tensors = {f"t.{kind}": torch.arange(5).to(kind) for kind in SAFETENSORS}
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.empty(0, 3), "turned": torch.randn(3, 4).T}
    told: list[int] = []
    write_tensors(tmp_path / "w.safetensors", tensors, {"note": "ä"}, progress=told.append)
    found, meta = read_tensors(tmp_path / "w.safetensors")
    assert meta == {"note": "ä"} and found.keys() == tensors.keys()
    for name, value in load_file(tmp_path / "w.safetensors").items():  # the library's own reader
        assert torch.equal(value, tensors[name]) and value.dtype == tensors[name].dtype, name
        assert torch.equal(found[name], value)
    assert sum(told) == sum(t.numel() * t.element_size() for t in tensors.values())


def test_writes_are_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    write_tensors(path, {"a": torch.ones(3)})
    before = sha256(path)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cogstyle.files.os.replace", full_disk)
    with pytest.raises(FileError, match="No space left"):
        write_tensors(path, {"a": torch.zeros(3)})
    assert sha256(path) == before and list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_or_read_is_named(tmp_path):
    with pytest.raises(FileError, match=r"cannot write .*x\.bin"):
        write_bytes(tmp_path / "nowhere" / "x.bin", b"1")
    (tmp_path / "cut.safetensors").write_bytes(b"12")
    for read in (read_tensors, sha256):
        with pytest.raises(FileError, match=r"cannot read .*none"):
            read(tmp_path / "none")
    with pytest.raises(BundleError, match=r"cannot read .*cut"):
        read_tensors(tmp_path / "cut.safetensors")
    assert os.listdir(tmp_path) == ["cut.safetensors"]


def test_fingerprints_differ():
    assert fingerprint("a", 1) != fingerprint("a", 2)


@pytest.mark.slow
def test_two_processes_write_one_path(tmp_path):
    """Each has a scratch file of its own: no write fails, and one of them stands whole."""
    code = (
        "import sys; from pathlib import Path; from cogstyle.files import write_bytes\n"
        "for n in range(100): write_bytes(Path(sys.argv[1]), sys.argv[2].encode() * 10_000)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "x"), letter]) for letter in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert (tmp_path / "x").read_bytes() in (b"a" * 10_000, b"b" * 10_000)
    assert os.listdir(tmp_path) == ["x"]


def test_scratch_files_of_the_dead_go_and_of_the_living_stay(tmp_path):
    (tmp_path / "x.part").write_bytes(b"the user's own")
    dead, living, other = (tmp_path / f".{name}.1{SCRATCH}" for name in ("x", "x.2", "y"))
    for path in (dead, living, other):
        path.write_bytes(b"")
    with living.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_bytes(tmp_path / "x", b"1")
    assert not dead.exists() and living.exists() and other.exists()
    assert (tmp_path / "x.part").read_bytes() == b"the user's own"


def test_written_files_have_the_usual_rights_and_any_name(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    long = tmp_path / ("ä" * 120)
    write_bytes(long, b"1")
    assert long.stat().st_mode == (tmp_path / "plain").stat().st_mode
    with pytest.raises(RuntimeError), whole_file(tmp_path / "broken"):
        raise RuntimeError
    assert sorted(os.listdir(tmp_path)) == ["plain", long.name]


def test_a_folder_has_one_writer(tmp_path):
    code = (
        "import sys; from pathlib import Path; from cogstyle.files import one_writer\n"
        "with one_writer(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], **pipes) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(FileError, match="another process is writing"), one_writer(tmp_path):
            pass
        other.kill()
    with one_writer(tmp_path):  # the lock died with its process
        pass
    with pytest.raises(FileError, match=r"cannot write into .*none"), one_writer(tmp_path / "none"):
        pass
    assert not os.listdir(tmp_path)


def test_only_files_with_an_end_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "none", "/dev/zero", "/proc/kmsg", "/proc/self/mem", "a\0b"):
        with pytest.raises(FileError, match="cannot read"):
            expect_regular(type(tmp_path)(path))
    (tmp_path / "x").write_bytes(b"12345")
    assert read_bytes(tmp_path / "x", 5) == b"12345"
    with pytest.raises(FileError, match="5 bytes, at most 4"):
        read_bytes(tmp_path / "x", 4)


def test_text_is_utf8_with_or_without_a_mark(tmp_path):
    path = tmp_path / "x"
    path.write_bytes("\ufeffä\r\nb".encode())
    assert read_text(path) == "ä\r\nb"
    path.write_bytes(b"a\nb\xff")
    with pytest.raises(FileError, match=r"x, line 2: byte 0xff is not UTF-8"):
        read_text(path)
