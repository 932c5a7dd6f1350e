"""An evaluation from part to part: report.json grows as parts finish, and a stopped evaluation goes on where it was."""

import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cogstyle.config import require
from cogstyle.data import world
from cogstyle.errors import ConfigError
from cogstyle.evaluation.markdown import to_markdown
from cogstyle.evaluation.parts import Bench, Part, Plan, parts_of
from cogstyle.files import write_bytes
from cogstyle.sampling.pipeline import Pipeline

JSON, MARKDOWN = "report.json", "report.md"


def chosen_parts(plan: Plan, names: Sequence[str]) -> list[Part]:
    """The parts of a plan with these names; all of them if there are no names.

    Raises:
        ConfigError: for a name that the plan does not have.
    """
    parts = parts_of(plan)
    known = {part.name for part in parts}
    unknown = [name for name in names if name not in known]
    require(not unknown, f"no part {', '.join(unknown)}; this evaluation has {'; '.join(part.name for part in parts)}")
    return [part for part in parts if not names or part.name in names]


def start(pipe: Pipeline, plan: Plan, folder: Path) -> dict[str, Any]:
    """The report in `folder` as far as it is, if it is one of the same weights and plan; else a new one."""
    made = {
        "bundle": pipe.bundle.manifest["name"],
        "files": pipe.bundle.hashes(),
        "sampling": {stage: asdict(pipe.bundle.sampling(stage)) for stage in plan.options.stages},
        **json.loads(json.dumps(asdict(plan))),
    }
    try:
        report: dict[str, Any] = json.loads((folder / JSON).read_text("utf-8"))
    except FileNotFoundError:
        report = {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {folder / JSON}: {error}; remove it to start anew") from None
    return report if report.get("made") == made else {"made": made, "parts": {}}


def evaluate(
    pipe: Pipeline,
    plan: Plan,
    folder: Path,
    *,
    batch: int = 10,
    names: Sequence[str] = (),
    command: str = "",
    done: Callable[[float], object] = lambda work: None,
    begun: Callable[[str], object] = lambda name: None,
) -> dict[str, Any]:
    """Run the parts of a plan that `folder` does not have yet, and write report.json, report.md and pages of pictures.

    Args:
        batch: videos sampled side by side; changes no figure.
        names: parts to run; default: all.
        done: told about work that is finished, in whole clips.
        begun: told the name of every part when it begins.
    """
    require(batch > 0, f"batch {batch} must be positive")
    pipe.check(world.caption(plan.scenes(*plan.kinds()[0])[0][1]), plan.options)
    bench, report = Bench(pipe, plan, batch, done), start(pipe, plan, folder)
    folder.mkdir(parents=True, exist_ok=True)
    for part in chosen_parts(plan, names):
        begun(part.name)
        if part.name in report["parts"]:
            done(part.work)
            continue
        began = time.perf_counter()
        figures, pages = part.run(bench)
        for name, picture in pages.items():
            write_bytes(folder / name, _png(picture))
        report["parts"][part.name] = {
            **figures,
            "pages": sorted(pages),
            "seconds": round(time.perf_counter() - began, 1),
            "date": time.strftime("%Y-%m-%d"),
            "command": command,
            "machine": f"{pipe.device.type}, {torch.get_num_threads()} thread(s)",
        }
        _write(folder, plan, report)
    return report


def _png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


def _write(folder: Path, plan: Plan, report: dict[str, Any]) -> None:
    """The report as it is now; parts stand in the order of the plan."""
    order = [part.name for part in parts_of(plan) if part.name in report["parts"]]
    report["parts"] = {name: report["parts"][name] for name in order}
    write_bytes(folder / JSON, json.dumps(report, ensure_ascii=False, indent=1, default=_plain).encode())
    write_bytes(folder / MARKDOWN, to_markdown(json.loads((folder / JSON).read_text("utf-8"))).encode())


def _plain(value: object) -> object:
    """What JSON does not know: numbers of numpy."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value)} in a report")
