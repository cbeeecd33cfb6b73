"""The way in which pooch gets a file: an attempt goes on where the one before it stopped.

pooch calls :class:`ResumingDownloader`, checks what it brought, puts it in place, and calls it again after a failure
that may pass. This module needs requests, which pooch brings along: import it only when something is to be downloaded.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import IO

import requests

from scrfd_trt.errors import DownloadError
from scrfd_trt.zoo.checks import sha256_of, short
from scrfd_trt.zoo.model import Archive
from scrfd_trt.zoo.progress import ProgressBar

logger = logging.getLogger("scrfd_trt.zoo")

_CHUNK = 1 << 16
_TIMEOUT = (10.0, 60.0)
_MAY_PASS = {408, 425, 429}
_OK, _PARTIAL, _BEYOND_THE_END = 200, 206, 416


class ResumingDownloader:
    """A downloader for pooch that keeps what has come so far in a file beside the target.

    An attempt asks for what is missing (HTTP Range). A server that sends the whole file is taken at its word, and what
    was there is dropped. A file that was put together and has the wrong hash is fetched again as a whole, once.

    Parameters
    ----------
    part
        File for what has come so far.
    archive
        What is to come.
    bar
        Is told of the progress.
    """

    def __init__(self, part: Path, archive: Archive, bar: ProgressBar) -> None:
        self._part = part
        self._archive = archive
        self._bar = bar

    def __call__(self, url: str, output_file: str, pooch: object) -> None:  # noqa: ARG002 - pooch's signature
        """Fetch ``url`` into ``output_file``, as pooch asks its downloaders to do.

        Raises
        ------
        DownloadError
            If another attempt would be in vain; the message says only why.
        requests.RequestException
            If another attempt may help.
        """
        with requests.Session() as session:
            resumed = self._transfer(session, url)
            problem = self._problem()
            if problem and resumed:
                logger.warning("%s: the rest did not fit what was there of it; starting over", self._archive.file)
                self._part.unlink()
                self._transfer(session, url)
                problem = self._problem()
        if problem:
            self._part.unlink()
            raise DownloadError(problem)
        self._part.replace(output_file)

    def _problem(self) -> str | None:
        found = sha256_of(self._part)
        if self._archive.sha256 in ("", found):
            return None
        return f"it has SHA-256 {short(found)}, expected {short(self._archive.sha256)}"

    def _transfer(self, session: requests.Session, url: str) -> bool:
        """Bring the part to its full length; return whether it was put together from two answers."""
        have = self._part.stat().st_size if self._part.exists() else 0
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == _OK:
                self._receive(response, 0)
                return False
            first, total = _content_range(response)
            if response.status_code == _PARTIAL and first == have > 0:
                logger.info("%s: going on after %d bytes", self._archive.file, have)
                self._receive(response, have)
                return True
            if response.status_code == _BEYOND_THE_END and total == have > 0:
                return True
            if not have or response.status_code not in (_PARTIAL, _BEYOND_THE_END):
                _refuse(response)
        self._part.unlink()
        return self._transfer(session, url)

    def _receive(self, response: requests.Response, have: int) -> None:
        total = _length(response)
        total = None if total is None else have + total
        self._check_size(total, response)
        self._bar.total = total or self._archive.size or None
        self._bar.reset()
        self._bar.update(have)
        with self._part.open("ab" if have else "wb") as file:
            try:
                size = self._write(response, file, have)
            except requests.exceptions.ChunkedEncodingError as error:
                raise requests.ConnectionError(f"cut off after {file.tell():,} bytes") from error
        if total is not None and size < total:
            raise requests.ConnectionError(f"cut off after {size:,} of {total:,} bytes")
        self._check_size(size, response)

    def _write(self, response: requests.Response, file: IO[bytes], size: int) -> int:
        for chunk in response.iter_content(_CHUNK):
            size += file.write(chunk)
            self._bar.update(len(chunk))
            if self._archive.size and size > self._archive.size:
                break  # a server that does not say how much it sends may send for ever
        return size

    def _check_size(self, size: int | None, response: requests.Response) -> None:
        expected = self._archive.size
        if size is not None and expected and size != expected:
            self._part.unlink(missing_ok=True)
            kind = response.headers.get("Content-Type", "of unknown type").partition(";")[0]
            raise DownloadError(f"the server sends {size:,} bytes ({kind}), expected {expected:,}")


def _length(response: requests.Response) -> int | None:
    """Return how many bytes are to come, None where the server does not say so or packs them nonetheless."""
    length = response.headers.get("Content-Length", "")
    packed = response.headers.get("Content-Encoding", "identity") != "identity"
    return int(length) if length.isdecimal() and not packed else None


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """Return first byte and total of a Content-Range header, None for what it does not give."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", response.headers.get("Content-Range", ""))
    first, total = match.groups() if match else (None, None)
    return (None if first is None else int(first)), (None if total is None else int(total))


def _refuse(response: requests.Response) -> None:
    status = f"the server answers {response.status_code} {response.reason}".rstrip()
    if response.status_code in _MAY_PASS or response.status_code >= 500:
        raise requests.HTTPError(status, response=response)
    raise DownloadError(status)


def reason(error: requests.RequestException) -> str:
    """Say why a request failed in a few words: what the operating system said, where it is known."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    seen: list[BaseException] = []
    queue: list[object] = [error]
    while queue:
        item = queue.pop(0)
        if isinstance(item, BaseException) and item not in seen:
            seen.append(item)
            queue += [item.__cause__, item.__context__, getattr(item, "reason", None), *item.args]
    told = [item.strerror for item in seen if isinstance(item, OSError) and item.strerror]
    text = " ".join((told[0] if told else str(error)).split()) or type(error).__name__
    return text[0].lower() + text[1:]
