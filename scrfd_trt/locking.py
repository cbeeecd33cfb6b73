"""A lock between processes, so that two of them never make the same file."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

logger = logging.getLogger("scrfd_trt")

_PAUSE = 0.1


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a lock file; wait for as long as another process or thread holds it.

    The operating system frees the lock when its holder ends, however it ends. The file stays: whoever removed it could
    take it from under somebody who waits for it.

    Parameters
    ----------
    path
        The lock file, which is made if need be; its folder must exist.

    Raises
    ------
    OSError
        If the file cannot be made or locked.
    """
    with path.open("ab") as file:
        if not _try(file):
            logger.info("waiting for another process to finish with %s", path.parent)
            while not _try(file):
                time.sleep(_PAUSE)
        try:
            yield
        finally:
            _free(file)


@contextmanager
def lock_if_free(path: Path) -> Iterator[bool]:
    """Hold a lock file unless another process or thread holds it; yield whether it is held.

    Parameters
    ----------
    path
        As for :func:`lock`.

    Raises
    ------
    OSError
        If the file cannot be made or locked.
    """
    with path.open("ab") as file:
        held = _try(file)
        try:
            yield held
        finally:
            if held:
                _free(file)


if sys.platform == "win32":

    def _try(file: IO[bytes]) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _free(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:

    def _try(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _free(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
