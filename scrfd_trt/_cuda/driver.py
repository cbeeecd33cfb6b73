"""NVIDIA GPUs, and checked calls of cuda.core, or of the driver API where that saves time or is the only way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from scrfd_trt import _devices
from scrfd_trt.errors import BackendError, ClosedError, DeviceError, MissingDependencyError, ScrfdError, one_line

if TYPE_CHECKING:
    import cuda.core


NO_DEVICE = {
    "CUDA_ERROR_NO_DEVICE": "is CUDA_VISIBLE_DEVICES empty? nvidia-smi lists the GPUs",
    "CUDA_ERROR_INVALID_DEVICE": "nvidia-smi lists the GPUs, numbered from 0",
    "CUDA_ERROR_DEVICE_UNAVAILABLE": "another process uses it exclusively; nvidia-smi shows which",
    "CUDA_ERROR_DEVICE_NOT_LICENSED": "this virtual GPU has no licence",
    "CUDA_ERROR_STUB_LIBRARY": "libcuda.so is a stub here; run where the NVIDIA driver is installed",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "the driver was updated; restart the machine",
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": "remove CUDA's compatibility libraries from the library path",
    "CUDA_ERROR_SYSTEM_NOT_READY": "nvidia-smi shows what the driver waits for",
    "CUDA_ERROR_NOT_INITIALIZED": "a forked process cannot use its parent's GPU: start processes with spawn; "
    "else, does nvidia-smi work?",
}
"""Errors that mean that the GPU is not available, and what to do about each."""

BROKEN = "the GPU's state in this process is lost; start the process again"
LOST_STATES = (
    *("ASSERT", "ECC_UNCORRECTABLE", "HARDWARE_STACK_ERROR", "ILLEGAL_ADDRESS", "ILLEGAL_INSTRUCTION"),
    *("INVALID_ADDRESS_SPACE", "INVALID_PC", "LAUNCH_FAILED", "LAUNCH_TIMEOUT", "MISALIGNED_ADDRESS"),
)
ADVICE = {
    "CUDA_ERROR_OUT_OF_MEMORY": "use smaller batches, or end other programs that hold memory (nvidia-smi lists them)",
    "CUDA_ERROR_INVALID_HANDLE": "was the stream passed in destroyed, or does it belong to another GPU?",
    "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED": "the stream passed in is being captured into a graph; end that first",
    "CUDA_ERROR_INVALID_CONTEXT": "was the GPU reset while it was in use, for example by cudaDeviceReset?",
    "CUDA_ERROR_CONTEXT_IS_DESTROYED": "was the GPU reset while it was in use, for example by cudaDeviceReset?",
    "CUDA_ERROR_DEINITIALIZED": "the process is ending; close detectors before it does",
    **{f"CUDA_ERROR_{name}": BROKEN for name in LOST_STATES},
}
"""What to do about errors of a GPU that is available."""

UNKNOWN = "nvidia-smi and the system's log may say more"


@cache
def bindings() -> ModuleType:
    """Return cuda.bindings.driver; raise MissingDependencyError if it is not installed."""
    return _import("cuda.bindings.driver", "cuda-python")


@cache
def core() -> ModuleType:
    """Return cuda.core; raise MissingDependencyError if it is not installed."""
    return _import("cuda.core", "cuda-core 1.2 or newer")


def call(doing: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of cuda.core or :func:`bindings`, and return its result; ``doing`` begins an error's message."""
    try:
        returned = function(*arguments)
    except Exception as error:  # the class of cuda.core's errors is private
        raise _core_error(doing, error) from error
    if type(returned) is not tuple:
        return returned
    if returned[0]:
        raise _driver_error(doing, returned[0])
    return returned[1] if len(returned) == 2 else returned[1:] or None


class RelaxedCapture:
    """A ``with`` block in which this thread may free memory although it, or another thread, captures a graph."""

    def __enter__(self) -> None:
        mode = bindings().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        self._former = bindings().cuThreadExchangeStreamCaptureMode(mode)[1]

    def __exit__(self, *_: object) -> None:
        if self._former is not None:  # it is None if the driver has failed
            bindings().cuThreadExchangeStreamCaptureMode(self._former)


def _import(name: str, package: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        message = f'running on an NVIDIA GPU needs {package} ({error}): pip install "scrfd-trt[cuda]"'
        raise MissingDependencyError(message) from error


def _core_error(doing: str, error: Exception) -> ScrfdError:
    text = one_line(error)
    if type(error).__name__ == "DynamicLibNotFoundError":  # raised when the driver is first called
        return DeviceError(f"{doing} failed: {text}; is the NVIDIA driver installed?")
    name, _, meaning = text.partition(": ")
    if name.startswith("CUDA_ERROR_"):
        return _error(doing, name, meaning.split(". ")[0].rstrip("."))
    if isinstance(error, RuntimeError) and text.endswith("closed"):
        return ClosedError(f"{doing} failed: {text}; open a new one")
    return BackendError(f"{doing} failed: {text}; {UNKNOWN}")


def _driver_error(doing: str, status: Any) -> ScrfdError:
    code, text = bindings().cuGetErrorString(status)
    return _error(doing, getattr(status, "name", f"error {int(status)}"), "" if code or not text else text.decode())


def _error(doing: str, name: str, meaning: str) -> ScrfdError:
    message = f"{doing} failed: {name} ({meaning})" if meaning else f"{doing} failed: {name}"
    if name in NO_DEVICE:
        return DeviceError(f"{message}; {NO_DEVICE[name]}")
    return BackendError(f"{message}; {ADVICE.get(name, UNKNOWN)}")


class Device:
    """One NVIDIA GPU, by its number n in ``cuda:n``, with its primary context; DeviceError if there is none."""

    def __init__(self, index: int = 0) -> None:
        self.gpu = find(index)
        self.index = index
        self.core, self.context = _open(index)
        self._entering, self._leaving = f"using cuda:{index}", f"leaving cuda:{index}"
        # The driver is called directly: cuda.core cannot restore a thread that had no current context.
        self._push, self._pop = bindings().cuCtxPushCurrent, bindings().cuCtxPopCurrent

    def current(self) -> AbstractContextManager[None]:
        """Make this the thread's GPU within a ``with`` block, for all calls that touch it; blocks may be nested."""
        return self

    def __enter__(self) -> None:
        call(self._entering, self._push, self.context)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            call(self._leaving, self._pop)
        else:
            self._pop()  # an error of this call would hide the one inside the block

    def memory(self) -> tuple[int, int]:
        """Return the free and the total bytes of the GPU's memory, with the device current."""
        free, total = call("reading the size of the GPU's memory", bindings().cuMemGetInfo)
        return int(free), int(total)

    def __repr__(self) -> str:
        return f"<Device {self.gpu}>"


def find(index: int) -> _devices.Gpu:
    """Return a GPU by its number; raise DeviceError, which lists the GPUs, if there is none."""
    found = _devices.driver()
    for gpu in found.gpus:
        if gpu.index == index:
            return gpu
    reason = found.problem or f"the GPUs are: {', '.join(map(str, found.gpus))}"
    raise DeviceError(f"cuda:{index} cannot be used: {reason}")


@cache
def _open(index: int) -> tuple[cuda.core.Device, Any]:
    """Return cuda.core's device and its primary context, and leave the thread's current context as it is."""
    doing = f"opening cuda:{index}"
    device = call(doing, core().Device, index)
    former = call(doing, bindings().cuCtxGetCurrent)
    call(doing, device.set_current)
    call(doing, bindings().cuCtxSetCurrent, former)
    return device, device.context.handle
