"""One GPU, made current for a while in whichever thread calls."""

from __future__ import annotations

from functools import cache
from types import TracebackType
from typing import Any

from scrfd_trt import _devices
from scrfd_trt._cuda.driver import call, call_unchecked, prepare
from scrfd_trt.errors import DeviceError


class Device:
    """One NVIDIA GPU, through its primary context: the one that TensorRT, PyTorch and CUDA's runtime use too.

    Parameters
    ----------
    index
        n in ``cuda:n``.

    Attributes
    ----------
    index : int
        As given.
    gpu : devices.Gpu
        Its name and compute capability.

    Raises
    ------
    DeviceError
        If there is no such GPU; the message lists those that there are.
    MissingDependencyError
        Without cuda-python.

    Notes
    -----
    The primary context stays until the process ends, as with CUDA's own runtime: other libraries in the process may
    have put things into it.
    """

    def __init__(self, index: int = 0) -> None:
        self.gpu = find(index)
        self.index = index
        self.context = _primary_context(index)
        self._current = Current(self.context, index)

    def current(self) -> Current:
        """Make this the calling thread's GPU within a ``with`` block; what was current before is so again after it.

        CUDA keeps a current context for each thread, so every call that touches the GPU goes inside such a block, in
        the thread that makes it. Blocks may be nested.
        """
        return self._current

    def memory(self) -> tuple[int, int]:
        """Return the free bytes of the GPU's memory and all of them, with the device current."""
        free, total = call("cuMemGetInfo", doing="asking for the GPU's memory")
        return int(free), int(total)

    def __repr__(self) -> str:
        return f"<Device {self.gpu}>"


class Current:
    """The ``with`` block of :meth:`Device.current`; it holds nothing of its own, so that one serves all threads."""

    def __init__(self, context: Any, index: int) -> None:
        self._context = context
        self._push = prepare("cuCtxPushCurrent", doing=f"using cuda:{index}")
        self._pop = prepare("cuCtxPopCurrent", doing=f"leaving cuda:{index}")

    def __enter__(self) -> None:
        self._push(self._context)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._pop()
        else:
            call_unchecked("cuCtxPopCurrent")  # what went wrong inside matters more than what this returns


def find(index: int) -> _devices.Gpu:
    """Look up a GPU by its number.

    Raises
    ------
    DeviceError
        If there is none of this number; the message lists those that there are.
    """
    driver = _devices.driver()
    for gpu in driver.gpus:
        if gpu.index == index:
            return gpu
    reason = driver.problem or f"the GPUs are: {', '.join(map(str, driver.gpus))}"
    raise DeviceError(f"cuda:{index} cannot be used: {reason}")


@cache
def _primary_context(index: int) -> Any:
    doing = f"opening cuda:{index}"
    call("cuInit", 0, doing=doing)
    return call("cuDevicePrimaryCtxRetain", call("cuDeviceGet", index, doing=doing), doing=doing)
