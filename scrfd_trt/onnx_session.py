"""ONNX Runtime on the processor: the one place that imports it and knows its errors."""

from __future__ import annotations

import sys
import threading
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.errors import (
    BackendError,
    ClosedError,
    MissingDependencyError,
    ModelFormatError,
    ModelNotFoundError,
    one_line,
)
from scrfd_trt.tensors import TensorSpec

if TYPE_CHECKING:
    from types import ModuleType

DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
CUDA = "CUDAExecutionProvider"
NEEDS_GPU = 'pip install "onnxruntime-gpu[cuda,cudnn]" in place of onnxruntime'
ERRORS_ONLY = 3  # ONNX Runtime's log level

_loading = threading.Lock()


class OnnxSession:
    """A network that ONNX Runtime has loaded.

    Parameters
    ----------
    model
        An ONNX file, or its content.
    threads
        Threads of one run; 0 leaves the choice to ONNX Runtime.
    gpu
        n of the GPU ``cuda:n`` to run on, with onnxruntime-gpu; None runs on the processor.

    Attributes
    ----------
    inputs, outputs : tuple of TensorSpec
        In the network's own order.
    version : str
        ONNX Runtime's.

    Raises
    ------
    MissingDependencyError
        Without onnxruntime, or one that cannot use the GPU that is asked for.
    ModelNotFoundError
        If the file cannot be opened.
    ModelFormatError
        If ONNX Runtime cannot load it.

    Notes
    -----
    Several threads may call :meth:`run` at the same time.
    """

    def __init__(self, model: Path | bytes, *, threads: int = 0, gpu: int | None = None) -> None:
        runtime = _import_runtime()
        self._errors = _runtime_errors(runtime)
        self._session: Any = self._open(runtime, model, threads, gpu)
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(node) for node in self._session.get_outputs())
        self.version: str = runtime.__version__

    def _open(self, runtime: ModuleType, model: Path | bytes, threads: int, gpu: int | None) -> Any:
        name = "the network" if isinstance(model, bytes) else str(model)
        if isinstance(model, Path):
            try:
                # Not is_file(), which cannot tell a folder that may not be entered from a file that is not there.
                model.open("rb").close()
            except OSError as error:
                raise ModelNotFoundError(f"{name}: cannot be opened: {error.strerror or error}") from error
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = ERRORS_ONLY
        # Idle threads of the runtime would spin on for milliseconds, on cores that the letterbox needs.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        source = model if isinstance(model, bytes) else str(model)
        providers: list[Any] = ["CPUExecutionProvider"] if gpu is None else [(CUDA, {"device_id": gpu})]
        if gpu is not None:
            if CUDA not in runtime.get_available_providers():
                raise MissingDependencyError(f"this ONNX Runtime knows no NVIDIA GPU: {NEEDS_GPU}")
            _load_cuda(runtime)
        try:
            session = runtime.InferenceSession(source, options, providers=providers)
        except self._errors as error:
            raise ModelFormatError(f"{name}: ONNX Runtime cannot load it: {one_line(error)}") from error
        if gpu is not None and CUDA not in session.get_providers():  # it falls back with no more than a log line
            raise MissingDependencyError(f"ONNX Runtime cannot use the GPU; are libraries missing? {NEEDS_GPU}")
        return session

    def run(self, blob: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Run the network once on its first input.

        Parameters
        ----------
        blob
            Of the first input's shape; it is cast to its type.

        Returns
        -------
        list of numpy.ndarray
            The outputs, arrays of their own.

        Raises
        ------
        BackendError
            If the run fails.
        ClosedError
            After ``close()``.
        """
        session, tensor = self._session, self.inputs[0]
        if session is None:
            raise ClosedError("the network was closed; open it again")
        try:
            outputs: list[NDArray[Any]] = session.run(None, {tensor.name: blob.astype(tensor.dtype, copy=False)})
        except self._errors as error:
            shape = "×".join(map(str, blob.shape))
            raise BackendError(f"ONNX Runtime failed on an input of {shape}: {one_line(error)}") from error
        return outputs

    def close(self) -> None:
        """Let go of the network; a run under way in another thread ends first."""
        self._session = None


def _import_runtime() -> ModuleType:
    try:
        import onnxruntime  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        raise MissingDependencyError(
            f'running a network on the processor needs ONNX Runtime ({error}): pip install "scrfd-trt[cpu]"'
        ) from error
    module: ModuleType = onnxruntime
    return module


def _load_cuda(runtime: ModuleType) -> None:
    """Load CUDA and cuDNN where they come as Python packages, which the system's loader knows nothing of."""
    load = getattr(runtime, "preload_dlls", None)  # from ONNX Runtime 1.21 on
    if load is not None:
        with _loading, redirect_stdout(sys.stderr):  # it prints what it does not find
            load()


def _runtime_errors(runtime: ModuleType) -> tuple[type[Exception], ...]:
    """List the errors that ONNX Runtime raises; they share no base of their own."""
    state = vars(runtime.capi.onnxruntime_pybind11_state).values()
    own = [item for item in state if isinstance(item, type) and issubclass(item, Exception)]
    return (*own, RuntimeError, ValueError)


def _spec(node: Any) -> TensorSpec:
    shape = tuple(side if isinstance(side, int) else None for side in node.shape)
    return TensorSpec(node.name, shape, DTYPES.get(node.type, node.type))
