"""An evaluation, section by section: report.json grows as they finish, and a stopped evaluation resumes."""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cogstyle.config import require
from cogstyle.errors import ConfigError, FileError
from cogstyle.files import one_writer, read_text, write_bytes
from cogstyle.pictures import write_png
from cogstyle.sampling.pipeline import Pipeline
from cogstyle.shapes_report.markdown import to_markdown
from cogstyle.shapes_report.sections import Bench, Evaluation, Section, sections_of
from cogstyle.shapes_world import world

JSON, MARKDOWN = "report.json", "report.md"


def chosen_sections(plan: Evaluation, names: Sequence[str]) -> list[Section]:
    """The sections of a plan with these names; all of them if there are no names.

    Raises:
        ConfigError: for a name that the plan does not have.
    """
    sections = {section.name: section for section in sections_of(plan)}
    unknown = [name for name in names if name not in sections]
    require(not unknown, f"no part {', '.join(unknown)}; this evaluation has {'; '.join(sections)}")
    return [section for name, section in sections.items() if not names or name in names]


def start(pipe: Pipeline, plan: Evaluation, folder: Path) -> dict[str, Any]:
    """Resume the report in `folder` if it is one of the same weights and plan, or start one in an empty folder.

    Raises:
        ConfigError: naming what differs, for a report of other weights or another plan, or a folder of something else.
    """
    made = {
        "bundle": pipe.bundle.manifest["name"],
        "files": pipe.bundle.hashes(),
        "sampling": {stage: asdict(pipe.bundle.sampling(stage)) for stage in plan.options.stages},
        **json.loads(json.dumps(asdict(plan))),
    }
    path = folder / JSON
    if not path.exists():
        others = [name for name in sorted(os.listdir(folder)) if not name.startswith(".")]
        require(not others, f"{folder} holds other files ({', '.join(others[:3])}): give another --out")
        return {"made": made, "parts": {}}
    try:
        report: dict[str, Any] = json.loads(read_text(path))
        theirs = dict(report["made"])
        if not isinstance(report["parts"], dict):
            raise TypeError
    except (KeyError, TypeError, RecursionError):
        raise ConfigError(f"{path} is no report of cogstyle evaluate: give another --out") from None
    except (FileError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}; remove it to start anew") from None
    differing = [key for key in sorted({*theirs, *made}) if theirs.get(key) != made.get(key)]
    short = [f"{key} ({theirs.get(key)}, now {made.get(key)})" for key in differing]
    said = ", ".join(text if len(text) < 80 else key for text, key in zip(short, differing, strict=True))
    require(not differing, f"{path} is a report of other {said}: give another --out, or remove the old one")
    return report


def evaluate(
    pipe: Pipeline,
    plan: Evaluation,
    folder: Path,
    *,
    batch: int = 10,
    names: Sequence[str] = (),
    command: str = "",
    progress: Callable[[float], object] = lambda work: None,
    begun: Callable[[str], object] = lambda name: None,
) -> dict[str, Any]:
    """Run the sections of a plan that `folder` does not have yet; write report.json, report.md and pages of pictures.

    Args:
        batch: videos sampled side by side; changes no figure.
        names: sections to run; default: all.
        progress: called with the work that is finished, in whole clips.
        begun: called with the name of every section when it begins.
    """
    require(batch > 0, f"batch {batch} must be positive")
    pipe.check(world.caption(plan.scenes(*plan.kinds()[0])[0][1]), plan.options)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise FileError(f"cannot write into {folder}: {getattr(error, 'strerror', None) or error}") from None
    with one_writer(folder):
        return _evaluate(Bench(pipe, plan, batch, progress), folder, names=names, command=command, begun=begun)


def _evaluate(
    bench: Bench, folder: Path, *, names: Sequence[str], command: str, begun: Callable[[str], object]
) -> dict[str, Any]:
    pipe, plan, progress = bench.pipe, bench.plan, bench.progress
    report = start(pipe, plan, folder)
    for section in chosen_sections(plan, names):
        begun(section.name)
        if section.name in report["parts"]:
            progress(section.work)
            continue
        began = time.perf_counter()
        figures, pages = section.run(bench)
        for name, picture in pages.items():
            write_png(folder / name, picture)
        report["parts"][section.name] = {
            **figures,
            "pages": sorted(pages),
            "seconds": round(time.perf_counter() - began, 1),
            "date": time.strftime("%Y-%m-%d"),
            "command": command,
            "machine": f"{pipe.device.type}, {torch.get_num_threads()} thread(s)",
        }
        _write(folder, plan, report)
    return report


def _write(folder: Path, plan: Evaluation, report: dict[str, Any]) -> None:
    """The report as it is now; its sections stand in the order of the plan."""
    order = [section.name for section in sections_of(plan) if section.name in report["parts"]]
    report["parts"] = {name: report["parts"][name] for name in order}
    write_bytes(folder / JSON, json.dumps(report, ensure_ascii=False, indent=1, default=_plain).encode())
    write_bytes(folder / MARKDOWN, to_markdown(json.loads((folder / JSON).read_text("utf-8"))).encode())


def _plain(value: object) -> object:
    """Numbers of numpy as JSON knows them."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value)} in a report")
