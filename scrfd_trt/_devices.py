"""List the NVIDIA GPUs, and choose a device. It calls the driver through ctypes and needs no CUDA package."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scrfd_trt.errors import DeviceError, OptionError, shown

log = logging.getLogger("scrfd_trt")

CHOICES = "auto, cpu, cuda, cuda:0, cuda:1, …, cuda:all"
ALL = "cuda:all"
_core_limit: int | None = None
COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76  # CUdevice_attribute


def cores() -> int:
    """Return the number of CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limit_cores(count: int | None) -> None:
    """Let this process use so many cores, as a scheduler has assigned them; None: as before."""
    global _core_limit  # noqa: PLW0603
    _core_limit = count
    usable_cores.cache_clear()


@cache
def usable_cores() -> int:
    """Return the number of CPU cores that this process may use, by its affinity and the limit of its container."""
    if _core_limit:
        return min(cores(), _core_limit)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores(), round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or no limit
        return cores()


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU."""

    index: int  # n in cuda:n
    name: str
    compute_capability: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name} (cuda:{self.index}, compute capability {'.'.join(map(str, self.compute_capability))})"


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver."""

    cuda_version: tuple[int, int] | None  # the newest CUDA version that it supports; None without a driver
    gpus: tuple[Gpu, ...]
    problem: str = ""  # why there are no GPUs, one line


def parse(device: str | int) -> tuple[str, int | None]:
    """Split ``auto``, ``cpu``, ``cuda`` or ``cuda:n`` into kind and GPU number; raise OptionError for other names.

    The kind of ``cuda:all`` is ``all``; ``gpu`` is ``cuda``, and a number is that of a GPU.
    """
    text = str(device) if isinstance(device, str) or (type(device) is int and abs(device) < 10**9) else ""
    text = re.sub(r"^gpu(?=$|:\d)", "cuda", f"cuda:{text}" if text.isdecimal() else text)
    if text == ALL:
        return "all", None
    match = re.fullmatch(r"(auto|cpu|cuda)(?::(\d{1,9}))?", text)
    if match is None or (match[2] and match[1] != "cuda"):
        raise OptionError(
            f"invalid device {shown(device)}; the choices are: {CHOICES}", fields=["device"], value=device
        )
    return match[1], int(match[2]) if match[2] else None


@cache
def driver() -> Driver:
    """Return the version and GPUs of the NVIDIA driver; the result is cached for the process."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError:
        return Driver(None, (), f"no NVIDIA driver: {name} not found")
    version = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    cuda = (version.value // 1000, version.value % 1000 // 10)
    code = library.cuInit(0)
    if code:
        return Driver(cuda, (), f"the NVIDIA driver does not start: cuInit returned error {code}; check nvidia-smi")
    count = ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    gpus = tuple(_gpu(library, index) for index in range(count.value))
    return Driver(cuda, gpus, "" if gpus else "the NVIDIA driver lists no GPU; check CUDA_VISIBLE_DEVICES")


def _gpu(library: ctypes.CDLL, index: int) -> Gpu:
    device = ctypes.c_int()
    library.cuDeviceGet(ctypes.byref(device), index)
    text = ctypes.create_string_buffer(256)
    library.cuDeviceGetName(text, len(text), device)
    numbers = []
    for attribute in (COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR):
        value = ctypes.c_int()
        library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        numbers.append(value.value)
    return Gpu(index, text.value.decode(errors="replace"), (numbers[0], numbers[1]))


def choose(device: str | int, cuda_problem: Callable[[Gpu], str]) -> str:
    """Return the device to run on, and log the choice; ``cuda_problem`` says why an existing GPU cannot be used."""
    kind, number = parse(device)
    if kind == "cpu":
        return kind
    if kind == "all":
        problem = next(filter(None, map(cuda_problem, all_gpus())), "")
        if problem:
            raise DeviceError(f"device {device!r} cannot be used: {problem}")
        log.info("device %s: %s", device, ", ".join(map(str, all_gpus())))
        return ALL
    number = number or 0
    gpu = next((gpu for gpu in driver().gpus if gpu.index == number), None)
    missing = driver().problem or f"no GPU {number}; available: {', '.join(map(str, driver().gpus))}"
    reason = missing if gpu is None else cuda_problem(gpu)
    if not reason:
        log.info("device %s: %s", device, gpu)
        return f"cuda:{number}"
    if kind == "cuda":
        choices = ["auto", "cpu", *(f"cuda:{gpu.index}" for gpu in driver().gpus)]
        raise DeviceError(f"device {device!r} cannot be used: {reason}; the choices here are: {', '.join(choices)}")
    if gpu is not None:
        log.warning("%s cannot be used: %s; running on the CPU", gpu, reason)
    log.info("device auto: cpu (%s)", reason)
    return "cpu"


def all_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs of ``cuda:all``; raise DeviceError if there are none."""
    if not driver().gpus:
        raise DeviceError(f"device {ALL!r} cannot be used: {driver().problem}; the choices here are: auto, cpu")
    return driver().gpus
