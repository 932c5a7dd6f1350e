"""What comes before every request: whose it is, from which page, and how large it may be."""

import hmac
import json
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = ("localhost", "127.0.0.1", "::1")
PATIENCE = 8  # times the limit: so much of a body that is too large is read, and dropped, before the answer
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
KINDS = {401: "authentication_error", 429: "rate_limit_error", 503: "server_error"}


def complaint(status: int, message: str, code: str | None = None) -> dict[str, object]:
    """The body of an answer that is an error, as clients of the API expect it."""
    kind = KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class Refused(Exception):  # noqa: N818  (an answer, not an error of ours)
    """A request that is answered here."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Gate:
    """Lets through what carries the token, comes from no other page, and is not too large.

    Args:
        token: asked for under /v1; None: nothing is asked.
        largest: bytes of a body.
        local: the server is bound to this machine alone, so that any other name for it is a trick.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, largest: int, local: bool) -> None:
        self.app, self.token, self.largest, self.local = app, token, largest, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, started = Headers(scope=scope), False

        async def send_safely(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        try:
            self.check_page(headers)
            if scope["path"].startswith("/v1"):
                self.check_token(headers)
            await self.app(scope, await self.bounded(headers, receive), send_safely)
        except Refused as refused:
            if not started:
                await answer(send_safely, refused)

    def check_page(self, headers: Headers) -> None:
        """Pages of other sites cannot use a server that their visitor can reach."""
        host = headers.get("host", "")
        if self.local and urlsplit(f"//{host}").hostname not in LOCAL:
            raise Refused(403, f"this server answers to localhost, not to {host!r:.60}")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise Refused(403, f"a page of {origin!r:.60} cannot use this server")

    def check_token(self, headers: Headers) -> None:
        if self.token is None:
            return
        given = headers.get("authorization", "")
        wanted = f"Bearer {self.token}"
        if not hmac.compare_digest(given.encode(errors="replace"), wanted.encode()):
            raise Refused(401, "this server asks for its token: Authorization: Bearer TOKEN")

    async def bounded(self, headers: Headers, receive: Receive) -> Receive:
        """`receive`, which raises once more has come than may.

        A body that says so itself is read and dropped, within reason: who sends it hears the answer only then.
        """
        declared = headers.get("content-length", "0")
        if not (declared.isascii() and declared.isdecimal()):
            raise Refused(400, f"Content-Length {declared!r:.40} is no number")
        size = 0
        if int(declared) > self.largest:
            if "expect" not in headers and int(declared) <= PATIENCE * self.largest:
                while (await receive()).get("more_body"):
                    pass
            raise self.too_large(int(declared))

        async def bounded_receive() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.largest:
                while size <= PATIENCE * self.largest and message.get("more_body"):
                    message = await receive()
                    size += len(message.get("body", b""))
                raise self.too_large(size)
            return message

        return bounded_receive

    def too_large(self, size: int) -> Refused:
        return Refused(413, f"the request has {size:,} bytes or more, at most {self.largest:,} are read")


async def answer(send: Send, refused: Refused) -> None:
    """Send a refusal."""
    body = json.dumps(complaint(refused.status, str(refused))).encode()
    headers: Sequence[tuple[bytes, bytes]] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *([(b"www-authenticate", b"Bearer")] if refused.status == 401 else []),
        *([(b"connection", b"close")] if refused.status == 413 else []),
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
