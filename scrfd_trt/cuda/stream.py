"""Streams: one's own, or one that the caller lends."""

from __future__ import annotations

import operator
from typing import Any

from scrfd_trt.cuda.device import Device
from scrfd_trt.cuda.driver import call, call_for_status, prepare
from scrfd_trt.cuda.resource import Resource
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
