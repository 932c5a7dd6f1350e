"""FVD of clips of the shapes world: perfect clips score as the truth does, and what is wrong scores worse."""

from dataclasses import replace

import pytest

from cogstyle.errors import ConfigError
from cogstyle.sampling.pipeline import Options
from cogstyle.shapes_report import distances
from cogstyle.shapes_report.classifier import train_classifier
from cogstyle.shapes_report.protocol import draw_scenes, sample_scenes
from tests.shapes_world.truth import Truth

SCENES = draw_scenes(1_000_000, 6)


@pytest.fixture
def few(monkeypatch, tmp_path):
    """A classifier of one step, and a small reference."""
    train_classifier(tmp_path, steps=1, batch=4)
    monkeypatch.setattr(distances, "shapes_classifier", lambda: tmp_path / "classifier.pt")
    monkeypatch.setattr(distances, "REFERENCE", 8)


def test_perfect_and_wrong_clips(few):
    def purple(scene):
        return replace(scene, background="black", actors=tuple(replace(a, colour="purple") for a in scene.actors))

    perfect, wrong = (
        distances.distances(pipe, sample_scenes(pipe, SCENES, Options(levels=2)))
        for pipe in (Truth(SCENES), Truth(SCENES, purple))
    )
    assert list(perfect) == ["samples", "reconstructed", "true"]
    assert perfect["samples"]["fvd"] == pytest.approx(perfect["true"]["fvd"], rel=1e-6)
    assert perfect["samples"]["fvd"] == pytest.approx(perfect["reconstructed"]["fvd"], rel=1e-6)
    assert wrong["samples"]["fvd"] > 1.2 * wrong["true"]["fvd"]
    assert perfect["samples"]["real"]["count"] == 8 and perfect["samples"]["fake"]["count"] == 6
    short = sample_scenes(Truth(SCENES), SCENES, Options(levels=1))
    assert distances.distances(Truth(SCENES), short) == {"skipped": "6 clips of 9 frames; needs at least 4 of 17"}


def test_no_classifier_is_said(monkeypatch):
    def missing():
        raise ConfigError("no classifier")

    monkeypatch.setattr(distances, "shapes_classifier", missing)
    clips = sample_scenes(Truth(SCENES), SCENES[:1], Options(levels=0))
    assert distances.distances(Truth(SCENES), clips) == {"skipped": "no classifier"}
