"""Events: marks in a stream, which other streams wait for, and whose distance in time the GPU measures."""

from __future__ import annotations

from scrfd_trt.cuda.device import Device
from scrfd_trt.cuda.driver import call
from scrfd_trt.cuda.resource import Resource
from scrfd_trt.cuda.stream import Stream

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
