"""Measure detection on a GPU: the engine, each stage, ``detect()`` by kind of memory, and ``stream()``."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from scrfd_trt import samples
from scrfd_trt._cli import console
from scrfd_trt._cli.bench_cpu import time_detect
from scrfd_trt._cli.progress import build_progress
from scrfd_trt._cuda.driver import Device
from scrfd_trt._cuda.memory import copy, gpu_memory
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._engine.plan import is_engine_file
from scrfd_trt._options import DetectorOptions
from scrfd_trt._pipelines import HostPipeline
from scrfd_trt._pipelines.cuda import CudaPipeline
from scrfd_trt._pipelines.cuda.timing import Replay, StepTimes, engine_alone, step_times
from scrfd_trt._pipelines.factory import open_engine, open_onnx
from scrfd_trt.backends import OnnxBackend
from scrfd_trt.errors import OptionError

Image = NDArray[np.uint8]
Memory = Literal["gpu", "torch", "pinned", "numpy"]
MEMORIES: tuple[Memory, ...] = get_args(Memory)
STREAMED: tuple[Memory, ...] = ("gpu", "pinned", "numpy")  # kinds of memory that throughput is measured with
FRAME = "group-640x480"  # the drawn scene for latency and throughput
ROUND = 50  # consecutive calls of one case before the next case
WARM_UP = 10
WARMING, MEASURED = 150.0, 300.0  # milliseconds of engine time to stream images for


@dataclass(frozen=True)
class Latency:
    """Milliseconds of ``detect()`` for one image in one kind of memory."""

    name: str  # of the image
    source: Memory
    faces: int
    p50: float
    p99: float


@dataclass(frozen=True)
class Throughput:
    """Images per second through ``stream()``."""

    batch: int
    in_flight: int
    source: Memory
    images_per_second: float


@dataclass(frozen=True)
class OrtCuda:
    """ONNX Runtime on CUDA with the host pipeline: milliseconds of ``detect()``, and images per second in batches."""

    p50: float
    images_per_second: float


@dataclass(frozen=True)
class GpuFigures:
    """The measurements of :class:`GpuBench`."""

    steps: dict[int, StepTimes]  # by number of images
    engine: float  # milliseconds of the engine alone with one image, measured in alternation with the latencies
    latencies: list[Latency]
    throughputs: list[Throughput]
    memory: int  # bytes of GPU memory that the first detect() allocates, without the engine's weights
    ort_cuda: OrtCuda | None = None


@dataclass
class GpuBench:
    """Opens and measures one engine, or that of an ONNX file on ``cuda:gpu``; :meth:`measure` describes it."""

    path: Path
    gpu: int
    options: DetectorOptions
    lean_runtime: Path | None = None
    allow_host_code: bool = False
    description: str = field(default="", init=False)

    def measure(self, image: Image, runs: int, batches: Sequence[int], in_flights: Sequence[int]) -> GpuFigures:
        """Measure; batches that are larger than the engine's are left out, with a note."""
        self.options = self.options.model_copy(update={"max_batch": max(batches)})
        pipeline = self._open()
        self.options = self.options.model_copy(update={"scales": pipeline.scales})
        sizes = " + ".join(f"{width}×{height}" for width, height in pipeline.scales)
        self.description = f"{pipeline.description}; {sizes}"
        figures = measure_gpu(pipeline, image, runs=runs, batches=batches, in_flights=in_flights)
        left_out = ", ".join(str(count) for count in batches if count not in figures.steps)
        if left_out:
            console.note(f"--batch {left_out}: left out, the engine takes at most {max(figures.steps)} images at once")
        return figures

    def _open(self) -> CudaPipeline:
        if is_engine_file(self.path):
            return open_engine(
                self.path, self.options, self.gpu, lean_runtime=self.lean_runtime, allow_host_code=self.allow_host_code
            )
        with build_progress(quiet=False) as progress:
            pipeline = open_onnx(self.path, self.options, f"cuda:{self.gpu}", None, progress=progress)
        assert isinstance(pipeline, CudaPipeline)  # noqa: S101 - the device is a GPU
        return pipeline

    def check_comparable(self) -> None:
        """Check that ONNX Runtime can run the model on the GPU, before minutes are spent on measuring."""
        if is_engine_file(self.path):
            raise OptionError(
                "--compare ort-cuda runs the ONNX model, and this is an engine; name the model, with --device cuda"
            )
        OnnxBackend(self.path, gpu=self.gpu).close()

    def compare(self, figures: GpuFigures, runs: int) -> GpuFigures:
        """Return the figures with those of ONNX Runtime on CUDA for the same model and sizes."""
        frame, batch, rounds = samples.load(FRAME).image, max(figures.steps), 10
        pipeline = HostPipeline(OnnxBackend(self.path, gpu=self.gpu), self.options, cut_padding=False)
        with SCRFDDetector._of(pipeline, self.options, device="cuda") as detector:
            time_detect(detector, frame, WARM_UP)
            _, median, _ = time_detect(detector, frame, runs)
            images = [frame.copy() for _ in range(batch)]
            detector.detect_batch(images)
            start = time.perf_counter()
            for _ in range(rounds):
                detector.detect_batch(images)
            rate = rounds * batch / (time.perf_counter() - start)
        return replace(figures, ort_cuda=OrtCuda(median * 1000.0, rate))


def measure_gpu(
    pipeline: CudaPipeline, image: Image, *, runs: int, batches: Sequence[int], in_flights: Sequence[int]
) -> GpuFigures:
    """Measure a pipeline with a drawn scene of 640×480 pixels, latency with ``image`` as well. Closes the pipeline."""
    frame, threshold = samples.load(FRAME).image, pipeline.options.threshold
    batches = [count for count in batches if count <= pipeline.max_batch] or [pipeline.max_batch]
    before = _used_memory(pipeline.device)
    with SCRFDDetector._of(pipeline, pipeline.options, device="cuda") as detector:
        detector.detect(frame)
        memory = _used_memory(pipeline.device) - before
        small = _copies(frame, 2 * max(batches), detector, pipeline.device)
        large = _copies(image, 2, detector, pipeline.device)
        steps = {
            count: step_times(pipeline, small["gpu"][:count], threshold, runs=max(20, runs // 10))
            for count in sorted({1, *batches})
        }
        with engine_alone(pipeline, small["gpu"][:1], threshold) as replay:
            images = {"640×480": small, f"{image.shape[1]}×{image.shape[0]}": large}
            engine, latencies = _latencies(detector, replay, images, runs)
        throughputs = [
            Throughput(
                batch, in_flight, kind, _images_per_second(detector, small[kind], batch, in_flight, steps[batch].engine)
            )
            for batch, in_flight, kind in itertools.product(batches, in_flights, STREAMED)
        ]
    return GpuFigures(steps, engine, latencies, throughputs, memory)


class GpuImage:
    """A copy of an image in GPU memory, for the CUDA array interface; there is no stream to wait for."""

    def __init__(self, image: Image, device: Device) -> None:
        with device.current():
            self._memory = gpu_memory(image.nbytes, device)  # freed with the image
            address = int(self._memory.handle)
            copy("copying an image to the GPU", address, image.ctypes.data, image.nbytes)
        self.__cuda_array_interface__ = {
            "shape": image.shape,
            "typestr": "|u1",
            "data": (address, False),
            "strides": None,
            "version": 3,
        }


def _copies(image: Image, count: int, detector: SCRFDDetector, device: Device) -> dict[Memory, list[Any]]:
    """Return copies of an image in each kind of memory; no tensors if PyTorch is not installed."""
    pinned = [detector.pinned(image.shape) for _ in range(count)]
    for array in pinned:
        array[:] = image
    return {
        "gpu": [GpuImage(image, device) for _ in range(count)],
        "torch": _tensors(image, device),
        "pinned": pinned,
        "numpy": [image.copy() for _ in range(count)],
    }


def _tensors(image: Image, device: Device) -> list[Any]:
    try:
        torch: Any = import_module("torch")
    except (ImportError, OSError):  # OSError if its libraries are missing
        return []
    if not torch.cuda.is_available():
        return []
    tensors = [torch.from_numpy(image).to(f"cuda:{device.index}") for _ in range(2)]
    torch.cuda.synchronize(device.index)
    return tensors


def _latencies(
    detector: SCRFDDetector, engine: Replay, images: dict[str, dict[Memory, list[Any]]], runs: int
) -> tuple[float, list[Latency]]:
    """Measure the engine and all cases in alternation, so that other processes slow all equally."""
    cases = [(name, kind, images[name][kind]) for name in images for kind in MEMORIES if images[name][kind]]
    seconds: list[list[float]] = [[] for _ in cases]
    alone = []
    for _ in range(0, runs, ROUND):
        alone.append(engine.span(ROUND))
        for measured, (_, _, copies) in zip(seconds, cases, strict=True):
            for number in range(-WARM_UP, ROUND):
                image = copies[number % len(copies)]
                start = time.perf_counter()
                detector.detect(image)
                if number >= 0:
                    measured.append(time.perf_counter() - start)
    latencies = []
    for measured, (name, kind, copies) in zip(seconds, cases, strict=True):
        p50, p99 = np.percentile(measured, [50, 99]) * 1000.0
        latencies.append(Latency(name, kind, len(detector.detect(copies[0])), float(p50), float(p99)))
    return statistics.median(alone), latencies


def _images_per_second(detector: SCRFDDetector, images: list[Any], batch: int, in_flight: int, engine: float) -> float:
    """Stream images after a warm-up; return the better of two measurements. ``engine`` is in milliseconds a batch."""

    def run(milliseconds: float) -> float:
        count = max(4 * in_flight, int(milliseconds / engine)) * batch
        start = time.perf_counter()
        for _ in detector.stream(itertools.islice(itertools.cycle(images), count), batch=batch, in_flight=in_flight):
            pass
        return count / (time.perf_counter() - start)

    run(WARMING)
    return max(run(MEASURED), run(MEASURED))


def _used_memory(device: Device) -> int:
    with device.current():
        free, total = device.memory()
    return total - free
