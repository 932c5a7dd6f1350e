"""What a run trains: everything that its weights depend on, by name, so that no other recipe goes on from them."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogstyle.bundle import Bundle, WeightFile
from cogstyle.config import MODELS, preset, require
from cogstyle.data import shards
from cogstyle.data.footage import files_of, stamp
from cogstyle.errors import ConfigError
from cogstyle.files import sha256
from cogstyle.shapes_world import rows as scene_rows

if TYPE_CHECKING:
    from cogstyle.training.recipe import DataConfig, Recipe

MATTER = ("task", "bundle", "seed", "train", "pb_relax", "copy_output", "optim", "mix")


@dataclass(frozen=True)
class Identity:
    """Of a run, kept in each of its checkpoints.

    Args:
        fingerprint: value by name, see `fingerprint`.
        seen: what the export needs to know of the data, see `TransformerJob.seen`.
        ours: sha256 of what this run has exported: where it starts from its own bundle, that is no change.
        forced: go on from the checkpoints of another fingerprint.
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
        """The changes since a checkpoint of `folder`, if a run to `steps` may go on from it in spite of them.

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


def fingerprint(recipe: "Recipe") -> dict[str, Any]:
    """Everything that the weights of a recipe depend on; files count by their sha256, wherever they lie.

    How often a run writes things down, and how its steps are shared out, is left out.
    """
    table = asdict(recipe)
    kept = {name: table[name] for name in MATTER} | {"bundle": str(Path(recipe.bundle))}
    kept["loop"] = {"ema": recipe.loop.ema, "spike": recipe.loop.spike}
    kept["engine"] = {"precision": recipe.engine.precision}
    if recipe.data is not None:
        kept["data"] = table["data"] | _data(recipe.data)
    if recipe.task == "tokenizer":
        kept["tokenizer"] = asdict(recipe.tokenizer_config)
    else:
        kept |= _stands_on(recipe)
    if recipe.start is not None:
        kept["start"] = Bundle(recipe.start).hashes().get(WeightFile.of(recipe.task))
    return _flat(json.loads(json.dumps(kept)))


def _data(data: "DataConfig") -> dict[str, Any]:
    """Shards by what they hold, footage by the names and sizes of its files, scenes by the rules that draw them."""
    if data.footage:
        files = [[(path.name, stamp(path)[0]) for path in files_of(source)] for source in data.sources]
        return {"footage": hashlib.sha256(repr(files).encode()).hexdigest()}
    if not data.shards:
        return {"rules": scene_rows.RULES}
    indices = [repr(shards.read_index(folder)) for folder in data.folders]
    parts = [sha256(path) for folder in data.folders for path in sorted(folder.glob("part-*.safetensors"))]
    return {"shards": hashlib.sha256("".join(indices + parts).encode()).hexdigest()}


def _stands_on(recipe: "Recipe") -> dict[str, Any]:
    source, new = Bundle(recipe.base or recipe.bundle), recipe.task == "image"
    names = (WeightFile.TOKENIZER, WeightFile.TEXT, *(() if new else (WeightFile.IMAGE,)))
    return {
        "stands on": {name: source.hashes().get(name) for name in names},
        "model": asdict(preset(MODELS, recipe.preset) if new else source.model_config),
        "tokenizer": asdict(source.tokenizer_config),
        "prompts": asdict(source.prompts),
    }


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
