"""A video as it is drawn, as server-sent events: its state whenever it changes, its frames as they come."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool

from cogstyle.server.jobs import Jobs
from cogstyle.server.previews import Previews
from cogstyle.server.views import view

EVERY, ALIVE = 0.1, 15.0  # seconds between two looks, and between two signs of life


async def follow(identity: str, jobs: Jobs, previews: Previews, stopping: threading.Event) -> AsyncIterator[str]:
    """Events until the video is finished, deleted, or the server stops.

    `video` holds the video object, `frames` new frames: time in seconds and picture of each; `deleted` holds the id.
    """
    last, sent, said = None, set(), time.monotonic()
    with previews.watching(identity):
        while not stopping.is_set():
            job = await run_in_threadpool(jobs.get, identity)
            if job is None:
                yield event("deleted", {"id": identity})
                return
            new = {at: picture for at, picture in previews.frames(identity).items() if at not in sent}
            if new:
                sent |= set(new)
                yield event("frames", [{"time": at, "image": picture} for at, picture in sorted(new.items())])
            if job != last:
                last = job
                yield event("video", view(job))
            if job.finished:
                return
            if new or time.monotonic() - said > ALIVE:
                said = time.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(EVERY)


def event(name: str, data: object) -> str:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
