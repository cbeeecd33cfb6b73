"""Events: marks in a stream, which other streams wait for, and whose distance in time the GPU measures."""

from __future__ import annotations

import operator
from typing import Any

from scrfd_trt._cuda.device import Device
from scrfd_trt._cuda.driver import Resource, call, call_for_status, prepare
from scrfd_trt.errors import DeviceError, OptionError

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: no waiting for the default stream
PROTOCOL = 0  # version of __cuda_stream__
WANTED = "an object with __cuda_stream__ (of cuda.core, PyTorch, CuPy …) or the stream's handle as an int"


class Stream(Resource):
    """A queue of GPU work, done in order. Made by :meth:`create` or :meth:`borrow`.

    Parameters
    ----------
    handle
        The ``CUstream`` as a number; 0 is the default stream.
    device
        The GPU that it belongs to.
    lender
        What lent it, kept so that it lives; None for an owned stream.

    Attributes
    ----------
    device : Device
        As given.
    owned : bool
        Whether ``close()`` destroys the stream.
    """

    def __init__(self, handle: int, device: Device, lender: object | None = None) -> None:
        super().__init__(handle)
        self.device = device
        self.owned = lender is None
        self._lender = lender
        self._wait = prepare("cuStreamSynchronize", doing="waiting for the GPU")

    @classmethod
    def create(cls, device: Device) -> Stream:
        """Make a stream of one's own, which does not wait for the default stream."""
        with device.current():
            return cls(int(call("cuStreamCreate", NON_BLOCKING, doing="making a CUDA stream")), device)

    @classmethod
    def borrow(cls, stream: Any, device: Device) -> Stream:
        """Use a stream of somebody else's; ``close()`` leaves it alone.

        Parameters
        ----------
        stream
            Anything with ``__cuda_stream__``, or the handle as an int. It must live as long as this is used.
        device
            The GPU that the work is for.

        Raises
        ------
        OptionError
            If it is no stream.
        DeviceError
            If it belongs to another GPU.
        """
        handle = _handle_of(stream)
        with device.current():
            context = call("cuStreamGetCtx", handle, doing="looking at the stream handed in")
        if int(context) != int(device.context):
            raise DeviceError(f"the stream handed in does not belong to cuda:{device.index}; make it on that GPU")
        return cls(handle, device, stream)

    def __cuda_stream__(self) -> tuple[int, int]:
        """Return the protocol's version and the handle, by which other libraries borrow this stream."""
        return PROTOCOL, self.handle

    def synchronize(self) -> None:
        """Wait, with the device current, until all that was put into the stream is done."""
        self._wait(self.handle)

    def is_done(self) -> bool:
        """Whether all that was put into the stream is done, with the device current; an error counts as done."""
        return call_for_status("cuStreamQuery", self.handle) != "CUDA_ERROR_NOT_READY"

    def _release(self, handle: int) -> None:
        if self.owned:
            with self.device.current():
                call("cuStreamDestroy", handle, doing="destroying a CUDA stream")
        self._lender = None


def _handle_of(stream: Any) -> int:
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        version, handle = protocol() if callable(protocol) else protocol
        if version != PROTOCOL:
            raise OptionError(f"stream: version {version} of __cuda_stream__ is not known here, only {PROTOCOL}")
        return int(handle)
    try:
        handle = -1 if isinstance(stream, bool) else operator.index(stream)
    except TypeError as error:
        raise OptionError(f"stream: {stream!r} is no CUDA stream; hand in {WANTED}") from error
    if handle < 0:
        raise OptionError(f"stream: {stream!r} is no CUDA stream; hand in {WANTED}")
    return handle


WITHOUT_TIME = 2  # CU_EVENT_DISABLE_TIMING
EXTERNAL = 1  # CU_EVENT_RECORD_EXTERNAL and CU_EVENT_WAIT_EXTERNAL: a node of the graph that is captured


class Event(Resource):
    """A mark in a stream.

    Parameters
    ----------
    device
        The GPU.
    timed
        Whether it can be measured with.
    """

    def __init__(self, device: Device, *, timed: bool = False) -> None:
        with device.current():
            super().__init__(int(call("cuEventCreate", 0 if timed else WITHOUT_TIME, doing="making a CUDA event")))
        self._device = device

    def record(self, stream: Stream) -> None:
        """Put the mark into a stream, with the device current."""
        call("cuEventRecord", self.handle, stream.handle, doing="marking a stream")

    def block(self, stream: Stream) -> None:
        """Let all later work of a stream wait for the mark, with the device current."""
        call("cuStreamWaitEvent", stream.handle, self.handle, 0, doing="letting one stream wait for another")

    def record_at_each_launch(self, stream: Stream) -> None:
        """Put the mark into the graph that is captured in a stream, so that each of its launches sets it anew."""
        doing = "marking a CUDA graph"
        call("cuEventRecordWithFlags", self.handle, stream.handle, EXTERNAL, doing=doing)

    def block_each_launch(self, stream: Stream) -> None:
        """Let the graph that is captured in a stream wait, at each launch, for where the mark is by then."""
        call("cuStreamWaitEvent", stream.handle, self.handle, EXTERNAL, doing="letting a CUDA graph wait")

    def milliseconds_since(self, earlier: Event) -> float:
        """Return the time from another mark to this one; both must have been passed."""
        return float(call("cuEventElapsedTime", earlier.handle, self.handle, doing="measuring on the GPU"))

    def _release(self, handle: int) -> None:
        with self._device.current():
            call("cuEventDestroy", handle, doing="destroying a CUDA event")
