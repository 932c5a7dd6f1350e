"""The video API over HTTP: /v1/videos as other engines and the clients of OpenAI speak it, and /v1/models."""

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from cogstyle.errors import CogstyleError
from cogstyle.sampling.outputs import JSON
from cogstyle.server.events import follow
from cogstyle.server.gate import Gate, complaint
from cogstyle.server.jobs import DONE, Job, Jobs, QueueFullError
from cogstyle.server.models import Model
from cogstyle.server.orders import read_order
from cogstyle.server.page import add_page
from cogstyle.server.views import view
from cogstyle.server.worker import KEYFRAMES, THUMBNAIL, Worker

VARIANTS = {
    "video": ("", "video/mp4"), "thumbnail": (THUMBNAIL, "image/png"), "spritesheet": (KEYFRAMES, "image/png"),
    "json": (JSON, "application/json"),
}  # fmt: skip
NESTED = re.compile(r"(\w+)\[(\w*)\]")
FIELDS, FILES = 32, 8  # of a form


@dataclass(frozen=True)
class Limits:
    """What a server takes, and gives to one client."""

    queue: int = 256  # videos that wait
    prompt: int = 2000  # characters
    body: int = 32 << 20  # bytes
    seconds: float = 600.0  # of drawing one video
    keep: float | None = None  # seconds that a finished video is kept


def make_app(
    jobs: Jobs, worker: Worker, models: dict[str, Model], limits: Limits, *, token: str | None, local: bool, page: bool
) -> FastAPI:
    """The application; it starts the worker and stops it.

    Args:
        local: the server is bound to this machine alone.
        page: also serve the page for people.
    """

    @asynccontextmanager
    async def working(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        await run_in_threadpool(worker.stop)

    app = FastAPI(title="cogstyle", lifespan=working, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Gate, token=token, largest=limits.body, local=local)
    _answer_errors(app)
    _add_videos(app, jobs, models, limits)
    _add_contents(app, jobs, worker)

    @app.get("/v1/models")
    def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [model.description() for model in models.values()]}

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    if page:
        add_page(app)
    return app


def _add_videos(app: FastAPI, jobs: Jobs, models: dict[str, Model], limits: Limits) -> None:
    @app.post("/v1/videos")
    async def create(request: Request) -> dict[str, Any]:
        async with request.form(max_files=FILES, max_fields=FIELDS) if is_form(request) else nothing() as form:
            values = await read_object(request) if form is None else await read_form(form.multi_items())

        def queue() -> Job:
            order = read_order(values, models, longest_prompt=limits.prompt)
            return jobs.add(order.job, order.pictures)

        return view(await run_in_threadpool(queue), limits.keep)

    @app.get("/v1/videos")
    def list_videos(
        after: str | None = None, limit: int = Query(20, ge=1, le=100), order: Literal["asc", "desc"] = "desc"
    ) -> dict[str, Any]:
        found = jobs.page(after=after, limit=limit, newest_first=order == "desc")
        if found is None:
            raise HTTPException(404, f"there is no video {after!r:.60}")
        data = [view(job, limits.keep) for job in found[0]]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
        return {"object": "list", "data": data, "has_more": found[1], **ends}

    @app.get("/v1/videos/{identity}")
    def retrieve(identity: str) -> dict[str, Any]:
        return view(_known(jobs, identity), limits.keep)

    @app.delete("/v1/videos/{identity}")
    def delete(identity: str) -> dict[str, Any]:
        if not jobs.remove(identity):
            _known(jobs, identity)
        return {"id": identity, "object": "video.deleted", "deleted": True}


def _add_contents(app: FastAPI, jobs: Jobs, worker: Worker) -> None:
    @app.get("/v1/videos/{identity}/content")
    def content(identity: str, variant: Literal["video", "thumbnail", "spritesheet", "json"] = "video") -> FileResponse:
        job = _known(jobs, identity)
        if job.status != DONE:
            raise HTTPException(409 if job.error is None else 404, f"video {job.id} is {job.status}, not completed")
        suffix, kind = VARIANTS[variant]
        video = jobs.video(job.id)
        return FileResponse(video.with_name(video.name + suffix), media_type=kind)

    @app.get("/v1/videos/{identity}/events")
    async def events(identity: str) -> StreamingResponse:
        job = await run_in_threadpool(_known, jobs, identity)
        stream = follow(job.id, jobs, worker.previews, worker.stopping)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _known(jobs: Jobs, identity: str) -> Job:
    job = jobs.get(identity)
    if job is None:
        raise HTTPException(404, f"there is no video {identity!r:.60}")
    return job


def is_form(request: Request) -> bool:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    return kind in ("multipart/form-data", "application/x-www-form-urlencoded")


@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield None


async def read_object(request: Request) -> dict[str, Any]:
    """A JSON object.

    Raises:
        HTTPException: if the body is none.
    """
    try:
        values = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the request is no JSON: {error}") from None
    if not isinstance(values, dict):
        raise HTTPException(400, f"the request must be a JSON object, not {values!r:.60}")
    return values


async def read_form(items: list[tuple[str, str | UploadFile]]) -> dict[str, Any]:
    """The fields of a form: `images` and `images[]` are lists, `input_reference[image_url]` is an object.

    Raises:
        HTTPException: for a field that is there twice.
    """
    values: dict[str, Any] = {}
    for name, sent in items:
        value: Any = await sent.read() if isinstance(sent, UploadFile) else sent
        nested = NESTED.fullmatch(name)
        if name == "images" or (nested and not nested[2]):
            values.setdefault(nested[1] if nested else name, []).append(value)
            continue
        key, value = (nested[1], {nested[2]: value}) if nested else (name, value)
        if key in values:
            raise HTTPException(400, f"the field {key!r:.60} is there twice")
        values[key] = value
    return values


def _answer_errors(app: FastAPI) -> None:
    """Every error is one sentence in the shape that clients know."""

    def answer(status: int, message: str, headers: Any = None) -> JSONResponse:
        return JSONResponse(complaint(status, " ".join(message.split())), status, headers)

    async def ours(request: Request, error: Exception) -> Response:
        return (
            answer(429, str(error), {"Retry-After": "5"})
            if isinstance(error, QueueFullError)
            else answer(400, str(error))
        )

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        known = {404: f"there is nothing at {request.url.path!r:.80}", 405: f"{request.method} is not for this address"}
        plain = error.detail in ("Not Found", "Method Not Allowed")  # of the router; ours say more
        return answer(error.status_code, known[error.status_code] if plain else str(error.detail), error.headers)

    async def wrong(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return answer(400, f"{first['loc'][-1]} {first['input']!r:.60}: {first['msg']}")

    async def broken(request: Request, error: Exception) -> Response:
        return answer(500, f"the server failed: {type(error).__name__}")

    handlers: dict[Any, Callable[..., Any]] = {
        CogstyleError: ours, HTTPException: http, RequestValidationError: wrong, Exception: broken
    }  # fmt: skip
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
