"""``scrfd-trt studio``: the local page to hide faces and to review the result."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack, suppress
from typing import Annotated

from scrfd_trt._cli import console, options, signals
from scrfd_trt._cli.detector import open_detector
from scrfd_trt._cli.option_table import option
from scrfd_trt._web.access import Access
from scrfd_trt.errors import MissingDependencyError, OptionError, one_line

MIN_THRESHOLD = 0.05
"""The detector's threshold; the page filters faces again, from this value on."""

NO_ADDRESS = (errno.EADDRNOTAVAIL, errno.EINVAL)
"""EINVAL: an IPv4 address that is written as one of IPv6."""

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
    model: str = options.DEFAULT_MODEL,
    device: str = "auto",
    verbose: bool = False,
) -> None:
    """Open a local page to hide faces, review and export.

    Drop photographs and clips on the page. It covers their faces; you choose
    who stays visible, draw faces that were missed, and save the results. By
    default, only this machine can open the page; see --host. Ctrl-C stops
    the studio and deletes its temporary files.

    For example:
      scrfd-trt studio
      scrfd-trt studio --port 9000 --no-browser
    """
    with console.logged(verbose=verbose):
        try:
            from scrfd_trt._studio.server import serve  # noqa: PLC0415 - starlette is optional
        except ImportError as error:
            what = f'studio needs starlette and uvicorn ({one_line(error)}): pip install "scrfd-trt[studio]"'
            raise MissingDependencyError(what) from error
        with ExitStack() as stack:
            listeners = [stack.enter_context(listener) for listener in listen(host, port)]
            detector = stack.enter_context(open_detector(model, device, threshold=MIN_THRESHOLD, iou=options.IOU))
            names = [listener.getsockname() for listener in listeners]
            access = Access(host, [name[0] for name in names], names[0][1])
            addresses = [f"http://{name}:{access.port}/" for name in _printed_names(host, access)]
            console.plain(f"studio: {addresses[0]}{access.query()}  (Ctrl-C stops it)")
            for address in addresses[1:]:
                console.plain(f"from other machines: {address}{access.query()}")
            with suppress(KeyboardInterrupt):
                serve(
                    detector,
                    listeners,
                    access,
                    model=model,
                    max_upload=max_upload * 2**20,
                    open_address=addresses[0] + access.query(once=True) if browser else "",
                )
            signals.forget()


def _printed_names(host: str, access: Access) -> list[str]:
    """Return the host names of the addresses that are printed: first the one to open on this machine."""
    if not access.needs_token:
        return [f"[{host}]" if ":" in host else host]
    return ["[::1]" if ":" in host else "127.0.0.1", socket.gethostname(), *_own_addresses(host)]


def _own_addresses(host: str) -> list[str]:
    """Return the address of this machine on the way to other networks; empty without one. Nothing is sent."""
    is_v6 = ":" in host
    elsewhere = "2001:db8::1" if is_v6 else "192.0.2.1"  # reserved for documentation
    with suppress(OSError), socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((elsewhere, 9))
        address = str(probe.getsockname()[0])
        return [f"[{address}]" if is_v6 else address]
    return []


def listen(host: str, port: int) -> list[socket.socket]:
    """Return a listening socket for each address of the host, all with one port; raise OptionError without any."""
    listeners: list[socket.socket] = []
    failure = OSError()
    try:
        found = dict.fromkeys(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE))
    except (OSError, UnicodeError) as error:
        raise _cannot_listen(host, port, error) from error
    for family, _, _, _, address in found:
        wanted = port or (int(listeners[0].getsockname()[1]) if listeners else 0)
        try:
            listeners.append(socket.create_server((address[0], wanted, *address[2:]), family=family))
        except OSError as error:  # for localhost, one of two families may be switched off
            failure = error
    if not listeners:
        raise _cannot_listen(host, port, failure) from failure
    return listeners


def _cannot_listen(host: str, port: int, error: OSError | UnicodeError) -> OptionError:
    if isinstance(error, (socket.gaierror, UnicodeError)) or error.errno in NO_ADDRESS:
        return OptionError(f"this machine has no address {host}; use another --host")
    reason = os.strerror(error.errno) if error.errno else str(error)
    return OptionError(f"cannot listen on {host}, port {port}: {reason}; use another --port, or 0")
