"""The studio's web server: the application behind its guard, its log, and its end."""

from __future__ import annotations

import logging
import socket
import threading
import weakref
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from urllib.parse import quote

from fastapi import FastAPI
from nicegui import Client, __version__, app, core, ui
from starlette.formparsers import MultiPartParser
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response

from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._studio.page import Page
from scrfd_trt._studio.session import Budget, Session
from scrfd_trt._studio.temporary_files import TemporaryFolder, delete_abandoned
from scrfd_trt._web.access import Access
from scrfd_trt._web.guard import Guard, Receive, Scope, Send, new_server, stop_on_hangup

FORM_OVERHEAD = 64 * 1024  # bytes that the form around an uploaded file may take
MAX_PAGES = 32
MAX_WAITING = 256  # pages that were requested and not opened; each is forgotten after a minute
_logger = logging.getLogger(__name__)


def serve(
    detector: SCRFDDetector,
    listeners: Sequence[socket.socket],
    access: Access,
    *,
    model: str,
    max_upload: int,
    open_address: str = "",
) -> None:
    """Serve the page, for a detector of the caller that ``model`` names, on listening sockets until Ctrl-C."""
    delete_abandoned()
    application, close = create_application(detector, access, model=model, max_upload=max_upload)
    stop_on_hangup()
    if open_address:
        threading.Thread(target=webbrowser.open, args=(open_address,), daemon=True).start()
    try:
        with framework_log():
            new_server(application).run(sockets=list(listeners))
    finally:
        close()


def create_application(
    detector: SCRFDDetector, access: Access, *, model: str, max_upload: int
) -> tuple[Guard, Callable[[], None]]:
    """Return the ASGI application and a function that deletes its files; once a process."""
    # Uploads stay in memory: no temporary file has to be deleted.
    MultiPartParser.spool_max_size = max_upload + FORM_OVERHEAD
    folder, budget = TemporaryFolder(), Budget(max_upload)
    sessions: weakref.WeakSet[Session] = weakref.WeakSet()  # the session of a closed page is freed with its images

    def close() -> None:
        for session in list(sessions):
            session.close()
        folder.close()

    @ui.page("/")
    async def page() -> None:
        # A request without a browser behind it builds no page.
        await ui.context.client.connected()
        if ui.context.client.id not in Client.instances:  # it has gone already
            return
        if sum(not session.closed for session in sessions) >= MAX_PAGES:
            ui.label("Too many pages of the studio are open: close some, and load this one again.")
        else:
            sessions.add(Page(Session(detector, folder, model, budget), max_upload).session)

    @app.get("/download/{key}")
    async def download(key: str) -> Response:  # on the event loop, as all that changes the sessions
        for session in list(sessions):
            if file := session.take(key):
                return _as_response(*file)
        return PlainTextResponse("there is no such file", 404)

    app.on_shutdown(close)
    app.add_exception_handler(404, lambda *_: PlainTextResponse("there is no such page", 404))
    app.add_exception_handler(Exception, _failed)
    parent = FastAPI(openapi_url=None)
    ui.run_with(parent, title="scrfd-trt studio", favicon="🙂", dark=None, show_welcome_message=False)
    # The guard answers for other origins.
    core.sio.eio.cors_allowed_origins = []
    busy = PlainTextResponse("too many pages were requested; try again in a minute", 503)

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and scope["path"] == "/"
        await (busy if is_page and len(Client.instances) >= MAX_WAITING else parent)(scope, receive, send)

    return Guard(limited, access, max_upload + FORM_OVERHEAD, cacheable=(f"/_nicegui/{__version__}/",)), close


def _as_response(name: str, content: bytes | Path) -> Response:
    if isinstance(content, Path):
        return FileResponse(content, filename=name)
    disposition = f"attachment; filename*=utf-8''{quote(name, safe='')}"
    return Response(content, media_type="image/png", headers={"content-disposition": disposition})


def _failed(request: Request, _: Exception) -> Response:
    """Answer a request that the framework could not handle: with a body, a form without a file."""
    if request.method == "POST":
        return PlainTextResponse("the request is not a form with a file", 400)
    return PlainTextResponse("the request failed", 500)


class _FrameworkLog(logging.Handler):
    """Report the studio's errors in one line; the framework's own, a traceback for odd events, only for debugging."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        text = record.getMessage() if error is None else f"{record.getMessage()}: {error!r}"
        frames = walk_tb(error.__traceback__ if error else None)
        passed = {str(frame.f_globals.get("__name__")) for frame, _ in frames} - {Guard.__module__, __name__}
        is_own = any(name.startswith(Page.__module__.rpartition(".")[0]) for name in passed)
        _logger.log(logging.ERROR if is_own else logging.INFO, "the page failed: %s", text)


@contextmanager
def framework_log() -> Iterator[None]:
    """Send what the web framework logs to :class:`_FrameworkLog`, within the block."""
    for name in ("engineio.server", "socketio.server"):  # they print on stderr
        logging.getLogger(name).handlers.clear()
    handler = _FrameworkLog(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
