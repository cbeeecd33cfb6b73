"""Turn what callers hand in into images."""

from __future__ import annotations

from urllib.parse import urlsplit

from scrfd_trt.errors import ImageError, MissingDependencyError

ADDRESSES = ("https://", "http://")
MAX_FILE_BYTES = 1 << 28
"""Of a file that is downloaded: more than the largest images within the limits have when they are compressed."""
MAX_SECONDS = 120.0


def is_address(text: object) -> bool:
    """Return whether a string is the address of a file on a web server."""
    return isinstance(text, str) and text[:8].lower().startswith(ADDRESSES)


def host_of(address: str) -> str:
    """Return how messages name an address: without user, password and query, shortened."""
    try:
        parts = urlsplit(address)
        name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        name = address
    return name if len(name) <= 200 else f"{name[:199]}…"


def download(address: str, *, max_bytes: int = MAX_FILE_BYTES, max_seconds: float = MAX_SECONDS) -> bytes:
    """Return the content of a file at an ``http`` or ``https`` address.

    Raises
    ------
    ImageError
        If the address is not one, the server cannot be reached, answers with an error or redirects elsewhere, or the
        file is larger or takes longer than the limits.
    MissingDependencyError
        If requests is not installed.
    """
    name = host_of(address)
    if not is_address(address):
        raise ImageError("an address must begin with https:// or http://", subject=name)
    try:
        from scrfd_trt import _http  # noqa: PLC0415 - imports requests, which is optional
    except ImportError as error:
        hint = 'reading an image from an address requires requests: pip install "scrfd-trt[download]"'
        raise MissingDependencyError(hint, subject=name) from error
    try:
        return _http.read_image_file(address, max_bytes, max_seconds)
    except ImageError as error:
        raise error.within(name) from error
