"""Networks on the processor, through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.errors import ModelFormatError
from scrfd_trt.onnx_session import OnnxSession
from scrfd_trt.tensors import ShapeRange, listing

FLOATS = {"float32", "float16"}


class OnnxBackend:
    """A network of an ONNX file, run by ONNX Runtime.

    Parameters
    ----------
    model
        The ONNX file, or its content.
    threads
        Threads of one run; 0 leaves the choice to ONNX Runtime.
    gpu
        n of the GPU ``cuda:n`` to run on, with onnxruntime-gpu, to compare with; None runs on the processor.

    Raises
    ------
    MissingDependencyError
        Without onnxruntime.
    ModelNotFoundError
        If there is no such file.
    ModelFormatError
        If ONNX Runtime cannot load it, or it has not one image input.

    Notes
    -----
    Several threads may call :meth:`run` at the same time.
    """

    ranges: tuple[ShapeRange, ...] = ()

    def __init__(self, model: str | Path | bytes, *, threads: int = 0, gpu: int | None = None) -> None:
        source = model if isinstance(model, bytes) else Path(model)
        self._session = OnnxSession(source, threads=threads, gpu=gpu)
        inputs = self._session.inputs
        fits = [tensor for tensor in inputs if len(tensor.shape) == 4 and tensor.shape[1] in {3, None}]
        if len(inputs) != 1 or not fits or inputs[0].dtype not in FLOATS:
            name = "the network" if isinstance(source, bytes) else source
            raise ModelFormatError(
                f"{name}: one input (B, 3, H, W) of floats is wanted, but this network's inputs are: {listing(inputs)}"
            )
        self.input = inputs[0]
        self.outputs = self._session.outputs
        where = "the processor" if gpu is None else f"cuda:{gpu}"
        self.description = f"ONNX Runtime {self._session.version} on {where}"

    def run(self, blob: NDArray[np.float32]) -> Sequence[NDArray[Any]]:
        """Run the network once; see :meth:`scrfd_trt.backends.Backend.run`."""
        return self._session.run(blob)

    def close(self) -> None:
        """Let go of the network; a run under way in another thread ends first."""
        self._session.close()
