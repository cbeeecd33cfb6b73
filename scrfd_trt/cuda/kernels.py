"""Compile kernels.cu for a GPU, keep what comes out on disk, and launch it."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scrfd_trt import zoo
from scrfd_trt.cuda.device import Device
from scrfd_trt.cuda.driver import call
from scrfd_trt.cuda.stream import Stream
from scrfd_trt.errors import BackendError, MissingDependencyError, ModelError

log = logging.getLogger("scrfd_trt")

SOURCE = Path(__file__).with_name("kernels.cu")
FOLDER = "kernels"
NAMES = ("letterbox_float", "letterbox_half", "find_faces")
INSTALL = (
    "pip install nvidia-cuda-nvrtc with a driver of CUDA 13, nvidia-cuda-nvrtc-cu12 with one of CUDA 12 "
    "(nvidia-smi tells which), or install the CUDA toolkit"
)

_loaded: dict[int, Kernels] = {}
_lock = threading.Lock()


class Kernels:
    """The kernels, loaded on one GPU; made by :func:`load`.

    Parameters
    ----------
    binary
        As compiled for the GPU.
    device
        The GPU.

    Notes
    -----
    They stay loaded until the process ends, as the GPU's primary context does.
    """

    def __init__(self, binary: bytes, device: Device) -> None:
        with device.current():
            self._module = call("cuModuleLoadData", binary, doing="loading the kernels")
            self._functions = {
                name: call("cuModuleGetFunction", self._module, name.encode(), doing=f"looking up the kernel {name}")
                for name in NAMES
            }

    def prepare(
        self, name: str, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
    ) -> Launch:
        """Settle a launch that can be made again and again.

        Parameters
        ----------
        name
            Of the kernel.
        grid, block
            Blocks of the grid and threads of a block along x, y and z.
        arguments
            Of ctypes, in the kernel's order.
        """
        return Launch(self._functions[name], grid, block, arguments)


class Launch:
    """A kernel with its grid and arguments.

    Parameters
    ----------
    function, grid, block, arguments
        As for :meth:`Kernels.prepare`.
    """

    def __init__(
        self, function: Any, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
    ) -> None:
        self._arguments = tuple(arguments)  # kept alive: the array below points to them
        self._pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        self._head = (function, *grid, *block, 0)

    def start(self, stream: Stream) -> None:
        """Put the kernel into a stream, with the device current.

        Raises
        ------
        BackendError
            If it cannot be launched.
        """
        call(
            "cuLaunchKernel",
            *self._head,
            stream.handle,
            ctypes.addressof(self._pointers),
            0,
            doing="launching a kernel",
        )


def load(device: Device) -> Kernels:
    """Return the kernels for a GPU, compiled where they are not yet.

    Raises
    ------
    MissingDependencyError
        Without cuda.core or NVRTC.
    BackendError
        If they cannot be compiled or loaded.
    """
    with _lock:
        if device.index not in _loaded:
            _loaded[device.index] = Kernels(compiled(device.gpu.compute_capability), device)
        return _loaded[device.index]


def compiled(capability: tuple[int, int]) -> bytes:
    """Compile the kernels for a compute capability, or return what is kept of an earlier time.

    Parameters
    ----------
    capability
        Major and minor.

    Returns
    -------
    bytes
        A cubin.

    Raises
    ------
    MissingDependencyError
        Without cuda.core or NVRTC.
    BackendError
        If NVRTC refuses; a GPU that is newer than it say.

    Notes
    -----
    Products and sums are not contracted, so that numbers come out as NumPy has them.
    """
    try:
        from cuda.core import Program, ProgramOptions  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        raise MissingDependencyError(
            f'running on an NVIDIA GPU needs cuda-core 1.2 or newer ({error}): pip install "scrfd-trt[cuda]"'
        ) from error
    architecture = "sm_" + "".join(map(str, capability))
    try:
        options = ProgramOptions(arch=architecture, fma=False, name=SOURCE.name)
        program = Program(SOURCE.read_text("utf-8"), "c++", options)
        binary = program.compile("cubin", cache=_cache()).code
    except Exception as error:
        raise _failure(error, architecture) from error
    return bytes(binary)


def nvrtc_release() -> tuple[int, int]:
    """Return the release of NVRTC that is found, major and minor.

    Raises
    ------
    MissingDependencyError
        If there is none.
    """
    try:
        from cuda.bindings import nvrtc  # noqa: PLC0415 - optional, and slow to import

        _, major, minor = nvrtc.nvrtcVersion()
    except Exception as error:
        text = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise MissingDependencyError(f"NVRTC, which compiles the kernels for the GPU, is not found ({text})") from error
    return int(major), int(minor)


def _cache() -> Any:
    """Return cuda.core's cache on disk, or None where nothing can be written."""
    from cuda.core.utils import FileStreamProgramCache  # noqa: PLC0415

    try:
        return FileStreamProgramCache(zoo.home() / FOLDER)
    except (OSError, ModelError) as error:
        log.info("the compiled kernels are not kept: %s", error)
        return None


def _failure(error: Exception, architecture: str) -> BackendError | MissingDependencyError:
    text = " ".join(str(error).split())
    if "nvrtc" in type(error).__name__.lower() or "invalid value for" in text:
        return BackendError(
            f"NVRTC cannot compile the kernels for {architecture}: {text}; a newer NVRTC may know this GPU: {INSTALL}"
        )
    if "nvrtc" in text.lower() or type(error).__name__ == "DynamicLibNotFoundError":
        return MissingDependencyError(
            f"the kernels for the GPU are compiled with NVRTC, which is not found ({text}): {INSTALL}"
        )
    return BackendError(f"the kernels for {architecture} cannot be compiled: {text}")
