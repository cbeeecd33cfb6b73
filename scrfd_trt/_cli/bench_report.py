"""Print and plot the measurements of ``scrfd-trt bench``: tables, JSON, and a PNG for GPUs."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from scrfd_trt._cli import console
from scrfd_trt._cli.bench_cpu import CpuFigures, Timings
from scrfd_trt._cli.bench_gpu import STREAMED, GpuFigures, Latency, Throughput
from scrfd_trt.errors import MissingDependencyError, OptionError, OutputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CPU_STAGES = {
    "letterbox": "scale, pad, normalise",
    "model": "run the model",
    "decode": "decode the outputs into boxes",
    "nms": "non-maximum suppression",
    "result": "validate and build Detections",
}
GPU_STAGES = {
    "engine": "the model alone, as a CUDA graph launched repeatedly",
    "engine_waited": "the same, with a wait after each launch",
    "parameters": "copy image addresses and sizes to the GPU",
    "letterbox": "scale, pad, normalise",
    "faces": "threshold, decode, sort, suppress",
    "whole": "all stages as one CUDA graph",
}
MEMORY_NAMES = {"gpu": "on the GPU", "torch": "PyTorch tensor", "pinned": "page-locked", "numpy": "NumPy"}


def cpu_as_dict(figures: CpuFigures, image: str, model: str) -> dict[str, Any]:
    """Return the measurements for JSON, times in milliseconds."""
    return {
        "image": image,
        "image_size": list(figures.faces.image_size),
        "faces": len(figures.faces),
        "model": model,
        "runs_on": figures.description,
        "scales": [list(scale) for scale in figures.scales],
        "inputs": [list(size) for size in figures.inputs],
        "runs": len(figures.detect.seconds),
        "stages": {name: timings.as_dict() for name, timings in figures.stages.items()},
        "around_model": figures.around.as_dict(),
        "detect": figures.detect.as_dict(),
        "detect_to_model": figures.ratio,
    }


def show_cpu(figures: CpuFigures, image: str, model: str) -> None:
    """Print a heading and the table of stages."""
    width, height = figures.faces.image_size
    heading = f"{console.printable(image)}: {width}×{height}, {console.count(len(figures.faces), 'face')}; {model}"
    console.print_line(heading, style="bold")
    sizes = " + ".join(f"{width}×{height}" for width, height in figures.inputs)
    console.print_line(f"{figures.description}; here {sizes}\n", style="dim")
    table = console.table("stage", ">median ms", ">best ms")
    table.add_column("meaning")
    for name, timings in figures.stages.items():
        table.add_row(name, *_cells(timings), CPU_STAGES[name])
    table.add_section()
    table.add_row("everything except the model", *_cells(figures.around), "letterbox, decode, nms and result together")
    table.add_row("detect()", *_cells(figures.detect), f"{figures.ratio:.2f} times the model", style="bold")
    console.show(table)
    console.write(f"\n{len(figures.detect.seconds)} runs\n")


def _cells(timings: Timings) -> list[str]:
    return [f"{value:.3f}" for value in timings.as_dict().values()]


def gpu_as_dict(figures: GpuFigures) -> dict[str, Any]:
    """Return the measurements for JSON, times in milliseconds."""
    return {
        "steps": {str(images): asdict(steps) for images, steps in figures.steps.items()},
        "engine_beside_detect": figures.engine,
        "detect": [asdict(each) | {"p50_to_engine": _ratio(figures, each)} for each in figures.latencies],
        "stream": [asdict(each) | {"share_of_engine": _share(figures, each)} for each in figures.throughputs],
        "gpu_memory": figures.memory,
        "ort_cuda": None if figures.ort_cuda is None else asdict(figures.ort_cuda),
    }


def _ratio(figures: GpuFigures, latency: Latency) -> float:
    """Return the median latency divided by that of the engine alone."""
    return latency.p50 / figures.engine


def _share(figures: GpuFigures, throughput: Throughput) -> float:
    """Return the throughput divided by that of the engine alone with the same batch."""
    return throughput.images_per_second * figures.steps[throughput.batch].engine / (1000.0 * throughput.batch)


def show_gpu(figures: GpuFigures) -> None:
    """Print the tables."""
    for table in (_stages(figures), _latencies(figures), _throughputs(figures)):
        console.show(table)
        console.write("\n")
    console.write(f"The first detect() allocated {figures.memory / 2**20:,.0f} MiB of the GPU's memory.\n")
    if figures.ort_cuda is not None:
        console.write(
            f"ONNX Runtime on CUDA, the rest on the CPU: detect() {figures.ort_cuda.p50:.3f} ms, in batches "
            f"{figures.ort_cuda.images_per_second:,.0f} images/s.\n"
        )


def _table(title: str, *columns: str) -> Table:
    return console.table(*columns, title=title, title_justify="left", title_style="bold")


def _stages(figures: GpuFigures) -> Table:
    table = _table("Milliseconds on the GPU, by number of images", "stage", *(f">{count}" for count in figures.steps))
    table.add_column("meaning")
    for name, meaning in GPU_STAGES.items():
        cells = [f"{getattr(steps, name):.4f}" for steps in figures.steps.values()]
        table.add_row(name.replace("_", " "), *cells, meaning)
    return table


def _latencies(figures: GpuFigures) -> Table:
    table = _table("detect(), milliseconds", "image", ">faces", "memory", ">p50", ">p99", ">p50 / engine")
    table.add_row("the engine alone", "", "", f"{figures.engine:.3f}", "", "1.00")
    for each in figures.latencies:
        times = f"{each.p50:.3f}", f"{each.p99:.3f}", f"{_ratio(figures, each):.2f}"
        table.add_row(each.name, str(each.faces), MEMORY_NAMES[each.source], *times)
    return table


def _throughputs(figures: GpuFigures) -> Table:
    columns = [column for source in STREAMED for column in (f">{MEMORY_NAMES[source]}", ">")]
    table = _table("stream(), images per second, and share of the engine alone", ">batch", ">in flight", *columns)
    rows: dict[tuple[int, int], list[str]] = {}
    for each in figures.throughputs:
        cells = rows.setdefault((each.batch, each.in_flight), [])
        cells += [f"{each.images_per_second:,.0f}", f"{_share(figures, each):.0%}"]
    for (batch, in_flight), cells in rows.items():
        table.add_row(str(batch), str(in_flight), *cells)
    return table


def check_plot(path: Path, *, overwrite: bool = False) -> None:
    """Check, before minutes are spent on measuring, that a plot can be written."""
    if path.suffix.lower() != ".png":
        raise OptionError(f"--plot {path}: plots are PNG files; name a file that ends in .png")
    if not overwrite and os.path.lexists(path):
        raise OptionError(f"--plot {path} already exists; name another file")
    try:
        import matplotlib.figure  # noqa: F401, PLC0415 - optional, and slow to import
    except ImportError as error:
        raise MissingDependencyError(f'--plot requires matplotlib ({error}): pip install "scrfd-trt[bench]"') from error
    if not path.parent.is_dir():
        raise OutputError(f"{path}: cannot be written: there is no folder {path.parent}")


def plot(figures: GpuFigures, path: Path, title: str) -> None:
    """Write a PNG of latency and throughput; raise OutputError if that fails."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional, and slow to import

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    figure.suptitle(title, fontsize=11)
    _plot_latency(left, figures)
    _plot_throughput(right, figures)
    save_plot(figure, path)


def save_plot(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; raise OutputError if that fails."""
    try:
        figure.savefig(path, format="png", dpi=130)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _plot_latency(axes: Axes, figures: GpuFigures) -> None:
    engine = figures.engine
    names = [f"{each.name}\n{MEMORY_NAMES[each.source]}" for each in figures.latencies]
    positions = range(len(names))
    medians = [each.p50 for each in figures.latencies]
    axes.bar(positions, [engine] * len(names), color="#76b900", label="the engine alone")
    axes.bar(positions, [median - engine for median in medians], bottom=engine, color="#9aa5b1", label="the rest")
    errors = [[0.0] * len(medians), [max(0.0, each.p99 - each.p50) for each in figures.latencies]]
    axes.errorbar(positions, medians, yerr=errors, fmt="none", ecolor="#333333", capsize=3, label="p99")
    axes.set_xticks(positions, names, fontsize=8, rotation=25, rotation_mode="anchor", ha="right")
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
        axes.plot(batches, best, "o-", color=color, label=MEMORY_NAMES[source])
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(n) for n in batches])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("images per batch")
    axes.set_ylabel("images per second")
    axes.set_title("stream() of 640×480, best number of batches in flight")
    axes.legend(frameon=False, fontsize=8)
