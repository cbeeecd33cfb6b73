"""A GPU, which a ``with`` block makes current in the calling thread."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

from scrfd_trt import _devices
from scrfd_trt._cuda import driver
from scrfd_trt._cuda.driver import call
from scrfd_trt.errors import DeviceError

if TYPE_CHECKING:
    import cuda.core


class Device:
    """One NVIDIA GPU, by its number n in ``cuda:n``, with its primary context; DeviceError if there is none."""

    def __init__(self, index: int = 0) -> None:
        self.gpu = find(index)
        self.index = index
        self.core, self.context = _open(index)
        self._entering, self._leaving = f"using cuda:{index}", f"leaving cuda:{index}"
        # The driver is called directly: cuda.core cannot restore a thread that had no current context.
        self._push, self._pop = driver.bindings().cuCtxPushCurrent, driver.bindings().cuCtxPopCurrent

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
        free, total = call("reading the size of the GPU's memory", driver.bindings().cuMemGetInfo)
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
    device = call(doing, driver.core().Device, index)
    former = call(doing, driver.bindings().cuCtxGetCurrent)
    call(doing, device.set_current)
    call(doing, driver.bindings().cuCtxSetCurrent, former)
    return device, device.context.handle
