"""What a run trains: everything that its weights depend on, by name, so that no other recipe resumes from them."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cogstyle.bundle import Bundle, WeightFile
from cogstyle.config import ModelConfig, require
from cogstyle.errors import ConfigError
from cogstyle.training.ear import identity_of
from cogstyle.training.language_model_recipe import LanguageModelRecipe
from cogstyle.training.preference_recipe import PreferenceRecipe
from cogstyle.training.recipes import TokenizerRecipe, WeightRecipe
from cogstyle.training.rewards import Reward
from cogstyle.training.stage_recipes import ImageRecipe, LanguageRecipe

MATTER = ("task", "bundle", "seed", "train", "pb_relax", "copy_output", "optim", "mix", "curriculum", "growth", "lora",
          "preference", "reward", "sharp", "resample")  # fmt: skip
LLAMA = ("family", "caption_width", "inner", "rope_base")
ABSENT = {"train": "adapter", "pb_relax": False, "copy_output": True}  # said of tasks that have no such key
# keys that runs of before do not know, left out unless they are set
LATER_DATA = ("phrasings", "every_rate", "continuation")
ABSENT_DATA: dict[str, Any] = {"rows": 0, "shards": (), "validation_rows": 256, "caption_dropout": 0.1,
                               "two_actors": None, "actions": {}, "footage": (), "shares": ()}  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """Of a run, kept in each of its checkpoints.

    Args:
        fingerprint: value by name, see `fingerprint`.
        seen: what the export needs to know of the data, see `TransformerJob.seen`.
        ours: sha256 of what this run has exported: where it starts from its own bundle, that is no change.
        forced: resume from the checkpoints of another fingerprint.
    """

    fingerprint: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)
    ours: Collection[str] = ()
    forced: bool = False

    def meta(self) -> dict[str, str]:
        """As metadata of a checkpoint."""
        return {"fingerprint": json.dumps(self.fingerprint), "seen": json.dumps(self.seen)}

    def changes(self, meta: Mapping[str, str]) -> str:
        """How this differs from what a checkpoint says, each name with both values; empty if it does not."""
        return differences(json.loads(meta["fingerprint"]), self.fingerprint, self.ours)

    def check(self, folder: Path, meta: Mapping[str, str], steps: int) -> str:
        """The changes since a checkpoint of `folder`, if a run to `steps` may resume from it in spite of them.

        Raises:
            ConfigError: if it may not.
        """
        changes = self.changes(meta)
        if changes and not self.forced:
            raise ConfigError(
                f"{folder} is a run of another recipe: {changes}. Name a new run (--run NAME), or go on from its "
                "weights and optimiser with this recipe (--continue-run)"
            )
        late = f"{folder} has trained {meta['step']} steps already; this recipe ends after {steps}, so nothing is left"
        require(not changes or int(meta["step"]) < steps, late)
        return changes


def fingerprint(recipe: WeightRecipe) -> dict[str, Any]:
    """Everything that the weights of a recipe depend on; files count by their sha256, wherever they lie.

    How often a run writes things down, and how its steps are shared out, is left out.
    """
    table = {name: value for name, value in asdict(recipe).items() if value is not None}
    kept = {name: table.get(name, ABSENT.get(name)) for name in MATTER} | {"bundle": str(Path(recipe.bundle))}
    kept["loop"] = {"ema": recipe.loop.ema, "spike": recipe.loop.spike}
    kept["engine"] = {"precision": table["engine"].get("precision", "auto")}
    if "data" in table:
        data = {key: value for key, value in table["data"].items() if value or key not in LATER_DATA}
        kept["data"] = ABSENT_DATA | data | recipe.data.identity()  # type: ignore[attr-defined]
    if isinstance(recipe, LanguageModelRecipe):
        kept |= {"model": asdict(recipe.model), "slips": recipe.slips}
    elif isinstance(recipe, TokenizerRecipe):
        kept["tokenizer"] = asdict(recipe.config)
    else:
        kept |= _stands_on(recipe)
    if isinstance(recipe, LanguageRecipe):
        kept["language"] = identity_of(recipe.language)
    if isinstance(recipe, PreferenceRecipe):
        kept["reward files"] = Reward(recipe.reward).digests
    if recipe.start is not None:
        kept["start"] = Bundle(recipe.start).hashes().get(WeightFile.of(recipe.task))
    return _flat(json.loads(json.dumps(kept)))


def _stands_on(recipe: WeightRecipe) -> dict[str, Any]:
    source, new = Bundle(recipe.source), isinstance(recipe, ImageRecipe)
    names = (WeightFile.TOKENIZER, WeightFile.TEXT, *(() if new else (WeightFile.IMAGE,)))
    if isinstance(recipe, LanguageRecipe) and recipe.stage == "keyframes":
        names += (WeightFile.KEYFRAMES,)
    return {
        "stands on": {name: source.hashes().get(name) for name in names},
        "model": _said(recipe.architecture(source) if isinstance(recipe, ImageRecipe) else source.model_config),
        "tokenizer": asdict(source.tokenizer_config),
        "prompts": asdict(source.prompts),
        "text": source.manifest.get("text", {}),
    }


def _said(config: ModelConfig) -> dict[str, Any]:
    """A config without the keys that say nothing of it, which runs of before do not know."""
    silent = (LLAMA if config.family != "llama" else ()) + (() if config.grown else ("grown",))
    return {key: value for key, value in asdict(config).items() if key not in silent}


def _flat(table: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested tables as one, `optim.lr`."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return flat


def differences(before: Mapping[str, Any], now: Mapping[str, Any], ours: Collection[str] = ()) -> str:
    """Names and both values of all that differs; a value among `ours` counts as unchanged."""
    names = [name for name in dict.fromkeys([*now, *before]) if before.get(name) != now.get(name)]
    return "; ".join(
        f"{name} was {_short(before.get(name))}, is {_short(now.get(name))}"
        for name in names
        if now.get(name) is None or now[name] not in ours
    )


def _short(value: Any) -> str:
    if value is None:
        return "not set"
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else json.dumps(value, ensure_ascii=False)
