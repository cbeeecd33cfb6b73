"""``scrfd-trt bench``: where the time of a detection goes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from scrfd_trt import _devices, models, samples
from scrfd_trt._cli import bench_report, console, options
from scrfd_trt._cli.bench_cpu import NETWORK, Measured, Times, measure
from scrfd_trt._cli.bench_gpu import GpuFigures, GpuJob, parse_counts
from scrfd_trt._cli.detector import check_no_engine_options, gpu_number, parse_scales
from scrfd_trt._cli.exits import FAILED
from scrfd_trt._cli.inputs import read_image
from scrfd_trt._cuda.device import find
from scrfd_trt._engine.plan import is_engine_file, is_model_path, read_plan
from scrfd_trt._options import DetectorOptions
from scrfd_trt._pipelines import factory
from scrfd_trt.backends import OnnxBackend
from scrfd_trt.errors import ImageError, OptionError

MEANING = {
    "letterbox": "scale, pad, normalise",
    NETWORK: "the network's own run",
    "decode": "read the heads, map back",
    "nms": "non-maximum suppression",
    "result": "Detections, checked",
}

BATCHES, IN_FLIGHTS = "1,8,32", "1,2,3"

ImageFile = Annotated[Path | None, typer.Argument(metavar="IMAGE", help="An image file.", show_default="a drawn scene")]
Runs = Annotated[int, typer.Option(min=1, metavar="N", help="How often each stage is measured.")]
Scale = Annotated[
    list[str] | None,
    typer.Option(
        "--scale",
        metavar="SIZE",
        help="Size of a pass in pixels, as for detect.",
        show_default="640, or an engine's own",
    ),
]

Batch = Annotated[
    str | None,
    typer.Option(metavar="COUNTS", help="On a GPU: images that go through the network at once.", show_default=BATCHES),
]
InFlight = Annotated[
    str | None,
    typer.Option(metavar="COUNTS", help="On a GPU: batches that are under way at once.", show_default=IN_FLIGHTS),
]
Plot = Annotated[
    Path | None, typer.Option(metavar="FILE", help="On a GPU: draw the figures as a PNG.", show_default=False)
]
Compare = Annotated[
    Literal["ort-cuda"] | None,
    typer.Option(help="On a GPU: measure ONNX Runtime on CUDA, too; needs onnxruntime-gpu.", show_default=False),
]


def bench(
    image: ImageFile = None,
    *,
    runs: Runs = 60,
    network: options.ModelArgs,
    scale: Scale = None,
    threshold: options.Threshold = options.THRESHOLD,
    iou: options.Iou = options.IOU,
    batch: Batch = None,
    in_flight: InFlight = None,
    plot: Plot = None,
    compare: Compare = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure a detection, stage by stage.

    On the processor: medians over all runs, in milliseconds. The stages and
    detect() take turns, so that whatever else the machine does hits all of
    them alike.

    On a GPU: the engine alone, each step, detect() for images in each kind
    of memory, and stream() by batch and batches in flight.

    For example:
      scrfd-trt bench
      scrfd-trt bench group.jpg --device cpu --scale 640 --runs 200
      scrfd-trt bench --model face.plan --runs 1000 --plot figures.png
      scrfd-trt bench --device cuda --compare ort-cuda
    """
    with console.logged():
        pixels = samples.load("group").image if image is None else _read(image)
        chosen = DetectorOptions(threshold=threshold, iou=iou, scales=parse_scales(scale))
        named = network.model
        path = Path(named).expanduser() if is_model_path(named) else models.fetch(named)
        name = "a drawn scene" if image is None else str(image)
        if not is_engine_file(path):
            check_no_engine_options(named, network.lean_runtime, allow_host_code=network.allow_host_code)
        gpu = _gpu(path, network.device)
        if gpu is not None:
            job = GpuJob(path, gpu, chosen, network.lean_runtime, allow_host_code=network.allow_host_code)
            if compare is not None:
                job.check_comparable()
            if plot is not None:
                bench_report.check_plot(plot)
            batches = parse_counts(BATCHES if batch is None else batch, "--batch")
            in_flights = parse_counts(IN_FLIGHTS if in_flight is None else in_flight, "--in-flight")
            figures = job.measure(pixels, runs, batches, in_flights)
            if compare is not None:
                figures = job.compare(figures, runs)
            _tell(figures, job, name, plot, as_json=as_json)
            return
        _check_no_gpu_options({"--plot": plot, "--compare": compare, "--batch": batch, "--in-flight": in_flight})
        chosen = chosen if scale else chosen.model_copy(update={"scales": ((640, 640),)})
        measured = measure(OnnxBackend(path), chosen, pixels, runs)
        if as_json:
            console.write(json.dumps(as_dict(measured, name, path.name), indent=2) + "\n")
        else:
            _show(measured, name, path.name)


def _tell(figures: GpuFigures, job: GpuJob, image: str, plot: Path | None, *, as_json: bool) -> None:
    if as_json:
        about = {"image": image, "network": job.path.name, "runs_on": job.description}
        console.write(json.dumps(about | bench_report.as_dict(figures), indent=2) + "\n")
    else:
        console.print_line(f"{console.printable(image)}; {job.path.name}", style="bold")
        console.print_line(job.description + "\n", style="dim")
        bench_report.show(figures)
    if plot is not None:
        bench_report.plot(figures, plot, job.description)


def _gpu(path: Path, device: str) -> int | None:
    """Return the number of the GPU to measure on, None for the processor."""
    if is_engine_file(path):
        read_plan(path)  # a file that is not there is told before a GPU that is not
        return find(gpu_number(device)).index
    return _devices.parse(_devices.choose(device, factory.cuda_problem))[1]


def _check_no_gpu_options(options: Mapping[str, object]) -> None:
    given = next((name for name, value in options.items() if value is not None), "")
    if given:
        raise OptionError(f"{given} is for measurements on a GPU: name an engine with --model, or add --device cuda")


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        return read_image(path)
    except ImageError as error:
        console.error(f"{path}: {error}")
        raise typer.Exit(FAILED) from error


def as_dict(measured: Measured, image: str, network: str) -> dict[str, Any]:
    """Return the figures for JSON, times in milliseconds."""
    return {
        "image": image,
        "image_size": list(measured.faces.image_size),
        "faces": len(measured.faces),
        "network": network,
        "runs_on": measured.description,
        "scales": [list(scale) for scale in measured.scales],
        "runs": len(measured.detect.seconds),
        "stages": {name: _pair(times) for name, times in measured.stages.items()},
        "around_network": _pair(measured.around),
        "detect": _pair(measured.detect),
        "detect_to_network": measured.ratio,
    }


def _pair(times: Times) -> dict[str, float]:
    return {"median": times.median, "best": times.best}


def _show(measured: Measured, image: str, network: str) -> None:
    width, height = measured.faces.image_size
    console.print_line(
        f"{console.printable(image)}: {width}×{height}, {len(measured.faces)} faces; {network}", style="bold"
    )
    console.print_line(measured.description, style="dim")
    console.write("\n")
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    table.add_column("stage", no_wrap=True)
    table.add_column("median ms", justify="right", no_wrap=True)
    table.add_column("best ms", justify="right", no_wrap=True)
    table.add_column("what it is")
    for name, times in measured.stages.items():
        table.add_row(name, *_cells(times), MEANING[name])
    table.add_section()
    table.add_row("around the network", *_cells(measured.around), "letterbox, decode, nms and result together")
    table.add_row(
        "detect()", *_cells(measured.detect), f"{measured.ratio:.2f} times the network's own run", style="bold"
    )
    console.show(table)
    console.write(f"\n{len(measured.detect.seconds)} runs\n")


def _cells(times: Times) -> tuple[str, str]:
    return f"{times.median:.3f}", f"{times.best:.3f}"
