"""The classifier of the shapes world: labels, a training run of two steps, and the shipped one."""

import pytest
import torch

from cogstyle.bundle import SHELVES
from cogstyle.errors import ConfigError
from cogstyle.shapes_report import classifier
from cogstyle.shapes_world import world
from cogstyle.video.extractor import Extractor


def test_mirrored_clips_have_mirrored_labels():
    clips, labels = classifier._with_mirrored(*classifier._batch(0, 12))
    assert clips.shape == (24, 3, 17, 64, 64) and torch.equal(clips[12:].flip(-1), clips[:12])
    names = [classifier.MOTIONS[int(k)] for k in labels["motion"]]
    for (action, way), (other_action, other_way) in zip(names[:12], names[12:], strict=True):
        turned = {"left": "right", "right": "left", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}
        assert (other_action, other_way) == (action, turned.get(way, way))
    assert torch.equal(labels["colour"][:12], labels["colour"][12:])


def test_training_writes_an_extractor(tmp_path):
    told = []
    accuracy = classifier.train_classifier(tmp_path, steps=2, batch=4, progress=told.append)
    assert set(accuracy) == {"motion", "colour", "shape", "background"} and told[0].startswith("step 0: loss")
    extractor = Extractor(tmp_path / "classifier.pt")
    first = extractor(classifier.true_clip(seed)[0] for seed in range(64)).features
    assert (first**2).mean() == pytest.approx(1.0, rel=1e-3)
    found = extractor(classifier.true_clip(seed)[0] for seed in range(3))
    assert found.features.shape == (3, 64) and found.shares.shape == (3, 15)
    assert extractor.settings.frames == 17 and extractor.settings.pick == "even"
    with pytest.raises(ConfigError, match="more training seeds than exist"):
        classifier.train_classifier(tmp_path, steps=10**6, batch=4)


def test_the_shipped_one_knows_motions():
    path = SHELVES[0] / classifier.CLASSIFIER / classifier.FILE
    if not path.exists():
        pytest.skip("no classifier is shipped: `python train/shapes_classifier.py` makes it")
    assert classifier.shapes_classifier() == path
    assert path.stat().st_size < 1_500_000
    clips, labels = zip(*(classifier.true_clip(world.VALIDATION_SEED + k) for k in range(24)), strict=True)
    found = Extractor(path)(clips)
    right = (found.shares.argmax(1) == [row["motion"] for row in labels]).mean()
    assert right > 0.7
