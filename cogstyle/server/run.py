"""A server process: one data folder, one address, until it is told to stop."""

import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import uvicorn

from cogstyle.errors import ConfigError
from cogstyle.files import one_writer
from cogstyle.server.api import Limits, make_app
from cogstyle.server.gate import LOCAL
from cogstyle.server.jobs import Jobs
from cogstyle.server.models import open_models
from cogstyle.server.worker import Worker

BACKLOG = 1024  # connections that wait: who asks before the first answer is not turned away
SHUTDOWN = 5  # seconds that connections have to end


@dataclass(frozen=True)
class Address:
    """Where a server listens, and the token that it asks for."""

    host: str = "127.0.0.1"
    port: int = 8000  # 0: any free one
    token: str | None = None


@dataclass(frozen=True)
class Place:
    """What a server works with."""

    data: Path
    bundles: Sequence[str] = field(default=("shapes",))
    device: str = "cpu"
    dtype: str = "float32"


class Server(uvicorn.Server):
    """A server that tells its worker and those who watch at once that it stops; else they would hold it up."""

    def __init__(self, config: uvicorn.Config, worker: Worker) -> None:
        super().__init__(config)
        self.worker = worker

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.worker.stopping.set()
        self.worker.jobs.news.set()
        super().handle_exit(sig, frame)


def serve(place: Place, address: Address, limits: Limits, *, page: bool, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; every video that was begun is left as a part that goes on at the next start.

    Args:
        page: also serve the page for people.
        say: told the address once it is open.

    Raises:
        FileError: if the data folder cannot be used, or another server uses it.
        BundleError, ConfigError: if a bundle cannot be served, or the address is taken.
    """
    models = open_models(place.bundles, device=place.device, dtype=place.dtype)
    place.data.mkdir(parents=True, exist_ok=True)
    with one_writer(place.data), _listen(address) as listener:
        jobs = Jobs(place.data, longest=limits.queue)
        worker = Worker(jobs, models, limit=limits.seconds, keep=limits.keep)
        local = address.host in LOCAL
        app = make_app(jobs, worker, models, limits, token=address.token, local=local, page=page)
        host, port = listener.getsockname()[:2]
        say(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        config = uvicorn.Config(app, log_level=logging.WARNING, timeout_graceful_shutdown=SHUTDOWN, server_header=False)
        try:
            Server(config, worker).run(sockets=[listener])
        finally:
            jobs.close()


def _listen(address: Address) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise ConfigError(f"cannot listen on {address.host} port {address.port}: {reason}") from None
