"""The studio's temporary files: one folder a process, which is deleted however the process ends."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

from scrfd_trt._files import locked_if_free
from scrfd_trt.errors import ClosedError, ImageError

PREFIX = "scrfd-trt-studio-"
LOCK = "in-use"  # a file in each folder that its process keeps locked. A folder whose lock is free is abandoned.


class TemporaryFolder:
    """A folder for temporary files; created at the first :meth:`new`."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._path: Path | None = None
        self._lock = ExitStack()

    def new(self) -> Path:
        """Return a new empty folder within; raise OSError if it cannot be created."""
        with self._guard:
            while self._path is None:
                self._path = self._create()
            return Path(tempfile.mkdtemp(dir=self._path))

    def _create(self) -> Path | None:
        """Create the folder and lock it; return None if a studio that starts right now deletes it as abandoned."""
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        with ExitStack() as stack:
            if stack.enter_context(locked_if_free(path / LOCK)) and (path / LOCK).exists():
                self._lock = stack.pop_all()
                return path
        return None

    def close(self) -> None:
        """Delete the folder and its content; may be called twice."""
        with self._guard:
            self._lock.close()
            if self._path is not None:
                shutil.rmtree(self._path, ignore_errors=True)
            self._path = None


class SessionFiles:
    """The files of one page, each in a folder of its own, so that two files may have the same name. Thread-safe."""

    def __init__(self, folder: TemporaryFolder) -> None:
        self._folder = folder
        self._own: Path | None = None
        self._guard = threading.Lock()
        self.closed = False

    def new_folder(self) -> Path:
        """Return a new empty folder; raise ImageError if it cannot be created, ClosedError after the end."""
        try:
            with self._guard:
                if self.closed:
                    raise ClosedError("the page was closed")
                if self._own is None:
                    self._own = self._folder.new()
                return Path(tempfile.mkdtemp(dir=self._own))
        except OSError as error:
            reason = "there is no writable folder for them" if isinstance(error, FileNotFoundError) else error.strerror
            raise ImageError(
                f"temporary files cannot be written: {reason or error}; set the environment variable TMPDIR to a "
                "folder with free space, and start the studio again"
            ) from error

    def write(self, name: str, content: bytes) -> Path:
        """Write a file and return its path; raise ImageError if that fails."""
        path = self.new_folder() / name
        try:
            path.write_bytes(content)
        except (OSError, ValueError) as error:
            self.delete(path)
            full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
            advice = "the disk of temporary files is full" if full else "give the file another name"
            raise ImageError(f"{name[:60]!r} cannot be stored: {advice}") from error
        return path

    def delete(self, path: Path) -> None:
        """Delete a file with its folder; do nothing for files that are not of this page."""
        if path.parent.parent == self._own:
            shutil.rmtree(path.parent, ignore_errors=True)

    def close(self) -> None:
        """Delete all files; may be called twice."""
        with self._guard:
            self.closed = True
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)


def delete_abandoned() -> None:
    """Delete the folders of studios that were killed."""
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError:  # no folder is writable; only clips and stickers need one
        return
    for path in folder.glob(f"{PREFIX}*"):
        # Folders of other users, and folders that have no lock yet, stay.
        with suppress(OSError):
            if not path.is_symlink() and _is_own(path) and (path / LOCK).is_file():
                _delete_if_abandoned(path)


def _is_own(path: Path) -> bool:
    return not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()


def _delete_if_abandoned(path: Path) -> None:
    with locked_if_free(path / LOCK) as abandoned:
        if abandoned:
            shutil.rmtree(path, ignore_errors=True)
    if abandoned:  # Windows deletes no file that is open
        shutil.rmtree(path, ignore_errors=True)
