"""Compiled kernels, kept on disk. Whatever goes wrong with that costs a second of compiling, and nothing else."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from scrfd_trt import models
from scrfd_trt.errors import ModelError

log = logging.getLogger("scrfd_trt")

FOLDER = "kernels"
CHECKSUM = hashlib.sha256


class Kept:
    """What is kept under one key, in cuda.core's cache with a checksum before it, which that cache has none of.

    Parameters
    ----------
    key
        Of source, options and compiler, as cuda.core makes it.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._cache = _open()

    def get(self) -> bytes | None:
        """Return what is kept; None where that is nothing, or damaged."""
        if self._cache is None:
            return None
        try:
            entry = bytes(self._cache[self._key])
        except KeyError:
            return None
        except OSError as error:
            log.debug("the kernels that are kept cannot be read: %s", error)
            return None
        size = CHECKSUM().digest_size
        checksum, binary = entry[:size], entry[size:]
        if checksum == CHECKSUM(binary).digest():
            return binary
        log.debug("the kernels that are kept are damaged, and are compiled again")
        return None

    def put(self, binary: bytes) -> None:
        """Keep something in place of what is there."""
        if self._cache is None:
            return
        try:
            self._cache[self._key] = CHECKSUM(binary).digest() + binary
        except OSError as error:
            log.debug("the compiled kernels are not kept: %s", error)


def _open() -> Any:
    from cuda.core.utils import FileStreamProgramCache  # noqa: PLC0415 - optional, and slow to import

    try:
        return FileStreamProgramCache(models.home() / FOLDER)
    except (OSError, ModelError) as error:
        log.info("the compiled kernels are not kept: %s", error)
        return None
