"""All that can be wrong with a request is said before anything is drawn."""

from collections.abc import Sequence

from cogstyle.bundle import Bundle, WeightFile
from cogstyle.config import require
from cogstyle.errors import BundleError, PromptError
from cogstyle.sampling.interpolate import frame_numbers, rounds, told_rate
from cogstyle.sampling.options import Options
from cogstyle.tokenizers.text import TextTokenizer

WITHOUT = {  # what does without an adapter
    "keyframes": "; `cogstyle interpolate` does without",
    "interpolation": "; levels 0 does without",
    "superres": ", which super-resolution needs",
}


def needed_files(options: Options, *, whole: bool = False) -> list[str]:
    """The adapters that sampling goes through; `whole`: all keyframes are given."""
    stages = {
        "keyframes": not whole,
        "interpolation": options.levels > 0 or options.times is not None,
        "superres": options.upscale,
    }
    return [stage for stage, used in stages.items() if used]


def validate(bundle: Bundle, text: TextTokenizer, prompt: str, options: Options, *, whole: bool = False) -> None:
    """Raise what sampling a video would raise.

    Args:
        whole: all keyframes are given.

    Raises:
        PromptError: for a prompt that is empty or too long.
        BundleError: for a bundle without what these options need.
        ConfigError: for options that the bundle cannot follow.
    """
    require(isinstance(prompt, str), f"prompt must be a text, not {prompt!r:.60}")
    if not prompt.strip():
        raise PromptError("the prompt is empty")
    stages = needed_files(options, whole=whole)
    if options.decoder == "flow" and not bundle.has(WeightFile.FLOW):
        raise BundleError(f"bundle {bundle.folder} has no flow.safetensors, which decoder 'flow' is")
    flows = options.flow_steps is None or (options.decoder or bundle.decoder) == "flow"
    require(flows, f"flow_steps {options.flow_steps} are of the flow decoder, and bundle {bundle.name} decodes without")
    for stage in stages:
        if not bundle.has(WeightFile.of(stage)):
            raise BundleError(f"bundle {bundle.folder} has no {stage}.safetensors{WITHOUT[stage]}")
    prompt, rate = prompt.strip(), options.frame_rate or bundle.frame_rate
    if not whole:
        text.image_text(prompt)
    require(whole or options.times is None, "times are of given images: give images, or leave out times")
    for level_rate in (*([] if whole else [rate]), *level_rates(options, rate)):
        text.video_text(prompt, (bundle.model_config.frames - 1) / level_rate)
    for stage in ("image", *stages):
        check_clusters(bundle, stage, options)
    if options.negative_prompt is not None:
        _check_negative(bundle, text, options, [*([] if whole else ["image"]), *stages])


def _check_negative(bundle: Bundle, text: TextTokenizer, options: Options, stages: Sequence[str]) -> None:
    """Raise what the negative prompt would raise: it is too long, or no stage is guided."""
    text.image_text(options.negative_prompt)
    text.video_text(options.negative_prompt, 1.0)
    guided = [stage for stage in stages if options.stage(bundle.sampling(stage), stage).guidance != 1.0]
    require(bool(guided), "negative_prompt has no effect without guidance: give guidance, or leave it out")


def validate_upscale(bundle: Bundle, text: TextTokenizer, prompt: str | None, options: Options) -> int:
    """Raise what super-resolution with this prompt (None: without text) would raise; returns its text tokens."""
    if not bundle.has(WeightFile.SUPERRES):
        raise BundleError(f"bundle {bundle.folder} has no superres.safetensors, which super-resolution needs")
    if prompt is not None and not prompt.strip():
        raise PromptError("the prompt is empty")
    ids, span = text.image_text(None if prompt is None else prompt.strip()), bundle.superres_config.text_span
    if len(ids) > span:
        raise PromptError(f"prompt has {len(ids)} tokens, super-resolution reads {span}: {prompt!r}")
    check_clusters(bundle, "superres", options)
    return len(ids)


def check_clusters(bundle: Bundle, stage: str, options: Options) -> None:
    """Raise ConfigError if a stage draws among clusters that the bundle does not have."""
    clusters = options.stage(bundle.sampling(stage), stage).clusters
    require(
        not clusters or bundle.has(WeightFile.CLUSTERS),
        f"{stage} draws among {clusters} clusters, but bundle {bundle.folder} has no cluster labels "
        "(clusters.safetensors); use top_k or top_p",
    )


def untrained(bundle: Bundle, prompt: str, options: Options, *, whole: bool = False) -> list[str]:
    """What the bundle's weights were not trained for, a sentence each: words, frame rates."""
    notes, name = [], bundle.name
    if words := bundle.words.unknown(prompt):
        instead = "expect something else (`cogstyle inspect` lists its words)"
        notes.append(f"no training caption of bundle {name} had: {', '.join(words)}; {instead}")
    rate = options.frame_rate or bundle.frame_rate
    asked = {"keyframes": [] if whole else [rate], "interpolation": level_rates(options, rate)}
    for stage, rates in asked.items():
        known = bundle.trained_rates(stage)
        if known and (other := [rate for rate in rates if rate not in known]):
            notes.append(
                f"{stage} of bundle {name} were trained at {_list(known)} frames a second, not at {_list(other)}; "
                "what moves will not keep to that rate"
            )
    return notes


def level_rates(options: Options, rate: float) -> list[float]:
    """Frames a second that interpolation is told, level by level, or round by round."""
    if options.times is None:
        return options.rates(rate)
    fps = rate * 2**options.levels
    runs = [run for fill in rounds(frame_numbers(options.times, fps)) for run in fill]
    return list(dict.fromkeys(told_rate(run, fps) for run in runs))


def _list(rates: list[float] | tuple[float, ...]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)
