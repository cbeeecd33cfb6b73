"""Take one file out of an archive: only that one, checked, and put in place in one step."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from scrfd_trt.errors import ModelFormatError
from scrfd_trt.zoo.checks import short
from scrfd_trt.zoo.model import Archive, Model

_CHUNK = 1 << 20


def unpack(path: Path, archive: Archive, model: Model, folder: Path) -> Path:
    """Unpack the network of a release archive.

    The member is found by its file name, wherever in the archive it lies, and nothing is written outside ``folder``.
    No more bytes are unpacked than the network has.

    Parameters
    ----------
    path
        The archive.
    archive
        What is known of it.
    model
        The network that it holds.
    folder
        Where the network is put, under the name that it has in the archive.

    Returns
    -------
    Path
        The network; it is there as a whole, or not at all.

    Raises
    ------
    ModelFormatError
        If this is no zip file, or the network is not in it, or not as it should be.
    OSError
        If the network cannot be written.
    """
    part = folder / f"{archive.member}.part"
    try:
        with zipfile.ZipFile(path) as opened, opened.open(_member(opened, archive, model)) as source:
            _copy(source, part, model, archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        raise ModelFormatError(f"{archive.file} cannot be unpacked ({error})") from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    target = folder / archive.member
    part.replace(target)
    return target


def _member(opened: zipfile.ZipFile, archive: Archive, model: Model) -> zipfile.ZipInfo:
    members = [info for info in opened.infolist() if PurePosixPath(info.filename).name == archive.member]
    if len(members) != 1:
        raise ModelFormatError(f"{archive.file} holds {len(members)} files called {archive.member}, not one")
    sizes = [export.size for export in model.exports]
    if members[0].file_size not in sizes:
        wanted = " or ".join(f"{size:,}" for size in sizes)
        raise ModelFormatError(
            f"{archive.member} in {archive.file} has {members[0].file_size:,} bytes, expected {wanted}"
        )
    return members[0]


def _copy(source: IO[bytes], part: Path, model: Model, archive: Archive) -> None:
    digest = hashlib.sha256()
    with part.open("wb") as file:
        # zipfile itself stops at the size that the archive's directory gives, which _member has checked.
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    found = digest.hexdigest()
    if found not in model.sha256:
        wanted = " or ".join(short(sha256) for sha256 in model.sha256)
        raise ModelFormatError(f"{archive.member} in {archive.file} has SHA-256 {short(found)}, expected {wanted}")
