"""Download release archives with pooch (optional: import late), but resume where the last attempt stopped."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

import pooch
import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from scrfd_trt._http import CHUNK, answered, content_length, reason, status
from scrfd_trt.errors import DownloadError, ModelError, ModelFormatError
from scrfd_trt.models._registry import Archive, Model, ProgressBar
from scrfd_trt.models._store import address, home, manual_steps, sha256_of, short, unpack

logger = logging.getLogger("scrfd_trt.models")

_TEMPORARY = {408, 425, 429}
_OK, _PARTIAL, _RANGE_NOT_SATISFIABLE = 200, 206, 416


def download(model: Model, progress: ProgressBar | bool | None, retries: int) -> Path:
    """Download a model into the locked home folder, from the first archive there is; an OSError is the folder's."""
    bar = _progress_bar(progress, model.name)
    failures: list[DownloadError] = []
    try:
        for archive in model.archives:
            if failures:
                logger.warning("%s; trying %s", failures[-1], archive.file)
            logger.info("downloading %s; its weights are for %s", address(archive.file), model.licence)
            try:
                return _from_archive(archive, model, bar, retries)
            except DownloadError as error:
                failures.append(error)
                if not isinstance(error.__cause__, ModelError):
                    break  # the server cannot be reached, so its other files cannot be had either
        raise failures[0]
    finally:
        bar.close()


def _from_archive(archive: Archive, model: Model, bar: ProgressBar, retries: int) -> Path:
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
        f"cannot download {archive.file} from {address(archive.file)} ({why}): {manual_steps(model, archive)}"
    ) from cause


def _with_pooch(archive: Archive, bar: ProgressBar, retries: int) -> Path:
    store = pooch.create(
        path=home(),
        base_url="",
        registry={archive.file: None},  # the downloader checks the hash
        urls={archive.file: address(archive.file)},
        retry_if_failed=retries,
    )
    log = pooch.get_logger()
    level = log.level
    log.setLevel(logging.WARNING)  # its lines would break the progress bar
    try:
        return Path(store.fetch(archive.file, downloader=_ResumingDownloader(archive, bar)))
    finally:
        log.setLevel(level)


class _ResumingDownloader:
    """A downloader for pooch that keeps an incomplete file, requests the rest, and starts over if the hash is wrong."""

    def __init__(self, archive: Archive, bar: ProgressBar) -> None:
        self._archive = archive
        self._part = home() / f"{archive.file}.part"
        self._bar = bar

    def __call__(self, url: str, output_file: str, pooch: object) -> None:  # noqa: ARG002 - pooch's signature
        """Download ``url`` to ``output_file``; raise DownloadError where another attempt cannot help."""
        resumed = self._transfer(url)
        problem = self._hash_problem()
        if problem and resumed:
            logger.warning("%s: the rest did not fit the incomplete file; starting over", self._archive.file)
            self._part.unlink()
            self._transfer(url)
            problem = self._hash_problem()
        if problem:
            self._part.unlink()
            raise DownloadError(problem)
        self._part.replace(output_file)

    def _hash_problem(self) -> str:
        found = sha256_of(self._part)
        if self._archive.sha256 in ("", found):
            return ""
        return f"it has SHA-256 {short(found)}, expected {short(self._archive.sha256)}"

    def _transfer(self, url: str) -> bool:
        """Complete the file; return whether it was put together from two answers."""
        have = self._part.stat().st_size if self._part.exists() else 0
        with answered(url, {"Range": f"bytes={have}-"} if have else None) as response:
            code = response.status_code
            first, total = _content_range(response)
            if code == _OK:
                self._receive(response, 0)
                return False
            if code == _PARTIAL and first == have > 0:
                logger.info("%s: resuming after %d bytes", self._archive.file, have)
                self._receive(response, have)
                return True
            if code == _RANGE_NOT_SATISFIABLE and total == have > 0:
                return True
            if not have or code not in (_PARTIAL, _RANGE_NOT_SATISFIABLE):
                _refuse(response)
        self._part.unlink()
        return self._transfer(url)

    def _receive(self, response: requests.Response, have: int) -> None:
        """Write the answer's body behind the ``have`` bytes that are there."""
        length = content_length(response)
        total = None if length is None else have + length
        self._check_size(total, response)
        self._bar.total = total or self._archive.size or None
        self._bar.reset()
        self._bar.update(have)
        size = have
        with self._part.open("ab" if have else "wb") as file:
            try:
                for chunk in response.iter_content(CHUNK):
                    size += file.write(chunk)
                    self._bar.update(len(chunk))
                    if self._archive.size and size > self._archive.size:
                        break  # a server that gives no length may send without end
            except requests.exceptions.ChunkedEncodingError as error:
                raise requests.ConnectionError(f"cut off after {size:,} bytes") from error
        if total is not None and size < total:
            raise requests.ConnectionError(f"cut off after {size:,} of {total:,} bytes")
        self._check_size(size, response)

    def _check_size(self, size: int | None, response: requests.Response) -> None:
        expected = self._archive.size
        if size is not None and expected and size != expected:
            self._part.unlink(missing_ok=True)
            kind = response.headers.get("Content-Type", "of unknown type").partition(";")[0]
            raise DownloadError(f"the server sends {size:,} bytes ({kind}), expected {expected:,}")


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """Return the first byte and the total of a Content-Range header, None for what it lacks."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", response.headers.get("Content-Range", ""))
    first, total = match.groups() if match else (None, None)
    return (None if first is None else int(first)), (None if total is None else int(total))


def _refuse(response: requests.Response) -> None:
    if response.status_code in _TEMPORARY or response.status_code >= 500:
        raise requests.HTTPError(status(response), response=response)
    raise DownloadError(status(response))


def _progress_bar(progress: ProgressBar | bool | None, text: str) -> ProgressBar:
    if progress is None:
        progress = sys.stderr is not None and sys.stderr.isatty()
    return _RichBar(text, shown=progress) if isinstance(progress, bool) else progress


class _RichBar:
    """A progress bar on stderr, displayed as soon as the server has answered."""

    def __init__(self, text: str, *, shown: bool) -> None:
        columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
        console = Console(stderr=True)
        self._progress = Progress(TextColumn("{task.description}"), *columns, console=console, disable=not shown)
        self._task = self._progress.add_task(text, total=None)
        self.total: int | None = None

    def update(self, n: int, /) -> None:
        self._progress.advance(self._task, n)

    def reset(self) -> None:
        self._progress.reset(self._task, total=self.total)
        self._progress.start()

    def close(self) -> None:
        self._progress.stop()
