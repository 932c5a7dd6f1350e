"""FVD, KVD and IS against slow twins, on a small network with a fixed seed; and what must not be compared."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cogstyle.errors import ConfigError
from cogstyle.evaluation import fvd
from cogstyle.files import read_tensors, write_tensors
from cogstyle.video import Video
from cogstyle.video.extractor import Extracted, Extractor
from tests.evaluation.networks import FEATURES, write_network
from tests.reference import distances


@pytest.fixture(scope="module")
def extractor(tmp_path_factory):
    return Extractor(write_network(tmp_path_factory.mktemp("net")), batch=3)


def clips(seed, count, brightness=0):
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 200, (count, 1, 1, 1, 3)) + brightness
    return list(np.clip(levels + rng.integers(-30, 30, (count, 16, 8, 8, 3)), 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def features(extractor):
    return [extractor(clips(seed, count, shift)).features for seed, count, shift in ((0, 20, 0), (1, 14, 40))]


def stats_of(extractor, found, **source):
    return fvd.statistics(found, extractor, source)


@pytest.mark.parametrize("count", [14, 4])
def test_frechet_distance_equals_its_twin(extractor, features, count):
    """4 videos for 6 features: a covariance without full rank."""
    x, y = features[0], features[1][:count]
    sides = [stats_of(extractor, Extracted(side, None)) for side in (x, y)]
    found = fvd.frechet_distance(sides[0].mean, sides[0].cov, sides[1].mean, sides[1].cov)
    assert found == pytest.approx(distances.frechet(x, y), rel=1e-6, abs=1e-9) and found > 1e-4


def test_frechet_distance_of_known_gaussians():
    eye, zero = np.eye(3), np.zeros(3)
    assert fvd.frechet_distance(zero, eye, zero, eye) == pytest.approx(0.0, abs=1e-12)
    assert fvd.frechet_distance(zero, eye, zero + 2.0, eye) == pytest.approx(12.0)
    assert fvd.frechet_distance(zero, eye, zero, 9.0 * eye) == pytest.approx(3 * (1 + 9 - 2 * 3))


def test_squared_mmd_equals_its_twin(features):
    assert fvd.squared_mmd(*features) == pytest.approx(distances.squared_mmd(*features), rel=1e-9)


def test_mean_discrepancy_equals_its_twin(features):
    """And what JEDi's own code says of an example of its own."""
    assert fvd.mean_discrepancy(*features) == pytest.approx(distances.mean_discrepancy(*features), rel=1e-9)
    a = np.arange(1.0, 10.0).reshape(3, 3)
    b = np.array([[7.0, 6, 5], [4, 3, 2], [1, 1, 8], [0, 2, 5]])
    assert fvd.mean_discrepancy(a, b) == pytest.approx(100 * 270.7, rel=1e-3)


def test_kernel_distance_of_one_distribution_is_about_nought():
    rng = np.random.default_rng(0)
    x, y, far = rng.normal(size=(60, 5)), rng.normal(size=(50, 5)), rng.normal(1.0, 1.0, (50, 5))
    same, other = fvd.kernel_distance(x, y), fvd.kernel_distance(x, far)
    assert same["size"] == 25 and same["subsets"] == fvd.SUBSETS and same["std"] > 0
    assert abs(same["mean"]) < 2 * same["std"] and other["mean"] > 3 * other["std"]
    assert fvd.kernel_distance(x, y) == same
    with pytest.raises(ConfigError, match="KVD needs 4 videos on each side, not 60 and 3"):
        fvd.kernel_distance(x, y[:3])


def test_inception_score_equals_its_twin():
    shares = np.random.default_rng(0).dirichlet(np.ones(4), 30)
    assert fvd.inception_score(shares)["mean"] == pytest.approx(distances.inception_score(shares))
    assert fvd.inception_score(np.full((9, 4), 0.25))["mean"] == pytest.approx(1.0)
    assert fvd.inception_score(np.tile(np.eye(4), (3, 1)))["mean"] == pytest.approx(4.0)
    assert [fvd.inception_score(np.tile(np.eye(4), (n, 1)))["splits"] for n in (49, 50, 1000)] == [1, 2, 10]


def test_inception_score_does_not_depend_on_the_order_of_folders():
    """Of a perfect extractor on 10 classes of 100 videos, one class after the other; it was 1 without the shuffle."""
    sorted_by_class = np.repeat(np.eye(10), 100, 0)
    for shares in (sorted_by_class, sorted_by_class[::-1], np.tile(np.eye(10), (100, 1))):
        assert fvd.inception_score(shares)["mean"] == pytest.approx(9.5, abs=0.2)


@pytest.mark.parametrize(
    ("arrays", "meta"),
    [({"cov": np.zeros((2, 2))}, {}), ({"mean": None}, {}), ({}, {"source": "5"}), ({}, {"extractor": "{"})],
)
def test_damaged_statistics_are_refused(extractor, tmp_path, arrays, meta):
    path = tmp_path / "real.safetensors"
    fvd.save_statistics(path, stats_of(extractor, extractor(clips(0, 4))))
    tensors, said = read_tensors(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items() if arrays.get(name, 0) is not None}
    write_tensors(path, tensors | {k: torch.from_numpy(v) for k, v in arrays.items() if v is not None}, said | meta)
    with pytest.raises(ConfigError, match="is damaged: its arrays or settings"):
        fvd.load_statistics(path, extractor)


def test_statistics_come_back_as_they_were(extractor, tmp_path):
    stats = stats_of(extractor, extractor(clips(0, 5)), videos=5, classes={"走": 5})
    fvd.save_statistics(tmp_path / "real.safetensors", stats)
    again = fvd.load_statistics(tmp_path / "real.safetensors", extractor)
    assert again.count == 5 and again.extractor == stats.extractor and again.source == stats.source
    for name in ("mean", "cov", "features", "shares"):
        assert np.array_equal(getattr(again, name), getattr(stats, name))
    result = fvd.compare(stats, again)
    assert result["fvd"] == pytest.approx(0.0, abs=1e-9) and result["extractor"]["sha256"] == extractor.digest
    assert result["features"] == FEATURES and "5 real videos for 6 features" in result["notes"][0]


def test_statistics_of_another_extractor_are_refused(extractor, tmp_path):
    path = tmp_path / "real.safetensors"
    fvd.save_statistics(path, stats_of(extractor, extractor(clips(0, 4))))
    other = Extractor(write_network(tmp_path / "other", seed=1))
    with pytest.raises(ConfigError, match="was made with sha256"):
        fvd.load_statistics(path, other)
    even = Extractor(
        write_network(tmp_path / "even", settings='frames = 16\nsize = 8\noutputs = "both"\npick = "even"')
    )
    even.settings = replace(even.settings, sha256=extractor.digest)
    with pytest.raises(ConfigError, match="made with pick = 'first', the extractor has 'even'"):
        fvd.load_statistics(path, even)
    with pytest.raises(ConfigError, match="different extractors or settings"):
        fvd.compare(*(stats_of(e, e(clips(0, 4))) for e in (extractor, other)))


def test_one_video_has_no_statistics(extractor):
    with pytest.raises(ConfigError, match="1 video has no covariance"):
        stats_of(extractor, extractor(clips(0, 1)))


def test_classes_must_balance(extractor):
    found = extractor(clips(0, 4))
    sides = [stats_of(extractor, found, classes=classes) for classes in ({"run": 2, "jump": 2}, {"run": 3, "jump": 1})]
    with pytest.raises(ConfigError, match=r"class 'jump' is 50.0 % of the real videos and 25.0 % of the others"):
        fvd.compare(*sides)
    assert fvd.compare(*sides, any_balance=True)["any_balance"]


def test_other_rates_and_sizes_are_noted(extractor):
    found = extractor(clips(0, 4))
    sides = [stats_of(extractor, found, fps=fps) for fps in ({"8": 4}, {"30": 4})]
    assert fvd.compare(*sides)["notes"][-1] == "fps differ: real ['8'], fake ['30']"


def test_folders_of_videos(extractor, tmp_path):
    for number, clip in enumerate(clips(0, 4)):
        Video(clip.repeat(2, 1).repeat(2, 2), 8.0).save(tmp_path / "a" / "run" / f"{number}")
    met = []
    stats = fvd.of_folder(tmp_path / "a", extractor, progress=lambda clips, of: met.append(of) or clips)
    assert met == [4] and stats.source["classes"] == {"run": 4} and stats.source["sizes"] == {"16 x 16": 4}
