"""The sections of an evaluation. Each samples its own clips and gives figures (for JSON) and pages of pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations

import numpy as np

from cogstyle.config import FRAME_RATES, require
from cogstyle.evaluation.pages import ROWS, PageRow, page
from cogstyle.sampling.pipeline import Options, Pipeline
from cogstyle.shapes_report import temporal, wordings
from cogstyle.shapes_report.distances import distances
from cogstyle.shapes_report.pages import asked, row_of, seen, wrong
from cogstyle.shapes_report.protocol import (
    TUNING_SEED,
    Clip,
    Progress,
    Scenes,
    draw_scenes,
    every,
    frame_times,
    in_other_language,
    judged,
    mean_step,
    sample_scenes,
    slow_movers,
    true_mean_step,
    true_video,
)
from cogstyle.shapes_report.stages import STAGES, fed_with_truth
from cogstyle.shapes_world import counterfactuals, world
from cogstyle.shapes_world.alignment import Verdict, summarise
from cogstyle.shares import share
from cogstyle.video import Video

Figures = dict[str, object]
Pages = dict[str, np.ndarray]  # by file name

RATES = tuple(rate for rate in FRAME_RATES if rate >= 0.5)  # of the section on rates
TEXTS, SEEDS = 4, 8  # of the section on diversity
TRUE_CLIPS, ACCEPTED, REFUSED = 100, 0.98, 0.03  # the reader's own test: clips at least, and its two limits
READING, KEYFRAMES_ONLY = 0.07, 0.3  # work, beside 1 for a whole clip
GUIDANCES = (1.0, 1.25, 1.5, 2.0, 3.0)  # of a sweep


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate; every figure depends on all of it."""

    count: int = 20  # captions of each kind of scene
    first_seed: int = world.VALIDATION_SEED
    actors: tuple[int, ...] = (1, 2)
    held_out: tuple[bool, ...] = (False, True)  # colour-shape pairs that training shows, and those it never does
    levels: int = 3  # refinement levels of the clips
    upscale: bool = False  # super-resolution of every frame
    sweep: tuple[float, ...] = ()  # guidance scales to try
    phrasings: bool = False  # also ask as people write

    def __post_init__(self) -> None:
        require(self.count > 0, f"count {self.count} must be positive")
        low, high = world.VALIDATION_SEED, TUNING_SEED
        require(
            low <= self.first_seed and self.first_seed + self.count <= high,
            f"first-seed {self.first_seed} must be {low} or more, and the last below {high} "
            "(validation scenes; below are training's, from there on those that options are chosen on)",
        )
        require(all(scale >= 0 for scale in self.sweep), f"sweep {self.sweep} must be scales of 0 or more")
        _ = self.options  # checks the levels

    @property
    def options(self) -> Options:
        return Options(levels=self.levels, upscale=self.upscale)

    def kinds(self) -> list[tuple[int, bool]]:
        """(actors, held out) of every kind of scene."""
        return [(actors, held_out) for held_out in self.held_out for actors in self.actors]

    def scenes(self, actors: int, held_out: bool) -> Scenes:
        return draw_scenes(self.first_seed, self.count, actors=actors, held_out=held_out)


@dataclass(frozen=True)
class Bench:
    """A pipeline to evaluate, and how."""

    pipe: Pipeline
    plan: Evaluation
    batch: int = 10
    progress: Progress = lambda work: None

    @property
    def keyframes(self) -> int:
        """Keyframes of a clip."""
        return self.pipe.bundle.model_config.frames

    @property
    def size(self) -> int:
        """Side of the clips that are judged, pixels."""
        factor = self.pipe.bundle.superres_config.factor if self.plan.upscale else 1
        return factor * self.pipe.bundle.tokenizer_config.image_size

    def sample(self, scenes: Scenes, options: Options, *, rate: float | None = None, work: float = 1.0) -> list[Clip]:
        progress = lambda clips: self.progress(work * clips)  # noqa: E731
        return sample_scenes(self.pipe, scenes, options, batch=self.batch, rate=rate, progress=progress)

    def true_clips(self, scenes: Scenes) -> list[Clip]:
        """What perfect clips of the scenes would be."""
        shape = {"frames": self.keyframes, "levels": self.plan.levels, "size": self.size}
        return [judged(seed, scene, true_video(scene, **shape)) for seed, scene in scenes]


@dataclass(frozen=True)
class Section:
    """One section: its name, how much work it is (1 = a whole clip), and what does it."""

    name: str
    work: float
    run: Callable[[Bench], tuple[Figures, Pages]] = field(repr=False)


def kind_name(actors: int, held_out: bool) -> str:
    return f"{('one actor', 'two actors')[actors - 1]}{', held-out pair' if held_out else ''}"


def sections_of(plan: Evaluation) -> list[Section]:
    """All sections that a plan asks for, in order."""
    n = plan.count
    sections = [Section("reader", READING * (max(n, TRUE_CLIPS) + n * len(counterfactuals.CHANGES)), reader)]
    for actors, held_out in plan.kinds():
        sections.append(Section(kind_name(actors, held_out), n, partial(kind, actors=actors, held_out=held_out)))
    if (1, False) in plan.kinds():
        sections.append(Section("language", n, language))
        sections.append(Section("frame rate", KEYFRAMES_ONLY * n * len(RATES), frame_rate))
    for actors, held_out in plan.kinds():
        named = kind_name(actors, False)
        sections += [] if held_out else [Section(f"stages, {named}", n, partial(stages, actors=actors))]
        if plan.phrasings and not held_out:
            sections.append(Section(f"phrasings, {named}", 2 * n, partial(wordings.phrasings, actors=actors)))
    if (1, False) in plan.kinds():
        sections.append(Section("diversity", KEYFRAMES_ONLY * min(TEXTS, n) * SEEDS, diversity))
    if plan.sweep:
        sections.append(Section("sweep", KEYFRAMES_ONLY * n * len(plan.sweep), sweep))
    return sections


def reader(bench: Bench) -> tuple[Figures, Pages]:
    """The reader's own test, on renders of the length and size that it will read."""
    plan = bench.plan
    true = []  # without their frames
    for seed in range(plan.first_seed, plan.first_seed + max(plan.count, TRUE_CLIPS)):
        (clip,) = bench.true_clips([(seed, world.draw_scene(seed))])
        times = frame_times(clip.video)
        true.append(replace(clip, video=Video(clip.video.frames[:1], clip.video.fps)))
        bench.progress(READING)
    accepted: dict[str, list[bool]] = {name: [] for name in counterfactuals.CHANGES}
    noticed: dict[str, list[bool]] = {name: [] for name in counterfactuals.CHANGES}
    rng = np.random.default_rng(plan.first_seed)
    for clip in true[: plan.count]:
        for name, (attribute, change) in counterfactuals.CHANGES.items():
            bench.progress(READING)
            if (other := change(clip.scene, rng)) is None:
                continue
            moments = [k / clip.video.fps for k in range(len(times))]
            video = Video(world.render_clip(other, moments, bench.size), clip.video.fps)
            verdict = judged(clip.seed, clip.scene, video).verdict
            accepted[name].append(verdict.all)
            noticed[name].append(not getattr(verdict, attribute))
    taken, passed = share(sum(c.verdict.all for c in true), len(true)), [x for row in accepted.values() for x in row]
    refused = share(sum(passed), len(passed))
    return {
        "frames": len(times),
        "size": bench.size,
        "true": taken,
        "changed": refused,
        "by_change": {
            name: {"accepted": share(sum(row), len(row)), "named": share(sum(noticed[name]), len(row))}
            for name, row in accepted.items()
        },
        "limits": {"true": ACCEPTED, "changed": REFUSED},
        "met": taken["share"] >= ACCEPTED and refused["share"] <= REFUSED,
        "refused_true": [_mistake(clip) for clip in true if not clip.verdict.all],
    }, {}


def _mistake(clip: Clip) -> Figures:
    said = {"seed": clip.seed, "caption": world.caption(clip.scene)}
    return {**said, "wrong": wrong(clip.verdict), "read": seen(clip.reading)}


def _temporal(clips: Sequence[Clip], levels: int) -> dict[str, dict[str, float | None]]:
    rows = [
        temporal.figures(
            clip.video.frames,
            frame_times(clip.video),
            clip.scene,
            clip.reading,
            levels=levels,
            tokens_FL=clip.video.tokens,
        )
        for clip in clips
    ]
    return temporal.mean_figures(rows)


def _verdicts(clips: Sequence[Clip]) -> list[Verdict]:
    return [clip.verdict for clip in clips]


def _still(verdict: Verdict) -> Verdict:
    """What one frame can be right or wrong in: everything but motion."""
    return replace(verdict, action=True, direction=True, speed=True)


def kind(bench: Bench, *, actors: int, held_out: bool) -> tuple[Figures, Pages]:
    """Captions of one kind of scene, sampled and judged; the one-actor clips of seen pairs also by FVD."""
    plan = bench.plan
    clips = bench.sample(plan.scenes(actors, held_out), plan.options)
    figures: Figures = {
        "alignment": summarise(_verdicts(clips)),
        "by_language": {
            code: summarise([clip.verdict for clip in clips if clip.scene.language == code]) for code in ("en", "zh")
        },
        "keyframes": summarise(_verdicts([every(clip, 2**plan.levels) for clip in clips])),
        "first_frame": summarise([_still(every(clip, len(clip.video.frames)).verdict) for clip in clips]),
        "temporal": _temporal(clips, plan.levels),
        "errors": [_mistake(clip) for clip in clips if not clip.verdict.all],
    }
    if (actors, held_out) == (1, False):
        figures["distances"] = distances(bench.pipe, clips)
    name = kind_name(actors, held_out).replace(", ", "-").replace(" ", "-")
    failed = [clip for clip in clips if not clip.verdict.all]
    right = f"{len(clips) - len(failed)} of {len(clips)} all right"
    pages = {f"{name}.png": page([row_of(c) for c in clips[:ROWS]], title=f"{right}; by seed")}
    if not all(clip.verdict.all for clip in clips[ROWS:]):
        pages[f"{name}-failures.png"] = page([row_of(c) for c in failed[:ROWS]], title=f"{right}; the first failures")
    return figures, pages


def language(bench: Bench) -> tuple[Figures, Pages]:
    """The one-actor scenes of seen pairs again, each asked for in the language that it does not have."""
    plan = bench.plan
    clips = bench.sample(in_other_language(plan.scenes(1, False)), plan.options)
    codes = {clip.seed: clip.scene.language for clip in clips}
    return {"right": {str(c.seed): c.verdict.all for c in clips}, "language": {str(k): v for k, v in codes.items()}}, {}


def frame_rate(bench: Bench) -> tuple[Figures, Pages]:
    """Displacement per keyframe of slow movers, each text at every rate, beside the true one."""
    frames, scenes = bench.keyframes, slow_movers(bench.plan.first_seed, bench.plan.count)
    rows, pictures, pairs = [], [], []
    for rate in RATES:
        clips = bench.sample(scenes, Options(levels=0), rate=rate, work=KEYFRAMES_ONLY)
        true = true_mean_step(scenes[0][1], rate, frames)
        trained = rate in world.keyframe_rates(scenes[0][1], frames)
        found = [step for step in (mean_step(clip.reading) for clip in clips) if step is not None]
        pairs += [(true, step) for step in found] if trained else []
        mean = float(np.mean(found)) if found else None
        rows.append(
            {
                "frame_rate": rate,
                "seconds": (frames - 1) / rate,
                "trained": trained,
                "fits": (frames - 1) / rate >= scenes[0][1].duration,
                "true": true,
                "mean": mean,
                "error": float(np.std(found, ddof=1) / len(found) ** 0.5) if len(found) > 1 else None,
                "within_tenth": share(sum(abs(step / true - 1) <= 0.1 for step in found), len(clips)),
                "lost": len(clips) - len(found),
                "clips": len(clips),
            }
        )
        step = mean_step(clips[0].reading)
        shown = "no actor found" if step is None else f"this clip {step:.3f}"
        note = f"{rate:g} keyframes a second: {true:.3f} canvas widths between two would be true, {shown}"
        pictures.append(PageRow(clips[0].video.frames, asked(clips[0].scene), note))
    return {"rates": rows, **_line(pairs)}, {"frame-rate.png": page(pictures, columns=frames)}


def _line(pairs: Sequence[tuple[float, float]], resamples: int = 500) -> Figures:
    """Least squares through (true, found), with a bootstrap interval of the slope; None where it is not defined."""
    true, found = np.array(pairs).T if pairs else np.zeros((2, 0))
    if len(set(true)) < 2 or np.ptp(found) < 1e-6:
        return {"slope": None, "slope_low": None, "slope_high": None, "correlation": None}

    def slope(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.cov(x, y)[0, 1] / x.var(ddof=1)) if x.std() > 0 else np.nan

    rng = np.random.default_rng(0)
    picks = [rng.integers(len(true), size=len(true)) for _ in range(resamples)]
    low, high = np.nanquantile([slope(true[pick], found[pick]) for pick in picks], [0.025, 0.975])
    correlation = float(np.corrcoef(true, found)[0, 1])
    return {"slope": slope(true, found), "slope_low": low, "slope_high": high, "correlation": correlation}


def stages(bench: Bench, *, actors: int) -> tuple[Figures, Pages]:
    """Every stage fed with the truth, on the scenes that the whole way is judged on."""
    plan, figures, rows = bench.plan, {}, []
    scenes = plan.scenes(actors, False)
    fed = {"truth": bench.true_clips(scenes)}
    fed |= fed_with_truth(bench.pipe, scenes, plan.options, batch=bench.batch, progress=bench.progress)
    for stage, clips in fed.items():
        levels = 0 if stage == "keyframes" else plan.levels
        figures[stage] = {"alignment": summarise(_verdicts(clips)), "temporal": _temporal(clips, levels)}
    for number in range(min(4, plan.count)):
        for stage, clips in fed.items():
            row = row_of(clips[number])
            rows.append(PageRow(row.frames, f"{STAGES.get(stage, 'the truth')}   {row.title}", row.note, row.right))
    return {"stages": figures}, {f"stages-{kind_name(actors, False).replace(' ', '-')}.png": page(rows)}


def diversity(bench: Bench) -> tuple[Figures, Pages]:
    """One text, several seeds: what it leaves open should differ as it does in the world."""
    scenes, figures, rows = bench.plan.scenes(1, False)[:TEXTS], [], []
    for seed, scene in scenes:
        clips = bench.sample([(k, scene) for k in range(SEEDS)], Options(levels=0), work=KEYFRAMES_ONLY)
        rng = np.random.default_rng(seed)
        others = [(k, counterfactuals.same_caption(scene, rng)) for k in range(8 * SEEDS)]
        size = bench.pipe.bundle.tokenizer_config.image_size
        shape = {"frames": bench.keyframes, "levels": 0, "size": size}
        true = [judged(k, other, true_video(other, **shape)) for k, other in others]
        figures.append({"caption": world.caption(scene), "found": _spread(clips), "true": _spread(true)})
        first = np.stack([clip.video.frames[0] for clip in clips])
        rows.append(PageRow(first, f"first frames of {SEEDS} seeds: {asked(scene)}"))
    return {"texts": figures, "seeds": SEEDS}, {"diversity.png": page(rows, columns=SEEDS)}


def _spread(clips: Sequence[Clip]) -> dict[str, float | None]:
    """How much the first frames differ: pixels, place and radius of the actor, backgrounds."""
    first = np.stack([clip.video.frames[0] for clip in clips]).astype(np.float32)
    apart = [float(np.sqrt(np.square(a - b).mean())) for a, b in combinations(first, 2)]
    starts = np.array([clip.reading.actors[0].track[0] for clip in clips if clip.reading.actors])
    names = [clip.reading.background for clip in clips]
    return {
        "pixels": float(np.mean(apart)),
        "place": float(np.sqrt(starts[:, :2].var(0).sum())) if len(starts) else None,
        "radius": float(starts[:, 2].std()) if len(starts) else None,
        "same_background": float(np.mean([a == b for a, b in combinations(names, 2)])),
    }


def sweep(bench: Bench) -> tuple[Figures, Pages]:
    """Guidance of the keyframes on tuning seeds, which no figure of a report is measured on."""
    scenes, rows = draw_scenes(TUNING_SEED, bench.plan.count), []
    for scale in bench.plan.sweep:
        clips = bench.sample(scenes, Options(levels=0, guidance=scale), work=KEYFRAMES_ONLY)
        repeated = temporal.mean_figures([{"repeated": temporal.repeated_tokens(c.video.tokens)} for c in clips])
        rows.append({"guidance": scale, "alignment": summarise(_verdicts(clips)), **repeated})
    return {"first_seed": TUNING_SEED, "scales": rows}, {}
