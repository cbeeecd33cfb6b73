"""Write files atomically, and lock files between processes."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from scrfd_trt.errors import ModelNotFoundError, OptionError, OutputError, ScrfdError, one_line, shown

if TYPE_CHECKING:
    from filelock import BaseFileLock

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - tempfile makes folders that only the user can open

part_owner = ""
"""Begins the random part of temporary names: a job that goes on deletes those that an earlier run of it left."""

logger = logging.getLogger("scrfd_trt")


def check_readable(path: Path) -> None:
    """Raise ModelNotFoundError unless a path is a regular file that can be opened: a FIFO would wait."""
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
        if is_file:
            path.open("rb").close()
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"{path}: there is no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = getattr(error, "strerror", None) or one_line(error)
        raise ModelNotFoundError(f"{shown(str(path), 200)}: cannot be read: {reason}") from error
    if not is_file:
        raise ModelNotFoundError(f"{path}: cannot be read: it is a folder or device, not a file")


def check_target(path: Path, *, overwrite: bool) -> None:
    """Check before any work that a file can be written; raise OptionError or OutputError."""
    _check_free(path, overwrite)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: the folder is write-protected; name another one")


def user_path(text: str | Path) -> Path:
    """Return the path that a user types; ``~`` is the home folder, unless a file or folder has this name."""
    path = Path(text)
    if not str(text).startswith("~") or os.path.lexists(path):
        return path
    try:
        return path.expanduser()
    except RuntimeError:  # no such user
        return path


def check_not_input(path: str | os.PathLike[str], source: str | os.PathLike[str] | None, what: str = "input") -> None:
    """Raise OptionError if a file to write is one that is read, by another name or not."""
    is_same = False
    with suppress(OSError, ValueError):  # there is no such file, or one of them is an address
        is_same = source is not None and os.path.samefile(path, source)  # noqa: PTH121
    if is_same:
        raise OptionError(f"{path} is the {what}; name another file")


@contextmanager
def parts_owned_by(owner: str) -> Iterator[None]:
    """Let the names of all temporary files of the process begin with their owner in the block."""
    global part_owner  # noqa: PLW0603 - many threads write, and inherit no context
    before, part_owner = part_owner, owner
    try:
        yield
    finally:
        part_owner = before


def part_path(path: Path) -> Path:
    """Return a hidden name in the folder of ``path`` that no other file has."""
    return path.with_name(f".scrfd-trt-{part_owner}{secrets.token_hex(6)}.part")


def delete_parts(folder: Path, owner: str) -> None:
    """Delete the temporary files of an owner that no longer writes."""
    with suppress(OSError):
        for part in folder.glob(f".scrfd-trt-{owner}*.part"):
            part.unlink()


@contextmanager
def atomic_path(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a hidden name beside ``path`` that becomes ``path`` when the block succeeds; links are replaced."""
    _check_free(path, overwrite)
    temporary = part_path(path)
    try:
        yield temporary
        with output_errors(path):
            if overwrite:
                _replace(temporary, path)
            else:
                _move_to_new(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_file(path: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file for writing that replaces ``path`` when the block succeeds."""
    # Unlike the tempfile module's, a file opened with "x" has the permissions that the umask gives.
    with output_errors(path), atomic_path(path, overwrite=overwrite) as temporary, temporary.open("xb") as file:
        yield file


@contextmanager
def kept_file(path: Path, *, overwrite: bool = False) -> Iterator[tuple[BinaryIO, Path]]:
    """Open ``NAME.part`` (or ``NAME.2.part``), which becomes ``path`` when the block succeeds, and stays otherwise."""
    with output_errors(path):
        _check_free(path, overwrite)
        with _open_part(path) as file:
            part = Path(file.name)
            yield file, part
        if overwrite:
            _replace(part, path)
        else:
            _move_to_new(part, path)
            part.unlink(missing_ok=True)


def _open_part(path: Path) -> BinaryIO:
    for number in count(1):
        part = path.with_name(f"{path.name}{'' if number == 1 else f'.{number}'}.part")
        with suppress(FileExistsError):
            try:
                return part.open("xb")
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                return part_path(path).open("xb")
    raise AssertionError


def _replace(temporary: Path, path: Path) -> None:
    _check_free(path, overwrite=True)
    with suppress(OSError):
        temporary.chmod(stat.S_IMODE(path.stat().st_mode))
    temporary.replace(path)


def _move_to_new(temporary: Path, path: Path) -> None:
    """Move a file to a path that does not exist; raise OptionError if another process makes it first."""
    try:
        if os.name == "nt":
            temporary.rename(path)  # fails for an existing file on Windows only
        else:
            _link(temporary, path)
    except FileExistsError as error:
        # A network disk that repeats a request finds the link of the first one.
        if path.is_symlink() or not path.samefile(temporary):
            raise _exists_error(path, "was written by another program meanwhile") from error


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # FAT and some network disks have no hard links
        path.touch(exist_ok=False)  # no other process can write it from now on
        try:
            temporary.replace(path)
        except BaseException:
            path.unlink()
            raise


def write_files(contents: Mapping[Path, bytes], *, overwrite: bool = True) -> None:
    """Write files durably; move them to their paths only after all contents are on disk."""
    with ExitStack() as stack:
        for path, data in contents.items():
            stack.enter_context(output_errors(path))
            write_synced(stack.enter_context(atomic_path(path, overwrite=overwrite)), data)
    for folder in {path.parent for path in contents}:
        with output_errors(folder):
            _sync_folder(folder)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until its contents are on disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; wait, with a line in the log, while another process or thread holds it."""
    lock = _file_lock(path)
    if not _acquired(lock):
        logger.info("waiting for another process to finish with %s", path.parent)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold a lock file unless another process or thread holds it; yield whether it is held."""
    lock = _file_lock(path)
    held = _acquired(lock)
    try:
        yield held
    finally:
        lock.release()


def _check_free(path: Path, overwrite: bool) -> None:
    with output_errors(path):
        try:
            path.lstat()  # finds a link without a target, and a name that is too long, as exists() does not
        except (FileNotFoundError, NotADirectoryError):
            if not path.parent.is_dir():
                raise OptionError(f"cannot write {path}: there is no folder {path.parent}; create it first") from None
            return
        if path.exists() and not path.is_file():
            raise OptionError(f"cannot write {path}: a folder or device is there; name a file")
        if not overwrite:
            raise _exists_error(path)


def _exists_error(path: Path, why: str = "already exists") -> OptionError:
    return OptionError(f"{path} {why}; name another file, or pass overwrite=True to replace it", fields=["overwrite"])


@contextmanager
def temporary_folder(beside: Path | None = None) -> Iterator[Path]:
    """Make a folder that is deleted at the end, at ``beside`` where the system has no writable one."""
    made = None
    for place in (None, beside, SHARED_MEMORY):  # a container whose root is read-only has at least shared memory
        with suppress(OSError):
            made = tempfile.TemporaryDirectory(prefix=f"{'.' if place else ''}scrfd-trt-", dir=place)
            break
    if made is None:
        raise OutputError("there is no writable folder for temporary files; set the environment variable TMPDIR to one")
    with made as folder:
        yield Path(folder)


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Translate ``OSError`` to ``OutputError``."""
    try:
        yield
    except ScrfdError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _sync_folder(folder: Path) -> None:
    """Bring the entries of a folder to disk, where the operating system supports it."""
    if hasattr(os, "O_DIRECTORY"):
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _file_lock(path: Path) -> BaseFileLock:
    from filelock import FileLock  # noqa: PLC0415 - slow to import, and seldom needed

    return FileLock(path, thread_local=False)  # one thread may take the lock and another release it


def _acquired(lock: BaseFileLock) -> bool:
    from filelock import Timeout  # noqa: PLC0415

    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True
