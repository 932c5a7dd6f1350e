"""Our numbers beside the released CogVideo's and icetk's, by the runner in tests/parity.py.

The numbers live outside the repository; without them these tests are skipped. Their twins always run: a
float64 reference in tests/model/test_transformer.py, steps against full forward in tests/sampling/test_decode.py,
the quirks in tests/sampling/test_released.py.
"""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests import parity

GOLDENS = Path(__file__).parents[3] / "shared" / "parity"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not GOLDENS.is_dir(), reason="the released numbers are not on this machine"),
]
FILES = [("public", name) for name in parity.COGVIDEO] + [("icetk", name) for name in parity.ICETK]


@pytest.mark.parametrize(("folder", "name"), FILES, ids=[name for _, name in FILES])
def test_golden_file(folder, name):
    check = (parity.COGVIDEO | parity.ICETK)[name]
    for finding in check(GOLDENS / folder, name):
        assert finding.ok, finding


def test_the_runner_fails_on_other_numbers_and_on_missing_files(tmp_path, capsys):
    assert parity.main(GOLDENS / "icetk") == 0
    assert capsys.readouterr().out.count(" ok ") == len(parity.ICETK)
    for name in ("ice_image.pt", "ice_text.json"):
        shutil.copy(GOLDENS / "icetk" / name, tmp_path)
    golden = load_file(GOLDENS / "icetk" / "ice_image.safetensors")
    golden["decoded_rate4"] = golden["decoded_rate4"] + 2 * parity.PIXELS
    save_file(golden, tmp_path / "ice_image.safetensors")
    assert parity.main(tmp_path) == 1
    image, text = capsys.readouterr().out.splitlines()
    assert "BEYOND ITS BOUND" in image and "pixels at rate 4" in image
    assert "missing" in text and "ice_text.model" in text
