"""How far the build of an engine has come: a bar on a terminal, a line a stage elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Column

from scrfd_trt.cli import messages
from scrfd_trt.engine.progress import NoProgress, Progress

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
        self._task = self._bars.add_task(messages.printable(name), total=total, detail="")

    def step(self, done: int, detail: str, /) -> None:
        """Move the bar on."""
        if self._task is not None:
            self._bars.update(self._task, completed=done, detail=messages.printable(detail))

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
        messages.plain(f"{name} …")


@contextmanager
def build_progress(*, quiet: bool) -> Iterator[Progress]:
    """Show on stderr how far a build has come while the block runs.

    Parameters
    ----------
    quiet
        Show nothing.
    """
    if quiet:
        yield NoProgress()
    elif not messages.STDERR.is_terminal:
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
            console=messages.STDERR,
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
        self._progress: Progress | None = None

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
