"""Get a network: from this machine where it is here, and otherwise by a download."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from scrfd_trt.errors import (
    DownloadError,
    MissingDependencyError,
    ModelFormatError,
    ModelNotFoundError,
    OptionError,
    ScrfdError,
)
from scrfd_trt.locking import lock
from scrfd_trt.zoo.model import Archive, Model
from scrfd_trt.zoo.places import HOME_VARIABLE, address, home
from scrfd_trt.zoo.progress import ProgressBar
from scrfd_trt.zoo.registry import get
from scrfd_trt.zoo.sources import archive_in_home, by_hand, find
from scrfd_trt.zoo.unpack import unpack

logger = logging.getLogger("scrfd_trt.zoo")


def fetch(
    name: Model | str,
    *,
    progress: ProgressBar | bool | None = None,
    download: bool = True,
    retries: int = 2,
) -> Path:
    """Return the file of a network, which is downloaded if it is not on this machine.

    It is looked for in the home folder (:func:`scrfd_trt.zoo.home`), where a release archive will do as well, and in
    an installed package. A download goes into the home folder; it takes up where an earlier one was cut off, and
    what it brought is used only if its SHA-256 is right. Several processes may fetch at the same time.

    Parameters
    ----------
    name
        A name in :func:`scrfd_trt.zoo.models`, or a model.
    progress
        Progress bar of a download: None shows one if stderr is a terminal, True shows one, False shows none; an
        object of one's own (:class:`scrfd_trt.zoo.ProgressBar`), such as a ``tqdm`` one, is closed at the end of a
        download.
    download
        Whether a download is allowed.
    retries
        How often a download is tried again after a failure that may pass, with a wait of 1, 2, … seconds.

    Returns
    -------
    Path
        The ONNX file.

    Raises
    ------
    OptionError
        If the name is unknown, ``retries`` is negative, or ``SCRFD_TRT_MIRROR`` is no address.
    ModelFormatError
        If a file of that name is there and has another SHA-256 than it should have.
    ModelNotFoundError
        If it is not on this machine, and it cannot or must not be downloaded.
    MissingDependencyError
        If it has to be downloaded and pooch is not installed.
    DownloadError
        If the download failed; the message names file, address and the folder to put it in.
    """
    model = get(name)
    if retries < 0:
        raise OptionError(f"retries is {retries}: it must be 0 or more")
    found = find(model)
    if found is None:
        placed = archive_in_home(model)
        if placed:
            bring = partial(_unpack_placed, model, *placed)
        else:
            bring = partial(_downloader(model, download), model, progress, retries)
        with _locked_home():
            # Another process may have brought it while this one waited for the lock.
            found = find(model)
            if found is None:
                return bring()
    if found.export is None:
        logger.warning("%s is used as %s without a check: no SHA-256 is published for it", found.path, model.name)
    logger.info("%s: %s (%s)", model.name, found.path, found.source)
    return found.path


@contextmanager
def _locked_home() -> Iterator[None]:
    """Make the home folder and keep other processes from writing to it."""
    try:
        home().mkdir(parents=True, exist_ok=True)
        with lock(home() / ".lock"):
            yield
    except ScrfdError:
        raise
    except OSError as error:
        raise DownloadError(
            f"cannot write to {home()} ({error.strerror or error}): set {HOME_VARIABLE} to a folder that can be written"
        ) from error


def _unpack_placed(model: Model, archive: Archive, path: Path) -> Path:
    try:
        return unpack(path, archive, model, home())
    except ModelFormatError as error:
        raise ModelFormatError(f"{path}: {error}: fetch {address(archive.file)} again, or move it away") from error


def _downloader(model: Model, allowed: bool) -> Callable[[Model, ProgressBar | bool | None, int], Path]:
    """Return the function that downloads, or say why there is none."""
    if not model.archives:
        raise ModelNotFoundError(f"{model.name} is not here, and no release holds it: {by_hand(model)}")
    if not allowed:
        raise ModelNotFoundError(f"{model.name} is not here, and downloads are off: {by_hand(model)}")
    try:
        from scrfd_trt.zoo.download import download  # noqa: PLC0415 - needs pooch, which is optional
    except ImportError as error:
        raise MissingDependencyError(
            f'{model.name} is not here, and a download needs pooch: pip install "scrfd-trt[download]",'
            f" or {by_hand(model)}"
        ) from error
    return download
