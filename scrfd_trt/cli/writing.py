"""Write files whole or not at all, and over others only if that was asked for."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt.cli.files import Source, is_folder, is_plain_file, is_there, same_file_key
from scrfd_trt.cli.reading import native_notes
from scrfd_trt.errors import OptionError, OutputError, ScrfdError

QUALITY = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY}
SAME_AS = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg"}


@contextmanager
def replacing(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its place only when the block has ended well.

    Parameters
    ----------
    path
        Its folder must be there. What was there before stays until the new file is whole.
    overwrite
        Whether it may take the place of another file.

    Raises
    ------
    OptionError
        If something is there and ``overwrite`` is not set.
    OutputError
        If it cannot be written.
    """
    check_free(path, overwrite=overwrite)
    temporary = path.with_name(f".scrfd-trt-{secrets.token_hex(6)}.part")
    try:
        # Unlike the tempfile module's, a file opened this way has the permissions that the umask gives.
        number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with os.fdopen(number, "wb") as file:
            yield file
        if is_there(path):
            check_free(path, overwrite=overwrite)
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        temporary.replace(path)
    except ScrfdError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse a path that cannot or must not be written to.

    Raises
    ------
    OptionError
        If something is there that is no plain file, or a file and ``overwrite`` is not set, or no folder to put it in.
    OutputError
        If the file there is write-protected.
    """
    if is_folder(path):
        raise OptionError(f"{path} is a folder; name a file")
    if is_there(path):
        _check_old(path, overwrite)
    elif not is_folder(path.parent):
        raise OptionError(f"cannot write {path}: there is no folder {path.parent}; make it first")


def _check_old(path: Path, overwrite: bool) -> None:
    if not is_plain_file(path):
        raise OptionError(f"{path} is no plain file; name another one, or - for standard output")
    if not overwrite:
        raise OptionError(f"{path} is there already; name another file, or add --overwrite to replace it")
    if not os.access(path, os.W_OK):
        raise OutputError(f"{path} is write-protected; change its permissions, or name another file")


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are not there yet.

    Raises
    ------
    OptionError
        If a file is in the way.
    OutputError
        If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise OptionError(f"{path} cannot be a folder: a file is in the way; name another folder") from error
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error.strerror or error}") from error


def check_folder(path: Path) -> None:
    """Refuse a folder that files cannot be written into, or made to be written into, as far as can be told before.

    Raises
    ------
    OptionError
        If a file is in the way.
    OutputError
        If permissions do not allow it.
    """
    there = next((folder for folder in (path, *path.absolute().parents) if is_there(folder)), Path())
    if not is_folder(there):
        raise OptionError(f"{path} cannot be a folder: a file is in the way; name another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write into the folder {there}: its permissions do not allow it; name another folder")


def targets(sources: Iterable[Source], folder: Path, *, overwrite: bool) -> dict[Source, Path]:
    """Settle which file below a folder each image's copy becomes, before anything is written.

    Raises
    ------
    OptionError
        If two would become one file, one would replace an input that is still to be read, or one is there already and
        ``overwrite`` is not set.
    """
    whole = [source for source in sources if not source.problem]
    inputs = {same_file_key(source.path): source for source in whole}
    taken: dict[str, Source] = {}
    for source in whole:
        target = folder / source.below
        check_target(target, overwrite=overwrite)
        # Two names that differ in case only are one file on many disks.
        key = same_file_key(target).casefold()
        if key in taken:
            raise OptionError(
                f"{taken[key].path} and {source.path} would both become {target}; run them one by one, each with a "
                "folder of its own"
            )
        taken[key] = source
        if inputs.get(same_file_key(target), source) is not source:
            raise OptionError(
                f"{target} is an input, and the copy of {source.path} would replace it; name another folder"
            )
    return {source: folder / source.below for source in taken.values()}


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a path as :func:`check_free` does; its folder may be missing, since it will be made."""
    if is_folder(path.parent):
        check_free(path, overwrite=overwrite)


def check_kind(path: Path) -> None:
    """Refuse a file name that no kind of image goes by.

    Raises
    ------
    OptionError
        If OpenCV writes no such files.
    """
    if not _writable(_kind(path)):
        raise OptionError(
            f"{path}: images are not written as {path.suffix or 'files without a suffix'}; take .png or .jpg"
        )


def encode(image: NDArray[np.uint8], path: Path, quality: int = 95) -> bytes:
    """Turn an image into the bytes of a file.

    Parameters
    ----------
    image
        ``(H, W, 3)`` uint8 BGR.
    path
        Its suffix says what kind of file.
    quality
        1 to 100, for JPEG and WebP.

    Raises
    ------
    OutputError
        If images of this kind or size cannot be written.
    """
    kind = _kind(path)
    if not _writable(kind):
        raise OutputError(
            f"cannot write {path}: OpenCV writes no {path.suffix or 'files without a suffix'}; take .png or .jpg"
        )
    try:
        with native_notes() as notes:
            done, data = cv2.imencode(kind, image, [QUALITY[kind], quality] if kind in QUALITY else [])
    except cv2.error as error:
        raise OutputError(f"cannot write {path}: {str(error).strip().splitlines()[0]}") from error
    if not done:
        width, height = image.shape[1], image.shape[0]
        reason = notes[0] if notes else f"{width}×{height} pixels do not fit"
        raise OutputError(f"cannot write {path} as {kind}: {reason}")
    return data.tobytes()


def save_image(image: NDArray[np.uint8], path: Path, *, overwrite: bool, quality: int = 95) -> None:
    """Write an image file whole or not at all; see :func:`encode` and :func:`replacing`."""
    data = encode(image, path, quality)
    make_folder(path.parent)
    with replacing(path, overwrite=overwrite) as file:
        file.write(data)


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    return SAME_AS.get(suffix, suffix)


def _writable(kind: str) -> bool:
    try:
        return bool(kind) and bool(cv2.haveImageWriter(f"image{kind}"))
    except cv2.error:
        return False
