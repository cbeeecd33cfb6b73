"""Run ONNX models with ONNX Runtime. No other module imports it or handles its errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt import _devices, _forks
from scrfd_trt._files import check_readable
from scrfd_trt._tensors import ShapeRange, TensorSpec, listing
from scrfd_trt.errors import (
    BackendError,
    ClosedError,
    MissingDependencyError,
    ModelFormatError,
    is_out_of_memory,
    one_line,
    out_of_memory,
)

if TYPE_CHECKING:
    from types import ModuleType

DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
CUDA = "CUDAExecutionProvider"
INSTALL_GPU = 'pip install "onnxruntime-gpu[cuda,cudnn]" in place of onnxruntime'
ERRORS_ONLY = 3  # ONNX Runtime's log level
NORMS = (b"InstanceNormalization", b"GroupNormalization")
"""Operators that take statistics of the whole input; exporters write group norms as the first one."""

_loading = _forks.Lock()


class OnnxBackend:
    """An ONNX model that ONNX Runtime runs. Several threads may call :meth:`run` at the same time.

    A forked process opens the model again when it first runs it there.

    Parameters
    ----------
    model
        The ONNX file, or its content.
    threads
        Number of threads per run; 0 for the default of ONNX Runtime.
    gpu
        Number n of the GPU ``cuda:n`` to run on, for comparisons; requires onnxruntime-gpu. None for the CPU.

    Raises
    ------
    MissingDependencyError
        Without onnxruntime, or with one that cannot use the requested GPU.
    ModelNotFoundError
        If the file cannot be opened.
    ModelFormatError
        If ONNX Runtime cannot load it, or it does not have exactly one image input.
    """

    ranges: tuple[ShapeRange, ...] = ()

    def __init__(self, model: str | Path | bytes, *, threads: int = 0, gpu: int | None = None) -> None:
        source = model if isinstance(model, bytes) else Path(model)
        runtime = _import_runtime()
        self._errors = _runtime_errors(runtime)
        self._session: Any = _open(runtime, source, threads, gpu)
        # Absolute: a process that becomes a daemon changes its folder.
        self._source = source if isinstance(source, bytes) else source.absolute()
        self._threads, self._gpu, self._closed = threads, gpu, False
        self._opening = _forks.Lock()
        self._single: OnnxBackend | None = None
        inputs = _specs(self._session.get_inputs())
        fits = [tensor for tensor in inputs if len(tensor.shape) == 4 and tensor.shape[1] in {3, None}]
        if len(inputs) != 1 or not fits or inputs[0].dtype not in DTYPES.values():
            raise ModelFormatError(
                f"{_name(source)}: one input (B, 3, H, W) of floats is required, but this model's inputs are: "
                f"{listing(inputs)}"
            )
        self.input = inputs[0]
        self.outputs = _specs(self._session.get_outputs())
        content = source if isinstance(source, bytes) else source.read_bytes()
        self.norms_whole_input = any(name in content for name in NORMS)
        where = "the CPU" if gpu is None else f"cuda:{gpu}"
        self.description = f"ONNX Runtime {runtime.__version__} on {where}"
        _forks.register(self)

    def run(self, blob: NDArray[np.float32]) -> Sequence[NDArray[Any]]:
        """Run the model once; see :meth:`scrfd_trt.backends.Backend.run`."""
        session = self._session or self._open_again()
        try:
            values = {self.input.name: blob.astype(self.input.dtype, copy=False)}
            outputs: list[NDArray[Any]] = session.run(None, values)
        except self._errors as error:
            shape = "×".join(map(str, blob.shape))
            doing = f"running the model on an input of {shape}"
            if is_out_of_memory(error):
                raise out_of_memory(doing) from error
            raise BackendError(f"ONNX Runtime failed on an input of {shape}: {one_line(error)}") from error
        return outputs

    def on_one_thread(self) -> OnnxBackend | None:
        """Return the same model with one thread per run, for several runs at the same time; None on a GPU.

        This backend keeps it, and closes it.
        """
        if self._gpu is not None or self._threads == 1:
            return None if self._gpu is not None else self
        with self._opening:
            if self._closed:
                raise ClosedError("the model was closed; open it again")
            if self._single is None:
                self._single = OnnxBackend(self._source, threads=1)
            return self._single

    def close(self) -> None:
        """Release the model; a run in another thread ends first."""
        with self._opening:
            self._closed, self._session = True, None
            if self._single is not None:
                self._single.close()

    def _after_fork(self) -> None:
        """Leave the session to the parent: freeing it waits for its threads, which a forked process does not have."""
        if self._session is not None:
            _forks.never_free(self._session)
            self._session = None

    def _open_again(self) -> Any:
        with self._opening:
            if self._closed:
                raise ClosedError("the model was closed; open it again")
            if self._gpu is not None:
                raise ClosedError("a forked process cannot use the GPU of its parent; open the model again elsewhere")
            if self._session is None:
                self._session = _open(_import_runtime(), self._source, self._threads, None)
            return self._session


def read_tensors(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], str]:
    """Return the inputs and outputs of any ONNX model, and the version of ONNX Runtime; errors as of OnnxBackend."""
    runtime = _import_runtime()
    session = _open(runtime, path)
    return _specs(session.get_inputs()), _specs(session.get_outputs()), runtime.__version__


def _open(runtime: ModuleType, source: Path | bytes, threads: int = 0, gpu: int | None = None) -> Any:
    if isinstance(source, Path):
        check_readable(source)
    options = runtime.SessionOptions()
    # By default, it starts a thread for each core, although a container may be limited to the time of fewer.
    limit = _devices.usable_cores()
    options.intra_op_num_threads = threads or (limit if limit < _devices.cores() else 0)
    options.log_severity_level = ERRORS_ONLY
    # Otherwise idle threads of the runtime spin for milliseconds, on cores that the letterbox needs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    providers: list[Any] = ["CPUExecutionProvider"] if gpu is None else [(CUDA, {"device_id": gpu})]
    if gpu is not None:
        if CUDA not in runtime.get_available_providers():
            raise MissingDependencyError(f"this ONNX Runtime does not support NVIDIA GPUs: {INSTALL_GPU}")
        _load_cuda(runtime)
    try:
        content = source if isinstance(source, bytes) else str(source)
        # Without that option, it prints to stdout that it tries the same again.
        fallback = {} if gpu is not None else {"enable_fallback": 0}
        session = runtime.InferenceSession(content, options, providers=providers, **fallback)
    except _runtime_errors(runtime) as error:
        if is_out_of_memory(error):
            raise out_of_memory(f"loading {_name(source)}") from error
        if "PosixThread" in str(error):
            raise BackendError(f"{_name(source)}: ONNX Runtime cannot start threads: {one_line(error)}") from error
        reason = f"ONNX Runtime cannot load it: {one_line(error)}"
        if "INVALID_PROTOBUF" in reason:
            reason = "this is not an ONNX model, or it is damaged"
        raise ModelFormatError(f"{_name(source)}: {reason}") from error
    if gpu is not None and CUDA not in session.get_providers():  # it falls back to the CPU with a log line only
        raise MissingDependencyError(f"ONNX Runtime cannot use the GPU; are libraries missing? {INSTALL_GPU}")
    return session


def _import_runtime() -> ModuleType:
    try:
        import onnxruntime  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        raise MissingDependencyError(
            f'running a model on the CPU requires ONNX Runtime ({error}): pip install "scrfd-trt[cpu]"'
        ) from error
    module: ModuleType = onnxruntime
    return module


def _load_cuda(runtime: ModuleType) -> None:
    """Load CUDA and cuDNN from Python packages, which the loader of the system does not search."""
    load = getattr(runtime, "preload_dlls", None)  # from ONNX Runtime 1.21 on
    if load is not None:
        with _loading, redirect_stdout(sys.stderr):  # it prints the libraries that it does not find
            load()


def _runtime_errors(runtime: ModuleType) -> tuple[type[Exception], ...]:
    """Return the errors that ONNX Runtime raises; they have no common base class."""
    state = vars(runtime.capi.onnxruntime_pybind11_state).values()
    own = [item for item in state if isinstance(item, type) and issubclass(item, Exception)]
    return (*own, MemoryError, RuntimeError, TypeError, ValueError)


def _specs(nodes: Sequence[Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            node.name,
            tuple(side if isinstance(side, int) else None for side in node.shape),
            DTYPES.get(node.type, node.type),
        )
        for node in nodes
    )


def _name(source: Path | bytes) -> str:
    return "the model" if isinstance(source, bytes) else str(source)
