"""Streams, events and graphs of cuda.core, and streams borrowed from the caller."""

from __future__ import annotations

import gc
import operator
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from scrfd_trt import _forks
from scrfd_trt._cuda import driver
from scrfd_trt._cuda.driver import Device, call
from scrfd_trt.errors import DeviceError, OptionError, ScrfdError, shown

if TYPE_CHECKING:
    from cuda.core import Event, Stream
    from cuda.core.graph import Graph


PROTOCOL = 0  # version of __cuda_stream__
DEFAULT_STREAM = 1  # CU_STREAM_LEGACY, in both protocols for arrays, too
ALLOWED = "an object with __cuda_stream__ (of cuda.core, PyTorch, CuPy …) or the stream's handle as an int"


def create_stream(device: Device) -> Stream:
    """Return a new stream, which does not wait for the default stream."""
    with device.current():
        stream: Stream = call("making a CUDA stream", device.core.create_stream)
    return stream


def borrow_stream(stream: Any, device: Device) -> Stream:
    """Return the caller's stream, which ``close()`` does not destroy, as one of cuda.core."""
    lender, doing = _Lender(stream), "looking at the stream passed in"
    with device.current():
        borrowed: Stream = call(doing, device.core.create_stream, lender)
        context = call(doing, getattr, borrowed, "context")
    if int(context.handle) != int(device.context):
        raise DeviceError(f"the stream passed in does not belong to cuda:{device.index}; make it on that GPU")
    return borrowed


def create_event(device: Device, *, timed: bool = False) -> Event:
    """Return a new event, which measures time if ``timed``."""
    options = driver.core().EventOptions(timing_enabled=timed)
    with device.current():
        event: Event = call("making a CUDA event", device.core.create_event, options)
    return event


def wait_for_default_stream(device: Device, stream: Stream) -> None:
    """Let a stream wait, with the device current, for the work so far in the default stream of the device."""
    event = create_event(device)
    call("recording a CUDA event", driver.bindings().cuEventRecord, event.handle, DEFAULT_STREAM)
    call("letting one stream wait for another", stream.wait, event)


def synchronize(stream: Stream) -> None:
    """Wait, with the device current, until all work in the stream is done."""
    call("waiting for the GPU", stream.sync)


def is_done(stream: Stream) -> bool:
    """Return whether all work in the stream is done, with the device current; a failed stream counts as done."""
    status, *_ = driver.bindings().cuStreamQuery(handle_of(stream))  # cuda.core cannot query a stream
    return bool(status.name != "CUDA_ERROR_NOT_READY")


def handle_of(stream: Stream) -> int:
    """Return a stream's handle; ``int(stream.handle)`` makes an object first, and takes ten times as long."""
    handle: int = stream.__cuda_stream__()[1]
    return handle


class _Lender:
    """A stream's validated handle and its owner, which cuda.core keeps alive as long as the borrowed stream."""

    def __init__(self, owner: Any) -> None:
        self.owner, self.handle = owner, _validated(owner)

    def __cuda_stream__(self) -> tuple[int, int]:
        return PROTOCOL, self.handle


def _validated(stream: Any) -> int:
    version = PROTOCOL
    try:
        protocol = getattr(stream, "__cuda_stream__", None)
        if protocol is not None:
            version, handle = map(int, protocol() if callable(protocol) else protocol)
        else:
            handle = -1 if isinstance(stream, bool) else operator.index(stream)
    except Exception as error:  # of a foreign object too
        raise OptionError(f"stream: {shown(stream)} is not a CUDA stream; pass {ALLOWED}") from error
    if version != PROTOCOL:
        raise OptionError(f"stream: version {version} of __cuda_stream__ is not supported, only {PROTOCOL}")
    if not 0 <= handle < 2**64:
        raise OptionError(f"stream: {shown(stream)} is not a CUDA stream; pass {ALLOWED}")
    return handle


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
