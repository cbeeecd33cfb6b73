"""Get a model: the file on this machine, an archive that is unpacked, or a download."""

from __future__ import annotations

import hashlib
import logging
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Protocol

from scrfd_trt._files import locked, write_synced
from scrfd_trt.errors import (
    DownloadError,
    MissingDependencyError,
    ModelFormatError,
    ModelNotFoundError,
    OptionError,
    ScrfdError,
)
from scrfd_trt.models._model import Archive, Model
from scrfd_trt.models._registry import get
from scrfd_trt.models._store import HOME_VARIABLE, address, by_hand, find, find_archive, home, short

logger = logging.getLogger("scrfd_trt.models")


class ProgressBar(Protocol):
    """What a download reports its progress to, in bytes. ``tqdm`` objects and pooch's progress bars fit."""

    total: int | None
    """Bytes to expect; set when the server has answered."""

    def update(self, n: int, /) -> object:
        """Count ``n`` more bytes."""

    def reset(self) -> object:
        """Start again from 0."""

    def close(self) -> object:
        """End the display; no other method is called afterwards."""


def fetch(
    name: Model | str,
    *,
    progress: ProgressBar | bool | None = None,
    download: bool = True,
    retries: int = 2,
) -> Path:
    """Return the file of a model; download it if it is not on this machine.

    The model is looked for in the home folder (:func:`scrfd_trt.models.home`), also as a release archive, and in
    installed packages. A download goes into the home folder. It resumes where an earlier one was cut off, and its
    SHA-256 is checked. Several processes may fetch at the same time: one downloads, the others wait.

    Parameters
    ----------
    name
        The name of one of :func:`scrfd_trt.models.list_models`, or a model.
    progress
        Progress bar of a download. None shows one if stderr is a terminal, True always, False never. A
        :class:`scrfd_trt.models.ProgressBar` of your own, such as a ``tqdm`` object, is closed after a download.
    download
        Whether a download is allowed.
    retries
        How often a failed download is tried again if the failure may be temporary, after a wait of 1, 2, … seconds.

    Returns
    -------
    Path
        The ONNX file.

    Raises
    ------
    OptionError
        If the name is unknown, ``retries`` is negative, or ``SCRFD_TRT_MIRROR`` is not an address.
    ModelFormatError
        If there is a file of that name with an unexpected SHA-256.
    ModelNotFoundError
        If the model is not on this machine, and no release contains it or ``download`` is False.
    MissingDependencyError
        If a download is needed and pooch is not installed.
    DownloadError
        If the download fails; the message names the file, its address and the folder to put it in.
    """
    model = get(name)
    if retries < 0:
        raise OptionError(f"retries is {retries}: it must be 0 or more", fields=["retries"], value=retries)
    found = find(model)
    if found is None:
        bring: Callable[[], Path]
        if placed := find_archive(model):
            bring = partial(_unpack_placed, *placed, model)
        else:
            bring = partial(_downloader(model, allowed=download), model, progress, retries)
        with _locked_home():
            # Another process may have brought it while this one waited for the lock.
            found = find(model)
            if found is None:
                return bring()
    if found.export is None:
        logger.warning("%s is used as %s without a check: no SHA-256 is published for it", found.path, model.name)
    logger.info("%s: %s (%s)", model.name, found.path, found.source)
    return found.path


def unpack(path: Path, archive: Archive, model: Model, folder: Path) -> Path:
    """Unpack the model of a release archive into a folder that the caller has locked; return its file.

    The member is found by its file name in any folder of the archive. If that does not contain the model with its size
    and SHA-256, nothing is written and ModelFormatError is raised.
    """
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


def _member(opened: zipfile.ZipFile, archive: Archive, model: Model) -> zipfile.ZipInfo:
    members = [info for info in opened.infolist() if PurePosixPath(info.filename).name == archive.member]
    if len(members) != 1:
        raise ModelFormatError(f"{archive.file} holds {len(members)} files called {archive.member}, not one")
    size = members[0].file_size
    sizes = [export.size for export in model.exports]
    if size not in sizes:
        expected = " or ".join(f"{size:,}" for size in sizes)
        raise ModelFormatError(f"{archive.member} in {archive.file} has {size:,} bytes, expected {expected}")
    return members[0]


def _unpack_placed(archive: Archive, path: Path, model: Model) -> Path:
    try:
        return unpack(path, archive, model, home())
    except ModelFormatError as error:
        raise ModelFormatError(f"{path}: {error}: fetch {address(archive.file)} again, or move it away") from error


def _downloader(model: Model, *, allowed: bool) -> Callable[[Model, ProgressBar | bool | None, int], Path]:
    """Return the function that downloads a model; raise an error if there is none."""
    if not model.archives:
        raise ModelNotFoundError(f"{model.name} is not here, and no release holds it: {by_hand(model)}")
    if not allowed:
        raise ModelNotFoundError(f"{model.name} is not here, and downloads are off: {by_hand(model)}")
    try:
        from scrfd_trt.models._download import download  # noqa: PLC0415 - pooch is optional
    except ImportError as error:
        raise MissingDependencyError(
            f'{model.name} is not here, and a download needs pooch: pip install "scrfd-trt[download]",'
            f" or {by_hand(model)}"
        ) from error
    return download


@contextmanager
def _locked_home() -> Iterator[None]:
    """Make the home folder, and keep other processes from writing to it."""
    try:
        home().mkdir(parents=True, exist_ok=True)
        with locked(home() / ".lock"):
            yield
    except ScrfdError:
        raise
    except OSError as error:
        raise DownloadError(
            f"cannot write to {home()} ({error.strerror or error}): set {HOME_VARIABLE} to a folder that can be written"
        ) from error
