"""What sampling a video takes: tokens to draw one after the other, and memory."""

from cogstyle.bundle import Bundle
from cogstyle.config import ModelConfig
from cogstyle.growth_config import Grown, GrownWeights, running_order
from cogstyle.layout import FrameLayout, interpolation_layout, keyframe_layout, spatial_runs, temporal_runs
from cogstyle.model.temporal import layer_windows
from cogstyle.sampling.interpolate import rounds
from cogstyle.sampling.keyframes import OVERLAP
from cogstyle.sampling.options import Options
from cogstyle.sampling.partial_video import PartialVideo

FRAMES_IN_FLIGHT = 3  # frames being filled at one time, with steps tried ahead


def keyframe_count(config: ModelConfig, options: Options, start: PartialVideo | None = None) -> int:
    """Keyframes of all windows, or as many as `start` says there are."""
    if start is not None and start.whole:
        return (start.tokens_BFL.shape[1] - 1) // 2**start.level + 1
    return config.frames + (options.windows - 1) * (config.frames - OVERLAP)


def steps(config: ModelConfig, options: Options, start: PartialVideo | None = None) -> int:
    """Tokens that sampling one video draws, one after the other; an upscaled frame counts as one.

    Args:
        start: what is there already.
    """
    if start is not None and start.numbers is not None:
        runs = [run for fill in [*rounds(start.numbers)][start.level :] for run in fill]
        drawn = sum(_new_frames(len(run) - 1, config.frames // 2) for run in runs)
        return config.tokens * drawn + (start.numbers[-1] + 1) * options.upscale
    key, length = keyframe_count(config, options, start), config.tokens
    level, known = (0, 0) if start is None else (start.level, start.tokens_BFL.shape[1])
    tokens = 0 if start is not None and start.whole else length * (key - known)
    for done in range(level, options.levels):
        tokens += length * _new_frames((key - 1) * 2**done, config.frames // 2)
    return tokens + ((key - 1) * 2**options.levels + 1) * options.upscale


def _new_frames(gaps: int, group: int) -> int:
    """Frames of a level that are filled one after the other: the groups side by side, then what is left over."""
    return group * (gaps >= group) + gaps % group


def memory_of_one(bundle: Bundle, options: Options, start: PartialVideo | None = None) -> int:
    """Bytes of keys and values that one video takes at its largest stage; a batch takes as many times that."""
    need = stage_memory(bundle.model_config, bundle.dtype.itemsize, options, start, growth=bundle.growth)
    guided = {name: 1 + (options.stage(bundle.sampling(name), name).guidance != 1.0) for name in need}
    return max((guided[name] * need[name] for name in need), default=1)


def stage_memory(
    config: ModelConfig,
    itemsize: int,
    options: Options,
    start: PartialVideo | None = None,
    *,
    growth: GrownWeights = GrownWeights(),  # noqa: B008  (frozen)
) -> dict[str, int]:
    """Bytes of keys and values that one video takes at each stage; guidance takes as much again."""
    text, need, flying = config.text_span, {}, FRAMES_IN_FLIGHT
    if start is None or not start.whole:
        layout = keyframe_layout(config, text)
        grown = growth.keyframes
        need["keyframes"] = memory_bytes(config, layout, 1, itemsize, frames_in_flight=flying, grown=grown)
    if options.levels or options.times is not None:
        rows, layout, window = groups(config, options, start), interpolation_layout(config, text), config.window
        grown = growth.interpolation
        need["interpolation"] = memory_bytes(
            config, layout, rows, itemsize, window=window, frames_in_flight=flying, grown=grown
        )
    return need


def groups(config: ModelConfig, options: Options, start: PartialVideo | None = None) -> int:
    """The most groups that are filled side by side; on even times the last level's."""
    if start is not None and start.numbers is not None:
        most = max((len(run) - 1 for fill in rounds(start.numbers) for run in fill), default=1)
        return -(-most // (config.frames // 2))
    gaps = (keyframe_count(config, options, start) - 1) * 2 ** (options.levels - 1)
    return -(-gaps // (config.frames // 2))


def memory_bytes(
    config: ModelConfig,
    layout: FrameLayout,
    rows: int,
    itemsize: int,
    *,
    window: int = 0,
    frames_in_flight: int = 1,
    grown: Grown | None = None,
) -> int:
    """Bytes of keys and values for `rows` sequences beside an adapter with these temporal windows (0: none)."""
    windows = layer_windows(config.layers, window, config.grown)
    order = running_order(config.layers, () if grown is None else grown.after)
    spatial = len(order) * spatial_runs(layout, frames_in_flight).length
    temporal = sum(temporal_runs(layout, windows[source]).length for source, _ in order)
    return 2 * rows * (spatial + temporal) * config.width * itemsize
