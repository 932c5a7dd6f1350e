"""The page for people: plain files, served as they are."""

from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

HERE = Path(__file__).parent
FILES = ("page.js", "form.js", "api.js", "page.css", "icon.svg")


def add_page(app: FastAPI) -> None:
    """Serve the page at / and what it loads beside it; nothing else is read from this folder."""
    for address, name in {"/": "index.html", **{f"/{name}": name for name in FILES}}.items():
        app.add_api_route(address, _sender(HERE / name), methods=["GET", "HEAD"])


def _sender(path: Path) -> Callable[[], FileResponse]:
    def send() -> FileResponse:
        return FileResponse(path, headers={"Cache-Control": "no-cache"})

    return send
