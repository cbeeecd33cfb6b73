"""CUDA graphs: work that is captured once and then launched as a whole."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from scrfd_trt._cuda import driver
from scrfd_trt._cuda.device import Device
from scrfd_trt._cuda.driver import Resource, call, call_unchecked, prepare
from scrfd_trt._cuda.stream import Stream
from scrfd_trt.errors import ScrfdError

_one_at_a_time = threading.RLock()


class Graph(Resource):
    """A captured graph, ready to be launched. Made by :meth:`capture`.

    Parameters
    ----------
    handle
        The ``CUgraphExec`` as a number.
    device
        The GPU.
    """

    def __init__(self, handle: int, device: Device) -> None:
        super().__init__(handle)
        self._device = device
        self._launch = prepare("cuGraphLaunch", doing="launching a CUDA graph")

    @classmethod
    def capture(cls, stream: Stream, work: Callable[[Stream], None]) -> Graph:
        """Capture what is put into a stream, with the device current; nothing of it runs.

        Parameters
        ----------
        stream
            One that nobody else uses.
        work
            Puts the work into the stream that it is handed.

        Raises
        ------
        BackendError
            If something in it cannot be captured. The stream can be used again then.
        """
        # Other threads may allocate memory meanwhile.
        mode = driver.bindings().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        call("cuStreamBeginCapture", stream.handle, mode, doing="beginning a capture")
        try:
            with _without_finalizers():
                work(stream)
        except BaseException:
            _abandon(stream)
            raise
        graph = call("cuStreamEndCapture", stream.handle, doing="ending a capture")
        try:
            handle = call("cuGraphInstantiate", graph, 0, doing="making a CUDA graph")
        finally:
            call_unchecked("cuGraphDestroy", graph)
        return cls(int(handle), stream.device)

    def launch(self, stream: Stream) -> None:
        """Put all of it into a stream, with the device current."""
        self._launch(self.handle, stream.handle)

    def _release(self, handle: int) -> None:
        with self._device.current():
            call("cuGraphExecDestroy", handle, doing="destroying a CUDA graph")


@contextmanager
def _without_finalizers() -> Iterator[None]:
    """Keep the garbage collector from giving memory back in this thread, which would spoil its capture."""
    with _one_at_a_time:  # the collector is one for all threads
        enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if enabled:
                gc.enable()


def _abandon(stream: Stream) -> None:
    """End a capture that failed, so that the stream can be used again."""
    try:
        graph = call("cuStreamEndCapture", stream.handle, doing="ending a capture")
    except ScrfdError:
        return  # it was invalid, and is ended
    if graph is not None and int(graph):
        call_unchecked("cuGraphDestroy", graph)
