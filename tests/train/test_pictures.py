"""What packages' files are taken for one picture."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "train" / "pictures" / "collect.py"
SPEC = importlib.util.spec_from_file_location("collect", PATH)
collect = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(collect)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("wallpapers/Kay/contents/images_dark/1080x1920.png", "Kay"),
        ("backgrounds/gnome/adwaita-d.webp", "adwaita"),
        ("backgrounds/mate/abstract/Elephants_3840x2160.jpg", "Elephants"),
        ("backgrounds/Sway_Wallpaper_Blue_768x1024_Portrait.png", "Sway_Wallpaper_Blue"),
        ("backgrounds/mate/desktop/Ubuntu-Mate-Dark-no-logo.png", "Ubuntu-Mate"),
        ("backgrounds/Infinite-Sea_by_Aury88.jpg", "Infinite-Sea_by_Aury88"),
        ("skimage/data/motorcycle_left.png", "motorcycle"),
    ],
)
def test_sizes_and_looks_of_a_picture_share_its_name(path, name):
    assert collect.picture_name(Path(path)) == name


def test_licences_are_read_from_what_packages_say(tmp_path):
    (tmp_path / "doc").mkdir()
    (tmp_path / "doc" / "copyright").write_text("Files: *\nLicense: GPL-2\n\nLicense: GPL-2\n full text\n")
    assert collect.licences(tmp_path) == "GPL-2"
    (tmp_path / "METADATA").write_text("Name: x\nLicense-Expression: BSD-3-Clause\n")
    assert collect.licences(tmp_path) == "BSD-3-Clause, GPL-2"
    (tmp_path / "doc" / "copyright").write_text("under the GPL\n")
    (tmp_path / "METADATA").unlink()
    assert collect.licences(tmp_path) == "see doc/copyright"
