"""A progress bar on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


class RichBar:
    """A progress bar on stderr, shown from the moment when the server has answered.

    Parameters
    ----------
    text
        What is written before the bar.
    """

    def __init__(self, text: str) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task(text, total=None)
        self._total: int | None = None

    @property
    def total(self) -> int | None:
        """Bytes that there are to come."""
        return self._total

    @total.setter
    def total(self, total: int | None) -> None:
        self._total = total
        self._progress.update(self._task, total=total)
        self._progress.start()

    def update(self, n: int, /) -> None:
        """Count ``n`` more bytes."""
        self._progress.advance(self._task, n)

    def reset(self) -> None:
        """Count from 0 again."""
        self._progress.reset(self._task, total=self._total)

    def close(self) -> None:
        """Leave the bar as it is, and the cursor below it."""
        self._progress.stop()
