"""The recipes that `cogstyle start` writes, each with comments."""

from dataclasses import dataclass

import tomli_w


@dataclass(frozen=True)
class Choices:
    """What the recipes of a folder have in common, and their sizes."""

    videos: str
    bundle: str
    base: str
    caption: str = ""
    size: int = 128
    pieces: int = 1000
    text_span: int = 64
    sizes: tuple[int, int, int] = (6, 256, 8)  # of the image model: layers, width, heads
    frame_rate: float = 1.0
    steps: tuple[int, int, int, int] = (3000, 3000, 2000, 1000)  # image, keyframes, interpolation, superres
    clip_seconds: float = 0.0  # of pieces of long videos; 0: none are long
    superres: bool = True
    interpolation: bool = True
    batches: tuple[int, int] = (16, 8)  # of pictures; of clips, and of super-resolution
    by_heart: bool = False  # so few that they are learned by heart, and validation says nothing
    trained: tuple[str, ...] = ()  # tasks whose weights `base` has: "image" and those on it


def recipe_texts(choices: Choices, videos: bool) -> dict[str, str]:
    """The files of a folder in order, by name.

    Args:
        videos: whether there are any: pictures alone train no adapters.
    """
    c = choices
    if "image" in c.trained:
        made = [("image", _started_image(c, frozen=videos))]
    else:
        made = [("text", _text(c)), ("image", _image(c))]
    made += [("keyframes", _keyframes(c))] if videos else []
    made += [("interpolation", _interpolation(c))] if videos and c.interpolation else []
    made += [("superres", _superres(c))] if c.superres else []
    return {f"{number}-{task}.toml": text for number, (task, text) in enumerate(made, 1)}


def _quoted(text: str) -> str:
    """As TOML writes it, whatever it holds."""
    return tomli_w.dumps({"x": text}).removeprefix("x = ").rstrip("\n")


def _data(c: Choices, **keys: str) -> str:
    """The [data] of a task that trains on rows."""
    said = {"videos": f"{_quoted(c.videos)}  # encoded once, by the bundle's tokenizers, and kept"} | keys
    if c.clip_seconds:
        said["clip_seconds"] = f"{c.clip_seconds}  # long videos are cut into such pieces, and where a scene ends"
    said |= {"caption": f"{_quoted(c.caption)}  # of whatever has none"} if c.caption else {}
    return "[data]\n" + "".join(f"{name} = {value}\n" for name, value in said.items())


def _export(c: Choices) -> str:
    said = "so few are learned by heart; the best by validation would hardly have learned"
    return f'export = "last"  # {said}\n' if c.by_heart else ""


def _optim(steps: int, batch: int, lr: str = "2e-3") -> str:
    return f"""[optim]
optimizer = "muon"
steps = {steps}  # more are better, until validation rises
batch = {batch}
lr = {lr}
warmup = {min(100, steps // 4)}

[loop]
sample_every = {max(50, steps // 10)}
"""


def _text(c: Choices) -> str:
    caption = f"caption = {_quoted(c.caption)}  # of whatever has none\n" if c.caption else ""
    return f"""# The text tokenizer: pieces of the captions, byte fallback for everything else. Seconds.
# It begins the bundle, with the image tokenizer of another one.
task = "text"
bundle = {_quoted(c.bundle)}
base = {_quoted(c.base)}  # whose image tokenizer is taken; a recipe with task = "tokenizer" trains your own
size = {c.size}  # pixels of a frame
pieces = {c.pieces}  # of the vocabulary, at most

[data]
captions = {_quoted(c.videos)}
{caption}"""


def _image_data(c: Choices) -> str:
    return _data(c, frames_per_video="2  # the first frame, with which videos begin, and one at a random moment")


def _image(c: Choices) -> str:
    layers, width, heads = c.sizes
    return f"""# The image model, from nothing: it draws the first frame of a video.
task = "image"
bundle = {_quoted(c.bundle)}
{_export(c)}
[model]
layers = {layers}
width = {width}
heads = {heads}
text_span = {c.text_span}  # tokens of the longest caption

{_image_data(c)}
{_optim(c.steps[0], c.batches[0])}
[sampling]  # cooler, what is unlikely in every single place is drawn nowhere
guidance = 2.5
temperature = 1.0
top_p = 0.97
"""


def _started_image(c: Choices, *, frozen: bool) -> str:
    return f"""# The image model, which draws the first frame of a video, from that of another bundle.
task = "image"
bundle = {_quoted(c.bundle)}
start = {_quoted(c.base)}  # its tokenizers and image model are taken
frozen = {str(frozen).lower()}  # true: as it is, and the rest of this recipe waits; false: it learns the footage first
{_export(c)}
{_image_data(c)}
{_optim(c.steps[0], c.batches[0], "5e-4")}"""


def _start(c: Choices, task: str) -> str:
    return f"start = {_quoted(c.base)}  # whose {task} adapter goes on learning\n" if task in c.trained else ""


def _keyframes(c: Choices) -> str:
    return f"""# The keyframe adapter: it goes on from the first frame, beside the frozen image model.
task = "keyframes"
bundle = {_quoted(c.bundle)}
{_start(c, "keyframes")}{_export(c)}frame_rate = {c.frame_rate}  # keyframes a second, unless sampling is told another

{_data(c, extra_rates="1  # also at the next higher frame rate")}
{_optim(c.steps[1], c.batches[1])}
[sampling]
guidance = 1.5
temperature = 0.7
top_p = 0.9
"""


def _interpolation(c: Choices) -> str:
    return f"""# The interpolation adapter: it draws the frames between others.
task = "interpolation"
bundle = {_quoted(c.bundle)}
{_start(c, "interpolation")}{_export(c)}
{_data(c)}
{_optim(c.steps[2], c.batches[1])}
[sampling]
temperature = 0.5
top_p = 0.95
"""


def _superres(c: Choices) -> str:
    return f"""# Super-resolution: {c.size} -> {2 * c.size} px, beside the frozen image model (sample --upscale).
task = "superres"
bundle = {_quoted(c.bundle)}

{_data(c, factor="2  # fine tokens along the side of a coarse one")}
{_optim(c.steps[3], c.batches[1], "1e-3")}
[sampling]
top_k = 1  # the likeliest token: what is still does not flicker
"""
