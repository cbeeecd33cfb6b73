"""Where the studio keeps files while it runs: one folder of this process, which is deleted however it ends."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

from scrfd_trt._files import locked_if_free

PREFIX = "scrfd-trt-studio-"
LOCK = "in-use"
"""A file in each folder, which its process locks: a folder whose lock is free has been left behind."""


class Folder:
    """A folder for temporary files, which is made when the first of them is to be kept."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._path: Path | None = None
        self._held = ExitStack()

    def new(self) -> Path:
        """Make an empty folder within.

        Raises
        ------
        OSError
            If it cannot be made.
        """
        with self._guard:
            while self._path is None:
                self._path = self._made()
            return Path(tempfile.mkdtemp(dir=self._path))

    def _made(self) -> Path | None:
        """Make the folder and lock it; None where another studio, that begins just now, took it for one left behind."""
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        with ExitStack() as stack:
            if stack.enter_context(locked_if_free(path / LOCK)) and (path / LOCK).exists():
                self._held = stack.pop_all()
                return path
        return None

    def close(self) -> None:
        """Delete it with all that is in it; may be called twice."""
        with self._guard:
            self._held.close()
            if self._path is not None:
                shutil.rmtree(self._path, ignore_errors=True)
            self._path = None


def clean() -> None:
    """Delete folders that studios have left behind which were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # Nobody's folder but one's own is touched, nor one that has no lock yet.
        with suppress(OSError):
            if not path.is_symlink() and _mine(path) and (path / LOCK).is_file():
                _delete(path)


def _mine(path: Path) -> bool:
    return not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()


def _delete(path: Path) -> None:
    with locked_if_free(path / LOCK) as left:
        if left:
            shutil.rmtree(path, ignore_errors=True)
    if left:  # Windows deletes no file that is open
        shutil.rmtree(path, ignore_errors=True)
