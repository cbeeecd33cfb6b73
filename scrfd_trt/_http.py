"""HTTP requests with time limits. requests is optional: import this module only for a download."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, TimeoutError  # noqa: A004 - that of Python 3.10
from contextlib import contextmanager
from typing import Any, BinaryIO
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from scrfd_trt._version import __version__
from scrfd_trt.errors import ImageError, ScrfdError, one_line

CHUNK = 1 << 16
TIMEOUT = (10.0, 60.0)  # seconds to connect, and to wait for more bytes
MAX_REDIRECTS = 5
Resolve = Callable[[SplitResult], str]
"""Returns the IP address to connect to for a parsed address, or raises ImageError; called again for each redirect."""


@contextmanager
def answered(
    url: str, headers: Mapping[str, str] | None = None, resolve: Resolve | None = None
) -> Iterator[requests.Response]:
    """Yield the answer to a GET request, whose body is not read yet; follow redirects, without reading theirs."""
    sent = {"Accept-Encoding": "identity", "User-Agent": f"scrfd_trt/{__version__}", **(headers or {})}
    with requests.Session() as session:
        for _ in range(MAX_REDIRECTS + 1):
            place = url
            if resolve is not None:
                place, sent["Host"] = _resolved(session, urlsplit(url), resolve)
            with session.get(place, headers=sent, stream=True, timeout=TIMEOUT, allow_redirects=False) as response:
                target = session.get_redirect_target(response)
                if target is None:
                    yield response
                    return
                url = urljoin(url, target)
    raise requests.TooManyRedirects(f"more than {MAX_REDIRECTS} redirects")


def _resolved(session: requests.Session, parts: SplitResult, resolve: Resolve) -> tuple[str, str]:
    """Return an address with the IP address that its name has, and the name for the Host header."""
    address = resolve(parts)
    session.trust_env = False  # a proxy would resolve the name again, and .netrc has passwords
    session.mount("https://", _Named(parts.hostname or ""))
    host = parts.netloc.rpartition("@")[2]
    port = f":{parts.port}" if parts.port else ""
    return parts._replace(netloc=(f"[{address}]" if ":" in address else address) + port).geturl(), host


class _Named(HTTPAdapter):
    """Connects to IP addresses, and checks the certificate of a name."""

    def __init__(self, name: str) -> None:
        self._name = name
        super().__init__()

    def init_poolmanager(self, *args: Any, **settings: Any) -> None:
        super().init_poolmanager(*args, server_hostname=self._name, assert_hostname=self._name, **settings)


def copy_body(url: str, file: BinaryIO, max_bytes: int, max_seconds: float, resolve: Resolve | None = None) -> None:
    """Write the body of an answer to a file; raise ImageError where that fails, or takes more than the limits."""
    answer: Future[None] = Future()

    def run() -> None:
        try:
            _copy(url, file, max_bytes, time.monotonic() + max_seconds, resolve)
            answer.set_result(None)
        except Exception as error:  # noqa: BLE001 - raised by the future
            answer.set_exception(error)

    # In a thread of its own: time limits of requests begin anew with each byte of a slow server.
    threading.Thread(target=run, daemon=True).start()
    try:
        answer.result(max_seconds)
    except TimeoutError:
        raise ImageError(f"the download takes longer than {max_seconds:g} seconds") from None
    except ScrfdError:
        raise
    except requests.exceptions.ChunkedEncodingError as error:
        raise ImageError("the download was cut off: try again") from error
    except (requests.RequestException, ValueError) as error:  # ValueError: an address that cannot be parsed
        why = reason(error) if isinstance(error, requests.RequestException) else one_line(error)
        raise ImageError(f"the file cannot be downloaded ({why})") from error


def _copy(url: str, file: BinaryIO, max_bytes: int, end: float, resolve: Resolve | None) -> None:
    size = 0
    with answered(url, resolve=resolve) as response:
        if response.status_code != requests.codes.ok:
            raise ImageError(f"{status(response)}: check the address")
        length = content_length(response) or 0
        for chunk in response.iter_content(CHUNK) if length <= max_bytes else ():
            size += file.write(chunk)
            if size > max_bytes or time.monotonic() > end:
                break
    if max(length, size) > max_bytes:
        raise ImageError(f"the file has more than {max_bytes / 1e6:,.0f} MB: make it smaller, or copy it here")
    if size < length:
        raise requests.exceptions.ChunkedEncodingError


def content_length(response: requests.Response) -> int | None:
    """Return the length of the answer; None if the server gives none, or compresses in spite of the request."""
    length = response.headers.get("Content-Length", "")
    plain = response.headers.get("Content-Encoding", "identity") == "identity"
    return int(length) if length.isdecimal() and plain else None


def status(response: requests.Response) -> str:
    """Return how the server answered, for a message."""
    return f"the server answers {response.status_code} {response.reason}".rstrip()


def reason(error: requests.RequestException) -> str:
    """Return why a request failed, in the operating system's words if they are known."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    seen: list[BaseException] = []
    queue: list[object] = [error]
    while queue:
        item = queue.pop(0)
        if isinstance(item, BaseException) and item not in seen:
            seen.append(item)
            queue += [item.__cause__, item.__context__, getattr(item, "reason", None), *item.args]
    known = (item.strerror for item in seen if isinstance(item, OSError) and item.strerror)
    text = next(known, None) or one_line(error)
    return ("proxy: " if isinstance(error, requests.exceptions.ProxyError) else "") + text[0].lower() + text[1:]
