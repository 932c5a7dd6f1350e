"""Files are whole or not there, tensors come back as they were."""

import os

import pytest
import torch
from safetensors.torch import load_file

from cogstyle.errors import BundleError
from cogstyle.files import DTYPES, fingerprint, read_tensors, sha256, to_toml, write_bytes, write_tensors


def test_tensors_of_every_kind_come_back(tmp_path):
    tensors = {f"t.{kind}": torch.arange(5).to(kind) for kind in DTYPES}
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
    with pytest.raises(BundleError, match="No space left"):
        write_tensors(path, {"a": torch.zeros(3)})
    assert sha256(path) == before and list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_or_read_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"cannot write .*x\.bin"):
        write_bytes(tmp_path / "nowhere" / "x.bin", b"1")
    (tmp_path / "cut.safetensors").write_bytes(b"12")
    for read in (read_tensors, sha256):
        with pytest.raises(BundleError, match=r"cannot read .*none"):
            read(tmp_path / "none")
    with pytest.raises(BundleError, match=r"cannot read .*cut"):
        read_tensors(tmp_path / "cut.safetensors")
    assert os.listdir(tmp_path) == ["cut.safetensors"]


def test_toml():
    assert to_toml({"a": (1, 2), "b": {"c.d": True}}) == 'a = [1, 2]\n\n[b]\n"c.d" = true\n'


def test_fingerprints_differ():
    assert fingerprint("a", 1) != fingerprint("a", 2)
