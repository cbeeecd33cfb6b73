"""Compile kernels.cu for a GPU, keep what comes out on disk, and launch it."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scrfd_trt import _devices, models
from scrfd_trt._cuda.device import Device
from scrfd_trt._cuda.driver import call, call_unchecked
from scrfd_trt._cuda.stream import Stream
from scrfd_trt.errors import BackendError, MissingDependencyError, ModelError

log = logging.getLogger("scrfd_trt")

FOLDER = "kernels"
CHECKSUM = hashlib.sha256


class CubinCache:
    """What is kept under one key, in cuda.core's cache with a checksum before it, which that cache has none of.

    Parameters
    ----------
    key
        Of source, options and compiler, as cuda.core makes it.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._cache = _open()

    def get(self) -> bytes | None:
        """Return what is kept; None where that is nothing, or damaged."""
        if self._cache is None:
            return None
        try:
            entry = bytes(self._cache[self._key])
        except KeyError:
            return None
        except OSError as error:
            log.debug("the kernels that are kept cannot be read: %s", error)
            return None
        size = CHECKSUM().digest_size
        checksum, binary = entry[:size], entry[size:]
        if checksum == CHECKSUM(binary).digest():
            return binary
        log.debug("the kernels that are kept are damaged, and are compiled again")
        return None

    def put(self, binary: bytes) -> None:
        """Keep something in place of what is there."""
        if self._cache is None:
            return
        try:
            self._cache[self._key] = CHECKSUM(binary).digest() + binary
        except OSError as error:
            log.debug("the compiled kernels are not kept: %s", error)


def _open() -> Any:
    from cuda.core.utils import FileStreamProgramCache  # noqa: PLC0415 - optional, and slow to import

    try:
        return FileStreamProgramCache(models.home() / FOLDER)
    except (OSError, ModelError) as error:
        log.info("the compiled kernels are not kept: %s", error)
        return None


SOURCE = Path(__file__).with_name("kernels.cu")
NAMES = ("letterbox_float", "letterbox_half", "find_faces")
INSTALL = (
    "pip install nvidia-cuda-nvrtc with a driver of CUDA 13, nvidia-cuda-nvrtc-cu12 with one of CUDA 12 "
    "(nvidia-smi tells which), or install the CUDA toolkit"
)
UNFIT = (
    "CUDA_ERROR_INVALID_IMAGE",
    "CUDA_ERROR_INVALID_SOURCE",
    "CUDA_ERROR_NO_BINARY_FOR_GPU",
    "CUDA_ERROR_NOT_FOUND",
)
"""Errors that mean that the binary is at fault, and not the GPU."""

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
            module = call("cuModuleLoadData", binary, doing="loading the kernels")
            try:
                self._functions = {
                    name: call("cuModuleGetFunction", module, name.encode(), doing=f"looking up the kernel {name}")
                    for name in NAMES
                }
            except BaseException:
                call_unchecked("cuModuleUnload", module)
                raise

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
            _loaded[device.index] = _load(device)
        return _loaded[device.index]


def _load(device: Device) -> Kernels:
    """Load the kernels; compile them again where what was kept does not fit this driver."""
    capability = device.gpu.compute_capability
    binary = compiled(capability)
    try:
        return Kernels(binary, device)
    except BackendError as error:
        if not _is_unfit(error):
            raise
        log.debug("compiling the kernels again: %s", str(error))
    binary = compiled(capability, anew=True)
    try:
        return Kernels(binary, device)
    except BackendError as error:
        if not _is_unfit(error):
            raise
        raise BackendError(f"{error}; {_too_new()}") from error


def _is_unfit(error: BackendError) -> bool:
    return any(name in str(error) for name in UNFIT)


def _too_new() -> str:
    release, newest = (".".join(map(str, each or ())) for each in (nvrtc_release(), _devices.driver().cuda_version))
    return (
        f"NVRTC {release}, which compiled them, may be newer than the driver, which runs CUDA up to {newest}: update "
        f"the driver, or {INSTALL}"
    )


def compiled(capability: tuple[int, int], *, anew: bool = False) -> bytes:
    """Compile the kernels for a compute capability, or return what is kept of an earlier time.

    Parameters
    ----------
    capability
        Major and minor.
    anew
        Compile, whatever is kept.

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
        from cuda.core.utils import make_program_cache_key  # noqa: PLC0415
    except ImportError as error:
        raise MissingDependencyError(
            f'running on an NVIDIA GPU needs cuda-core 1.2 or newer ({error}): pip install "scrfd-trt[cuda]"'
        ) from error
    architecture = "sm_" + "".join(map(str, capability))
    source = SOURCE.read_text("utf-8")
    try:
        options = ProgramOptions(arch=architecture, fma=False, name=SOURCE.name)
        kept = CubinCache(make_program_cache_key(code=source, code_type="c++", options=options, target_type="cubin"))
        binary = None if anew else kept.get()
        if binary is None:
            binary = bytes(Program(source, "c++", options).compile("cubin").code)
            kept.put(binary)
    except Exception as error:
        raise _failure(error, architecture) from error
    return binary


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
        raise MissingDependencyError(
            f"NVRTC, which compiles the kernels for the GPU, is not found ({text}); {INSTALL}"
        ) from error
    return int(major), int(minor)


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
