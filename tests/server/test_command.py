"""`cogstyle serve` with what cannot be served."""

import socket
import sys

import pytest

from cogstyle.cli.main import main


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bundle", "nowhere"], "no bundle 'nowhere'"),
        (["--bundle", "{bundle}", "--bundle", "{bundle}"], "two bundles are named 'bundle'"),
        (["--queue", "0"], "--queue 0 must be positive"),
        (["--time-limit", "nan"], "--time-limit nan must be positive"),
        (["--keep", "-1"], "--keep -1.0 must be positive"),
        (["--largest-body", "inf"], "--largest-body inf must be positive"),
        (["--port", "65536"], "port 65536 must be 0 to 65535"),
        (["--token", ""], "the token is empty"),
        (["--device", "nowhere"], "device 'nowhere' is not available"),
        (["--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
        (["--port", "{taken}"], "cannot listen on 127.0.0.1 port"),
        (["--data", "{file}"], "{file}"),
        (["--data", "{file}/in"], "{file}/in"),
    ],
)
def test_one_line(debug_bundle, tmp_path, capsys, options, message):
    pytest.importorskip("fastapi")
    file = tmp_path / "file"
    file.touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = {"bundle": debug_bundle, "file": file, "taken": taken.getsockname()[1]}
        options = [option.format(**words) for option in options]
        usual = [] if "--bundle" in options else ["--bundle", str(debug_bundle)]
        assert main(["serve", "--data", str(tmp_path / "data"), "--port", "0", *usual, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("cogstyle: ") and message.format(**words) in error and error.count("\n") == 1


def test_without_its_packages(monkeypatch, tmp_path, capsys):
    for name in [name for name in sys.modules if name.startswith("cogstyle.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["serve", "--data", str(tmp_path)]) == 2
    assert "the server needs fastapi: pip install 'cogstyle[serve]'" in capsys.readouterr().err
