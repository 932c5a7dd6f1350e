"""A report for reading: the figures of report.json as Markdown tables. It measures nothing."""

from typing import Any

from cogstyle.shapes_report.stages import STAGES
from cogstyle.shapes_world.alignment import ATTRIBUTES, PAIRED
from cogstyle.shares import percent, share, table

Figures = dict[str, Any]  # of one section
STILL = ("count", "colour", "shape", "background", "size")  # what one frame can show
FIGURES = {
    "flicker": "flicker of still background, 8-bit levels",
    "repeated_tokens": "tokens equal to the frame before, share",
    "between_1": "first refinement between its neighbours, share",
    "between_2": "second refinement between its neighbours, share",
    "between_3": "third refinement between its neighbours, share",
    "distance_from_motion": "distance from the asked motion at each time, canvas",
    "unevenness": "unevenness of the path (second difference), canvas",
}


def number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def to_markdown(report: dict[str, Any]) -> str:
    """The whole report."""
    made, parts = report["made"], report["parts"]
    frames = "upscaled" if made["upscale"] else "not upscaled"
    sections = [
        f"# Evaluation of {made['bundle']}\n\n"
        f"{made['count']} captions of each kind of scene from seed {made['first_seed']} on, {made['levels']} "
        f"refinement levels, {frames}, the bundle's own sampling options, each scene at the lowest rate that holds "
        "its action. In brackets: 95 % Wilson interval, in percent.\n"
    ]
    kinds = {name: part for name, part in parts.items() if "alignment" in part}
    stages = {name.removeprefix("stages, "): part for name, part in parts.items() if "stages" in part}
    sections += [_reader(parts["reader"])] if "reader" in parts else []
    sections += [_alignment(kinds)] if kinds else []
    sections += [_language(kinds["one actor"], parts["language"])] if {"one actor", "language"} <= set(parts) else []
    sections += [_limits(name, part, kinds.get(name)) for name, part in stages.items()]
    phrased = {
        name.removeprefix("phrasings, "): part["phrasings"] for name, part in parts.items() if "phrasings" in part
    }
    sections += [_phrasings(phrased, kinds)] if phrased else []
    sections += [_rates(parts["frame rate"])] if "frame rate" in parts else []
    sections += [_temporal(kinds, stages)] if kinds else []
    sections += [_distances(part["distances"]) for part in kinds.values() if "distances" in part]
    sections += [_diversity(parts["diversity"])] if "diversity" in parts else []
    sections += [_sweep(parts["sweep"])] if "sweep" in parts else []
    return "\n".join([*sections, _pages(parts), _cost(parts)])


def _reader(part: Figures) -> str:
    met = (
        ""
        if part["met"]
        else "\n**The reader misses its own limits here: the shares below are no better than it is.**\n"
    )
    true, changed = part["true"], part["changed"]
    rows = [[name, percent(row["accepted"]), percent(row["named"])] for name, row in part["by_change"].items()]
    return (
        f"## The reader itself\n\nOn true renders of {part['frames']} frames at {part['size']} px it accepts "
        f"{percent(true)} of {true['n']} (at least {100 * part['limits']['true']:.0f} % wanted), and of {changed['n']} "
        f"renders with one thing changed {percent(changed)} (at most {100 * part['limits']['changed']:.0f} %).\n{met}\n"
        + table(["changed", "accepted all the same", "named as wrong"], rows)
    )


def _alignment(kinds: dict[str, Figures]) -> str:
    names = [*ATTRIBUTES, PAIRED, "all"]
    rows = [[n.replace("_", " "), *(percent(part["alignment"][n]) for part in kinds.values())] for n in names]
    rows += [
        [f"all, {word} captions", *(percent(part["by_language"][code]["all"]) for part in kinds.values())]
        for code, word in (("en", "English"), ("zh", "Chinese"))
    ]
    return "## What of the caption the clips show\n\n" + table(["attribute", *kinds], rows)


def _language(kind: Figures, part: Figures) -> str:
    failed = {str(error["seed"]) for error in kind["errors"]}
    pairs = []  # (right in English, right in Chinese) of each scene
    for seed, right in part["right"].items():
        first, other = seed not in failed, right
        pairs.append((first, other) if part["language"][seed] == "zh" else (other, first))
    n = len(pairs)
    english, chinese = (percent(share(sum(column), n)) for column in zip(*pairs, strict=True))
    only = [sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)]
    gap = 100 * (sum(b for _, b in pairs) - sum(a for a, _ in pairs)) / n
    return (
        f"## English and Chinese\n\nThe same {n} one-actor scenes in both languages: all right in English {english}, "
        f"in Chinese {chinese}; Chinese less English {gap:+.0f} points. Right in English alone {only[0]}, in Chinese "
        f"alone {only[1]}.\n"
    )


def _phrasings(phrased: dict[str, Figures], kinds: dict[str, Figures]) -> str:
    rows = []
    for kind, wordings in phrased.items():
        asked = {"canonical captions": kinds[kind]["alignment"]} if kind in kinds else {}
        asked |= {name: part["shares"] for name, part in wordings.items()}
        rows += [
            [f"{kind}, {name}", *(percent(found[a]) for a in (*ATTRIBUTES, "all"))] for name, found in asked.items()
        ]
    return "## Asked as people write\n\nThe same scenes and seeds.\n\n" + table(
        ["asked with", *ATTRIBUTES, "all"], rows
    )


def _limits(name: str, part: Figures, kind: Figures | None) -> str:
    """Shares of every stage fed with the truth, and which is the lowest."""
    fed = {stage: found["alignment"] for stage, found in part["stages"].items() if stage != "truth"}
    fed |= {} if kind is None else {"image": kind["first_frame"]}
    fed = {stage: fed[stage] for stage in STAGES if stage in fed}
    rows = [("true frames, as the reader sees them", part["stages"]["truth"]["alignment"])]
    rows += [(STAGES[stage], summary) for stage, summary in fed.items()]
    if kind is not None:
        rows += [("keyframes as sampled, from the text", kind["keyframes"]), ("the whole way", kind["alignment"])]
    cells = []
    for title, summary in rows:
        shown = STILL if title == STAGES["image"] else ATTRIBUTES
        cells.append(
            [title, *(percent(summary[a]) if a in shown else "-" for a in ATTRIBUTES), percent(summary["all"])]
        )
    (worst, last), *others = sorted(
        ((STAGES[stage].split(":")[0], summary["all"]) for stage, summary in fed.items()),
        key=lambda item: item[1]["share"],
    )
    said = f"Fed with the truth, the weakest is the {worst} ({100 * last['share']:.0f} % all right)"
    near = [title for title, row in others if row["low"] <= last["high"]]
    said = "Fed with the truth, no stage fails in any clip" if last["share"] == 1.0 else said
    near = [] if last["share"] == 1.0 else near
    said += f"; so few clips do not tell it apart from the {' and the '.join(near)}." if near else "."
    return f"## What limits it: {name}\n\n" + table(["fed with the truth", *ATTRIBUTES, "all"], cells) + f"\n{said}\n"


def _rates(part: Figures) -> str:
    rows = []
    for row in part["rates"]:
        remarks = [] if row["trained"] else ["never trained"]
        remarks += [] if row["fits"] else ["shows the beginning of the action"]
        remarks += ["the action ends before the clip"] if row["fits"] and not row["trained"] else []
        ratio = None if row["mean"] is None else row["mean"] / row["true"]
        wide = "" if row["error"] is None else f" ± {1.96 * row['error']:.3f}"
        rows.append(
            [
                f"{row['frame_rate']:g}",
                number(row["true"]),
                number(row["mean"]) + wide,
                number(ratio, 2),
                percent(row["within_tenth"]),
                str(row["lost"]),
                "; ".join(remarks) or "-",
            ]
        )
    line = "no slope: too few clips, or no motion at all"
    if part["slope"] is not None:
        line = (
            f"slope {part['slope']:.2f} (95 % bootstrap {part['slope_low']:.2f} to {part['slope_high']:.2f}), "
            f"correlation {part['correlation']:.2f}; both would be 1"
        )
    head = ["keyframes a second", "true", "found", "found / true", "clips within 10 %", "no actor", "remark"]
    return (
        '## Frame-rate control\n\nDisplacement per keyframe (canvas widths) of captions that say "moves ... slowly": '
        f"the same text at every rate, keyframes only. Over the clips at trained rates: {line}.\n\n" + table(head, rows)
    )


def _temporal(kinds: dict[str, Figures], stages: dict[str, Figures]) -> str:
    columns = {name: part["temporal"] for name, part in kinds.items()}
    for name, part in stages.items():
        columns[f"tokenizer alone, {name}"] = part["stages"]["tokenizer"]["temporal"]
        if "interpolation" in part["stages"]:
            columns[f"between true keyframes, {name}"] = part["stages"]["interpolation"]["temporal"]
        columns[f"truth, {name}"] = part["stages"]["truth"]["temporal"]
    rows = [
        [words, *(number(column.get(figure, {}).get("mean")) for column in columns.values())]
        for figure, words in FIGURES.items()
        if any(figure in column for column in columns.values())
    ]
    return (
        "## Temporal quality\n\nMeans over clips (report.json has standard errors). Curved paths leave the chord "
        "between two frames by right: compare with the truth. The truth's distance from its motion is the reader's "
        "own error.\n\n" + table(["figure", *columns], rows)
    )


def _distances(part: Figures) -> str:
    if "skipped" in part:
        return f"## FVD, KVD and IS\n\nNot measured: {part['skipped']}\n"
    names = {"samples": "sampled clips", "reconstructed": "true clips through the tokenizer", "true": "true clips"}
    rows = [
        [
            words,
            number(part[name]["fvd"], 2),
            f"{part[name]['kvd']['mean']:.4f} ± {part[name]['kvd']['std']:.4f}",
            number(part[name]["is"]["mean"], 2),
        ]
        for name, words in names.items()
    ]
    first, by = part["samples"], part["samples"]["extractor"]
    notes = "".join(f"\n- {note}" for note in first["notes"])
    return (
        f"## FVD, KVD and IS\n\nOne-actor clips ({first['fake']['count']} a row) against {first['real']['count']} true "
        f"scenes of other seeds, on {first['features']} features of the shapes world's classifier ({by['frames']} "
        f"frames at {by['size']} px, sha256 {by['sha256'][:12]}). They compare with nothing but figures of the same "
        "classifier and number of clips.\n\n" + table(["clips", "FVD", "KVD", "IS"], rows) + notes + "\n"
    )


def _diversity(part: Figures) -> str:
    rows = []
    for text in part["texts"]:
        pair = [(text["found"][key], text["true"][key]) for key in ("pixels", "place", "radius", "same_background")]
        cells = [f"{number(a, d)} / {number(b, d)}" for (a, b), d in zip(pair, (1, 3, 3, 2), strict=True)]
        rows.append([text["caption"], *cells])
    head = ["caption", "pixels (levels)", "start place", "radius", "same background"]
    return (
        f"## Diversity\n\nFirst frames of {part['seeds']} seeds of one text / of true scenes with the same caption: "
        "root mean square difference of two, spread of place and radius in canvas units, share of pairs on one "
        "background.\n\n" + table(head, rows)
    )


def _sweep(part: Figures) -> str:
    rows = [
        [
            f"{row['guidance']:g}",
            *(percent(row["alignment"][name]) for name in ("colour", "shape", PAIRED, "all")),
            number(row["repeated"]["mean"]),
        ]
        for row in part["scales"]
    ]
    head = ["guidance", "colour", "shape", "action and direction", "all", "repeated tokens"]
    return (
        f"## Guidance\n\nKeyframes only, of one-actor scenes from seed {part['first_seed']} on, which nothing else "
        "here is measured on: options may be chosen by it.\n\n" + table(head, rows)
    )


def _pages(parts: dict[str, Figures]) -> str:
    names = [name for part in parts.values() for name in part["pages"]]
    return "## Pictures\n\n" + "\n".join(f"![{name.removesuffix('.png')}]({name})\n" for name in names)


def _cost(parts: dict[str, Figures]) -> str:
    rows = [[n, f"{p['seconds']:.0f}", p["date"], p["machine"], f"`{p['command']}`"] for n, p in parts.items()]
    return "## Time\n\n" + table(["part", "seconds", "date", "machine", "command"], rows)
