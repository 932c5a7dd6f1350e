"""cogstyle: text to video by autoregressive transformers, in the style of CogVideo."""

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
