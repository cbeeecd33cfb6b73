"""Progress bars of downloads."""

from __future__ import annotations

import sys
from typing import Protocol


class ProgressBar(Protocol):
    """What a download tells of its progress, in bytes; a ``tqdm`` object and what pooch takes fit as well."""

    total: int | None
    """Bytes that there are to come, set when the server has answered."""

    def update(self, n: int, /) -> object:
        """Count ``n`` more bytes."""

    def reset(self) -> object:
        """Count from 0 again."""

    def close(self) -> object:
        """End; nothing is called after this."""


class NoBar:
    """A progress bar that shows nothing."""

    total: int | None = None

    def update(self, n: int, /) -> None:
        """Ignore the bytes."""

    def reset(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def bar_for(progress: ProgressBar | bool | None, text: str) -> ProgressBar:
    """Choose the progress bar.

    Parameters
    ----------
    progress
        A bar of one's own, True for one on stderr, False for none, or None for one if stderr is a terminal.
    text
        What is written before the bar.
    """
    if progress is None:
        progress = sys.stderr is not None and sys.stderr.isatty()
    if not isinstance(progress, bool):
        return progress
    if not progress:
        return NoBar()
    from scrfd_trt.zoo.rich_bar import RichBar  # noqa: PLC0415 - slow to import

    return RichBar(text)
