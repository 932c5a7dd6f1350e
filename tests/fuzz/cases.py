"""Case `number` of seed `seed`: a folder with one thing wrong in it, and a command line that meets it."""

import argparse
import hashlib
import json
import os
import random
import re
import tomllib
from dataclasses import fields
from pathlib import Path

from cogstyle.cli.main import build_parser
from cogstyle.config import SamplingConfig
from cogstyle.data.mixing import MixConfig
from cogstyle.training.engine import EngineConfig
from cogstyle.training.job import LoopConfig, OptimConfig
from cogstyle.training.sources import SceneData
from cogstyle.training.stage_recipes import KeyframesRecipe
from tests.fuzz.ground import EVERY, OPEN, OTHERS, READERS, copy
from tests.fuzz.values import ARGUMENTS, spoil_bytes, spoil_table, to_toml, wrong_value

WEIGHTS = {"bytes": 6, "table": 3, "header": 2, "recipe": 4, "bundle": 4, "prompts": 2, "arguments": 5}
RECIPE = {"optim": OptimConfig, "loop": LoopConfig, "data": SceneData, "sampling": SamplingConfig, "mix": MixConfig,
          "engine": EngineConfig, "": KeyframesRecipe}  # fmt: skip
STRUCTURED = (".toml", ".json", ".jsonl")


def make_case(seed: int, number: int, ground: Path, folder: Path) -> tuple[list[str], str]:
    """Write the case's files into `folder`; returns its command line and what is wrong."""
    rng = random.Random(f"{seed} {number}")
    kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    if kind == "arguments":
        return wrong_arguments(rng, ground, folder)
    pattern = {"recipe": "recipes/*", "bundle": "bundle/*", "prompts": "prompts/*"}.get(kind) or rng.choice(
        list(READERS)
    )
    found = [
        path
        for path in sorted(ground.glob(pattern))
        for path in ([path] if path.is_file() else sorted(path.rglob("*")))
    ]
    found = [path for path in found if path.is_file()]
    if kind in ("table", "recipe", "bundle", "prompts"):
        found = [path for path in found if path.suffix in STRUCTURED] or found
    elif kind == "header":
        found = [path for path in found if path.suffix in (".safetensors", ".part")] or found
    chosen = rng.choice(found)
    command = rng.choice(READERS[pattern])
    copy(ground, folder, command.needs)
    inside = chosen.relative_to(ground)
    place = Path(*inside.parts[1:]) if inside.parts[0] in OPEN else inside
    path = folder / place
    if not path.exists():  # what is spoilt does not matter to this command: it must not mind
        copy(ground, folder, (inside.parts[0],))
    what = spoil(rng, kind, path)
    if inside.parts[0] == "bundle" and path.name != "bundle.toml" and path.is_file() and rng.random() < 0.7:
        sign(folder / "bundle", path.name)
    return command.argv(str(place)), what


def spoil(rng: random.Random, kind: str, path: Path) -> str:
    if kind != "bytes" and path.suffix == ".toml":
        table = tomllib.loads(path.read_text("utf-8"))
        own = kind == "recipe" and rng.random() < 0.5
        what = spoil_recipe(rng, table) if own else spoil_table(rng, table, toml=True)
        path.write_text(to_toml(table), "utf-8")
        return f"{path.name}: {what}"
    if kind != "bytes" and path.suffix in (".json", ".jsonl"):
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.suffix == ".jsonl" else None
        table = rng.choice(lines) if lines else json.loads(path.read_text("utf-8"))
        what = spoil_table(rng, table, toml=False)
        path.write_text("\n".join(map(json.dumps, lines)) if lines else json.dumps(table), "utf-8")
        return f"{path.name}: {what}"
    if kind == "header" and path.suffix in (".safetensors", ".part"):
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        what = spoil_table(rng, header, toml=False)
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
        return f"{path.name} header: {what}"
    return spoil_bytes(rng, path)


def spoil_recipe(rng: random.Random, table: dict) -> str:
    """A wrong value for any key that a recipe can have."""
    name = rng.choice(list(RECIPE))
    inner = table.setdefault(name, {}) if name else table
    key = rng.choice([f.name for f in fields(RECIPE[name])])
    inner[key] = value = wrong_value(rng, toml=True)
    return f"{name} {key} = {value!r:.60}"


def sign(bundle: Path, name: str) -> None:
    """Make bundle.toml agree with a spoilt file, so that it is read."""
    path = bundle / "bundle.toml"
    text = path.read_text("utf-8")
    plain = re.sub(r"-[0-9a-f]{12}(?=\.)", "", name)  # some carry their hash
    old = tomllib.loads(text)["files"].get(plain)
    if old:
        os.rename(bundle / name, bundle / plain)
        path.write_text(text.replace(old, hashlib.sha256((bundle / plain).read_bytes()).hexdigest()), "utf-8")


def wrong_arguments(rng: random.Random, ground: Path, folder: Path) -> tuple[list[str], str]:
    command = rng.choice((*EVERY, *OTHERS))
    copy(ground, folder, command.needs)
    os.mkfifo(folder / "fifo")
    name, *words = command.argv()
    parsers = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    actions = [action for action in parsers[name]._actions if not {"--help", "--quiet"} & set(action.option_strings)]
    action = rng.choice(actions)
    values = [rng.choice(ARGUMENTS)] if action.nargs != 0 else []
    if action.dest in ("count", "workers", "sweep", "threads") and values[0] in ("1000000000", "9" * 30):
        values = ["-2"]  # more work than a test can wait for, but a right number
    if action.option_strings:
        flag = action.option_strings[0]
        if flag in words:
            at = words.index(flag)
            words[at : at + 1 + len(values)] = []
        words += [f"{flag}={values[0]}"] if values else [flag]
    elif values:
        places = [
            n
            for n, word in enumerate(words)
            if not word.startswith("-") and (n == 0 or not words[n - 1].startswith("-"))
        ]
        words[rng.choice(places) if places else 0 : 1] = values
    return [name, *words], f"{action.dest} {values}"
