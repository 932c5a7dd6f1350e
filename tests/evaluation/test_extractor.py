"""What an extractor is fed, and what is refused."""

import tracemalloc

import numpy as np
import pytest
import torch

from cogstyle.errors import ConfigError, MediaError
from cogstyle.video.extractor import Extractor, ExtractorSettings, prepare
from tests.evaluation.networks import CLASSES, FEATURES, write_network


def frames(count=16, height=8, width=8):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frames": 15}, "frames 15: FVD, KVD and IS need at least 16 frames"),
        ({"size": 0}, "size 0 must be positive"),
        ({"low": 1.0}, "low 1.0 must be below high 1.0"),
        ({"mean": (0.5,)}, "three numbers each"),
        ({"axes": "FCHW"}, "axes 'FCHW' must be one of BCFHW, BFCHW"),
        ({"resize": "cubic"}, "resize 'cubic' must be one of"),
        ({"outputs": "none"}, "outputs 'none' must be one of"),
    ],
)
def test_settings_out_of_range(values, message):
    with pytest.raises(ConfigError, match=message):
        ExtractorSettings(**{"frames": 16, "size": 8, **values})


def test_range_and_normalisation():
    clip = frames()
    ready = prepare(clip, ExtractorSettings(16, 8, low=-1.0, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0)))
    expected = (clip / 127.5 - 1.0 - np.array([0.1, 0.2, 0.3])) / np.array([1.0, 2.0, 4.0])
    assert ready.shape == (3, 16, 8, 8)
    assert np.allclose(ready.permute(1, 2, 3, 0).numpy(), expected, atol=1e-6)


def test_frames_are_picked_as_said():
    clip = np.arange(33, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3)
    shown = {
        pick: prepare(clip, ExtractorSettings(17, 8, high=255.0, pick=pick))[0, :, 0, 0] for pick in ("first", "even")
    }
    assert shown["first"].tolist() == list(range(17)) and shown["even"].tolist() == list(range(0, 33, 2))


def test_cut_or_stretched_to_a_square():
    clip = np.zeros((16, 8, 16, 3), np.uint8)
    clip[:, :, 4:12] = 255
    assert prepare(clip, ExtractorSettings(16, 8)).min() == 1.0
    assert prepare(clip, ExtractorSettings(16, 8, fit="stretch")).min() == 0.0


@pytest.mark.parametrize(("resize", "mean"), [("antialias", 0.5), ("area", 0.5), ("bilinear", 0.0)])
def test_resize_rules(resize, mean):
    """Every fourth row is white in pairs: without antialiasing, what lies between the samples is lost."""
    clip = np.zeros((16, 32, 32, 3), np.uint8)
    clip[:, 0::4] = clip[:, 3::4] = 255
    ready = prepare(clip, ExtractorSettings(16, 8, resize=resize))
    assert ready.mean().item() == pytest.approx(mean, abs=0.03)


@pytest.mark.parametrize("pick", ["first", "even"])
def test_long_videos_are_never_held_as_a_whole(pick):
    """600 frames of 720 lines are 1.6 GB; of each only what the extractor takes is kept."""

    class Long:
        def __iter__(self):
            return (np.full((720, 1280, 3), number // 4, np.uint8) for number in range(600))

    settings = ExtractorSettings(16, 8, high=255.0, pick=pick)
    tracemalloc.start()
    shown = prepare(Long(), settings)[0, :, 0, 0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    numbers = range(16) if pick == "first" else [round(599 * k / 15) for k in range(16)]
    assert shown.tolist() == pytest.approx([number // 4 for number in numbers], abs=1e-3)


@pytest.mark.parametrize("clip", [frames(15), frames().astype(np.float32), frames()[..., :2], frames()[0]])
def test_wrong_clips_are_refused(clip):
    with pytest.raises(MediaError):
        prepare(clip, ExtractorSettings(16, 8))


def test_batches_change_nothing(tmp_path):
    path, several = write_network(tmp_path), [frames() // k for k in range(1, 6)]
    one, four = (Extractor(path, batch=batch)(several) for batch in (1, 4))
    assert one.features.shape == (5, FEATURES) and one.shares.shape == (5, CLASSES)
    assert np.allclose(one.features, four.features, atol=1e-6)
    assert np.allclose(one.shares.sum(1), 1.0)


@pytest.mark.parametrize(("outputs", "width", "shares"), [("features", FEATURES, False), ("logits", CLASSES, True)])
def test_one_output(tmp_path, outputs, width, shares):
    found = Extractor(write_network(tmp_path, outputs=outputs))([frames()])
    assert found.features.shape == (1, width) and (found.shares is not None) == shares


def test_outputs_must_be_what_the_settings_say(tmp_path):
    path = write_network(tmp_path, settings="frames = 16\nsize = 8\n")
    with pytest.raises(ConfigError, match="outputs 'features': the extractor gives 2 tensors"):
        Extractor(path)([frames()])
    (tmp_path / "net.toml").write_text('frames = 16\nsize = 8\naxes = "BFCHW"\n')
    with pytest.raises(ConfigError, match=r"fails on \[1, 16, 3, 8, 8\] \(BFCHW\)"):
        Extractor(path)([frames()])


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    path = write_network(tmp_path, outputs="features")
    extractor = Extractor(path)
    with torch.no_grad():
        for value in extractor.network.parameters():
            value.fill_(torch.nan)
    with pytest.raises(ConfigError, match="not finite"):
        extractor([frames()])


def test_missing_and_damaged_files(tmp_path):
    path = write_network(tmp_path)
    with pytest.raises(ConfigError, match="no extractor"):
        Extractor(tmp_path / "other.pt")
    (tmp_path / "net.toml").write_text('frames = 16\nsize = 8\nsha256 = "0000"')
    with pytest.raises(ConfigError, match="is damaged: sha256"):
        Extractor(path)
    (tmp_path / "net.toml").write_text("frames = 16\nsize = 8\nrange = 255")
    with pytest.raises(ConfigError, match="unknown key range"):
        Extractor(path)
    (tmp_path / "net.toml").unlink()
    with pytest.raises(ConfigError, match=r"no .*net.toml: it must say what net.pt takes"):
        Extractor(path)
    bad = tmp_path / "bad.pt"
    bad.write_bytes(b"no network")
    bad.with_suffix(".toml").write_text("frames = 16\nsize = 8")
    with pytest.raises(ConfigError, match="is no TorchScript file"):
        Extractor(bad)
