"""What ``scrfd-trt bench`` measures on a GPU, as its options ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.backends import OnnxBackend
from scrfd_trt.cli import messages
from scrfd_trt.cli.build_bar import LateProgress
from scrfd_trt.cli.gpu_bench import GpuFigures, measure_gpu, measure_ort_cuda
from scrfd_trt.cli.network import is_engine
from scrfd_trt.errors import OptionError
from scrfd_trt.opening import open_engine, open_onnx
from scrfd_trt.options import DetectorOptions
from scrfd_trt.pipelines.cuda import CudaPipeline


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
        """Measure; see :func:`scrfd_trt.cli.gpu_bench.measure_gpu`."""
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
            messages.note(f"--batch {left_out}: left out, the engine takes at most {max(figures.steps)} images at once")
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
        if is_engine(self.path):
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
        if is_engine(self.path):
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
