"""What all handles of CUDA's have in common: they are given back once, and say so when used after that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from scrfd_trt.errors import BackendError, ClosedError, DeviceError, MissingDependencyError, ScrfdError

if TYPE_CHECKING:
    from typing_extensions import Self

NO_DEVICE = {
    "CUDA_ERROR_NO_DEVICE": "is CUDA_VISIBLE_DEVICES empty? nvidia-smi lists the GPUs",
    "CUDA_ERROR_INVALID_DEVICE": "nvidia-smi lists the GPUs, numbered from 0",
    "CUDA_ERROR_DEVICE_UNAVAILABLE": "another process has it for itself; nvidia-smi shows which",
    "CUDA_ERROR_DEVICE_NOT_LICENSED": "this virtual GPU has no licence",
    "CUDA_ERROR_STUB_LIBRARY": "libcuda.so is a stand-in here; run where the NVIDIA driver is installed",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "the driver was updated; restart the machine",
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": "take CUDA's compatibility libraries off the library path",
    "CUDA_ERROR_SYSTEM_NOT_READY": "nvidia-smi says what the driver waits for",
    "CUDA_ERROR_NOT_INITIALIZED": "a process that was forked cannot use its parent's GPU: start processes with spawn; "
    "else, does nvidia-smi work?",
}
"""Errors that mean that the GPU is not there, and what to do about each."""

BROKEN = "the GPU's state in this process is lost; start the process again"
ADVICE = {
    "CUDA_ERROR_OUT_OF_MEMORY": "use smaller batches, or end other programs that hold memory (nvidia-smi lists them)",
    "CUDA_ERROR_INVALID_HANDLE": "was a stream handed in that is destroyed, or that belongs to another GPU?",
    "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED": "the stream handed in is being captured into a graph; end that first",
    "CUDA_ERROR_INVALID_CONTEXT": "was the GPU reset, by cudaDeviceReset say, while it was in use?",
    "CUDA_ERROR_CONTEXT_IS_DESTROYED": "was the GPU reset, by cudaDeviceReset say, while it was in use?",
    "CUDA_ERROR_DEINITIALIZED": "the process is ending; close detectors before it does",
    **dict.fromkeys(
        (
            "CUDA_ERROR_ASSERT",
            "CUDA_ERROR_ECC_UNCORRECTABLE",
            "CUDA_ERROR_HARDWARE_STACK_ERROR",
            "CUDA_ERROR_ILLEGAL_ADDRESS",
            "CUDA_ERROR_ILLEGAL_INSTRUCTION",
            "CUDA_ERROR_INVALID_ADDRESS_SPACE",
            "CUDA_ERROR_INVALID_PC",
            "CUDA_ERROR_LAUNCH_FAILED",
            "CUDA_ERROR_LAUNCH_TIMEOUT",
            "CUDA_ERROR_MISALIGNED_ADDRESS",
        ),
        BROKEN,
    ),
}
"""What to do about errors of a GPU that is there."""


@cache
def bindings() -> ModuleType:
    """Import cuda-python's driver API.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        from cuda.bindings import driver  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        raise MissingDependencyError(
            f'running on an NVIDIA GPU needs cuda-python ({error}): pip install "scrfd-trt[cuda]"'
        ) from error
    module: ModuleType = driver
    return module


def call(name: str, *arguments: Any, doing: str) -> Any:
    """Call a function of the driver API, and check what it returns.

    Parameters
    ----------
    name
        As CUDA calls it, ``cuMemAlloc`` say.
    *arguments
        As cuda-python takes them.
    doing
        What the call is for, for messages, as in "reserving memory".

    Returns
    -------
    object
        What the function returns beside its status: None, one value, or a tuple of several.

    Raises
    ------
    DeviceError
        If there is no driver or no such GPU.
    BackendError
        If the call fails for another reason.
    MissingDependencyError
        Without cuda-python.
    """
    try:
        returned = getattr(bindings(), name)(*arguments)
    except RuntimeError as error:  # cuda-python looks for the driver's library at the first call
        raise DeviceError(f"{doing} failed: {_one_line(error)}; is the NVIDIA driver installed?") from error
    if returned[0]:
        raise _error(returned[0], doing)
    if len(returned) == 2:
        return returned[1]
    return returned[1:] or None


def prepare(name: str, *, doing: str) -> Callable[..., None]:
    """Look up a function of the driver API that is called for every image, where only its status is wanted.

    Parameters
    ----------
    name, doing
        As for :func:`call`.

    Returns
    -------
    callable
        Takes the function's arguments; raises what :func:`call` raises, once the driver is there.
    """
    function = getattr(bindings(), name)

    def prepared(*arguments: Any) -> None:
        status = function(*arguments)[0]
        if status:
            raise _error(status, doing)

    return prepared


def call_unchecked(name: str, *arguments: Any) -> None:
    """Call a function of the driver API, where an error of its own would hide a worse one."""
    getattr(bindings(), name)(*arguments)


def call_for_status(name: str, *arguments: Any) -> str:
    """Call a function of the driver API, and return the name of its status, whatever that is."""
    return str(getattr(bindings(), name)(*arguments)[0].name)


def _error(status: Any, doing: str) -> ScrfdError:
    name = getattr(status, "name", f"error {int(status)}")
    code, text = bindings().cuGetErrorString(status)
    meaning = f" ({text.decode()})" if not code and text else ""
    if name in NO_DEVICE:
        return DeviceError(f"{doing} failed: {name}{meaning}; {NO_DEVICE[name]}")
    advice = ADVICE.get(name, "nvidia-smi and the system's log may say more")
    return BackendError(f"{doing} failed: {name}{meaning}; {advice}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class Resource(ABC):
    """Something of CUDA's behind a number: a stream, or memory. A context manager.

    Parameters
    ----------
    handle
        CUDA's number or address.
    """

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle

    @property
    def handle(self) -> int:
        """CUDA's number or address.

        Raises
        ------
        ClosedError
            After ``close()``.
        """
        if self._handle is None:
            raise ClosedError(f"the {type(self).__name__} was closed; open a new one")
        return self._handle

    @property
    def closed(self) -> bool:
        """Whether ``close()`` was called."""
        return self._handle is None

    def close(self) -> None:
        """Give it back; a second call does nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._release(handle)

    @abstractmethod
    def _release(self, handle: int) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
