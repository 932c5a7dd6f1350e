"""A server in a process of its own, as users start it, and plain HTTP to it."""

import http.client
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0  # seconds for what takes one


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    address: str

    @property
    def host(self) -> str:
        return self.address.removeprefix("http://")

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, bytes]:
        """Status and body of one request; a dictionary is sent as JSON, a path as it stands."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE)
        try:
            connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        status, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)

    def post(self, **fields: object) -> Any:
        status, body = self.ask("POST", "/v1/videos", fields, Content_Type="application/json")
        assert status == 200, body
        return json.loads(body)

    def finished(self, identity: str) -> Any:
        """The video object once nothing more will happen to it."""
        end = time.monotonic() + PATIENCE
        while (video := self.get(f"/v1/videos/{identity}"))["status"] not in ("completed", "failed"):
            assert time.monotonic() < end, video
            time.sleep(0.1)
        return video

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(PATIENCE)


def _heed_interrupts() -> None:
    """Ctrl-C counts, though whoever started the tests may ignore it (`nohup`, `&`)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def serving(data: Path, bundle: Path, *options: str, command: str = "serve") -> Iterator[Server]:
    """`cogstyle serve` on a free port."""
    argv = [sys.executable, "-m", "cogstyle.cli.main", command, "--data", str(data), "--bundle", str(bundle)]
    process = subprocess.Popen(
        [*argv, "--port", "0", *options], cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=_heed_interrupts
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line
        yield Server(process, found[0])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
