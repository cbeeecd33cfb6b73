"""Whether a file is the one that it should be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from scrfd_trt.errors import ModelFormatError, ModelNotFoundError

_CHUNK = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def short(sha256: str) -> str:
    """Shorten a hash for a message; the first 8 digits tell any two files apart that are not made to deceive."""
    return f"{sha256[:8]}…"


def check(path: Path, accepted: Iterable[str], remedy: str) -> str:
    """Check that a file has one of the accepted hashes.

    Parameters
    ----------
    path
        The file.
    accepted
        Each a SHA-256.
    remedy
        What to do if it has none of them; it ends the message.

    Returns
    -------
    str
        The SHA-256 that it has.

    Raises
    ------
    ModelFormatError
        If it has another one.
    ModelNotFoundError
        If it cannot be read.
    """
    try:
        found = sha256_of(path)
        size = path.stat().st_size
    except OSError as error:
        raise ModelNotFoundError(f"cannot read {path} ({error.strerror}): make it readable, or move it away") from error
    hashes = tuple(accepted)
    if found not in hashes:
        wanted = " or ".join(short(sha256) for sha256 in hashes)
        raise ModelFormatError(
            f"{path} is not the right file: SHA-256 {short(found)} ({size:,} bytes), expected {wanted}: {remedy}"
        )
    return found
