"""Stands before the web framework: refuses foreign requests, sets limits, adds headers, and ends failures quietly."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from starlette.datastructures import MutableHeaders
from uvicorn.protocols.http.h11_impl import H11Protocol

from scrfd_trt._studio.access import Access, Answer

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

BODIES_AT_ONCE = 4  # all requests together hold this many bodies of the largest size
GRACE_SECONDS = 20.0
MIN_BYTES_PER_SECOND = 16 * 1024  # a body that stays slower than this, after a time of grace, is given up
MAX_CONNECTIONS = 256
MAX_MESSAGE = 1 << 20  # bytes of a WebSocket message; the page sends values of controls
FIRST_REQUEST_SECONDS = 20.0  # time for the headers of a connection's first request
STOP_SECONDS = 3

POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; base-uri 'none'; object-src 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    # Pages of other addresses neither show the studio in a frame nor load parts of it.
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
    # The page loads nothing from elsewhere, and sends nothing there. NiceGUI needs inline scripts and eval.
    "content-security-policy": POLICY,
}
TOO_LARGE = Answer(413, b"the file is too large")
TOO_SLOW = Answer(408, b"the file arrives too slowly")
BUSY = Answer(503, b"too many files are uploaded at once; try again later")

_logger = logging.getLogger(__name__)


class Guard:
    """An ASGI application around another one, with limited bodies; only ``cacheable`` paths are kept in caches."""

    grace = GRACE_SECONDS

    def __init__(self, app: Application, access: Access, max_body: int, *, cacheable: tuple[str, ...] = ()) -> None:
        self.app, self._access, self._cacheable = app, access, cacheable
        self.max_body, self.held = max_body, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        reply = _Reply(scope, send, cacheable=scope["path"].startswith(self._cacheable))
        if (answer := self._access.answer(scope)) or (answer := self._check_length(scope)):
            await reply.end(answer)
            return
        body = _Body(receive, reply, self)
        try:
            await self.app(scope, body.receive, reply.send)
        except Exception as error:  # noqa: BLE001 - whatever a request causes, the server goes on
            _logger.info("a request failed: %r", error)
            await reply.end(Answer(500, b"the request failed"))
        finally:
            self.held -= body.size

    def _check_length(self, scope: Scope) -> Answer | None:
        lengths = {value for key, value in scope["headers"] if key.lower() == b"content-length"}
        if len(lengths) > 1 or not all(each.isdigit() for each in lengths):
            return Answer(400, b"the length of the request is invalid")
        return TOO_LARGE if any(int(each[:20]) > self.max_body for each in lengths) else None


class _Body:
    """The body of a request, as it arrives."""

    def __init__(self, receive: Receive, reply: _Reply, guard: Guard) -> None:
        self._receive, self._reply, self._guard = receive, reply, guard
        self.size, self._start, self._complete = 0, time.monotonic(), reply.is_websocket

    async def receive(self) -> Message:
        """Return the next message; after a refusal, the client seems to have gone."""
        if self._complete:
            return await self._receive()
        guard = self._guard
        left = self._start + guard.grace + self.size / MIN_BYTES_PER_SECOND - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), left)
        except asyncio.TimeoutError:
            return await self._refuse(TOO_SLOW)
        self._complete = not message.get("more_body", False)
        size = len(message.get("body", b""))
        self.size += size
        guard.held += size
        if self.size > guard.max_body:
            return await self._refuse(TOO_LARGE)
        return await self._refuse(BUSY) if guard.held > BODIES_AT_ONCE * guard.max_body else message

    async def _refuse(self, answer: Answer) -> Message:
        self._complete = True
        await self._reply.end(answer)
        return {"type": "http.disconnect"}


class _Reply:
    """What is sent to the client: one answer, with the headers that all have."""

    def __init__(self, scope: Scope, send: Send, *, cacheable: bool) -> None:
        self.is_websocket = scope["type"] == "websocket"
        self._send, self._cacheable = send, cacheable
        self._started = self._ended = False

    async def send(self, message: Message) -> None:
        """Send a message of the application, unless its request was refused meanwhile."""
        if self._ended:
            return
        self._started |= message["type"] in ("http.response.start", "websocket.accept")
        await self._send_with_headers(message)

    async def end(self, answer: Answer) -> None:
        """Answer instead of the application; where its answer has begun, only stop it."""
        ended, self._ended = self._ended, True
        if ended or (self._started and not self.is_websocket):
            return
        if self.is_websocket:
            await self._send({"type": "websocket.close", "code": 1011 if self._started else 1008})
            return
        headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
        if answer.status >= 400:  # the rest of the body is not waited for
            headers.append((b"connection", b"close"))
        await self._send_with_headers({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": answer.body})

    async def _send_with_headers(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            for name in [each for each in headers if each.startswith("access-control-")]:
                del headers[name]
            headers.update(HEADERS)
            headers.setdefault("referrer-policy", "same-origin")
            if not self._cacheable:  # images and results stay in no cache
                headers["cache-control"] = "no-store"
            message["headers"] = headers.raw
        await self._send(message)


def new_server(application: Application, stop_seconds: int = STOP_SECONDS) -> uvicorn.Server:
    """Return a server for an application, with limits for what its connections may take, also at the end."""
    config = uvicorn.Config(
        application,
        http=_TimedProtocol,
        ws="wsproto",
        ws_max_size=MAX_MESSAGE,
        ws_per_message_deflate=False,  # a small message could become a large one
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=2 * stop_seconds,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """A server that drops clients that do not read answers, for which uvicorn waits also after its timeout."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later((self.config.timeout_graceful_shutdown or 0) / 2, self._drop_connections)
        await super().shutdown(sockets)

    def _drop_connections(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class _TimedProtocol(H11Protocol):
    """HTTP connections that are closed unless a request arrives soon."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(FIRST_REQUEST_SECONDS, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None and self.transport.get_protocol() is self:
            self.transport.close()
