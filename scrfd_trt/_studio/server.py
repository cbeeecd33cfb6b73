"""The studio's web server: limits on uploads, refusal of foreign pages, and shutdown."""

from __future__ import annotations

import signal
import weakref
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from nicegui import app, ui
from starlette.formparsers import MultiPartParser
from starlette.middleware.trustedhost import TrustedHostMiddleware

from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._studio.page import Page
from scrfd_trt._studio.session import Session
from scrfd_trt._studio.temporary_files import TemporaryFolder, delete_abandoned

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]", "::1")
FORM_OVERHEAD = 64 * 1024
"""Bytes that the form around an uploaded file may take."""


def serve(detector: SCRFDDetector, host: str, port: int, *, model: str, max_upload: int, browser: bool) -> None:
    """Serve the page until Ctrl-C.

    All pages share ``detector``; the caller closes it. ``model`` is the name or path it was opened with; the page
    shows it in the command line. ``max_upload`` limits a file, in bytes. ``browser`` opens the page in a browser.
    """
    # Uploads stay in memory: no temporary file has to be deleted.
    MultiPartParser.spool_max_size = max_upload + FORM_OVERHEAD
    app.add_middleware(LimitUploads, max_bytes=max_upload + FORM_OVERHEAD)
    if host in LOCAL_HOSTS:
        # Refuses other names that resolve to 127.0.0.1 (DNS rebinding).
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOCAL_HOSTS))
    app.add_middleware(SameOriginOnly)

    delete_abandoned()
    folder = TemporaryFolder()
    sessions: weakref.WeakSet[Session] = weakref.WeakSet()  # the session of a closed page is freed with its images

    def close_all() -> None:
        for session in list(sessions):
            session.close()
        folder.close()

    app.on_shutdown(close_all)

    @ui.page("/")
    async def page() -> None:
        # A request without a browser behind it builds no page.
        await ui.context.client.connected()
        if not ui.context.client.is_deleted:
            sessions.add(Page(Session(detector, folder, model), max_upload).session)

    _stop_on_hangup()
    try:
        ui.run(
            host=host,
            port=port,
            title="scrfd-trt studio",
            favicon="🙂",
            dark=None,
            show=browser,
            reload=False,
            show_welcome_message=False,
            uvicorn_logging_level="error",
        )
    finally:
        close_all()


@dataclass
class LimitUploads:
    """Refuse requests with more than ``max_bytes``, by their header and while the body is read."""

    application: Any
    max_bytes: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.max_bytes:
            await _refuse(send, 413, b"the file is too large")
            return
        read = 0

        async def count() -> MutableMapping[str, Any]:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            # A body without a length that grows too large looks like a closed connection.
            return {"type": "http.disconnect"} if read > self.max_bytes else message

        await self.application(scope, count, send)


@dataclass
class SameOriginOnly:
    """Refuse requests that pages of another address send; browsers name that address in the Origin header."""

    application: Any

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket connection."""
        headers = dict(scope.get("headers", ()))
        origin = headers.get(b"origin")
        if origin is None or origin.partition(b"://")[2] == headers.get(b"host"):
            await self.application(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _refuse(send, 403, b"the request comes from a page of another address")


async def _refuse(send: Send, status: int, reason: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": reason})


def _stop_on_hangup() -> None:
    """Stop on SIGHUP as on SIGTERM, unless nohup has set it to be ignored."""
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        signal.signal(hangup, lambda *_: signal.raise_signal(signal.SIGTERM))
