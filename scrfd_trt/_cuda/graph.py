"""CUDA graphs: work that is captured once and then launched as a whole."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from scrfd_trt import _forks
from scrfd_trt._cuda import driver
from scrfd_trt._cuda.driver import call
from scrfd_trt._cuda.stream import handle_of
from scrfd_trt.errors import ScrfdError

if TYPE_CHECKING:
    from cuda.core import Event, Stream
    from cuda.core.graph import Graph

AT_LAUNCH = 1  # CU_EVENT_RECORD_EXTERNAL and CU_EVENT_WAIT_EXTERNAL, which cuda.core does not offer

_one_at_a_time = _forks.Lock(threading.RLock)


def capture(stream: Stream, work: Callable[[Stream], None]) -> Graph:
    """Return what ``work`` puts into a stream that nobody else uses as a graph, with the device current."""
    builder = call("beginning a capture", stream.create_graph_builder)
    try:
        with _without_finalizers():
            call("beginning a capture", builder.begin_building, "thread_local")  # other threads may allocate memory
            work(stream)
            call("ending a capture", builder.end_building)
        graph: Graph = call("making a CUDA graph", builder.complete)
    finally:
        with suppress(ScrfdError):  # an error above matters more
            call("ending a capture", builder.close)
    return graph


def record_at_launch(event: Event, stream: Stream) -> None:
    """Let each launch of the graph that is captured in a stream record an event."""
    doing = "recording an event in a CUDA graph"
    call(doing, driver.bindings().cuEventRecordWithFlags, event.handle, handle_of(stream), AT_LAUNCH)


def wait_at_launch(event: Event, stream: Stream) -> None:
    """Let each launch of the graph that is captured in a stream wait for an event."""
    doing = "letting a CUDA graph wait for an event"
    call(doing, driver.bindings().cuStreamWaitEvent, handle_of(stream), event.handle, AT_LAUNCH)


@contextmanager
def _without_finalizers() -> Iterator[None]:
    """Keep the garbage collector from freeing other libraries' memory in this thread, which would end its capture."""
    with _one_at_a_time:  # the collector is one for all threads
        enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if enabled:
                gc.enable()
