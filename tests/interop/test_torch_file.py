"""Files of torch.save read as data: what is no weights is refused, what is damaged is named, nothing runs."""

import os
import pickle
import random
import subprocess
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from cogstyle.errors import FileError
from cogstyle.interop.torch_file import STORAGES, read_weights

PROTO = b"\x80\x02"


def save(path, **rest):
    torch.save({"module": {"a": torch.arange(6.0).view(2, 3).T, "b": torch.ones(2, dtype=torch.float16)}, **rest}, path)
    return path


def with_pickle(path, code, name="data.pkl", members=()):
    """A file of torch.save with another pickle and more members; checksums fit."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"archive/{name}", code)
        archive.writestr("archive/data/0", bytes(16))
        for member, content in members:
            archive.writestr(f"archive/{member}", content)
    return path


def storage(key=b"0", count=b"K\x04", kind=b"FloatStorage"):
    return b"(X\x07\0\0\0storagectorch\n" + kind + b"\nX\x01\0\0\0" + key + b"X\x03\0\0\0cpu" + count + b"tQ"


STORAGE = storage()


def tensor(offset=b"K\0", size=b"K\x04\x85", stride=b"K\x01\x85", storage=STORAGE):
    """{"module": {"w": a tensor of one storage of four numbers}}, as opcodes."""
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + size + stride + b"\x89}tR"
    return PROTO + b"}X\x06\0\0\0module}X\x01\0\0\0w" + rebuilt + b"ss."


def test_weights_of_every_dtype_and_shape_come_back(tmp_path):
    shared = torch.arange(12.0)
    module = {kind: torch.arange(5).to(dtype) for kind, dtype in STORAGES.items()}
    module |= {
        "part": shared[3:7],
        "turned": shared.view(3, 4).T,
        "scalar": torch.tensor(2.5),
        "empty": torch.ones(0, 3),
    }
    module |= {"parameter": torch.nn.Parameter(torch.ones(2)), "ä 秒": torch.ones(1)}
    for protocol in (2, 3, 4):
        torch.save({"module": OrderedDict(module)}, tmp_path / "w.pt", pickle_protocol=protocol)
        found = read_weights(tmp_path / "w.pt")
        assert found.keys() == module.keys()
        for name, value in module.items():
            assert torch.equal(found[name], value) and found[name].dtype == value.dtype, name
    assert found["part"].untyped_storage().data_ptr() == found["turned"].untyped_storage().data_ptr()  # mapped, once


def test_states_of_generators_are_skipped(tmp_path):
    """Random states of numpy are what SAT writes beside weights; no numpy object is made of them."""
    states = {"np": np.random.get_state(), "py": random.getstate(), "array": np.ones(3), "torch": torch.get_rng_state()}
    path = save(tmp_path / "w.pt", **states, optimizer=None, iteration=3, device=torch.device("cpu"))
    assert set(read_weights(path)) == {"a", "b"}


def test_a_program_is_refused_before_it_is_read(tmp_path, monkeypatch):
    """torch.load would hand a TorchScript zip to torch.jit.load, which runs its __setstate__."""

    class Program(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.script(Program()), str(tmp_path / "w.pt"))
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(FileError, match="TorchScript program"):
        read_weights(tmp_path / "w.pt")
    for member in ("constants.pkl", "code/__torch__.py"):
        with pytest.raises(FileError, match="TorchScript program"):
            read_weights(with_pickle(tmp_path / "x.pt", tensor(), members=[(member, b"")]))


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (pickle.dumps({"module": {}, "x": Harmful()}, 2), r"asks for posix\.system"),
        (PROTO + b"cbuiltins\neval\n.", r"asks for builtins\.eval"),
        (PROTO + b"ctorch.serialization\nload\n.", "asks for torch.serialization.load"),
        (PROTO + b"ctorch\nhub.load\n.", "asks for torch.hub.load"),
        (PROTO + b"ctorch\n_StorageBaseStorage\n.", "asks for torch._StorageBaseStorage"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", r"asks for posix\.system"),
        (PROTO + b"cnumpy\nndarray\n(K\x01tRK\x00K\x01s.", "sets items of a Inert"),  # wrote where an array points
        (PROTO + b"cnumpy\nndarray\n(K\x01tRK\x00a.", "appends to a Inert"),
        (PROTO + b"]}b.", "gives a list a state"),
        (PROTO + b"}}b.", "gives a dict a state"),
        (PROTO + b"ctorch._utils\n_rebuild_tensor_v2\n}b.", "gives a function a state"),
        (PROTO + b"]]R.", "calls with what are no arguments"),
        (PROTO + b"](K\x01tR.", "calls a list"),
        (PROTO + b"ccollections\nOrderedDict\n)R(K\x01tR.", "calls a OrderedDict"),
        (PROTO + b"(ios\nsystem\n.", "opcode INST"),
        (PROTO + b"(cos\nsystem\no.", "asks for os.system"),
        (PROTO + b"ccollections\nOrderedDict\n)\x81.", "opcode NEWOBJ"),
        (PROTO + b"\x82\x01.", "opcode EXT1"),
        (PROTO + b"I12\n.", "opcode INT"),
        (PROTO + b"}}K\x01s.", "a key of its tables is a dict"),
        (PROTO + b"}" + b")" + b"\x85" * 100_000 + b"K\x01s.", "a key of its tables is a tuple"),  # hashing recursed
        (PROTO + b"r\xff\xff\xff\xff.", "cannot read"),  # an unpickler would make room for 2^32 entries
        (PROTO + b"}r\xff\xff\xff\xff.", "no weights under"),
        (PROTO + b"j\xff\xff\xff\x7f.", "cannot read"),
        (PROTO + b"X\xff\xff\xff\x7fabc.", "cannot read"),
        (PROTO + b"}" * 10, "cannot read"),
        (PROTO + b"0" * 3_000_000 + b".", "opcode POP"),
        (PROTO + b"N" * 2_100_000 + b".", "more than 2,000,000 opcodes"),
        (b"", "cannot read"),
        (b"\xff", "cannot read"),
        (tensor(size=b"K\x05\x85"), "reaches beyond the 4 numbers"),
        (tensor(offset=b"K\x01"), "reaches beyond"),
        (tensor(offset=b"J\xff\xff\xff\xff"), "make no sense"),
        (tensor(size=b"J\xff\xff\xff\xff\x85"), "make no sense"),
        (tensor(stride=b"J\xff\xff\xff\xff\x85"), "make no sense"),
        (tensor(stride=b"K\x02\x85"), "reaches beyond"),
        (tensor(size=b"K\x04K\x04\x86", stride=b"K\0K\x01\x86"), "reaches beyond"),  # 16 numbers out of 4
        (tensor(size=b"K\x04K\x04\x86"), "make no sense"),
        (tensor(size=b"X\x01\0\0\0a\x85"), "make no sense"),
        (tensor(size=b"\x88\x85"), "make no sense"),
        (tensor(storage=b"N"), "make no sense"),
        (tensor(storage=storage(count=b"K\x05"), size=b"K\x05\x85"), "has 16 bytes, the weights need 20"),
        (tensor(storage=storage(count=b"J\xff\xff\xff\xff")), "reaches beyond|make no sense"),
        (tensor(storage=storage(key=b"1")), "data/1 is missing"),
        (tensor(storage=storage(kind=b"DoubleStorage")), "need 32"),
        (tensor(storage=b"(K\x01tQ"), "cannot read|no storage"),
    ],
)  # fmt: skip
def test_pickles_of_other_things_are_refused_and_do_nothing(tmp_path, monkeypatch, code, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match=message) as caught:
        read_weights(with_pickle(tmp_path / "w.pt", code))
    assert "\n" not in str(caught.value) and "w.pt" in str(caught.value)
    assert os.listdir() == ["w.pt"]


def test_the_made_file_is_read_when_nothing_is_wrong(tmp_path):
    assert torch.equal(read_weights(with_pickle(tmp_path / "w.pt", tensor()))["w"], torch.zeros(4))
    with pytest.raises(FileError, match=r"it holds no data\.pkl"):
        read_weights(with_pickle(tmp_path / "w.pt", tensor(), name="other.pkl"))
    with pytest.raises(FileError, match="no weights under the key 'module'"):
        read_weights(with_pickle(tmp_path / "w.pt", PROTO + b"}X\x06\0\0\0module]s."))
    with pytest.raises(FileError, match="byte order"):
        other = {"little": b"big", "big": b"little"}[sys.byteorder]
        read_weights(with_pickle(tmp_path / "w.pt", tensor(), members=[("byteorder", other)]))
    with zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", tensor())
    with pytest.raises(FileError, match="is compressed"):
        read_weights(tmp_path / "packed.pt")


def test_every_flipped_bit_of_a_weight_is_found(tmp_path):
    """One bit in each storage and in the pickle: 24 of 24 were imported in silence before."""
    path = tmp_path / "w.pt"
    torch.save({"module": {f"w{n}": torch.randn(100 + n) for n in range(12)}}, path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if "/data" in info.filename and info.file_size]
    for info in members:
        start = info.header_offset + 30 + sum(np.frombuffer(whole, "<u2", 2, info.header_offset + 26).tolist())
        for place in (start, start + info.file_size // 2, start + info.file_size - 1):
            damaged = bytearray(whole)
            damaged[place] ^= 16
            path.write_bytes(damaged)
            with pytest.raises(FileError):
                read_weights(path)


def test_random_damage_is_one_line(tmp_path):
    """Seeded flips, cuts and fillings anywhere: right weights or one line, whatever they hit."""
    path = save(tmp_path / "w.pt", np=np.random.get_state())
    whole, draw = path.read_bytes(), random.Random(0)
    wanted = {name: value.clone() for name, value in read_weights(path).items()}
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 1, 4))):
            place = draw.randrange(len(data))
            data[place : place + draw.choice((1, 1, 4))] = draw.randbytes(draw.choice((1, 1, 4)))
        path.write_bytes(data[: draw.choice((len(data), len(data), draw.randrange(len(data))))])
        try:
            found = read_weights(path)
        except FileError as error:
            assert "\n" not in str(error)
        else:
            assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_what_is_no_file_of_torch(tmp_path):
    for name, content in (("text", b"hello"), ("empty", b""), ("old", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileError, match=f"cannot read checkpoint .*{name}"):
            read_weights(tmp_path / name)
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "none", "."):
        with pytest.raises(FileError, match="cannot read"):
            read_weights(tmp_path / name)


def test_weights_are_mapped_not_read(tmp_path):
    """A file of 100 MB is opened with far less memory than that: 18 GB of the official one must not meet in it."""
    torch.save({"module": {"a": torch.zeros(25_000_000)}}, tmp_path / "w.pt")
    code = (
        "import sys; from pathlib import Path; from cogstyle.interop.torch_file import read_weights\n"
        "used = lambda: int(next(l for l in open('/proc/self/status') if l.startswith('RssAnon')).split()[1])\n"
        "before = used(); w = read_weights(Path(sys.argv[1])); assert w['a'].numel() == 25_000_000\n"
        "print(used() - before)"
    )
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "w.pt")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 20_000  # kB
