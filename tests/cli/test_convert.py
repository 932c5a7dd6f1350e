"""`cogstyle import`, `export` and `inspect` as a user types them."""

import numpy as np
import pytest
import torch

from cogstyle.cli.main import main
from cogstyle.files import human
from tests.interop.sat_folder import write


def test_a_bundle_goes_out_and_is_inspected(debug_bundle, tmp_path, capsys):
    out = tmp_path / "sat"
    assert main(["export", "sat", str(debug_bundle), "--to", str(out), "--role", "interpolation"]) == 0
    assert (out / "latest").read_text() == "1"
    assert main(["export", "sat", str(debug_bundle), "--to", str(out)]) == 2
    assert "exists; name a new folder" in capsys.readouterr().err
    assert main(["import", "sat", str(out), "--to", str(tmp_path / "bundle"), "--role", "superres"]) == 2
    assert "holds the interpolation model, not superres" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
    assert main(["inspect", str(debug_bundle), "--batch", "3"]) == 0
    text = capsys.readouterr().out
    assert "2 layers, width 32" in text and "tokenizer" in text and "float16" in text and "fits" in text


def test_images_and_text_come_in(tmp_path, capsys):
    assert main(["import", "icetk", str(tmp_path), "--to", str(tmp_path / "bundle")]) == 2
    assert "holds neither ice_text.model nor ice_image.pt" in capsys.readouterr().err
    np.save(tmp_path / "cluster_label2.npy", np.zeros(3))
    torch.save({"wrong": {}}, tmp_path / "ice_image.pt")
    assert main(["import", "icetk", str(tmp_path), "--to", str(tmp_path / "bundle")]) == 2
    assert "no weights under the key 'module'" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_wrong_names_are_one_line(debug_bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file"
    file.write_text("")
    long = "x" * 300
    commands = [
        *(["import", kind, source, "--to", "b"] for kind in ("sat", "icetk") for source in ("none", long, "file", "")),
        *(["import", "icetk", "none", "--to", target] for target in (long, "file", "file/b")),
        *(["export", "sat", str(debug_bundle), "--to", target] for target in (long, "file", "file/b", ".")),
        *(["inspect", source] for source in ("none", long, "file", "")),
        ["export", "sat", long, "--to", "out"],
        ["import", "icetk", "none", "--to", "b", "--role", "superres"],
    ]
    for command in commands:
        assert main(command) == 2, command
        assert capsys.readouterr().err.count("\n") == 1, command
    with pytest.raises(SystemExit):
        main(["import", "icetk", "none", "--to", ""])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_checkpoint_is_inspected(model, adapters, tmp_path, capsys):
    write(tmp_path, model, adapters["keyframes"])
    assert main(["inspect", str(tmp_path)]) == 2  # a toy vocabulary has no room for icetk's ids
    assert "vocabulary 433" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "latest")]) == 2
    assert main(["inspect", str(tmp_path), "--batch", "0"]) == 2
    assert "batch 0 must be positive" in capsys.readouterr().err
    assert main(["inspect", "shapes", "--device", "nowhere"]) == 2
    assert "device 'nowhere' is not available" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "text"), [(5, "5.0 B"), (999_949, "999.9 KB"), (37.6e9, "37.6 GB"), (4e12, "4000.0 GB")]
)
def test_sizes_have_units(size, text):
    assert human(size) == text
