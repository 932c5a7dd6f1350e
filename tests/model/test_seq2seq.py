"""The small encoder-decoder: what it decodes step by step, with a cache, is what it scores at once."""

import torch

from cogstyle.model.seq2seq import END, PAD, Seq2Seq, fresh_seq2seq
from cogstyle.seq2seq_config import Seq2SeqConfig
from tests.conftest import disturb

CONFIG = Seq2SeqConfig(layers=2, width=16, heads=2, inner=32, vocabulary=300, span=12)
SOURCES = torch.tensor([[5, 9, 4, 7, END], [8, 6, END, PAD, PAD]])


def model() -> Seq2Seq:
    made = fresh_seq2seq(CONFIG, seed=3)
    disturb(made)
    return made.eval()


def test_cached_decoding_is_the_whole_forward():
    made = model()
    for source, row in zip(SOURCES, made.rewrite(SOURCES), strict=True):
        alone = source[source != PAD][None]
        drawn: list[int] = []
        while len(drawn) < CONFIG.span and END not in drawn:
            scores_TV = made(alone, torch.tensor([[*drawn, PAD]]))[0]  # what the last place holds changes nothing
            drawn.append(int(scores_TV[-1].argmax()))
        assert row == (drawn[:-1] if END in drawn else [])
        assert made.rewrite(alone) == [row]


def test_a_target_is_scored_from_what_stands_before_it():
    made = model()
    target = torch.tensor([[11, 12, 13, 14], [21, 22, 23, 24]])
    scores = made(SOURCES, target)
    later = target.clone()
    later[:, 2] = 99
    assert torch.equal(made(SOURCES, later)[:, :3], scores[:, :3])
    assert not torch.allclose(made(SOURCES, later)[:, 3], scores[:, 3])
    longer = torch.nn.functional.pad(SOURCES, (0, 4), value=PAD)
    assert torch.allclose(made(longer, target), scores, atol=1e-5)


def test_what_does_not_end_is_empty():
    made = model()
    made.embed.weight.data[:] = 0.0  # every token is as likely, and the first of them is PAD
    assert made.rewrite(SOURCES) == [[], []]
