"""[data.quality]: the best rows of every stratum, the fewest that train, wrong tables in one line, for every task."""

import json
import math
import shutil

import numpy as np
import pytest
import torch

from cogstyle.cli.main import main
from cogstyle.config import from_dict
from cogstyle.data.selection import QualityConfig, select
from cogstyle.data.shards import Shards
from cogstyle.errors import ConfigError
from tests.conftest import debug_recipe

LOOK = [0, 0, 0, 0]


def rows(count: int = 40, **columns) -> Shards:
    """Rows at 1 and 2 frames a second in turns, of 3 and 6 s, in English and Chinese."""
    facts = [
        {"entry": k, "rate": 1.0 + k % 2, "length": 3.0 * (1 + k // 2 % 2), "language": "", "folder": "f", "look": LOOK}
        | {name: float(values[k]) for name, values in columns.items()}
        for k in range(count)
    ]
    captions = ["a circle moves" if k % 4 < 2 else "圆形" for k in range(count)]
    tokens = torch.arange(count)[:, None, None].expand(count, 5, 4)
    return Shards(tokens, captions, [4.0] * count, sources=[str(k) for k in range(count)], facts=facts)


def test_the_best_of_each_stratum_stay_in_their_order():
    worth = np.random.default_rng(0).permutation(40) + 20.0
    worth[[0, 1]] = math.nan  # not scored: never among the best
    data = rows(psnr=worth, flow=np.linspace(0, 1, 40))
    how = QualityConfig(keep=0.25, strata=("rate", "caption language"), least={"flow": (0.1, 0.9), "psnr": 21})
    found = select(data, how)
    wanted = []
    for rate in (0, 1):
        for chinese in (0, 1):
            group = [k for k in range(40) if k % 2 == rate and (k % 4 >= 2) == bool(chinese)]
            good = [k for k in group if 0.1 <= k / 39 <= 0.9 and worth[k] >= 21]
            wanted += sorted(good, key=lambda k: -worth[k])[: math.ceil(len(good) / 4)]
    assert found.tokens[:, 0, 0].tolist() == sorted(wanted)
    assert found.sources == [str(k) for k in sorted(wanted)] and len(found.captions) == len(wanted)
    assert set(found.kept) == {f"{rate} a second, {writing}" for rate in (1, 2) for writing in ("latin", "cjk")}
    assert sum(kept for _, kept in found.kept.values()) == len(wanted)
    assert [whole for whole, _ in found.kept.values()] == [10] * 4
    found = select(data, QualityConfig(keep=0.5, by="random", strata=("length", "caption has circle")))
    assert found.kept == {"2 to 4 s, circle: yes": (20, 10), "4 to 8 s, circle: no": (20, 10)}
    assert len(select(data, QualityConfig())) == 40


def test_a_control_does_not_look_at_scores():
    one, other = (rows(psnr=values) for values in (np.arange(40), -np.arange(40)))
    picks = [select(data, QualityConfig(keep=0.3, by="random")).sources for data in (one, other)]
    assert picks[0] == picks[1] and len(picks[0]) == 12 and picks[0] != [str(k) for k in range(12)]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"keep": 0.0}, "keep 0.0 must be greater than 0"),
        ({"keep": 1.5}, "keep 1.5 must be less than or equal to 1"),
        ({"least": {"beauty": 3.0}}, "unknown score 'beauty'; known are psnr, sharpness"),
        ({"by": "beauty"}, "unknown score 'beauty'"),
        ({"least": {"flow": [3.0, 1.0]}}, r"least flow \[3, 1\] must be \[lowest, highest\]"),
        ({"least": {"flow": "much"}}, "least.flow 'much'"),
        ({"strata": ["colour"]}, "unknown stratum 'colour'; known are rate, length, caption language"),
        ({"strata": ["caption has ("]}, "strata 'caption has \\(': missing \\)"),
        ({"least": {"psnr": 99.0}}, "keeps 0 of 40 rows of f: 2 are the fewest to train on; lower keep or least"),
        ({"least": {"read": 1.0}}, "no row of f has a score read; cogstyle encode --quality --judge adds it"),
    ],
)
def test_wrong_tables_are_one_error(table, message):
    with pytest.raises(ConfigError, match=message):
        select(rows(psnr=range(40)), from_dict(QualityConfig, table, "r.toml [data] [quality]"))


def test_rows_without_scores_are_named():
    data = rows(psnr=range(40))
    del data.facts[3]["look"]
    with pytest.raises(ConfigError, match="1 of 40 rows of f have no scores; cogstyle encode --quality adds them"):
        select(data, QualityConfig(keep=0.5))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    assert main(["world", "--count", "16", "--out", str(folder), "--size", "64"]) == 0
    return folder / "captions.csv"


@pytest.mark.parametrize("task", ["keyframes", "superres"])
def test_recipes_train_on_what_is_kept(task, world, debug_bundle, tmp_path, capsys):
    common = ["--bundle", str(debug_bundle), "--workers", "1", "--quiet"]
    assert main(["encode", str(world), "--to", str(tmp_path / "s"), "--for", task, "--flip", "no", *common]) == 0
    if task == "superres":  # it has no base: it is trained into a copy
        shutil.copytree(debug_bundle, tmp_path / "b")
    path = debug_recipe(tmp_path, task, steps=3, bundle=tmp_path / "b")
    quality = '[data.quality]\nkeep = 0.5\nstrata = ["caption language"]\nleast = { bars = [0, 0.5] }\n'
    shards = path.read_text().replace("rows = 24", f'shards = "{tmp_path / "s"}"')
    path.write_text((f'base = "{debug_bundle}"\n' if task == "keyframes" else "") + f"{shards}\n{quality}")
    train = ["train", str(path), "--runs", str(tmp_path / "runs")]
    assert main([*train, "--dry-run"]) == 2
    assert "rows of" in (said := capsys.readouterr().err) and "have no scores" in said and said.count("\n") == 1
    assert (
        main(["encode", str(world), "--to", str(tmp_path / "s"), "--for", task, "--flip", "no", "--quality", *common])
        == 0
    )
    capsys.readouterr()
    assert main(train) == 0
    said = capsys.readouterr().err
    kept = json.loads((tmp_path / "runs" / task / "rows.json").read_text())[task]
    assert set(kept) == {"cjk", "latin"} and all(0 < chosen < whole for whole, chosen in kept.values())
    whole, chosen = (sum(counts[k] for counts in kept.values()) for k in (0, 1))
    assert f"{task}: quality keeps {chosen} of {whole} rows" in said and f"{task}:   cjk: {kept['cjk'][1]} of" in said
    assert main([*train, "--set", "data.quality.keep=0.25"]) == 2  # other rows are another run
    assert "data.quality.keep was 0.5, is 0.25" in capsys.readouterr().err
