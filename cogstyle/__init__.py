"""Text to video by autoregressive transformers, in the style of CogVideo.

    import cogstyle

    pipe = cogstyle.load("shapes")  # a shipped bundle, a folder, or user/repo on the Hugging Face hub
    video = pipe("a red circle moves right", frame_rate=2, seed=0)
    video.save("circle.mp4")

load        a bundle -> Pipeline; `Pipeline.from_pretrained` is the same
Pipeline    pipe(prompt, ...) -> Video; stream, keyframes, interpolate, upscale: a stage at a time, on tokens
Options     what can be chosen: frame_rate, seed, levels, guidance, negative_prompt, times, ...
Video       frames, fps, tokens, info; save, to_pil; plays in a notebook
CogstyleError   base of every error that a user can cause

The command line is `cogstyle` (`cogstyle --help`), the guides are in docs/.
"""

from typing import TYPE_CHECKING, Any

from cogstyle.errors import CogstyleError

if TYPE_CHECKING:
    from cogstyle.sampling.pipeline import Options, Pipeline, load
    from cogstyle.video import Video

__version__ = "0.1.0"
__all__ = ["CogstyleError", "Options", "Pipeline", "Video", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import the heavy parts when they are first asked for, so that `import cogstyle` stays quick."""
    if name in ("Options", "Pipeline", "load"):
        from cogstyle.sampling import pipeline

        return getattr(pipeline, name)
    if name == "Video":
        from cogstyle.video import Video

        return Video
    raise AttributeError(f"module 'cogstyle' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What is imported late is there all the same, for `help` and completion."""
    return sorted({*globals(), *__all__})
