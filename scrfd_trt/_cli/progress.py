"""Progress on stderr: bars on a terminal, lines in logs, JSON lines for programs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from scrfd_trt._cli import console, exits, signals
from scrfd_trt._cli.options import ProgressKind
from scrfd_trt._engine.progress import BuildProgress, NoProgress
from scrfd_trt.video._two_pass import ProgressCallback, Stage

if TYPE_CHECKING:
    from scrfd_trt._studio.preview import Preview

_shared_bars: ContextVar[Progress | None] = ContextVar("shared bars", default=None)
BAR_INTERVAL, LINE_INTERVAL, LOG_INTERVAL = 0.1, 0.5, 60.0  # seconds between two updates
STAGES: dict[Stage, str] = {"finding": "finding faces", "drawing": "drawing", "verifying": "searching the copy"}


def _bars(*columns: ProgressColumn, **options: Any) -> Progress:
    # With redirect_stdout, rich would print results on stderr.
    return Progress(*columns, console=console.STDERR, transient=True, redirect_stdout=False, **options)


@contextmanager
def _running(bars: Progress) -> Iterator[None]:
    """Show bars in the block; a closed terminal is ignored."""
    try:
        with suppress(OSError):
            bars.start()
        yield
    finally:
        with suppress(OSError):
            bars.stop()


@contextmanager
def build_progress(*, quiet: bool) -> Iterator[BuildProgress]:
    """Show the progress of an engine build in the block; show nothing if nothing is built."""
    if quiet:
        yield NoProgress()
    elif not console.shows_bars():
        yield BuildLines()
    else:
        bar = BuildBar()
        try:
            yield bar
        finally:
            bar.close()


class BuildLines(NoProgress):
    """Prints one line when a phase begins."""

    def phase(self, name: str, total: int | None, /) -> None:  # noqa: ARG002 - part of the protocol
        """Print the line."""
        console.plain(f"{name} …")


class BuildBar:
    """Shows a bar for each phase: its share done, if known, and its time. The first phase starts the display."""

    def __init__(self) -> None:
        # TensorRT's own text comes last, cut to the width of the terminal.
        column = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        self._bars = _bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(20),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}", style="dim", markup=False, table_column=column),
            expand=True,
        )
        self._task: TaskID | None = None

    def phase(self, name: str, total: int | None, /) -> None:
        """Add a bar; without a total it shows activity only."""
        self._bars.start()
        self._task = self._bars.add_task(console.printable(name), total=total, detail="")

    def step(self, done: int, detail: str, /) -> None:
        """Update the bar."""
        if self._task is not None:
            self._bars.update(self._task, completed=done, detail=console.printable(detail))

    def done(self) -> None:
        """Leave the bar full, with the time of the phase."""
        if self._task is not None:
            total = self._bars.tasks[self._task].total or 1
            self._bars.update(self._task, total=total, completed=total, detail="")
            self._task = None

    def close(self) -> None:
        """Remove the display."""
        if self._bars.live.is_started:
            self._bars.stop()


@contextmanager
def image_progress(total: int, *, shown: bool) -> Iterator[Callable[[], None]]:
    """Show a bar for two or more images on a terminal, or JSON lines; yield the function that advances it."""
    if shown and total > 1 and console.as_json:
        yield _ImageLines(total).advance
        return
    if not shown or total < 2 or not console.shows_bars():
        yield lambda: None
        return
    # A refresh thread would write while stderr is redirected to capture messages of OpenCV's libraries.
    columns = (TextColumn("detecting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars = _bars(*columns, auto_refresh=False)
    with _running(bars):
        task = bars.add_task("", total=total)

        def advance() -> None:
            bars.advance(task)
            bars.refresh()

        yield advance


class _ImageLines:
    """Prints the number of images that are done, at most every ``LINE_INTERVAL`` seconds, and at the end."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._shown = total, 0, time.monotonic()

    def advance(self) -> None:
        self._done += 1
        now = time.monotonic()
        if self._done == self._total or now - self._shown >= LINE_INTERVAL:
            self._shown = now
            console.progress_line("detecting", image=self._done, images=self._total)


class PileProgress:
    """Shows the images that are done, their number a second, and the time that is left where the total is known."""

    def __init__(self, show: Callable[[PileProgress], None], interval: float) -> None:
        self._show, self._interval = show, interval
        self._start = self._shown = time.monotonic()
        self.done = self._before = 0
        self.total: int | None = None

    def advance(self, number: int = 1) -> None:
        """Count images."""
        now = time.monotonic()
        if not self.done and number == 1:  # the rate begins with it
            self._start, self._before = now, 1
        self.done += number
        if now - self._shown >= self._interval:
            self._shown = now
            self.show()

    def show(self) -> None:
        """Show where the job is."""
        with suppress(OSError):  # a closed terminal must not stop the job
            self._show(self)

    @property
    def rate(self) -> float:
        """Images a second; 0 before the second one."""
        return (self.done - self._before) / max(time.monotonic() - self._start, 1e-6)

    @property
    def left(self) -> float | None:
        """Seconds that are left."""
        return None if self.total is None or not self.rate else (self.total - self.done) / self.rate


@contextmanager
def pile_progress(kind: ProgressKind, *, quiet: bool) -> Iterator[PileProgress]:
    """Show the progress of many images in the block: a bar, or a line a minute in a log, or JSON lines."""
    if kind == "jsonl" or (kind == "bar" and console.as_json and not quiet):
        yield (progress := PileProgress(_pile_json, LINE_INTERVAL))
        progress.show()
    elif kind == "none" or quiet:
        yield PileProgress(lambda _: None, LINE_INTERVAL)
    elif not console.shows_bars():
        yield PileProgress(_pile_line, LOG_INTERVAL)
    else:
        columns = (TextColumn("detecting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
        bars = _bars(*columns, TimeRemainingColumn(), auto_refresh=False)
        with _running(bars):
            task = bars.add_task("", total=None, rate="")

            def show(pile: PileProgress) -> None:
                rate = f"{pile.rate:,.0f} images/s" if pile.rate else ""
                bars.update(task, completed=pile.done, total=pile.total, rate=rate)
                bars.refresh()

            yield PileProgress(show, BAR_INTERVAL)


def _pile_json(pile: PileProgress) -> None:
    left = None if pile.left is None else round(pile.left, 1)
    console.progress_line("detecting", image=pile.done, images=pile.total, rate=round(pile.rate, 1), left=left)


def _pile_line(pile: PileProgress) -> None:
    of = "" if pile.total is None else f" of {pile.total:,}"
    left = "" if pile.left is None else f", {timedelta(seconds=round(pile.left))} left"
    console.plain(f"{pile.done:,}{of} images, {pile.rate:,.1f} images/s{left}")


@contextmanager
def _video_bars() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    bars = _bars(*columns, TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), auto_refresh=False)
    with _running(bars):
        yield bars


@contextmanager
def several_videos() -> Iterator[None]:
    """Show the progress of videos that are processed in the block, in several threads, one below the other."""
    if not console.shows_bars():
        yield
        return
    with _video_bars() as bars:
        token = _shared_bars.set(bars)
        try:
            yield
        finally:
            _shared_bars.reset(token)


@contextmanager
def show_progress(
    source: Path | str, kind: ProgressKind, *, quiet: bool, preview: Preview | None = None
) -> Iterator[ProgressCallback]:
    """Show the progress of a video in the block; an interrupt gets the position at which it stopped the work."""
    with ExitStack() as stack:
        display: Display | _VideoBar
        if kind == "jsonl" or (kind == "bar" and console.as_json and not quiet):
            display, interval = partial(_json_line, source), LINE_INTERVAL
        elif kind == "none" or quiet or not console.shows_bars():
            display, interval = lambda *_: None, LINE_INTERVAL
        else:
            shared = _shared_bars.get()
            label = "" if shared is None else f"{console.printable(Path(source).name)}: "
            display, interval = _VideoBar(shared or stack.enter_context(_video_bars()), label), BAR_INTERVAL
            stack.callback(display.remove)
        page: list[Display] = [] if preview is None else [partial(preview.progress, Path(source).name)]
        progress = VideoProgress([display, *page], interval)
        try:
            yield progress
        except KeyboardInterrupt as stop:
            exits.add_location(stop, source, progress.position)
            raise
        finally:
            progress.flush()


Display = Callable[[Stage, int, int | None, float], None]
"""Called with stage, frames done, total frames if known, and frames per second, 0 if that is not known yet."""


class VideoProgress:
    """Passes the frames of a video on to displays, every ``interval`` seconds and at the end of each stage."""

    def __init__(self, displays: Iterable[Display], interval: float) -> None:
        self._displays, self._interval = displays, interval
        self._stage: Stage | None = None
        self._started = self._shown = self._last = time.monotonic()
        self._before = 0  # frames at the first display of a stage, which its rate does not count
        self._pending: tuple[Stage, int, int | None] | None = None
        self.position = "before the first frame was processed"

    def __call__(self, stage: Stage, done: int, total: int | None) -> None:
        """Report ``done`` frames; the total that a file declares may be too low.

        In a thread of its own, a video is stopped here after a signal, which only the main thread gets.
        """
        if (number := signals.received()) is not None and threading.current_thread() is not threading.main_thread():
            raise signals.StoppedError(number)
        limit = "" if total is None else f" of {max(total, done):,}"
        self.position = f"while {STAGES[stage]}, at frame {done:,}{limit}"
        now = time.monotonic()
        if stage != self._stage:
            self.flush()
            self._stage, self._started, self._shown, self._before = stage, self._last, now, 0
        self._pending, self._last = (stage, done, total), now
        if now - self._shown >= self._interval:
            self._shown = now
            self.flush()

    def flush(self) -> None:
        """Show the last frame, if it is not shown yet."""
        if self._pending is not None:
            stage, done, total = self._pending
            self._pending = None
            now = time.monotonic()
            rate = (done - self._before) / max(now - self._started, 1e-6)
            if not self._before:  # as many frames come at once as tracking waits for, which says nothing of the rest
                rate = 0.0 if total and done < total else rate
                self._before, self._started = done, now
            for display in self._displays:
                with suppress(OSError):  # a closed terminal must not stop the video
                    display(stage, done, total, rate)


class _VideoBar:
    def __init__(self, bars: Progress, label: str) -> None:
        self._bars, self._label = bars, label
        self._stage: Stage | None = None
        self._task: TaskID | None = None

    def __call__(self, stage: Stage, done: int, total: int | None, rate: float) -> None:
        if stage != self._stage or self._task is None:
            self.remove()
            self._stage = stage
            self._task = self._bars.add_task(f"{self._label}{STAGES[stage]}", total=total, rate="")
        limit = None if total is None else max(total, done)
        self._bars.update(self._task, completed=done, total=limit, rate=f"{rate:.0f} fps" if rate else "")
        self._bars.refresh()

    def remove(self) -> None:
        """Remove the bar."""
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._bars.refresh()
            self._task = None


def _json_line(source: Path | str, stage: Stage, done: int, total: int | None, rate: float) -> None:
    left = None if total is None or not rate else round(max(total - done, 0) / rate, 1)
    console.progress_line(stage, input=str(source), frame=done, frames=total, fps=round(rate, 1) or None, left=left)
