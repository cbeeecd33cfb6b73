"""``scrfd-trt studio``: the local page to try overlays on."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Annotated

import typer

from scrfd_trt._cli import console, options
from scrfd_trt._cli.detector import open_detector
from scrfd_trt.errors import MissingDependencyError, OptionError

MIN_THRESHOLD = 0.05
"""The detector's threshold; the page filters faces again, from this value on."""

Host = Annotated[
    str, typer.Option(metavar="ADDRESS", help="Address to listen on; 127.0.0.1 accepts this machine only.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="Port to listen on; 0 takes a free one.")]
MaxUpload = Annotated[int, typer.Option(min=1, max=2000, metavar="MIB", help="Largest file to accept, in MiB.")]
Browser = Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")]


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
    """Open a local page to try overlays on images and short clips.

    The page shows the result at once. It offers the result as a file, and
    the command line and the Python program that make it. Only this machine
    can reach the page unless --host is given. Nothing is kept when it ends.
    Press Ctrl-C to end it.

    For example:
      scrfd-trt studio
      scrfd-trt studio --port 9000 --no-browser
    """
    with console.logged(verbose=verbose):
        try:
            from scrfd_trt._studio.server import serve  # noqa: PLC0415 - nicegui is optional, and slow to import
        except ImportError as error:
            raise MissingDependencyError(
                'studio needs nicegui and imagesize: pip install "scrfd-trt[studio]"'
            ) from error
        free = _free_port(host, port)
        with open_detector(model, device, threshold=MIN_THRESHOLD, iou=options.IOU) as detector:
            address = f"[{host}]" if ":" in host else host
            console.plain(f"studio: http://{address}:{free}  (Ctrl-C ends it)")
            with suppress(KeyboardInterrupt):
                serve(detector, host, free, model=model, max_upload=max_upload * 2**20, browser=browser)


def _free_port(host: str, port: int) -> int:
    """Return the port, a free one for 0; raise OptionError if nothing can listen there."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            return int(listener.getsockname()[1])
    except OSError as error:
        reason = error.strerror or str(error)
        raise OptionError(f"cannot listen on {host}, port {port}: {reason}; use another --port, or 0") from error
