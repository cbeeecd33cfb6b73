"""Compile a file of kernels for a GPU, cache the result on disk, and launch it; the records of ``kernels.cu``."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import struct
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from scrfd_trt import _devices, _forks, models
from scrfd_trt._cuda import driver
from scrfd_trt._cuda.driver import Device, call
from scrfd_trt._cuda.stream import handle_of
from scrfd_trt._heads import HeadLayout
from scrfd_trt._letterbox import Letterbox
from scrfd_trt.errors import BackendError, MissingDependencyError, ModelError, one_line

if TYPE_CHECKING:
    from cuda.core import Stream


BATCH = struct.Struct("<Qffii")
FRAME = struct.Struct("<QQqqiiiiiiiiiiiiiI")
FIT = struct.Struct("<ddiiff")
LEVEL = struct.Struct("<QQQiiiiii")
HEADS = struct.Struct("<iiii")

LEVELS = 40  # maximum number of strides over all passes
CANDIDATES = 4096  # maximum number of rows above the threshold of an image that the GPU finishes
ROW = 16  # floats of one face: box 4, score 1, landmarks 10, and its index among all rows
HEADER = 16
"""Floats before the first face; as int32: candidates, faces (-1 if the candidates do not fit), and whether numbers
cannot be a face."""

RESULT_BYTES = 4 * (HEADER + CANDIDATES * ROW)
"""Room for the faces of one image; only as much is written as there are faces."""

BOX_BYTES = 16

ODD_COLUMN, ODD_ROW, MIRRORED_X, MIRRORED_Y, TRANSPOSED = range(1, 6)  # bits of a view in the last field of its record
FORMATS: dict[str, int] = {"bgr": 0, "rgb": 1, "nv12": 2, "p010": 3}
NO_LIMIT = 2**31 - 1


def frame_bytes(passes: int) -> int:
    """Return the size of the record of one image with its fits."""
    return FRAME.size + passes * FIT.size


@lru_cache(maxsize=1024)
def fits(size: tuple[int, int], scales: tuple[tuple[int, int], ...]) -> tuple[bytes, tuple[tuple[int, int], ...]]:
    """Return how an image of (width, height) fits into the input of each pass: records, and its scaled size in each."""
    boxes = [Letterbox.fit(size, scale) for scale in scales]
    return b"".join(map(fit, boxes)), tuple(box.resized for box in boxes)


def fit(box: Letterbox) -> bytes:
    """Return the record of the placement of an image in an input."""
    across, down = box.scale
    return FIT.pack(1.0 / across, 1.0 / down, *box.resized, 1.0 / across, 1.0 / down)


def heads(
    layout: HeadLayout, scales: Sequence[tuple[int, int]], addresses: Sequence[Sequence[int]], dtypes: Sequence[str]
) -> bytes:
    """Return the record of the outputs of all passes, by their addresses and types in the order of the engine."""
    levels, first = [], 0
    none = (None,) * len(layout.strides)
    for number, (scale, outputs) in enumerate(zip(scales, addresses, strict=True)):
        columns = zip(layout.strides, layout.scores, layout.boxes, layout.landmarks or none, strict=True)
        for stride, *indices in columns:
            at = [0 if index is None else outputs[index] for index in indices]
            halves = [index is not None and dtypes[index] == "float16" for index in indices]
            rows, across = layout.rows(stride, scale), -(-scale[0] // stride)
            half = sum(bit << place for place, bit in enumerate(halves))
            levels.append(LEVEL.pack(*at, stride, across, rows, first, number, half))
            first += rows
    about = HEADS.pack(len(levels), layout.anchors, layout.kind == "grid", layout.landmarks is not None)
    return about + b"".join(levels).ljust(LEVELS * LEVEL.size, b"\0")


log = logging.getLogger("scrfd_trt")


class Source(NamedTuple):
    """A file of kernels that needs no header, and the names of the kernels."""

    path: Path
    names: tuple[str, ...]


LETTERBOXES = ("letterbox_float", "letterbox_half", "letterbox_views_float", "letterbox_views_half")
DETECTION = Source(Path(__file__).with_name("kernels.cu"), (*LETTERBOXES, "find_faces", "thumbnails"))
INSTALL = (
    "pip install nvidia-cuda-nvrtc with a driver of CUDA 13, nvidia-cuda-nvrtc-cu12 with one of CUDA 12 "
    "(nvidia-smi shows which), or install the CUDA toolkit"
)
INVALID_BINARY = (
    "CUDA_ERROR_INVALID_IMAGE",
    "CUDA_ERROR_INVALID_SOURCE",
    "CUDA_ERROR_NO_BINARY_FOR_GPU",
    "CUDA_ERROR_NOT_FOUND",
)
"""Errors that mean that the binary is at fault, and not the GPU."""

CHECKSUM = hashlib.sha256
CACHE_FOLDER = "kernels"

_loaded: dict[tuple[int, Source], Kernels] = {}
_lock = _forks.Lock()


class Kernels:
    """The kernels, loaded on one GPU from a cubin; made by :func:`load`. They stay loaded until the process ends."""

    def __init__(self, binary: bytes, device: Device, names: Sequence[str] = DETECTION.names) -> None:
        with device.current():
            code = call("loading the kernels", driver.core().ObjectCode.from_cubin, binary)
            self._kernels = {name: call(f"looking up the kernel {name}", code.get_kernel, name) for name in names}
            # A binary that does not fit the GPU is an error here, and not at the first launch.
            self._functions = {
                name: call(f"loading the kernel {name}", driver.bindings().cuKernelGetFunction, kernel.handle)
                for name, kernel in self._kernels.items()
            }

    def prepare(
        self, name: str, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
    ) -> Launch:
        """Return a launch that can be made again and again; the arguments are of ctypes, in the kernel's order."""
        return Launch(self._functions[name], grid, block, arguments)


class Launch:
    """A kernel with its grid and arguments, as in :meth:`Kernels.prepare`; cuda.core takes no struct by value."""

    def __init__(
        self, function: Any, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
    ) -> None:
        self._arguments = tuple(arguments)  # kept alive: the array below points to them
        self._pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        self._head = (function, *grid, *block, 0)

    def start(self, stream: Stream) -> None:
        """Put the kernel into a stream, with the device current."""
        arguments = ctypes.addressof(self._pointers)
        call("launching a kernel", driver.bindings().cuLaunchKernel, *self._head, handle_of(stream), arguments, 0)


class CubinCache:
    """One compiled binary on disk, in cuda.core's cache, with a checksum; its errors only cost a second."""

    def __init__(self, key: bytes) -> None:
        self._key, self._cache = key, None
        try:
            self._cache = driver.core().utils.FileStreamProgramCache(models.home() / CACHE_FOLDER)
        except (OSError, ModelError) as error:
            log.info("compiled kernels are not cached: %s", error)

    def get(self) -> bytes | None:
        """Return the binary; None if there is none, or if it is damaged."""
        if self._cache is None:
            return None
        try:
            entry = bytes(self._cache[self._key])
        except KeyError:
            return None
        except OSError as error:
            log.debug("the cached kernels cannot be read: %s", error)
            return None
        size = CHECKSUM().digest_size
        checksum, binary = entry[:size], entry[size:]
        if checksum == CHECKSUM(binary).digest():
            return binary
        log.debug("the cached kernels are damaged, and are compiled again")
        return None

    def put(self, binary: bytes) -> None:
        """Replace the binary."""
        if self._cache is None:
            return
        try:
            self._cache[self._key] = CHECKSUM(binary).digest() + binary
        except OSError as error:
            log.debug("the compiled kernels are not cached: %s", error)


def load(device: Device, source: Source = DETECTION) -> Kernels:
    """Return the kernels of a file for a GPU; compile them if they are not cached.

    Raises MissingDependencyError without cuda.core or NVRTC, and BackendError if they cannot be compiled or loaded.
    """
    with _lock:
        key = (device.index, source)
        if key not in _loaded:
            _loaded[key] = _load(device, source)
        return _loaded[key]


def compiled(capability: tuple[int, int], source: Source = DETECTION, *, anew: bool = False) -> bytes:
    """Return the kernels as a cubin; ``anew`` ignores the cache. Errors as of :func:`load`."""
    core = driver.core()
    architecture = "sm_" + "".join(map(str, capability))
    code = source.path.read_text("utf-8")
    try:
        # Without fused products and sums, results equal those of NumPy.
        options = core.ProgramOptions(arch=architecture, fma=False, name=source.path.name)
        key = core.utils.make_program_cache_key(code=code, code_type="c++", options=options, target_type="cubin")
        cache = CubinCache(key)
        binary = None if anew else cache.get()
        if binary is None:
            binary = bytes(core.Program(code, "c++", options).compile("cubin").code)
            cache.put(binary)
    except Exception as error:
        raise _failure(error, architecture) from error
    return binary


def nvrtc_release() -> tuple[int, int]:
    """Return the release of NVRTC, major and minor; raise MissingDependencyError if it is not found."""
    try:
        from cuda.bindings import nvrtc  # noqa: PLC0415 - optional, and slow to import

        _, major, minor = nvrtc.nvrtcVersion()
    except Exception as error:
        text = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise MissingDependencyError(
            f"NVRTC, which compiles the kernels for the GPU, is not found ({text}); {INSTALL}"
        ) from error
    return int(major), int(minor)


def _load(device: Device, source: Source) -> Kernels:
    """Load the kernels; compile them again if the cached binary does not fit this driver."""
    anew = False
    while True:
        binary = compiled(device.gpu.compute_capability, source, anew=anew)
        try:
            return Kernels(binary, device, source.names)
        except BackendError as error:
            if not any(name in str(error) for name in INVALID_BINARY):
                raise
            if anew:
                raise BackendError(f"{error}; {_too_new()}") from error
            log.debug("compiling the kernels again: %s", str(error))
        anew = True


def _too_new() -> str:
    release, newest = (".".join(map(str, each or ())) for each in (nvrtc_release(), _devices.driver().cuda_version))
    return (
        f"NVRTC {release}, which compiled them, may be newer than the driver, which runs CUDA up to {newest}: update "
        f"the driver, or {INSTALL}"
    )


def _failure(error: Exception, architecture: str) -> BackendError | MissingDependencyError:
    text = one_line(error)
    if "nvrtc" in type(error).__name__.lower() or "invalid value for" in text:
        return BackendError(
            f"NVRTC cannot compile the kernels for {architecture}: {text}; a newer NVRTC may support this GPU: "
            f"{INSTALL}"
        )
    if "nvrtc" in text.lower() or type(error).__name__ == "DynamicLibNotFoundError":
        return MissingDependencyError(
            f"the kernels for the GPU are compiled with NVRTC, which is not found ({text}): {INSTALL}"
        )
    return BackendError(f"the kernels for {architecture} cannot be compiled: {text}")
