"""What a client asks for: a form or JSON object of the videos API, checked, as a job with its pictures."""

import base64
import binascii
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from cogstyle.config import require
from cogstyle.errors import MediaError, PromptError
from cogstyle.sampling.options import Options
from cogstyle.server.jobs import Job
from cogstyle.server.models import MOST_PICTURES, Model
from cogstyle.video import read_image

DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,")
_one_at_a_time = Lock()  # a picture may be large: they are decoded one after the other


class Fields(BaseModel):
    """The fields of POST /v1/videos; numbers may be texts, as forms send them."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prompt: str
    model: str | None = None
    seconds: float | None = None
    fps: float | None = None
    size: str | None = None
    width: int | None = None
    height: int | None = None
    seed: int = 0
    levels: int | None = None
    num_frames: int | None = None
    guidance_scale: float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    input_reference: Any = None
    images: list[Any] = []
    user: str | None = None


@dataclass(frozen=True)
class Order:
    """A job, not yet queued, and the pictures that it is given, uint8 [side, side, 3]."""

    job: Job
    pictures: Sequence[np.ndarray]


def read_order(values: Mapping[str, Any], models: Mapping[str, Model], *, longest_prompt: int) -> Order:
    """Check all that can be wrong with a request before it is queued.

    Args:
        values: its fields: texts, numbers, and bytes where a picture was uploaded.
        longest_prompt: in characters.

    Raises:
        CogstyleError: saying what is wrong with it.
    """
    try:
        fields = Fields(**values)
    except ValidationError as error:
        raise _first(error) from None
    _check_prompt(fields.prompt, longest_prompt)
    name = next(iter(models)) if fields.model is None else fields.model
    require(name in models, f"model {name!r:.60} is not served; there are {', '.join(models)}")
    model = models[name]
    sent = [fields.input_reference] if fields.input_reference is not None else fields.images
    require(fields.input_reference is None or not fields.images, "input_reference and images exclude each other")
    require(
        not fields.images or 2 <= len(fields.images) <= MOST_PICTURES,
        f"{len(fields.images)} images: give 2 to {MOST_PICTURES}, or one as input_reference",
    )
    whole = len(sent) > 1
    keyframes = len(sent) if whole else model.keyframes
    levels = _levels(fields, model, keyframes)
    rate = _rate(fields, model, levels, keyframes, whole=whole)
    size = _size(fields, model)
    options = Options(
        frame_rate=rate, seed=fields.seed, levels=levels, guidance=fields.guidance_scale,
        temperature=fields.temperature, top_k=fields.top_k, top_p=fields.top_p, upscale=model.sizes[size],
    )  # fmt: skip
    require(options.seed < 2**63, f"seed {options.seed} must be below 2^63")
    model.pipe.check(fields.prompt, options, whole=whole)
    side = model.pipe.bundle.tokenizer_config.image_size
    names = [f"images[{number}]" if whole else "input_reference" for number in range(len(sent))]
    pictures = [read_sent(one, side, name) for one, name in zip(sent, names, strict=True)]
    told = model.pipe.recaption(None)([fields.prompt])[0]  # as the worker does
    notes = (*filter(None, [told.note]), *model.pipe.untrained(told.drawn, options, whole=whole))
    frames = (keyframes - 1) * 2**levels + 1
    job = Job(model.name, fields.prompt, options, len(sent), (keyframes - 1) / rate, size, frames, notes)
    return Order(job, pictures)


def _first(error: ValidationError) -> MediaError | PromptError:
    """The first thing that is wrong with the fields, as a sentence."""
    wrong = error.errors(include_url=False, include_context=False)[0]
    name, kind = ".".join(map(str, wrong["loc"])) or "the request", wrong["type"]
    if kind == "extra_forbidden":
        return PromptError(f"unknown field {name!r:.60}; known are {', '.join(Fields.model_fields)}")
    if kind == "missing":
        return PromptError(f"the field {name} is missing")
    limit = wrong["msg"].replace("Input should", "must")
    return PromptError(f"{name} {wrong['input']!r:.60} {limit[:1].lower()}{limit[1:]}")


def _check_prompt(prompt: str, longest: int) -> None:
    if len(prompt) > longest:
        raise PromptError(f"the prompt has {len(prompt):,} characters, at most {longest:,} are read")
    if re.search("[\ud800-\udfff]", prompt):
        raise PromptError("the prompt is no Unicode text: it holds half of a surrogate pair")


def _levels(fields: Fields, model: Model, keyframes: int) -> int:
    """Refinement levels, said as such or as the number of frames."""
    counts = {(keyframes - 1) * 2**level + 1: level for level in range(model.levels + 1)}
    require(fields.levels is None or fields.num_frames is None, "levels and num_frames exclude each other")
    if fields.num_frames is not None:
        known = ", ".join(map(str, counts))
        require(fields.num_frames in counts, f"num_frames {fields.num_frames} must be one of {known}")
        return counts[fields.num_frames]
    levels = model.levels if fields.levels is None else fields.levels
    require(0 <= levels <= model.levels, f"levels {levels} must be 0 to {model.levels}")
    return levels


def _rate(fields: Fields, model: Model, levels: int, keyframes: int, *, whole: bool) -> float:
    """Keyframes a second: what `seconds`, or `fps`, means to the model."""
    rates = model.rates(levels, whole=whole)
    require(fields.seconds is None or fields.fps is None, "seconds and fps exclude each other")
    if fields.fps is not None:
        known = {rate * 2**levels: rate for rate in rates}
        asked, name, unit = fields.fps, "fps", f"{(keyframes - 1) * 2**levels + 1} frames are shown at"
    elif fields.seconds is not None:
        known = {(keyframes - 1) / rate: rate for rate in rates}
        asked, name, unit = fields.seconds, "seconds", f"{keyframes} keyframes last"
    else:
        return model.default_rate(rates)
    numbers = ", ".join(f"{number:g}" for number in sorted(known))
    require(
        asked in known,
        f"{name} {asked:g} is not what {model.name} was trained for: {unit} {numbers} "
        f"{'seconds' if name == 'seconds' else 'a second'}",
    )
    return known[asked]


def _size(fields: Fields, model: Model) -> str:
    """One of the model's sizes, said as such or as width and height."""
    size = fields.size
    if fields.width is not None or fields.height is not None:
        require(size is None, "size, and width and height, exclude each other")
        size = f"{fields.width}x{fields.height}"
    size = next(iter(model.sizes)) if size is None else size
    require(size in model.sizes, f"size {size!r:.30} is none of {model.name}: it makes {' and '.join(model.sizes)}")
    return size


def read_sent(sent: object, side: int, name: str) -> np.ndarray:
    """A picture that was uploaded, or is written out as a `data:` URL, as uint8 [side, side, 3].

    Raises:
        MediaError: if it is none.
    """
    if isinstance(sent, dict):
        if set(sent) != {"image_url"}:
            raise MediaError(f"{name} must be a picture, or an object with image_url alone")
        sent = sent["image_url"]
    if isinstance(sent, str):
        sent = _decode(sent, name)
    if not isinstance(sent, bytes):
        raise MediaError(f"{name} must be a picture, not {sent!r:.60}")
    with _one_at_a_time, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(sent)
        try:
            return read_image(path, side)
        except MediaError as error:
            raise MediaError(str(error).replace(str(path), name)) from None


def _decode(address: str, name: str) -> bytes:
    begin = DATA_URL.match(address)
    if begin is None:
        raise MediaError(f"{name} must be a file or a data: URL of a picture; this server fetches no addresses")
    try:
        return base64.b64decode(address[begin.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise MediaError(f"{name} is no base64") from None
