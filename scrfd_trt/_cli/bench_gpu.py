"""What ``scrfd-trt bench`` measures on a GPU, as its options ask for it."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from scrfd_trt import samples
from scrfd_trt._cli import console
from scrfd_trt._cli.progress import LateProgress
from scrfd_trt._cuda import Device, DeviceBuffer, PinnedBuffer
from scrfd_trt._cuda.driver import call
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._engine.plan import is_engine_file
from scrfd_trt._options import DetectorOptions
from scrfd_trt._pipelines import HostPipeline
from scrfd_trt._pipelines.cuda import CudaPipeline
from scrfd_trt._pipelines.cuda.timing import Replay, StepTimes, engine_alone, step_times
from scrfd_trt._pipelines.factory import open_engine, open_onnx
from scrfd_trt.backends import Backend, OnnxBackend
from scrfd_trt.errors import OptionError

Source = Literal["gpu", "torch", "pinned", "numpy"]
SOURCES: tuple[Source, ...] = get_args(Source)


class OnGpu:
    """A copy of an image in the GPU's memory, with nothing to wait for and no conversion."""

    def __init__(self, image: NDArray[np.uint8], memory: DeviceBuffer) -> None:
        with memory.device.current():
            call("cuMemcpyHtoD", memory.handle, image.ctypes.data, image.nbytes, doing="copying an image to the GPU")
        self.__cuda_array_interface__ = {
            "shape": image.shape,
            "typestr": "|u1",
            "data": (memory.handle, False),
            "strides": None,
            "version": 3,
        }


class Frames:
    """Copies of one image in each kind of memory, as many as a program would have under way.

    Parameters
    ----------
    image
        ``(H, W, 3)`` uint8.
    count
        How many of each.
    detector
        On the GPU.
    opening
        Gives the GPU's memory back when it is closed.
    """

    def __init__(
        self, image: NDArray[np.uint8], count: int, *, detector: SCRFDDetector, device: Device, opening: ExitStack
    ) -> None:
        self.numpy: list[Any] = [image.copy() for _ in range(count)]
        self.pinned: list[Any] = [detector.pinned(image.shape) for _ in range(count)]
        for each in self.pinned:
            each[:] = image
        self.gpu: list[Any] = [
            OnGpu(image, opening.enter_context(DeviceBuffer(image.nbytes, device))) for _ in range(count)
        ]
        self.torch = _tensors(image, device)

    def of(self, source: Source) -> list[Any]:
        """Return those of one kind; there are none of PyTorch's where that is not installed."""
        kinds: dict[Source, list[Any]] = {
            "gpu": self.gpu,
            "torch": self.torch,
            "pinned": self.pinned,
            "numpy": self.numpy,
        }
        return kinds[source]


def _tensors(image: NDArray[np.uint8], device: Device) -> list[Any]:
    try:
        torch: Any = import_module("torch")
    except (ImportError, OSError):  # the latter where libraries of it are missing
        return []
    if not torch.cuda.is_available():
        return []
    found = [torch.from_numpy(image).to(f"cuda:{device.index}") for _ in range(2)]
    torch.cuda.synchronize(device.index)
    return found


STREAMED: tuple[Source, ...] = ("gpu", "pinned", "numpy")
"""What throughput is measured with."""

FRAME = "group-640x480"
"""The drawn scene that latency and throughput are measured with."""

ROUND = 50
"""Calls that are made of one kind before it is another's turn."""

WARM_UP = 10
WARMING, MEASURED = 150.0, 300.0
"""Milliseconds of the engine's own time that images go through for."""

COPYING_THREADS = 2


@dataclass(frozen=True)
class Latency:
    """Milliseconds of ``detect()`` for one image.

    Attributes
    ----------
    name
        What image.
    source
        Where it lies: on the GPU, as plain memory or as a tensor of PyTorch, which brings a stream to wait for; in
        page-locked memory; or in an ordinary array.
    faces
        How many are found in it.
    p50, p99
        Median, and what one call in a hundred exceeds.
    """

    name: str
    source: Source
    faces: int
    p50: float
    p99: float


@dataclass(frozen=True)
class Throughput:
    """Images in a second through ``stream()``.

    Attributes
    ----------
    batch, in_flight
        As for :meth:`scrfd_trt.SCRFDDetector.stream`.
    source
        As for :class:`Latency`.
    images_per_second
        Over all images.
    """

    batch: int
    in_flight: int
    source: Source
    images_per_second: float


@dataclass(frozen=True)
class OrtCuda:
    """ONNX Runtime on CUDA in the host's pipeline, with the frame of 640×480 pixels.

    Attributes
    ----------
    p50
        Milliseconds of ``detect()``.
    images_per_second
        In batches of the largest size.
    """

    p50: float
    images_per_second: float


@dataclass(frozen=True)
class GpuFigures:
    """What came out.

    Attributes
    ----------
    steps
        Times of each step by the number of images.
    engine
        Milliseconds of the engine alone with one image, measured in turns with ``latencies``.
    latencies, throughputs
        Of detection as a whole.
    copied_per_second
        Images that two threads copy into page-locked memory in a second: what ordinary arrays cannot exceed.
    memory
        Bytes on the GPU that the first ``detect()`` took, beside the engine's weights.
    ort_cuda
        What it was compared with, if it was.
    """

    steps: dict[int, StepTimes]
    engine: float
    latencies: list[Latency]
    throughputs: list[Throughput]
    copied_per_second: float
    memory: int
    ort_cuda: OrtCuda | None = None


def measure_gpu(
    opened: Callable[[], CudaPipeline],
    image: NDArray[np.uint8],
    *,
    threshold: float,
    runs: int,
    batches: Sequence[int],
    in_flights: Sequence[int],
) -> GpuFigures:
    """Measure a pipeline.

    Parameters
    ----------
    opened
        Opens it, with room for the largest batch.
    image
        ``(H, W, 3)`` uint8 BGR; latency is measured with it too, and all else with a drawn scene of 640×480 pixels.
    threshold
        Lowest score of a face.
    runs
        How often each latency is measured.
    batches, in_flights
        What throughput is measured with; batches that are larger than the engine takes are left out.
    """
    frame = samples.load(FRAME).image
    with ExitStack() as opening:
        pipeline = opened()
        batches = [count for count in batches if count <= pipeline.images_at_once] or [pipeline.images_at_once]
        before = _used_memory(pipeline.device)
        detector = opening.enter_context(SCRFDDetector(pipeline, pipeline.options, device="cuda"))
        detector.detect(frame)
        memory = _used_memory(pipeline.device) - before
        small = Frames(frame, 2 * max(batches), detector=detector, device=pipeline.device, opening=opening)
        large = Frames(image, 2, detector=detector, device=pipeline.device, opening=opening)
        steps = {
            count: step_times(pipeline, small.gpu[:count], threshold, runs=max(20, runs // 10))
            for count in sorted({1, *batches})
        }
        with engine_alone(pipeline, small.gpu[:1], threshold) as replay:
            engine, latencies = _latencies(detector, replay, [("640×480", small), (_size(image), large)], runs)
        throughputs = [
            _throughput(
                detector,
                small.of(source),
                batch=batch,
                in_flight=in_flight,
                source=source,
                engine=steps[batch].engine,
            )
            for batch, in_flight, source in itertools.product(batches, in_flights, STREAMED)
        ]
        copied = _copying(frame, pipeline.device, max(batches))
    return GpuFigures(steps, engine, latencies, throughputs, copied, memory)


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]}×{image.shape[0]}"


def _latencies(
    detector: SCRFDDetector, engine: Replay, pictures: Sequence[tuple[str, Frames]], runs: int
) -> tuple[float, list[Latency]]:
    """Measure the engine and all cases by turns, so that whatever else the machine does hits all alike."""
    cases = [(name, source, images) for name, frames in pictures for source in SOURCES if (images := frames.of(source))]
    seconds: list[list[float]] = [[] for _ in cases]
    alone = []
    for _ in range(0, runs, ROUND):
        alone.append(engine.span(ROUND))
        for spent, (_, _, images) in zip(seconds, cases, strict=True):
            for number in range(-WARM_UP, ROUND):
                image = images[number % len(images)]
                start = time.perf_counter()
                detector.detect(image)
                if number >= 0:
                    spent.append(time.perf_counter() - start)
    found = []
    for spent, (name, source, images) in zip(seconds, cases, strict=True):
        p50, p99 = np.percentile(spent, [50, 99]) * 1000.0
        faces = len(detector.detect(images[0]))
        found.append(Latency(name, source, faces, float(p50), float(p99)))
    return statistics.median(alone), found


def _throughput(
    detector: SCRFDDetector, images: list[Any], *, batch: int, in_flight: int, source: Source, engine: float
) -> Throughput:
    """Let images through for a while, after some to warm up; the best of two counts."""

    def run(milliseconds: float) -> float:
        count = max(4 * in_flight, int(milliseconds / engine)) * batch
        start = time.perf_counter()
        for _ in detector.stream(itertools.islice(itertools.cycle(images), count), batch=batch, in_flight=in_flight):
            pass
        return count / (time.perf_counter() - start)

    run(WARMING)
    return Throughput(batch, in_flight, source, max(run(MEASURED), run(MEASURED)))


def _copying(frame: NDArray[np.uint8], device: Device, count: int) -> float:
    """Return how many frames a second threads copy into page-locked memory, each its own ones."""
    rounds = max(1, 400 // count)

    def work(targets: list[NDArray[np.uint8]], sources: list[NDArray[np.uint8]]) -> None:
        for _ in range(rounds):
            for target, source in zip(targets, sources, strict=True):
                np.copyto(target, source)

    with ExitStack() as opening:
        threads = []
        for _ in range(COPYING_THREADS):
            buffers = [opening.enter_context(PinnedBuffer(frame.nbytes, device)) for _ in range(count)]
            targets = [buffer.view(frame.shape, np.uint8) for buffer in buffers]
            sources = [frame.copy() for _ in range(count)]
            work(targets[:1], sources[:1])
            threads.append(threading.Thread(target=work, args=(targets, sources)))
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return COPYING_THREADS * count * rounds / (time.perf_counter() - start)


def _used_memory(device: Device) -> int:
    with device.current():
        free, total = device.memory()
    return total - free


def measure_ort_cuda(backend: Backend, options: DetectorOptions, batch: int, runs: int) -> OrtCuda:
    """Measure the host's pipeline around a network that ONNX Runtime runs on the GPU.

    Parameters
    ----------
    backend
        Runs the network. It is closed at the end.
    options
        Of the detector.
    batch
        Images at a time.
    runs
        How often latency is measured.
    """
    frame = samples.load(FRAME).image
    with SCRFDDetector(HostPipeline(backend, options), options, device="cuda") as detector:
        seconds = []
        for _ in range(WARM_UP + runs):
            start = time.perf_counter()
            detector.detect(frame)
            seconds.append(time.perf_counter() - start)
        images = [frame.copy() for _ in range(batch)]
        detector.detect_batch(images)
        start, rounds = time.perf_counter(), 10
        for _ in range(rounds):
            detector.detect_batch(images)
        rate = rounds * batch / (time.perf_counter() - start)
    return OrtCuda(float(np.median(seconds[WARM_UP:])) * 1000.0, rate)


class GpuJob:
    """Opens and measures one engine.

    Parameters
    ----------
    path
        Of an engine, or of a network whose engine is kept or built.
    gpu
        n of ``cuda:n``.
    options
        Of the detector.
    lean_runtime, allow_host_code
        As for :meth:`scrfd_trt.SCRFDDetector.from_engine`; for engines only.

    Attributes
    ----------
    path : Path
        As given.
    description : str
        What ran, once it is known.
    """

    def __init__(
        self, path: Path, gpu: int, options: DetectorOptions, lean_runtime: Path | None, *, allow_host_code: bool
    ) -> None:
        self.path, self.description = path, ""
        self._gpu, self._options = gpu, options
        self._running = {"lean_runtime": lean_runtime, "allow_host_code": allow_host_code}

    def measure(
        self, image: NDArray[np.uint8], runs: int, batches: Sequence[int], in_flights: Sequence[int]
    ) -> GpuFigures:
        """Measure; see :func:`scrfd_trt._cli.bench_gpu.measure_gpu`."""
        self._options = self._options.model_copy(update={"max_batch": max(batches)})
        figures = measure_gpu(
            self._open,
            image,
            threshold=self._options.threshold,
            runs=runs,
            batches=batches,
            in_flights=in_flights,
        )
        left_out = ", ".join(str(count) for count in batches if count not in figures.steps)
        if left_out:
            console.note(f"--batch {left_out}: left out, the engine takes at most {max(figures.steps)} images at once")
        return figures

    def check_comparable(self) -> None:
        """Make sure, before minutes are spent on measuring, that ONNX Runtime can run the network on the GPU.

        Raises
        ------
        OptionError
            Where there is only an engine.
        MissingDependencyError
            If ONNX Runtime is not there or cannot use the GPU.
        """
        if is_engine_file(self.path):
            raise OptionError(
                "--compare ort-cuda runs the network itself, and this is an engine: name the network, with "
                "--device cuda"
            )
        self._on_ort_cuda().close()

    def compare(self, figures: GpuFigures, runs: int) -> GpuFigures:
        """Measure ONNX Runtime on CUDA with the same network."""
        backend = self._on_ort_cuda()
        options = self._options.model_copy(update={"scales": self._scales})
        return replace(figures, ort_cuda=measure_ort_cuda(backend, options, max(figures.steps), runs))

    def _on_ort_cuda(self) -> OnnxBackend:
        return OnnxBackend(self.path, gpu=self._gpu)

    def _open(self) -> CudaPipeline:
        if is_engine_file(self.path):
            pipeline = open_engine(self.path, self._options, self._gpu, **self._running)
        else:
            with LateProgress(quiet=False) as progress:
                opened = open_onnx(self.path, self._options, f"cuda:{self._gpu}", None, progress=progress)
            assert isinstance(opened, CudaPipeline)  # noqa: S101 - the device is a GPU
            pipeline = opened
        self._scales = pipeline.scales
        sizes = " + ".join(f"{width}×{height}" for width, height in pipeline.scales)
        self.description = f"{pipeline.description}; {sizes}"
        return pipeline


def parse_counts(text: str, option: str) -> tuple[int, ...]:
    """Read whole numbers with commas between them, in rising order.

    Raises
    ------
    OptionError
        If they are none.
    """
    try:
        counts = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise OptionError(f"{option} {text!r}: whole numbers with commas are wanted, such as 1,8,32") from error
    if counts[0] < 1 or counts[-1] > 1024:
        raise OptionError(f"{option} {text!r}: numbers from 1 to 1024 are wanted, such as 1,8,32")
    return counts
