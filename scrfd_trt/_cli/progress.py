"""How far the passes over a video have come: a bar, or JSON lines for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Column

from scrfd_trt._cli import console, exits
from scrfd_trt._cli.options import ProgressKind
from scrfd_trt._engine.progress import BuildProgress, NoProgress
from scrfd_trt.video._two_pass import ProgressCallback as Told
from scrfd_trt.video._two_pass import Stage

if TYPE_CHECKING:
    from typing_extensions import Self

WIDTH = 20


class BuildBar:
    """A bar for each stage: how much of it is done, where that is known, and the time that it has taken.

    Parameters
    ----------
    bars
        Draws them.
    """

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def phase(self, name: str, total: int | None, /) -> None:
        """Begin a bar; without a total it only shows that something is done."""
        self._task = self._bars.add_task(console.printable(name), total=total, detail="")

    def step(self, done: int, detail: str, /) -> None:
        """Move the bar on."""
        if self._task is not None:
            self._bars.update(self._task, completed=done, detail=console.printable(detail))

    def done(self) -> None:
        """Leave the bar as a full one, with the time that the stage took."""
        if self._task is not None:
            total = self._bars.tasks[self._task].total or 1
            self._bars.update(self._task, total=total, completed=total, detail="")
            self._task = None


class BuildLines(NoProgress):
    """A line where a stage begins, for logs."""

    def phase(self, name: str, total: int | None, /) -> None:  # noqa: ARG002 - part of the protocol
        """Write the line."""
        console.plain(f"{name} …")


@contextmanager
def build_progress(*, quiet: bool) -> Iterator[BuildProgress]:
    """Show on stderr how far a build has come while the block runs.

    Parameters
    ----------
    quiet
        Show nothing.
    """
    if quiet:
        yield NoProgress()
    elif not console.STDERR.is_terminal:
        yield BuildLines()
    else:
        # TensorRT's own words come last, and only as far as the line goes.
        detail = TextColumn(
            "{task.fields[detail]}",
            style="dim",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        )
        columns = (TextColumn("{task.description}", markup=False), BarColumn(WIDTH), TaskProgressColumn())
        # What goes to stdout is not for this console, which rich would turn it to.
        with Bars(
            *columns,
            TimeElapsedColumn(),
            detail,
            console=console.STDERR,
            transient=True,
            redirect_stdout=False,
            expand=True,
        ) as bars:
            yield BuildBar(bars)


class LateProgress:
    """Shows how far a build has come, if there is one; most times an engine is kept already. A context manager.

    Parameters
    ----------
    quiet
        Show nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._shown = ExitStack()
        self._progress: BuildProgress | None = None

    def phase(self, name: str, total: int | None, /) -> None:
        """Begin a stage; the first one brings the bars up."""
        if self._progress is None:
            self._progress = self._shown.enter_context(build_progress(quiet=self._quiet))
        self._progress.phase(name, total)

    def step(self, done: int, detail: str, /) -> None:
        """Move the stage's bar on."""
        if self._progress is not None:
            self._progress.step(done, detail)

    def done(self) -> None:
        """End the stage."""
        if self._progress is not None:
            self._progress.done()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.close()


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
        console.stderr_line(json.dumps(line | {"fps": round(rate, 1), "left": left}))

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
        exits.add_location(stop, self._path, self._at or "before its first frame was done")


@contextmanager
def show_progress(path: Path, kind: ProgressKind, *, quiet: bool) -> Iterator[Told]:
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
    elif kind == "none" or quiet or not console.STDERR.is_terminal:
        yield lambda _stage, _done, _total: None
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        bars = Progress(*columns, console=console.STDERR, transient=True, auto_refresh=False, redirect_stdout=False)
        try:
            with suppress(OSError):
                bars.start()
            yield _Bar(bars)
        finally:
            with suppress(OSError):
                bars.stop()
