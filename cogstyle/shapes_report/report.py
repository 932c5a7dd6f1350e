"""An evaluation, section by section: report.json grows as they finish, and a stopped evaluation resumes."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cogstyle.config import require
from cogstyle.evaluation.report_folder import MARKDOWN, open_report, report_folder, write_report
from cogstyle.files import write_bytes
from cogstyle.pictures import write_png
from cogstyle.sampling.pipeline import Pipeline
from cogstyle.shapes_report.markdown import to_markdown
from cogstyle.shapes_report.sections import Bench, Evaluation, Section, sections_of
from cogstyle.shapes_world import world


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
        **{name: value for name, value in json.loads(json.dumps(asdict(plan))).items() if name != "phrasings" or value},
    }
    return open_report(folder, made)


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
    with report_folder(folder):
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
    write_bytes(folder / MARKDOWN, to_markdown(write_report(folder, report)).encode())
