"""What ``scrfd-trt bench`` tells of a GPU: tables, JSON and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from scrfd_trt._cli import console
from scrfd_trt._cli.bench_gpu import COPYING_THREADS, STREAMED, GpuFigures, Latency, Throughput
from scrfd_trt.errors import MissingDependencyError, OutputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEPS = {
    "engine": "the network alone, as a CUDA graph launched again and again",
    "engine_waited": "the same, launched and waited for each time",
    "parameters": "where the images are, to the GPU",
    "letterbox": "scale, pad, normalise",
    "faces": "threshold, decode, sort, suppress",
    "whole": "all steps as one CUDA graph",
}
PLACES = {"gpu": "on the GPU", "torch": "PyTorch tensor", "pinned": "page-locked", "numpy": "NumPy"}


def as_dict(figures: GpuFigures) -> dict[str, Any]:
    """Return the figures for JSON, times in milliseconds."""
    return {
        "steps": {str(images): asdict(steps) for images, steps in figures.steps.items()},
        "engine_beside_detect": figures.engine,
        "detect": [asdict(each) | {"p50_to_engine": ratio(figures, each)} for each in figures.latencies],
        "stream": [asdict(each) | {"share_of_engine": share(figures, each)} for each in figures.throughputs],
        "copied_per_second": figures.copied_per_second,
        "gpu_memory": figures.memory,
        "ort_cuda": None if figures.ort_cuda is None else asdict(figures.ort_cuda),
    }


def ratio(figures: GpuFigures, latency: Latency) -> float:
    """Return the median in that of the engine alone, which was measured in turns with it."""
    return latency.p50 / figures.engine


def share(figures: GpuFigures, throughput: Throughput) -> float:
    """Return images a second in those of the engine alone with the same batch."""
    return throughput.images_per_second * figures.steps[throughput.batch].engine / (1000.0 * throughput.batch)


def show(figures: GpuFigures) -> None:
    """Write the tables."""
    for table in (_steps(figures), _latencies(figures), _throughputs(figures)):
        console.show(table)
        console.write("\n")
    console.write(
        f"{COPYING_THREADS} threads copy {figures.copied_per_second:,.0f} frames of 640×480 a second into page-locked "
        f"memory.\nThe first detect() took {figures.memory / 2**20:,.0f} MiB of the GPU's memory.\n"
    )
    if figures.ort_cuda is not None:
        theirs = figures.ort_cuda
        console.write(
            f"ONNX Runtime on CUDA, the rest on the processor: detect() {theirs.p50:.3f} ms, in batches "
            f"{theirs.images_per_second:,.0f} images/s.\n"
        )


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False
    )


def _steps(figures: GpuFigures) -> Table:
    table = _table("On the GPU, milliseconds a run of so many images")
    table.add_column("step", no_wrap=True)
    for images in figures.steps:
        table.add_column(str(images), justify="right", no_wrap=True)
    table.add_column("what it is")
    for name, meaning in STEPS.items():
        cells = [f"{getattr(steps, name):.4f}" for steps in figures.steps.values()]
        table.add_row(name.replace("_", " "), *cells, meaning)
    return table


def _latencies(figures: GpuFigures) -> Table:
    table = _table("detect(), milliseconds")
    for name in ("image", "faces", "where it is"):
        table.add_column(name, no_wrap=True, justify="right" if name == "faces" else "left")
    for name in ("p50", "p99", "p50 / engine"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("the engine alone", "", "by turns", f"{figures.engine:.3f}", "", "1.00")
    for each in figures.latencies:
        times = f"{each.p50:.3f}", f"{each.p99:.3f}", f"{ratio(figures, each):.2f}"
        table.add_row(each.name, str(each.faces), PLACES[each.source], *times)
    return table


def _throughputs(figures: GpuFigures) -> Table:
    table = _table("stream(), images a second, and their share of what the engine alone does")
    for name in ("batch", "in flight"):
        table.add_column(name, justify="right", no_wrap=True)
    for source in STREAMED:
        table.add_column(PLACES[source], justify="right", no_wrap=True)
        table.add_column("", justify="right", no_wrap=True)
    rows: dict[tuple[int, int], list[str]] = {}
    for each in figures.throughputs:
        cells = rows.setdefault((each.batch, each.in_flight), [])
        cells += [f"{each.images_per_second:,.0f}", f"{share(figures, each):.0%}"]
    for (batch, in_flight), cells in rows.items():
        table.add_row(str(batch), str(in_flight), *cells)
    return table


def check_plot(path: Path) -> None:
    """Make sure, before minutes are spent on measuring, that a plot can be drawn.

    Raises
    ------
    MissingDependencyError
        Without matplotlib.
    OutputError
        If there is no such folder.
    """
    try:
        import matplotlib.figure  # noqa: F401, PLC0415 - optional, and slow to import
    except ImportError as error:
        raise MissingDependencyError(f'--plot needs matplotlib ({error}): pip install "scrfd-trt[bench]"') from error
    if not path.parent.is_dir():
        raise OutputError(f"{path}: cannot be written: there is no folder {path.parent}")


def plot(figures: GpuFigures, path: Path, title: str) -> None:
    """Draw where the time goes, and throughput by batch.

    Parameters
    ----------
    figures
        What was measured.
    path
        Where the PNG goes.
    title
        What ran.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional, and slow to import

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    figure.suptitle(title, fontsize=11)
    _plot_latency(left, figures)
    _plot_throughput(right, figures)
    try:
        figure.savefig(path, format="png", dpi=130)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _plot_latency(axes: Axes, figures: GpuFigures) -> None:
    engine = figures.engine
    names = [f"{each.name}\n{PLACES[each.source]}" for each in figures.latencies]
    places: Sequence[int] = range(len(names))
    values = [each.p50 for each in figures.latencies]
    axes.bar(places, [engine] * len(names), color="#76b900", label="the engine alone")
    rest = [value - engine for value in values]
    axes.bar(places, rest, bottom=engine, color="#9aa5b1", label="all else")
    spread = [max(0.0, each.p99 - each.p50) for each in figures.latencies]
    axes.errorbar(
        places, values, yerr=[[0.0] * len(values), spread], fmt="none", ecolor="#333333", capsize=3, label="p99"
    )
    axes.set_xticks(places, names, fontsize=8, rotation=25, rotation_mode="anchor", ha="right")
    axes.set_ylabel("milliseconds")
    axes.set_title("detect() of one image, median")
    axes.legend(frameon=False, fontsize=8)


def _plot_throughput(axes: Axes, figures: GpuFigures) -> None:
    batches = list(figures.steps)
    axes.plot(batches, [1000.0 * n / figures.steps[n].engine for n in batches], "k--", label="the engine alone")
    for source, color in zip(STREAMED, ("#76b900", "#1f77b4", "#d9822b"), strict=True):
        best = [
            max(each.images_per_second for each in figures.throughputs if (each.batch, each.source) == (n, source))
            for n in batches
        ]
        axes.plot(batches, best, "o-", color=color, label=PLACES[source])
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(n) for n in batches])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("images a batch")
    axes.set_ylabel("images a second")
    axes.set_title("stream() of 640×480, best number in flight")
    axes.legend(frameon=False, fontsize=8)
