"""``scrfd-trt bench``: measure each stage of a detection."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from numpy.typing import NDArray

import overlays
from scrfd_trt import _devices, models, samples
from scrfd_trt._cli import bench_report, console, live, options
from scrfd_trt._cli.bench_cpu import measure_cpu
from scrfd_trt._cli.bench_gpu import GpuBench, GpuFigures
from scrfd_trt._cli.bench_report import save_plot
from scrfd_trt._cli.detector import check_no_engine_options, gpu_number, open_detector, parse_scales
from scrfd_trt._cli.exits import FAILED
from scrfd_trt._cli.inputs import read_image
from scrfd_trt._cli.option_table import altered, option
from scrfd_trt._cuda.driver import find
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._engine.plan import is_engine_file, is_model_path, read_plan
from scrfd_trt._files import temporary_folder, user_path
from scrfd_trt._options import DetectorOptions
from scrfd_trt._pipelines import factory
from scrfd_trt._tracking.tracker import Tracker
from scrfd_trt.backends import OnnxBackend
from scrfd_trt.errors import ImageError, OptionError
from scrfd_trt.video import TrackingOptions, detect_video, overlay_video, render_video
from scrfd_trt.video._animation_writer import open_writer
from scrfd_trt.video._detections_file import FACES_SUFFIX
from scrfd_trt.video._encoders import EncodeOptions
from scrfd_trt.video._first_pass import detect_frames, frame_device, link_faces
from scrfd_trt.video._reader import Frame
from scrfd_trt.video._sources import open_source

PARTS = {
    "decode": "read and decode the file",
    "detect": "stream() of frames in memory",
    "track": "find scene cuts, link detections",
    "draw": "blur faces, convert what they cover",
    "encode": "encode and write frames in memory",
}
WHOLES = {
    "first pass": "decode, detect and track",
    "second pass": "decode, draw and encode",
    "anonymize": "both passes",
}
HELD_BYTES = 2**30  # memory of the frames on which parts are measured alone
NEAR = 30  # frames read ahead to find scene cuts


@dataclass(frozen=True)
class VideoFigures:
    """Median milliseconds per frame of each of PARTS and WHOLES."""

    milliseconds: dict[str, float]
    size: tuple[int, int]
    frames: int
    held: int  # frames on which detect, track, draw and encode are measured
    faces: float  # per frame
    description: str

    @property
    def ratios(self) -> dict[str, float]:
        """Times of the wholes as multiples of those of their parts."""
        each = self.milliseconds
        return {
            "first pass / slowest part": each["first pass"] / max(each["decode"], each["detect"], each["track"]),
            "second pass / slowest part": each["second pass"] / max(each["decode"], each["draw"], each["encode"]),
            "anonymize / sum of decode, detect and encode": each["anonymize"]
            / (each["decode"] + each["detect"] + each["encode"]),
        }


class VideoBench:
    """Holds frames of a clip, and runs each part on them."""

    def __init__(self, clip: Path, detector: SCRFDDetector, folder: Path) -> None:
        self.clip, self.detector = clip, detector
        self.tracking = TrackingOptions(threshold=TrackingOptions().threshold)  # whatever the detector's
        self._device = frame_device(detector)
        self._faces = folder / f"clip{FACES_SUFFIX}"
        self._target = folder / "out.mp4"
        self._blur = overlays.create("blur")
        self._encode = EncodeOptions()
        self._pictures: list[Any] = []
        with open_source(clip, device=self._device) as reader:
            self.info = reader.info
            count = max(2, HELD_BYTES // (self.info.size[0] * self.info.size[1] * 6))
            self.frames: list[Frame] = list(islice(reader, count))
        with open_source(clip, device=self._device) as reader:
            found = detect_frames(reader, detector, self.tracking, keep=False)
            with closing(found):  # type: ignore[type-var]
                self._results = list(islice(found, len(self.frames)))
        self.faces = [faces for _, faces in link_faces(self._results, self._tracker(), NEAR)]

    def _tracker(self) -> Tracker:
        return Tracker(self.tracking, self.info.rate)

    def decode(self) -> int:
        with open_source(self.clip, device=self._device) as reader:
            return sum(1 for _ in reader)

    def detect(self) -> int:
        images: Iterable[Any] = [frame.yuv if frame.is_on_gpu else frame.image for frame in self.frames]
        return sum(1 for _ in self.detector.stream(images, threshold=self.tracking.detection_threshold))

    def track(self) -> int:
        return sum(1 for _ in link_faces(self._results, self._tracker(), NEAR))

    def draw(self) -> int:
        with self._writer() as writer:
            self._pictures = [
                writer.prepare_drawn(frame, self._blur, faces._detections(self.info.size))
                if len(faces)
                else writer.prepare(frame)
                for frame, faces in zip(self.frames, self.faces, strict=True)
            ]
            writer.discard()
        return len(self.frames)

    def encode(self) -> int:
        with self._writer() as writer:
            for frame, picture in zip(self.frames, self._pictures, strict=True):
                writer.encode(frame, picture)
        self._pictures = []
        return len(self.frames)

    def _writer(self) -> Any:
        with open_source(self.clip, device=self._device) as reader:
            return open_writer(self._target, reader, self._encode, overwrite=True)

    def first_pass(self) -> int:
        return detect_video(self.clip, self._faces, self.detector, tracking=self.tracking, overwrite=True).frames

    def second_pass(self) -> int:
        return render_video(
            self.clip, self._target, self._faces, self._blur, overwrite=True, device=self._device
        ).frames

    def anonymize(self) -> int:
        return overlay_video(
            self.clip, self._target, self.detector, self._blur, tracking=self.tracking, overwrite=True
        ).frames


def measure_video(clip: Path, detector: SCRFDDetector, rounds: int) -> VideoFigures:
    """Measure parts and wholes in turns, so that other processes slow all equally; the first round is a warm-up."""
    with ExitStack() as stack:
        bench = VideoBench(clip, detector, stack.enter_context(temporary_folder(None)))
        runs: dict[str, Callable[[], int]] = {
            name: getattr(bench, name.replace(" ", "_")) for name in (*PARTS, *WHOLES)
        }
        times: dict[str, list[float]] = {name: [] for name in runs}
        frames = 0
        for turn in range(rounds + 1):
            for name, run in runs.items():
                start = time.perf_counter()
                count = run()
                if turn:
                    times[name].append((time.perf_counter() - start) * 1000.0 / count)
                frames = max(frames, count)
        return VideoFigures(
            {name: statistics.median(each) for name, each in times.items()},
            bench.info.size,
            frames,
            len(bench.frames),
            statistics.mean(len(faces) for faces in bench.faces),
            detector.description,
        )


def video_as_dict(figures: VideoFigures, clip: str) -> dict[str, Any]:
    """Return the measurements for JSON, times in milliseconds per frame."""
    about = {"video": clip, "size": list(figures.size), "frames": figures.frames, "faces_per_frame": figures.faces}
    return about | {
        "runs_on": figures.description,
        "milliseconds_per_frame": figures.milliseconds,
        "ratios": figures.ratios,
    }


def show_video(figures: VideoFigures, clip: str) -> None:
    """Print a heading, the table of parts and wholes, and the ratios."""
    width, height = figures.size
    faces = f"{figures.faces:.1f} faces a frame"
    heading = f"{console.printable(clip)}: {width}×{height}, {console.count(figures.frames, 'frame')}, {faces}"
    console.print_line(heading, style="bold")
    console.print_line(figures.description + "\n", style="dim")
    table = console.table("part", ">ms a frame", ">frames/s")
    table.add_column("meaning")
    for name, meaning in (PARTS | WHOLES).items():
        if name == next(iter(WHOLES)):
            table.add_section()
        each = figures.milliseconds[name]
        table.add_row(name, f"{each:.3f}", f"{1000.0 / each:,.0f}", meaning)
    console.show(table)
    ratios = "".join(f"{name}: {ratio:.2f}\n" for name, ratio in figures.ratios.items())
    console.write(f"\n{ratios}")


def plot_video(figures: VideoFigures, path: Path, title: str) -> None:
    """Write a PNG with a bar for each part and whole; raise OutputError if that fails."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional, and slow to import

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    names = list(figures.milliseconds)
    colors = ["#76b900"] * len(PARTS) + ["#9aa5b1"] * len(WHOLES)
    bars = axes.barh(names, [figures.milliseconds[name] for name in names], color=colors)
    axes.bar_label(bars, [f"{1000.0 / value:,.0f} frames/s" for value in figures.milliseconds.values()], padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlabel("milliseconds per frame; parts alone (green), passes and whole (grey)")
    figure.suptitle(title, fontsize=8)
    save_plot(figure, path)


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
        figures = measure_video(clip, detector, rounds)
    if as_json:
        console.write_json(video_as_dict(figures, str(clip)))
    else:
        show_video(figures, str(clip))
    if plot is not None:
        plot_video(figures, plot, f"{clip.name}\n{figures.description}")


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
