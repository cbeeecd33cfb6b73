"""cuda.core as far as it is used, on top of a stand-in for the driver API.

Names, signatures and errors are those of cuda.core; ``test_fake_core.py`` compares them where it is installed.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np


class CUDAError(Exception):
    """Private in cuda.core."""


class Handle(int):
    """A typed handle of cuda.bindings, ``CUstream`` for example."""


def make_core(driver):
    """Return the stand-in for the module, whose classes call ``driver``."""

    def call(name, *arguments):
        status, *values = getattr(driver, name)(*arguments)
        if status:
            raise CUDAError(f"{status.name}: what CUDA says. It says more.")
        return values[0] if values else None

    class Owned:
        """Behind a handle; freed when it is closed or dropped, whatever that returns."""

        _handle = None
        _destroy = None

        @classmethod
        def _of(cls, handle):
            made = cls.__new__(cls)
            made._handle = Handle(handle)
            return made

        def __init__(self, *args, **kwargs):
            raise RuntimeError(f"{type(self).__name__} objects cannot be instantiated directly")

        @property
        def handle(self):
            return self._handle if self._handle is not None else Handle(0)

        @property
        def is_closed(self):
            return self._handle is None

        def _open_handle(self):
            if self._handle is None:
                raise RuntimeError(f"{type(self).__name__} has been closed")
            return self._handle

        def close(self):
            handle, self._handle = self._handle, None
            if handle is not None and self._destroy is not None:
                with driver.any_context():
                    getattr(driver, self._destroy)(handle)

        def __del__(self):
            self.close()

    class Device:
        def __init__(self, device_id=None):
            call("cuInit", 0)
            self.device_id = device_id or 0
            self._context = None

        def set_current(self, ctx=None):
            context = call("cuDevicePrimaryCtxRetain", call("cuDeviceGet", self.device_id))
            call("cuCtxSetCurrent", context)
            self._context = SimpleNamespace(handle=Handle(context))

        @property
        def context(self):
            self._check_context_initialized()
            return self._context

        def _check_context_initialized(self):
            if self._context is None:
                raise CUDAError(f"Device {self.device_id} is not yet initialized")

        def create_stream(self, obj=None, options=None):
            self._check_context_initialized()
            if obj is None:
                stream = Stream._of(call("cuStreamCreate", 1))
                stream._destroy = "cuStreamDestroy"
                return stream
            version, handle = obj.__cuda_stream__()
            if version != 0:
                raise RuntimeError(f"The first element of obj.__cuda_stream__ must be 0, got {version}")
            stream = Stream._of(handle)
            stream._owner = obj
            return stream

        def create_event(self, options=None):
            self._check_context_initialized()
            status, handle = driver.cuEventCreate(0 if options and options.timing_enabled else 2)
            if status:
                raise RuntimeError("Failed to create CUDA event")  # without the reason, as cuda.core 1.2 says it
            return Event._of(handle)

    class Stream(Owned):
        @staticmethod
        def from_handle(handle):
            return Stream._of(handle)

        def __cuda_stream__(self):
            return 0, int(self._open_handle())

        @property
        def context(self):
            return SimpleNamespace(handle=Handle(call("cuStreamGetCtx", self._open_handle())))

        @property
        def device(self):
            return Device(int(self.context.handle) - driver.first_context)

        def sync(self):
            call("cuStreamSynchronize", self._open_handle())

        def record(self, event=None, options=None):
            call("cuEventRecord", event._open_handle(), self._open_handle())
            return event

        def wait(self, event_or_stream):
            call("cuStreamWaitEvent", self._open_handle(), event_or_stream._open_handle(), 0)

        def create_graph_builder(self):
            builder = GraphBuilder.__new__(GraphBuilder)
            builder._stream, builder._state, builder._graph = self, "new", None
            return builder

    class EventOptions:
        def __init__(self, timing_enabled=False, blocking_sync=False, ipc_enabled=False):
            self.timing_enabled = timing_enabled

    class Event(Owned):
        _destroy = "cuEventDestroy"

        @property
        def is_done(self):
            return driver.cuEventQuery(self._open_handle())[0] == 0

        def sync(self):
            call("cuEventSynchronize", self._open_handle())

        def __sub__(self, other):
            return call("cuEventElapsedTime", other._open_handle(), self._open_handle())

    class GraphBuilder:
        def __init__(self):
            raise NotImplementedError("use Stream.create_graph_builder()")

        def begin_building(self, mode="relaxed"):
            assert mode in {"global", "thread_local", "relaxed"}
            call("cuStreamBeginCapture", self._stream._open_handle(), mode)
            self._state = "capturing"
            return self

        def end_building(self):
            if self._state != "capturing":
                raise RuntimeError("Graph builder is not building.")
            self._graph = self._end()
            return self

        def _end(self):
            self._state = "ended"
            return call("cuStreamEndCapture", self._stream._open_handle())

        def complete(self, options=None):
            if self._state != "ended":
                raise RuntimeError("Graph has not finished building.")
            return Graph._of(call("cuGraphInstantiate", self._graph, 0))

        def close(self):
            if self._state == "capturing":
                self._graph = self._end()
            if self._graph is not None:
                driver.cuGraphDestroy(self._graph)
                self._graph = None

    class Graph(Owned):
        _destroy = "cuGraphExecDestroy"

        def launch(self, stream):
            call("cuGraphLaunch", self._open_handle(), stream._open_handle())

    class Buffer:
        def __init__(self, *args, **kwargs):
            raise RuntimeError("Buffer objects cannot be instantiated directly")

        @staticmethod
        def from_handle(ptr, size, mr=None, owner=None, *, stream=None):
            assert mr is None
            buffer = Buffer.__new__(Buffer)
            buffer._ptr, buffer._size, buffer._owner = int(ptr), size, owner
            return buffer

        @property
        def handle(self):
            return self._ptr

        @property
        def size(self):
            return self._size

        @property
        def owner(self):
            return self._owner

        @property
        def is_closed(self):
            return self._ptr == 0

        def close(self, stream=None):
            self._ptr, self._size, self._owner = 0, 0, None

    class ObjectCode:
        _library = None

        def __init__(self, *args, **kwargs):
            raise RuntimeError("ObjectCode objects cannot be instantiated directly")

        @staticmethod
        def from_cubin(module, *, name="", symbol_mapping=None):
            code = ObjectCode.__new__(ObjectCode)
            code._binary = module
            return code

        def get_kernel(self, name):
            if self._library is None:
                self._library = call("cuLibraryLoadData", self._binary)
            return SimpleNamespace(handle=call("cuLibraryGetKernel", self._library, name.encode()), _code=self)

        def __del__(self):
            if self._library is not None:
                driver.cuLibraryUnload(self._library)

    class StridedMemoryView:
        """An array that is described by ``__cuda_array_interface__``; it waits for no stream."""

        def __init__(self, obj=None, stream_ptr=None):
            about = obj.__cuda_array_interface__
            self.device_id, (self.ptr, self.readonly) = driver.gpu.lying_on, about["data"]
            self.dtype, self.shape = np.dtype(about["typestr"]), tuple(about["shape"])
            steps = about.get("strides")
            self.strides = None if steps is None else tuple(step // self.dtype.itemsize for step in steps)

        @classmethod
        def from_any_interface(cls, obj, stream_ptr=None):
            assert stream_ptr  # cuda.core takes 0 for none
            return cls(obj, stream_ptr)

        @classmethod
        def from_buffer(cls, buffer, shape, strides=None, *, itemsize=None, dtype=None, is_readonly=False):
            view = cls.__new__(cls)
            view.buffer, view.ptr, view.shape, view.strides, view.dtype = buffer, buffer.handle, shape, strides, dtype
            return view

    parts = (Device, Stream, EventOptions, Event, Buffer, ObjectCode)
    return SimpleNamespace(
        **{part.__name__: part for part in parts},
        graph=SimpleNamespace(Graph=Graph, GraphBuilder=GraphBuilder),
        utils=SimpleNamespace(StridedMemoryView=StridedMemoryView),
    )
