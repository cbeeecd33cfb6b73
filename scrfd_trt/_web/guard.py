"""Stands before the web framework: refuses foreign requests, sets limits, adds headers, and ends failures quietly."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, MutableSequence
from typing import Any

import uvicorn
from starlette.datastructures import MutableHeaders
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from scrfd_trt._web.access import Access, Answer

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
HEAD_SECONDS = 20.0  # time for the headers of a request
MAX_HEADERS = 1 << 16
MAX_HEAD = 1 << 19  # bytes that arrive before a request begins: its headers, and the start of its body
STOP_SECONDS = 3
DRAIN_SECONDS = 2.0  # time at the end in which further requests are answered, and connections closed after each
JSON_TYPE = (b"content-type", b"application/json")

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
    """An ASGI application around another one, with limited bodies; only ``cacheable`` paths are kept in caches.

    ``busy`` is the answer to bodies that together are more than ``max_held``. ``held`` counts their bytes: those
    of this process in one row, others beside it. With ``as_json``, refusals look as those of FastAPI.
    """

    grace = GRACE_SECONDS
    draining = False  # whether connections end after their next answer

    def __init__(
        self,
        app: Application,
        access: Access | None,
        max_body: int,
        *,
        max_held: int = 0,
        held: MutableSequence[float] | None = None,
        row: int = 0,
        cacheable: tuple[str, ...] = (),
        headers: Mapping[str, str] = HEADERS,
        busy: Answer = BUSY,
        as_json: bool = False,
    ) -> None:
        self.app, self._access, self.cacheable, self.headers = app, access, cacheable, headers
        self.max_body, self.as_json, self.busy = max_body, as_json, busy
        self.held, self.row = [0.0] if held is None else held, row
        self.max_held = max_held or BODIES_AT_ONCE * max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        reply = _Reply(scope, send, self)
        if answer := (self._access and self._access.answer(scope)) or self._check_length(scope):
            await reply.end(answer)
            return
        body = _Body(receive, reply, self)
        try:
            await self.app(scope, body.receive, reply.send)
        except Exception as error:  # noqa: BLE001 - whatever a request causes, the server goes on
            _logger.info("a request failed: %r", error)
            await reply.end(Answer(500, b"the request failed"))
        finally:
            self.held[self.row] -= body.size

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
        guard.held[guard.row] += size
        if self.size > guard.max_body:
            return await self._refuse(TOO_LARGE)
        return await self._refuse(guard.busy) if sum(guard.held) > guard.max_held else message

    async def _refuse(self, answer: Answer) -> Message:
        self._complete = True
        await self._reply.end(answer)
        return {"type": "http.disconnect"}


class _Reply:
    """What is sent to the client: one answer, with the headers that all have."""

    def __init__(self, scope: Scope, send: Send, guard: Guard) -> None:
        self.is_websocket = scope["type"] == "websocket"
        self._send, self._guard = send, guard
        self._cacheable = scope["path"].startswith(guard.cacheable)
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
        if self._guard.as_json:
            more = [each for each in answer.headers if each[0] != b"content-type"]
            body = json.dumps({"detail": answer.body.decode()}).encode()
            answer = answer._replace(body=body, headers=(JSON_TYPE, *more))
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
            headers.update(self._guard.headers)
            headers.setdefault("referrer-policy", "same-origin")
            if self._guard.draining:
                headers["connection"] = "close"
            if not self._cacheable:  # images and results stay in no cache
                headers["cache-control"] = "no-store"
            message["headers"] = headers.raw
        await self._send(message)


def new_server(
    application: Application,
    stop_seconds: float = STOP_SECONDS,
    *,
    max_connections: int = MAX_CONNECTIONS,
    drain: Callable[[], object] | None = None,
    web_sockets: bool = True,
) -> uvicorn.Server:
    """Return a server for an application, with limits for what its connections may take, also at the end.

    With ``drain``, which it calls first, it goes on answering for a moment when it is stopped.
    """
    config = uvicorn.Config(
        application,
        http=_TimedProtocol,
        ws="wsproto" if web_sockets else "none",
        ws_max_size=MAX_MESSAGE,
        ws_per_message_deflate=False,  # a small message could become a large one
        limit_concurrency=max_connections,
        timeout_graceful_shutdown=round(2 * stop_seconds),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    server = _Server(config)
    server.drain = drain
    return server


class _Server(uvicorn.Server):
    """A server that drops clients that do not read answers, for which uvicorn waits also after its timeout."""

    drain: Callable[[], object] | None = None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.drain is not None:
            self.drain()
            end = time.monotonic() + DRAIN_SECONDS
            while self.server_state.connections and time.monotonic() < end and not self.force_exit:
                await asyncio.sleep(0.05)
        asyncio.get_running_loop().call_later((self.config.timeout_graceful_shutdown or 0) / 2, self._drop_connections)
        await super().shutdown(sockets)

    def _drop_connections(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class _TimedProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # that of httptools or h11
    """HTTP connections that are closed unless the headers of each request arrive soon, and are short."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._head_size, self._head_start = 0, time.monotonic()
        self._check_head()

    def data_received(self, data: bytes) -> None:
        if self._is_between():
            self._head_start = self._head_start or time.monotonic()
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self.transport.abort()
                return
        super().data_received(data)
        if not self._is_between():
            self._head_size, self._head_start = 0, 0.0

    # httptools calls these, and has no limit; h11 has one of 64 KiB.
    def on_message_begin(self) -> None:
        self._header_size = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(name + value)
        super().on_header(name, value)

    def _count(self, part: bytes) -> None:
        self._header_size += len(part)
        if self._header_size > MAX_HEADERS:
            raise ValueError("the headers are too large")  # the parser reports it, and the server answers 400

    def _is_between(self) -> bool:
        """Return whether the headers of the next request are not complete."""
        return self.cycle is None or self.cycle.response_complete

    def _check_head(self) -> None:
        left = HEAD_SECONDS
        if self._head_start and self._is_between():
            left = self._head_start + HEAD_SECONDS - time.monotonic()
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        if left <= 0:
            self.transport.close()
        else:
            asyncio.get_running_loop().call_later(max(left, 0.01), self._check_head)


def stop_on_hangup() -> None:
    """Stop on SIGHUP as on SIGTERM, unless nohup has set it to be ignored."""
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        signal.signal(hangup, lambda *_: signal.raise_signal(signal.SIGTERM))
