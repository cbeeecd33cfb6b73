"""The server behind the page: what it takes, from whom, and how much."""

from __future__ import annotations

import signal
import weakref
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from nicegui import app, ui
from starlette.formparsers import MultiPartParser
from starlette.middleware.trustedhost import TrustedHostMiddleware

from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._studio.folder import Folder, clean
from scrfd_trt._studio.page import Page
from scrfd_trt._studio.session import Session

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


class OwnPagesOnly:
    """Refuse what the pages of another address send: a browser says whose they are."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one connection that stays open."""
        headers = dict(scope.get("headers", ()))
        origin = headers.get(b"origin")
        if origin is None or origin.partition(b"://")[2] == headers.get(b"host"):
            await self.application(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _refuse(send, 403, b"that page is not this studio's")


async def _refuse(send: Send, status: int = 413, why: bytes = b"the file is too large") -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": why})


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
    app.add_middleware(OwnPagesOnly)

    clean()
    folder = Folder()
    sessions: weakref.WeakSet[Session] = weakref.WeakSet()  # a page that was left takes its pictures with it

    def close_all() -> None:
        for session in list(sessions):
            session.close()
        folder.close()

    app.on_shutdown(close_all)

    @ui.page("/")
    async def page() -> None:
        # Who only asks for the page, and never shows it, costs nothing.
        await ui.context.client.connected()
        if not ui.context.client.is_deleted:
            sessions.add(Page(Session(detector, model, folder), largest).session)

    _end_when_the_terminal_does()
    try:
        _run(host, port, browser=browser)
    finally:
        close_all()


def _end_when_the_terminal_does() -> None:
    """Take a closed terminal for a request to end, as the server takes SIGTERM; nohup says not to."""
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        signal.signal(hangup, lambda *_: signal.raise_signal(signal.SIGTERM))


def _run(host: str, port: int, *, browser: bool) -> None:
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
