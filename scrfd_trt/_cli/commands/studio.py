"""``scrfd-trt studio``: the local page to try overlays on."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from typing import Annotated

from scrfd_trt._cli import console, options, signals
from scrfd_trt._cli.detector import open_detector
from scrfd_trt._cli.options import option
from scrfd_trt.errors import MissingDependencyError, OptionError

MIN_THRESHOLD = 0.05
"""The detector's threshold; the page filters faces again, from this value on."""

HOST_HELP = "Address to listen on; 127.0.0.1 accepts this machine only."
Host = Annotated[str, option("ADDRESS", HOST_HELP)]
Port = Annotated[int, option("PORT", "Port to listen on; 0 selects a free one.", min=0, max=65535)]
MaxUpload = Annotated[int, option("MIB", "Maximum size of an uploaded file, in MiB.", min=1, max=2000)]
Browser = Annotated[bool, option(None, "Open the page in a browser.", "--browser/--no-browser")]


def studio(
    *,
    host: Host = "127.0.0.1",
    port: Port = 8765,
    max_upload: MaxUpload = 64,
    browser: Browser = True,
    model: options.ModelName = options.DEFAULT_MODEL,
    device: options.Device = "auto",
    verbose: options.Verbose = False,
) -> None:
    """Open a local page to try overlays.

    Drop an image or a short clip on the page. The page shows the result,
    which you can download, and the command and Python code to copy. By
    default, only this machine can open the page; see --host. Ctrl-C stops
    the studio and deletes its temporary files.

    For example:
      scrfd-trt studio
      scrfd-trt studio --port 9000 --no-browser
    """
    with console.logged(verbose=verbose):
        try:
            from scrfd_trt._studio.server import serve  # noqa: PLC0415 - nicegui is optional, and slow to import
        except ImportError as error:
            raise MissingDependencyError('studio needs nicegui: pip install "scrfd-trt[studio]"') from error
        free = _free_port(host, port)
        with open_detector(model, device, threshold=MIN_THRESHOLD, iou=options.IOU) as detector:
            address = f"[{host}]" if ":" in host else host
            console.plain(f"studio: http://{address}:{free}  (Ctrl-C stops it)")
            with suppress(KeyboardInterrupt):
                serve(detector, host, free, model=model, max_upload=max_upload * 2**20, browser=browser)
            signals.forget()


def _free_port(host: str, port: int) -> int:
    """Return the port, a free one for 0; raise OptionError if nothing can listen there."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            return int(listener.getsockname()[1])
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise OptionError(f"this machine has no address {host}; use another --host") from error
        reason = error.strerror or str(error)
        raise OptionError(f"cannot listen on {host}, port {port}: {reason}; use another --port, or 0") from error
