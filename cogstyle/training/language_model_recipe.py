"""The recipe of a language model that rewrites prompts."""

from dataclasses import dataclass

from cogstyle.schema import Share
from cogstyle.seq2seq_config import Seq2SeqConfig
from cogstyle.training.phrased import PairData
from cogstyle.training.recipe import WeightRecipe
from cogstyle.training.sources import ScenePairs


@dataclass(frozen=True, kw_only=True)
class LanguageModelRecipe(WeightRecipe):
    """What rewrites prompts, on phrasings of the shapes world or pairs of texts; its bundle may hold nothing else."""

    model: Seq2SeqConfig = Seq2SeqConfig()  # noqa: RUF009  (frozen)
    slips: Share = 0.3  # share of the phrasings that get slips of the pen
    data: PairData | ScenePairs = ScenePairs()  # noqa: RUF009  (frozen)
