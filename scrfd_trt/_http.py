"""HTTP requests with time limits. requests is optional: import this module only for a download."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urljoin

import requests

from scrfd_trt._version import __version__
from scrfd_trt.errors import ImageError, ScrfdError, one_line

CHUNK = 1 << 16
TIMEOUT = (10.0, 60.0)  # seconds to connect, and to wait for more bytes
MAX_REDIRECTS = 5


@contextmanager
def answered(url: str, headers: Mapping[str, str] | None = None) -> Iterator[requests.Response]:
    """Yield the answer to a GET request, whose body is not read yet; follow redirects, without reading theirs."""
    sent = {"Accept-Encoding": "identity", "User-Agent": f"scrfd_trt/{__version__}", **(headers or {})}
    with requests.Session() as session:
        for _ in range(MAX_REDIRECTS + 1):
            with session.get(url, headers=sent, stream=True, timeout=TIMEOUT, allow_redirects=False) as response:
                target = session.get_redirect_target(response)
                if target is None:
                    yield response
                    return
                url = urljoin(url, target)
    raise requests.TooManyRedirects(f"more than {MAX_REDIRECTS} redirects")


def read_image_file(url: str, max_bytes: int, max_seconds: float) -> bytes:
    """Return the body of an answer; raise ImageError where that fails, or takes more than the limits."""
    end = time.monotonic() + max_seconds
    found = bytearray()
    try:
        with answered(url) as response:
            if response.status_code != requests.codes.ok:
                raise ImageError(f"{status(response)}: check the address")
            length = content_length(response)
            for chunk in response.iter_content(CHUNK) if (length or 0) <= max_bytes else ():
                found += chunk
                if len(found) > max_bytes:
                    break
                if time.monotonic() > end:
                    raise ImageError(f"the download takes longer than {max_seconds:g} seconds")
    except ScrfdError:
        raise
    except (requests.RequestException, ValueError) as error:  # ValueError: an address that cannot be parsed
        why = reason(error) if isinstance(error, requests.RequestException) else one_line(error)
        raise ImageError(f"the image cannot be downloaded ({why})") from error
    if max(length or 0, len(found)) > max_bytes:
        raise ImageError(f"the file has more than {max_bytes / 1e6:,.0f} MB: make the image smaller")
    if length is not None and length > len(found):
        raise ImageError(f"the download was cut off after {len(found):,} of {length:,} bytes")
    return bytes(found)


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
    return text[0].lower() + text[1:]
