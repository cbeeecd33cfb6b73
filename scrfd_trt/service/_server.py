"""Run the service with uvicorn, one process, until it is stopped."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence

from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._image_files.stderr import redirected_stderr
from scrfd_trt._web.access import Access
from scrfd_trt._web.guard import new_server, stop_on_hangup
from scrfd_trt.service._app import build_app
from scrfd_trt.service._metrics import RequestLog
from scrfd_trt.service._options import ServiceOptions

MAX_CONNECTIONS = 10_000
LOGGERS = {"scrfd_trt.service": logging.INFO, "uvicorn": logging.WARNING, "python_multipart": logging.ERROR}
END_SECONDS = 5.0  # after the time-out of the last request, connections are dropped


def serve(
    detector: SCRFDDetector,
    listeners: Sequence[socket.socket],
    options: ServiceOptions,
    *,
    model: str,
    access: Access | None = None,
    log_requests: bool = True,
) -> None:
    """Serve a detector of the caller on listening sockets until a signal; requests in work are then answered."""
    app = build_app(detector, options, model=model, access=access)

    def drain() -> None:
        app.service.draining = app.guard.draining = True

    stop_on_hangup()
    seconds = options.timeout + END_SECONDS
    server = new_server(app, seconds, max_connections=MAX_CONNECTIONS, drain=drain, web_sockets=False)
    for name, level in LOGGERS.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [RequestLog()], False
        logger.setLevel(level if log_requests else logging.ERROR)
    with redirected_stderr():  # decoders write to stderr, and the log must not get lost in between
        server.run(sockets=list(listeners))
