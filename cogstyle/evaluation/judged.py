"""Videos of prompts, judged by a judge of any world: what share of the clips shows what was asked, kind by kind.

A prompts file has a JSON object a line: `prompt`, and if you like `kind` (lines of one kind are counted together),
`seed`, `seconds` (length of the clip; default: the bundle's) and whatever the judge needs.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from cogstyle.config import FRAME_RATES, require
from cogstyle.errors import ConfigError
from cogstyle.evaluation.best import MOST, Draw, best
from cogstyle.evaluation.judges import Judge
from cogstyle.evaluation.pages import ROWS, PageRow, page
from cogstyle.evaluation.report_folder import MARKDOWN, open_report, report_folder, write_report
from cogstyle.files import fingerprint, write_bytes
from cogstyle.pictures import write_png
from cogstyle.sampling.pipeline import Options, Pipeline
from cogstyle.sampling.prompts_file import read_lines
from cogstyle.sampling.recaption import How
from cogstyle.shares import percent, share, table
from cogstyle.video import Video

FAILURES = 20  # of a kind that the report tells of


@dataclass(frozen=True)
class Asked:
    """One clip that is asked for."""

    prompt: str
    kind: str
    seed: int
    seconds: float | None
    line: dict[str, Any] = field(repr=False)  # all that the judge may read
    drawn: str = ""  # the prompt as it is rewritten


def read_asked(path: Path, count: int | None = None) -> list[Asked]:
    """The lines of a prompts file, at most `count` of each kind.

    Raises:
        FileError: if it cannot be read.
        ConfigError: naming the line that is wrong.
    """
    require(count is None or count > 0, f"count {count} must be positive")
    found: list[Asked] = []
    for number, line in read_lines(path):
        try:
            asked = _asked(line, number)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}, line {number}: not JSON: {error}") from None
        except ConfigError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None
        if count is None or sum(other.kind == asked.kind for other in found) < count:
            found.append(asked)
    require(bool(found), f"{path} holds no prompt")
    return sorted(found, key=lambda asked: [other.kind for other in found].index(asked.kind))


def _asked(text: bytes, number: int) -> Asked:
    line = json.loads(text.decode())
    require(isinstance(line, dict), "must be a JSON object")
    prompt, kind, seed, seconds = (line.get(key) for key in ("prompt", "kind", "seed", "seconds"))
    require(isinstance(prompt, str) and bool(prompt.strip()), f"prompt must be a text, not {prompt!r:.60}")
    require(kind is None or (isinstance(kind, str) and bool(kind)), f"kind must be a text, not {kind!r:.60}")
    whole = isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**63
    require(seed is None or whole, f"seed must be a whole number of 0 or more, not {seed!r:.60}")
    length = isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds > 0
    require(seconds is None or length, f"seconds must be a number above 0, not {seconds!r:.60}")
    return Asked(prompt.strip(), kind or "clips", number if seed is None else seed, seconds, line)


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, by whom, and how."""

    pipe: Pipeline
    judge: Judge
    options: Options
    batch: int = 10  # videos sampled side by side; changes no figure
    best_of: int = 1  # draws of each prompt, of which the judge's best is counted
    command: str = ""
    recaption: How | None = None  # what rewrites the prompts, as in sampling

    def __post_init__(self) -> None:
        require(self.batch > 0, f"batch {self.batch} must be positive")
        require(1 <= self.best_of <= MOST, f"best-of {self.best_of} must be 1 to {MOST}")

    def run(
        self, asked: Sequence[Asked], folder: Path, *, progress: Callable[[int], object] = lambda clips: None
    ) -> dict[str, Any]:
        """Sample and judge what `folder` does not have yet; write report.json, report.md, a page of each kind's first.

        Args:
            progress: called with the number of clips that are finished.

        Raises:
            ConfigError, PromptError, FileError: for a prompt that cannot be sampled, before anything is; for a folder
                of another report; for a judge that fails.
        """
        rewritten = self.pipe.recaption(self.recaption)([one.prompt for one in asked])
        asked = [replace(one, drawn=found.drawn) for one, found in zip(asked, rewritten, strict=True)]
        for one in asked:
            self.pipe.check(one.drawn, self._options(one))
        bundle = self.pipe.bundle
        made = {
            "bundle": bundle.manifest["name"],
            "files": bundle.hashes(),
            "sampling": {stage: asdict(bundle.sampling(stage)) for stage in self.options.stages},
            "judge": [self.judge.name, self.judge.digest],
            "prompts": fingerprint([(one.line, one.kind, one.seed) for one in asked]),
            "options": json.loads(json.dumps(asdict(self.options))),
            "best_of": self.best_of,
        }
        if any(one.drawn != one.prompt for one in asked):
            made["drawn"] = fingerprint([one.drawn for one in asked])
        with report_folder(folder):
            report = open_report(folder, made)
            for kind, group in groupby(asked, lambda one: one.kind):
                part = report["parts"].setdefault(kind, {"clips": [], "pages": [], "seconds": 0.0})
                progress(len(part["clips"]))
                todo = list(group)[len(part["clips"]) :]
                while todo:
                    most = self.batch if part["clips"] else ROWS  # one page shows the first
                    now, todo = todo[:most], todo[most:]
                    self._judge(now, kind, part, folder)
                    progress(len(now))
                    write_report(folder, report)
                    write_bytes(folder / MARKDOWN, to_markdown(report).encode())
        return report

    def _judge(self, asked: Sequence[Asked], kind: str, part: dict[str, Any], folder: Path) -> None:
        """Sample and judge some more of a kind."""
        began, rows = time.perf_counter(), []
        for one, drawn in zip(asked, self._draw(asked), strict=True):
            holds, seen = dict(drawn.verdict.holds), drawn.verdict.seen
            said = {} if one.drawn == one.prompt else {"drawn": one.drawn}
            part["clips"].append({"seed": drawn.seed, "prompt": one.prompt, **said, "holds": holds, "seen": seen})
            rows.append(_row(one, drawn))
        if not part["pages"]:
            right = sum(row.right is True for row in rows)
            part["pages"] = [f"{_file_name(kind)}.png"]
            write_png(folder / part["pages"][0], page(rows, title=f"{kind}: the first {len(rows)}, {right} all right"))
        part |= {
            "summary": summarise(part["clips"]),
            "seconds": round(part["seconds"] + time.perf_counter() - began, 1),
            "date": time.strftime("%Y-%m-%d"),
            "command": self.command,
            "machine": f"{self.pipe.device.type}, {torch.get_num_threads()} thread(s)",
        }

    def _options(self, one: Asked) -> Options:
        """The options at the keyframe rate that makes a clip of the seconds that are asked for."""
        if one.seconds is None:
            return self.options
        steps = self.pipe.bundle.model_config.frames - 1
        known = ", ".join(f"{steps / rate:g}" for rate in FRAME_RATES)
        require(steps / one.seconds in FRAME_RATES, f"seconds {one.seconds:g} must be one of {known}")
        return replace(self.options, frame_rate=steps / one.seconds)

    def _draw(self, asked: Sequence[Asked]) -> Iterator[Draw]:
        """The judge's best draw of each."""
        draws = [replace(one, seed=one.seed + k) for one in asked for k in range(self.best_of)]
        found = [
            Draw(one.seed, video, self.judge(video, one.line))
            for one, video in zip(draws, self._sample(draws), strict=True)
        ]
        yield from (best(found[first : first + self.best_of]) for first in range(0, len(found), self.best_of))

    def _sample(self, asked: Sequence[Asked]) -> list[Video]:
        """The clips in the order asked, sampled side by side where their options are equal."""
        groups: dict[Options, list[int]] = {}
        for number, one in enumerate(asked):
            groups.setdefault(self._options(one), []).append(number)
        videos: dict[int, Video] = {}
        for options, numbers in groups.items():
            for first in range(0, len(numbers), self.batch):
                some = numbers[first : first + self.batch]
                made = self.pipe.sample([asked[n].drawn for n in some], [asked[n].seed for n in some], options)
                videos |= dict(zip(some, made, strict=True))
        return [videos[number] for number in range(len(asked))]


def _row(one: Asked, drawn: Draw) -> PageRow:
    failed = _failed(drawn.verdict.holds)
    note = f"seen: {drawn.verdict.seen}   {'wrong: ' + ', '.join(failed) if failed else 'all right'}"
    title = f"{drawn.seed}: {one.line.get('title', one.prompt)}"
    return PageRow(drawn.video.frames, title, note, drawn.verdict.all == 1.0)


def _failed(holds: Mapping[str, float]) -> list[str]:
    return [name for name, value in holds.items() if value < 1.0 and name != "all"]


def summarise(clips: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Share of the clips in which each attribute holds; with action and direction, the share in which both do."""
    rows = [clip["holds"] for clip in clips]
    names = list(dict.fromkeys(name for row in rows for name in row if name != "all"))
    columns = {name: [row[name] for row in rows if name in row] for name in names}
    if {"action", "direction"} <= set(names):
        columns["action and direction"] = [min(row.get("action", 0.0), row.get("direction", 0.0)) for row in rows]
    columns["all"] = [row["all"] for row in rows]
    return {name: share(sum(column), len(column)) for name, column in columns.items()}


def to_markdown(report: dict[str, Any]) -> str:
    """The report as tables."""
    made, parts = report["made"], report["parts"]
    first, *others = parts
    names = list(dict.fromkeys(name for part in parts.values() for name in part["summary"] if name != "all"))
    rows = [
        [name, *(percent(part["summary"][name]) if name in part["summary"] else "-" for part in parts.values())]
        for name in (*names, "all")
    ]
    text = [
        f"# Evaluation of {made['bundle']}\n\nJudge: `{made['judge'][0]}`. "
        + ", ".join(f"{kind}: {len(part['clips'])} clips" for kind, part in parts.items())
        + (f"; each the judge's best of {made['best_of']} draws" if made["best_of"] > 1 else "")
        + f"; {made['options']['levels']} refinement levels. In brackets: 95 % Wilson interval, in percent.\n",
        "## What of the prompt the clips show\n\n" + table(["attribute", *parts], rows),
    ]
    for kind in others:
        gaps = [
            f"{name} {100 * (parts[kind]['summary'][name]['share'] - row['share']):+.1f}"
            for name, row in parts[first]["summary"].items()
            if name in parts[kind]["summary"]
        ]
        text.append(f"{kind} less {first}, points: {', '.join(gaps)}.\n")
    failures = [
        [kind, str(clip["seed"]), clip["prompt"], ", ".join(_failed(clip["holds"])), clip["seen"]]
        for kind, part in parts.items()
        for clip in [clip for clip in part["clips"] if clip["holds"]["all"] < 1.0][:FAILURES]
    ]
    if failures:
        text.append("## First failures\n\n" + table(["kind", "seed", "prompt", "wrong", "seen"], failures))
    text.append(
        "## Pictures\n\n" + "\n".join(f"![{kind}]({name})\n" for kind, p in parts.items() for name in p["pages"])
    )
    costs = [[k, f"{p['seconds']:.0f}", p["date"], p["machine"], f"`{p['command']}`"] for k, p in parts.items()]
    return "\n".join([*text, "## Time\n\n" + table(["kind", "seconds", "date", "machine", "command"], costs)])


def _file_name(kind: str) -> str:
    """A kind as the name of a file."""
    return "".join(letter if letter.isalnum() else "-" for letter in kind)
