"""Stands before the web framework: refuses foreign requests, limits bodies, adds headers, and ends failures quietly."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from scrfd_trt._studio.access import Access, Answer

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

BODIES_AT_ONCE = 4
"""All requests together hold this many bodies of the largest size."""
GRACE_SECONDS = 20.0
MIN_BYTES_PER_SECOND = 16 * 1024
"""A body that stays slower than this, after a time of grace, is given up."""

POLICY = (
    b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; base-uri 'none'; object-src 'none'; "
    b"form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    # Pages of other addresses neither show the studio in a frame nor load parts of it.
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    # The page loads nothing from elsewhere, and sends nothing there. NiceGUI needs inline scripts and eval.
    (b"content-security-policy", POLICY),
)
NO_STORE = (b"cache-control", b"no-store")
"""Images and results stay in no cache."""

_logger = logging.getLogger(__name__)


class Guard:
    """An ASGI application around another one.

    ``max_body`` limits the body of a request, in bytes. Paths that start with ``cacheable`` are parts of the framework.
    """

    def __init__(
        self, app: Application, access: Access, max_body: int, *, cacheable: str, grace: float = GRACE_SECONDS
    ) -> None:
        self.app, self._access, self._max_body, self._cacheable, self._grace = app, access, max_body, cacheable, grace
        self._held = 0

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
            self._held -= body.size

    def _check_length(self, scope: Scope) -> Answer | None:
        lengths = [value for key, value in scope["headers"] if key.lower() == b"content-length"]
        if any(not each.isdigit() for each in lengths) or len(set(lengths)) > 1:
            return Answer(400, b"the length of the request is invalid")
        return TOO_LARGE if lengths and int(lengths[0][:20]) > self._max_body else None

    def hold(self, body: _Body, size: int) -> Answer | None:
        """Count bytes of a body; return the answer that ends it if it or all bodies together become too large."""
        body.size += size
        self._held += size
        if body.size > self._max_body:
            return TOO_LARGE
        return BUSY if self._held > BODIES_AT_ONCE * self._max_body else None

    def seconds_left(self, body: _Body) -> float:
        """Return how long to wait for the next part of a body."""
        return body.start + self._grace + body.size / MIN_BYTES_PER_SECOND - time.monotonic()


TOO_LARGE = Answer(413, b"the file is too large")
TOO_SLOW = Answer(408, b"the file arrives too slowly")
BUSY = Answer(503, b"too many files are uploaded at once; try again later")


class _Body:
    """The body of a request, as it arrives."""

    def __init__(self, receive: Receive, reply: _Reply, guard: Guard) -> None:
        self._receive, self._reply, self._guard = receive, reply, guard
        self.size, self.start, self._complete = 0, time.monotonic(), False

    async def receive(self) -> Message:
        """Return the next message; after a refusal, the client seems to have gone."""
        if self._complete or self._reply.is_websocket:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._guard.seconds_left(self))
        except asyncio.TimeoutError:
            return await self._refuse(TOO_SLOW)
        self._complete = not message.get("more_body", False)
        answer = self._guard.hold(self, len(message.get("body", b"")))
        return await self._refuse(answer) if answer else message

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
        if message["type"] in ("http.response.start", "websocket.accept"):
            self._started = True
        if message["type"] == "http.response.start":
            own = {key for key, _ in HEADERS}
            kept = [
                (key, value)
                for key, value in message.get("headers", ())
                if key.lower() not in own and not key.lower().startswith(b"access-control-")
            ]
            if not self._cacheable:
                kept = [(key, value) for key, value in kept if key.lower() != b"cache-control"] + [NO_STORE]
            message["headers"] = [*kept, *HEADERS, *_referrer_policy(kept)]
        await self._send(message)

    async def end(self, answer: Answer) -> None:
        """Answer instead of the application; where its answer has begun, only stop it."""
        ended, self._ended = self._ended, True
        if ended or (self._started and not self.is_websocket):
            return
        if self.is_websocket:
            await self._send({"type": "websocket.close", "code": 1011 if self._started else 1008})
            return
        headers = list(answer.headers) or [(b"content-type", b"text/plain; charset=utf-8")]
        headers += [(b"content-length", str(len(answer.body)).encode()), NO_STORE, *HEADERS]
        headers += _referrer_policy(headers)
        if answer.status >= 400:  # the rest of the body is not waited for
            headers.append((b"connection", b"close"))
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": answer.body})


def _referrer_policy(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    named = any(key == b"referrer-policy" for key, _ in headers)
    return [] if named else [(b"referrer-policy", b"same-origin")]
