"""Networks on the processor, through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.errors import BackendError, ClosedError, MissingDependencyError, ModelFormatError, ModelNotFoundError
from scrfd_trt.tensors import ShapeRange, TensorSpec, listing

if TYPE_CHECKING:
    from types import ModuleType

DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
WARNINGS_OFF = 3  # ONNX Runtime's level for errors only


class OnnxBackend:
    """A network of an ONNX file, run by ONNX Runtime on the processor.

    Parameters
    ----------
    path
        The ONNX file.
    threads
        Threads of one run; 0 leaves the choice to ONNX Runtime.

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

    def __init__(self, path: str | Path, *, threads: int = 0) -> None:
        runtime = _import_runtime()
        self._errors = _runtime_errors(runtime)
        self._session: Any = self._open(runtime, Path(path), threads)
        inputs = [_spec(node) for node in self._session.get_inputs()]
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[1] not in {3, None}:
            raise ModelFormatError(
                f"{path}: one input (B, 3, H, W) is wanted, but this network's inputs are: {listing(inputs)}"
            )
        self.input = inputs[0]
        self.outputs = tuple(_spec(node) for node in self._session.get_outputs())
        self.description = f"ONNX Runtime {runtime.__version__} on the processor"

    def _open(self, runtime: ModuleType, path: Path, threads: int) -> Any:
        try:
            # Not is_file(), which cannot tell a folder that may not be entered from a file that is not there.
            path.open("rb").close()
        except OSError as error:
            raise ModelNotFoundError(f"{path}: cannot be opened: {error.strerror or error}") from error
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = WARNINGS_OFF
        # Idle threads of the runtime would spin on for milliseconds, on cores that the letterbox needs.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # Idle threads of the runtime would spin on for milliseconds, on cores that the letterbox needs.
        try:
            return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except self._errors as error:
            raise ModelFormatError(f"{path}: ONNX Runtime cannot load it: {_first_line(error)}") from error

    def run(self, blob: NDArray[np.float32]) -> Sequence[NDArray[Any]]:
        """Run the network once; see :meth:`scrfd_trt.backends.Backend.run`."""
        session = self._session
        if session is None:
            raise ClosedError("the network was closed; open it again")
        try:
            outputs: list[NDArray[Any]] = session.run(
                None, {self.input.name: blob.astype(self.input.dtype, copy=False)}
            )
        except self._errors as error:
            raise BackendError(f"ONNX Runtime failed on input {blob.shape}: {_first_line(error)}") from error
        return outputs

    def close(self) -> None:
        """Let go of the session; a run under way in another thread ends first."""
        self._session = None


def _import_runtime() -> ModuleType:
    try:
        import onnxruntime  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        raise MissingDependencyError(
            f'running on the processor needs ONNX Runtime ({error}): pip install "scrfd-trt[cpu]"'
        ) from error
    module: ModuleType = onnxruntime
    return module


def _runtime_errors(runtime: ModuleType) -> tuple[type[Exception], ...]:
    """List the errors that ONNX Runtime raises; they share no base of their own."""
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile", "NotImplemented")
    state = runtime.capi.onnxruntime_pybind11_state
    own = [
        getattr(state, name) for name in (*names, "EPFail", "EngineError", "RuntimeException") if hasattr(state, name)
    ]
    return (*own, RuntimeError, ValueError)


def _spec(node: Any) -> TensorSpec:
    shape = tuple(side if isinstance(side, int) else None for side in node.shape)
    return TensorSpec(node.name, shape, DTYPES.get(node.type, node.type))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
