"""``scrfd-trt bench``: measure each stage of a detection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from numpy.typing import NDArray

from scrfd_trt import _devices, models, samples
from scrfd_trt._cli import bench_report, bench_video, console, live, options
from scrfd_trt._cli.bench_cpu import measure_cpu
from scrfd_trt._cli.bench_gpu import GpuBench, GpuFigures
from scrfd_trt._cli.detector import check_no_engine_options, gpu_number, open_detector, parse_scales
from scrfd_trt._cli.exits import FAILED
from scrfd_trt._cli.inputs import read_image
from scrfd_trt._cli.option_table import altered, option
from scrfd_trt._cuda.driver import find
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._engine.plan import is_engine_file, is_model_path, read_plan
from scrfd_trt._files import user_path
from scrfd_trt._options import DetectorOptions
from scrfd_trt._pipelines import factory
from scrfd_trt.backends import OnnxBackend
from scrfd_trt.errors import ImageError, OptionError

BATCHES, IN_FLIGHTS = "1,8,32", "1,2,3"
RUNS, VIDEO_RUNS = 60, 3

ImageFile = Annotated[
    Path | None, typer.Argument(metavar="IMAGE", help="Image file to measure with.", show_default="a drawn scene")
]
Scale = Annotated[list[str] | None, altered("scale", show_default="640, or the engine's")]
COMPARE_HELP = "GPU only: also measure ONNX Runtime on CUDA (requires onnxruntime-gpu)."


@dataclass(frozen=True)
class GpuArgs:
    """Options of measurements on a GPU."""

    batch: Annotated[str | None, option("COUNTS", "GPU only: batch sizes to measure.", show_default=BATCHES)] = None
    in_flight: Annotated[
        str | None, option("COUNTS", "GPU only: numbers of batches in flight.", show_default=IN_FLIGHTS)
    ] = None
    plot: Annotated[Path | None, option("FILE", "Write a plot as PNG: on a GPU, or with --video.")] = None
    compare: Annotated[Literal["ort-cuda"] | None, option("ort-cuda", COMPARE_HELP)] = None

    def refuse(self, reason: str, but: str = "") -> None:
        """Raise OptionError if one of the options is set, except for ``but``."""
        for name, value in vars(self).items():
            if value is not None and name != but:
                raise OptionError(f"--{name.replace('_', '-')} {reason}")

    def measure(self, job: GpuBench, image: NDArray[np.uint8], runs: int) -> GpuFigures:
        """Return the measurements, after checks of all that they need."""
        if self.compare is not None:
            job.check_comparable()
        if self.plot is not None:
            bench_report.check_plot(self.plot)
        batches = parse_counts(BATCHES if self.batch is None else self.batch, "--batch")
        in_flights = parse_counts(IN_FLIGHTS if self.in_flight is None else self.in_flight, "--in-flight")
        figures = job.measure(image, runs, batches, in_flights)
        return figures if self.compare is None else job.compare(figures, runs)


def bench(
    image: ImageFile = None,
    *,
    video: Annotated[Path | None, option("FILE", "Measure 'anonymize' on this video instead.")] = None,
    runs: Annotated[
        int | None, option("N", "Measurements of each stage.", min=1, show_default="60; 3 with --video")
    ] = None,
    network: options.ModelArgs,
    scale: Scale = None,
    threshold: float = options.THRESHOLD,
    iou: float = options.IOU,
    gpu_args: GpuArgs,
    as_json: bool = False,
) -> None:
    """Measure each stage of a detection.

    On the CPU: the median of all runs, in milliseconds. Runs of the stages
    and of detect() alternate, so other processes affect both equally.

    On a GPU: the engine alone, each stage, detect() for images in each kind
    of memory, and stream() by batch size and batches in flight.

    With --video: the parts of 'anonymize' alone (decode, detect, track, draw,
    encode), its two passes and the whole, in milliseconds per frame.

    For example:
      scrfd-trt bench
      scrfd-trt bench group.jpg --device cpu --scale 640 --runs 200
      scrfd-trt bench --model face.plan --runs 1000 --plot figures.png
      scrfd-trt bench --device cuda --compare ort-cuda
      scrfd-trt bench --video street.mp4 --plot figures.png
    """
    with console.logged():
        live.refuse([str(each) for each in (image, video) if each is not None], "bench")
        if video is not None:
            if image is not None:
                raise OptionError("--video cannot be combined with an image; leave one of them out")
            gpu_args.refuse("cannot be combined with --video; leave it out", but="plot")
            with open_detector(**vars(network), threshold=threshold, iou=iou, scale=scale) as detector:
                _bench_video(user_path(str(video)), detector, runs or VIDEO_RUNS, gpu_args.plot, as_json=as_json)
            return
        runs = runs or RUNS
        pixels = samples.load("group").image if image is None else _read(image)
        name = "a drawn scene" if image is None else str(image)
        settings = DetectorOptions(threshold=threshold, iou=iou, scales=parse_scales(scale))
        path = user_path(network.model) if is_model_path(network.model) else models.fetch(network.model)
        if not is_engine_file(path):
            check_no_engine_options(network.model, network.lean_runtime, allow_host_code=network.allow_host_code)
        gpu = _choose_gpu(path, network.device)
        if gpu is not None:
            job = GpuBench(path, gpu, settings, network.lean_runtime, allow_host_code=network.allow_host_code)
            _report_gpu(gpu_args.measure(job, pixels, runs), job, name, gpu_args.plot, as_json=as_json)
            return
        gpu_args.refuse("requires a GPU; name an engine with --model, or add --device cuda")
        settings = settings if scale else settings.model_copy(update={"scales": ((640, 640),)})
        measured = measure_cpu(OnnxBackend(path), settings, pixels, runs)
        if as_json:
            console.write_json(bench_report.cpu_as_dict(measured, name, path.name))
        else:
            bench_report.show_cpu(measured, name, path.name)


def _bench_video(clip: Path, detector: SCRFDDetector, rounds: int, plot: Path | None, *, as_json: bool) -> None:
    if plot is not None:
        bench_report.check_plot(plot)
    with console.muted():
        figures = bench_video.measure_video(clip, detector, rounds)
    if as_json:
        console.write_json(bench_video.as_dict(figures, str(clip)))
    else:
        bench_video.show(figures, str(clip))
    if plot is not None:
        bench_video.plot(figures, plot, f"{clip.name}\n{figures.description}")


def _report_gpu(figures: GpuFigures, job: GpuBench, image: str, plot: Path | None, *, as_json: bool) -> None:
    if as_json:
        about = {"image": image, "model": job.path.name, "runs_on": job.description}
        console.write_json(about | bench_report.gpu_as_dict(figures))
    else:
        console.print_line(f"{console.printable(image)}; {job.path.name}", style="bold")
        console.print_line(job.description + "\n", style="dim")
        bench_report.show_gpu(figures)
    if plot is not None:
        bench_report.plot(figures, plot, job.description)


def _choose_gpu(path: Path, device: str) -> int | None:
    """Return the number of the GPU to measure on, or None for the CPU."""
    if is_engine_file(path):
        read_plan(path)  # a missing file is reported before a missing GPU
        return find(gpu_number(device)).index
    chosen = _devices.choose(device, factory.cuda_problem)
    return None if chosen == "cpu" else gpu_number(chosen)


def parse_counts(text: str, option: str) -> tuple[int, ...]:
    """Return whole numbers separated by commas, in rising order; raise OptionError for others than 1 to 1024."""
    try:
        counts = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise OptionError(f"{option} {text!r}: use whole numbers separated by commas, such as 1,8,32") from error
    if counts[0] < 1 or counts[-1] > 1024:
        raise OptionError(f"{option} {text!r}: use numbers from 1 to 1024, such as 1,8,32")
    return counts


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        return read_image(path).visible()
    except ImageError as error:
        console.error(f"{path}: {error}")
        raise typer.Exit(FAILED) from error
