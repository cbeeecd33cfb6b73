"""Download networks: pooch retries, checks and puts in place; only the ONNX file of an archive is kept.

This module needs pooch and requests, which are optional: import it only when something is to be downloaded.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pooch
import requests

from scrfd_trt.errors import DownloadError, ModelError, ModelFormatError
from scrfd_trt.zoo.model import Archive, Model
from scrfd_trt.zoo.places import address, home
from scrfd_trt.zoo.progress import ProgressBar, bar_for
from scrfd_trt.zoo.resuming import ResumingDownloader, reason
from scrfd_trt.zoo.sources import by_hand
from scrfd_trt.zoo.unpack import unpack

logger = logging.getLogger("scrfd_trt.zoo")


def download(model: Model, progress: ProgressBar | bool | None, retries: int) -> Path:
    """Download a model into the home folder, out of the first of its archives that can be had.

    The caller holds the lock of the home folder, which exists.

    Parameters
    ----------
    model
        A model that has archives.
    progress
        As :func:`scrfd_trt.zoo.fetch` takes it.
    retries
        How often each download is tried again after a failure that may pass.

    Raises
    ------
    DownloadError
        If none could be had; the message is about the first.
    OSError
        If the home folder cannot be written to.
    """
    bar = bar_for(progress, model.name)
    try:
        return _first_of(model, bar, retries)
    finally:
        bar.close()


def _first_of(model: Model, bar: ProgressBar, retries: int) -> Path:
    failures: list[DownloadError] = []
    for archive in model.archives:
        if failures:
            logger.warning("%s; trying %s", failures[-1], archive.file)
        logger.info("downloading %s; its weights are for %s", address(archive.file), model.licence)
        try:
            return _from_archive(archive, model, bar, retries)
        except DownloadError as error:
            failures.append(error)
            if not isinstance(error.__cause__, ModelError):
                break  # the server cannot be reached: it will be no better with another of its files
    raise failures[0]


def _from_archive(archive: Archive, model: Model, bar: ProgressBar, retries: int) -> Path:
    why: str
    cause: Exception
    try:
        path = _with_pooch(archive, bar, retries)
        try:
            return unpack(path, archive, model, home())
        finally:
            path.unlink()
    except requests.RequestException as error:
        why, cause = reason(error), error
    except (DownloadError, ModelFormatError) as error:
        why, cause = str(error), error
    raise DownloadError(
        f"cannot download {archive.file} from {address(archive.file)} ({why}): {by_hand(model, archive)}"
    ) from cause


def _with_pooch(archive: Archive, bar: ProgressBar, retries: int) -> Path:
    store = pooch.create(
        path=home(),
        base_url="",
        registry={archive.file: f"sha256:{archive.sha256}" if archive.sha256 else None},
        urls={archive.file: address(archive.file)},
        retry_if_failed=retries,
    )
    downloader = ResumingDownloader(home() / f"{archive.file}.part", archive, bar)
    log = pooch.get_logger()
    level = log.level
    log.setLevel(logging.WARNING)  # it would write into the progress bar
    try:
        return Path(store.fetch(archive.file, downloader=downloader))
    finally:
        log.setLevel(level)
