"""Unpack a model from a release archive."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from scrfd_trt._files import write_synced
from scrfd_trt.errors import ModelFormatError
from scrfd_trt.models._model import Archive, Model
from scrfd_trt.models._store import address, home, short


def unpack(path: Path, archive: Archive, model: Model, folder: Path) -> Path:
    """Unpack the model of an archive into a locked folder; ModelFormatError if its size or SHA-256 differs."""
    try:
        with zipfile.ZipFile(path) as opened:
            member = _member(opened, archive, model)
            with opened.open(member) as file:
                data = file.read(member.file_size)  # read() without a size has no limit
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelFormatError(f"{archive.file} cannot be unpacked ({error})") from error
    found = hashlib.sha256(data).hexdigest()
    if found not in model.sha256:
        expected = short(*model.sha256)
        raise ModelFormatError(f"{archive.member} in {archive.file} has SHA-256 {short(found)}, expected {expected}")
    part = folder / f"{archive.member}.part"
    try:
        write_synced(part, data)
        return part.replace(folder / archive.member)
    finally:
        part.unlink(missing_ok=True)


def unpack_placed(archive: Archive, path: Path, model: Model) -> Path:
    """Unpack the model of an archive that the user put into the home folder; the error says what to do."""
    try:
        return unpack(path, archive, model, home())
    except ModelFormatError as error:
        raise ModelFormatError(f"{path}: {error}: fetch {address(archive.file)} again, or move it away") from error


def _member(opened: zipfile.ZipFile, archive: Archive, model: Model) -> zipfile.ZipInfo:
    members = [info for info in opened.infolist() if PurePosixPath(info.filename).name == archive.member]
    if len(members) != 1:
        raise ModelFormatError(f"{archive.file} contains {len(members)} files named {archive.member}, expected one")
    size = members[0].file_size
    sizes = [export.size for export in model.exports]
    if size not in sizes:
        expected = " or ".join(f"{size:,}" for size in sizes)
        raise ModelFormatError(f"{archive.member} in {archive.file} has {size:,} bytes, expected {expected}")
    return members[0]
