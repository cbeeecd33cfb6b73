"""How far the passes over a video have come: a bar, or JSON lines for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from scrfd_trt.cli import messages, stopping
from scrfd_trt.cli.video_options import ProgressKind
from scrfd_trt.video.running import Progress as Told
from scrfd_trt.video.running import Stage

STEP = {"bar": 0.1, "jsonl": 0.5}
"""Seconds from one telling to the next."""
WORDS: dict[Stage, str] = {"finding": "finding faces", "drawing": "drawing"}


class _Pace:
    """Counts frames a second of one pass."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._start = self._told = time.monotonic()

    def due(self, step: float) -> bool:
        now = time.monotonic()
        if now - self._told < step:
            return False
        self._told = now
        return True

    def rate(self, done: int) -> float:
        return done / max(time.monotonic() - self._start, 1e-6)


class _Bar:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._pace: _Pace | None = None
        self._task: TaskID | None = None

    def __call__(self, stage: Stage, done: int, total: int | None) -> None:
        pace = self._pace
        if pace is None or pace.stage != stage:
            pace = self._pace = _Pace(stage)
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._task = self._bars.add_task(WORDS[stage], total=total, rate="")
        if pace.due(STEP["bar"]) and self._task is not None:
            # What a file claims of its frames may be too few.
            most = None if total is None else max(total, done)
            self._bars.update(self._task, completed=done, total=most, rate=f"{pace.rate(done):.0f} fps")
            self._bars.refresh()


class _Lines:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._pace: _Pace | None = None
        self._last: tuple[Stage, int, int | None] | None = None

    def __call__(self, stage: Stage, done: int, total: int | None) -> None:
        if self._pace is None or self._pace.stage != stage:
            self.end()
            self._pace = _Pace(stage)
        self._last = (stage, done, total)
        if self._pace.due(STEP["jsonl"]):
            self._tell()

    def _tell(self) -> None:
        if self._last is None or self._pace is None:
            return
        stage, done, total = self._last
        rate = self._pace.rate(done)
        left = None if total is None else round(max(total - done, 0) / rate, 1)
        line: dict[str, Any] = {"progress": stage, "input": str(self._path), "frame": done, "frames": total}
        messages.line(json.dumps(line | {"fps": round(rate, 1), "left": left}))

    def end(self) -> None:
        """Tell how a pass ended."""
        self._tell()
        self._last = None


class _Watched:
    """Hands on how far a video is done, and remembers it for when somebody stops it."""

    def __init__(self, path: Path, told: Told) -> None:
        self._path, self._told = path, told
        self._at = ""

    def __call__(self, stage: Stage, done: int, total: int | None) -> None:
        most = "" if total is None else f" of {max(total, done):,}"
        self._at = f"while {WORDS[stage]}, at frame {done:,}{most}"
        with suppress(OSError):  # a terminal that was closed must not cost what is being written
            self._told(stage, done, total)

    def place(self, stop: KeyboardInterrupt) -> None:
        stopping.place(stop, self._path, self._at or "before its first frame was done")


@contextmanager
def told(path: Path, kind: ProgressKind, *, quiet: bool) -> Iterator[Told]:
    """Tell on stderr how far a video is done while the block runs; who stops it is told at which frame.

    Parameters
    ----------
    path
        The video.
    kind
        A bar is shown on a terminal only.
    quiet
        Show no bar.
    """
    with _shown(path, kind, quiet=quiet) as shown:
        watched = _Watched(path, shown)
        try:
            yield watched
        except KeyboardInterrupt as stop:
            watched.place(stop)
            raise


@contextmanager
def _shown(path: Path, kind: ProgressKind, *, quiet: bool) -> Iterator[Told]:
    if kind == "jsonl":
        lines = _Lines(path)
        try:
            yield lines
        finally:
            with suppress(OSError):
                lines.end()
    elif kind == "none" or quiet or not messages.STDERR.is_terminal:
        yield lambda _stage, _done, _total: None
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        bars = Progress(*columns, console=messages.STDERR, transient=True, auto_refresh=False, redirect_stdout=False)
        try:
            with suppress(OSError):
                bars.start()
            yield _Bar(bars)
        finally:
            with suppress(OSError):
                bars.stop()
