"""The server behind the page: what it takes, from whom, and how much."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from nicegui import app, ui
from starlette.formparsers import MultiPartParser
from starlette.middleware.trustedhost import TrustedHostMiddleware

from scrfd_trt.cli.studio.page import Page
from scrfd_trt.cli.studio.session import Session
from scrfd_trt.detector import SCRFDDetector

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LOCAL = ("127.0.0.1", "localhost", "[::1]", "::1")
ROOM = 64 * 1024
"""Bytes that the form around an uploaded file may take."""


class LimitUploads:
    """Refuse requests whose body is too large, before it is read and while it is."""

    def __init__(self, application: Any, most: int) -> None:
        self.application, self.most = application, most + ROOM

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if not told.isdigit() or int(told) > self.most:
            await _refuse(send)
            return
        read = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            # A body without a length that grows too large looks to the application as if its sender had gone.
            return {"type": "http.disconnect"} if read > self.most else message

        await self.application(scope, counted, send)


async def _refuse(send: Send) -> None:
    await send({"type": "http.response.start", "status": 413, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"the file is too large"})


def serve(detector: SCRFDDetector, host: str, port: int, *, model: str, largest: int, browser: bool) -> None:
    """Serve the page until Ctrl-C.

    Parameters
    ----------
    detector
        Used by all pages; whoever opened it closes it.
    host, port
        Where to listen.
    model
        What the detector was opened with, for the command line that the page shows.
    largest
        Most bytes of an uploaded file.
    browser
        Whether to open the page in a browser.
    """
    # Uploads stay in memory and never lie in a file that somebody would have to delete.
    MultiPartParser.spool_max_size = largest + ROOM
    app.add_middleware(LimitUploads, most=largest)
    if host in LOCAL:
        # A name that somebody else's server gives to 127.0.0.1 does not lead here.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOCAL))

    sessions: weakref.WeakSet[Session] = weakref.WeakSet()  # a page that was left takes its pictures with it

    def close_all() -> None:
        for session in list(sessions):
            session.close()

    app.on_shutdown(close_all)

    @ui.page("/")
    def page() -> None:
        sessions.add(Page(detector, largest, model).session)

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
