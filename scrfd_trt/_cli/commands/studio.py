"""The command ``scrfd-trt studio``."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Annotated

import typer

from scrfd_trt._cli import console, options
from scrfd_trt._cli.detector import open_detector
from scrfd_trt.errors import MissingDependencyError, OptionError

HOST = "127.0.0.1"
LOWEST = 0.05
"""Faces of lower scores are not looked for; the page's slider begins here."""

Host = Annotated[
    str, typer.Option(metavar="ADDRESS", help="Where to listen; others on the network can reach all but 127.0.0.1.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="Where to listen; 0 takes one that is free.")]
Largest = Annotated[int, typer.Option("--max-upload", min=1, max=2000, metavar="MIB", help="Largest file it takes.")]
Browser = Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")]


def studio(
    *,
    host: Host = HOST,
    port: Port = 8765,
    largest: Largest = 64,
    browser: Browser = True,
    model: options.ModelName = options.DEFAULT_MODEL,
    device: options.Device = "auto",
    verbose: options.Verbose = False,
) -> None:
    """Open a local page: drop a picture, pick overlays, move sliders.

    It shows the result at once, and gives it as a file, and the command
    line and the Python that make it. Only this machine can reach the page
    unless '--host' says otherwise. Nothing is kept after it ends. Ctrl-C
    ends it.

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
        with open_detector(model, device, threshold=LOWEST, iou=options.IOU) as detector:
            console.plain(f"studio: http://{_named(host)}:{free}  (Ctrl-C ends it)")
            with suppress(KeyboardInterrupt):  # the way to end it
                serve(detector, host, free, model=model, largest=largest * 2**20, browser=browser)


def _named(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _free_port(host: str, port: int) -> int:
    """Check that one can listen there; return the port, a free one for 0."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as place:
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            place.bind((host, port))
            return int(place.getsockname()[1])
    except OSError as error:
        reason = error.strerror or str(error)
        raise OptionError(f"cannot listen on {host}, port {port}: {reason}; take another --port, or 0") from error
