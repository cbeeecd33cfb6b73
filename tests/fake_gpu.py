"""A GPU, a driver and a TensorRT that exist in memory only: what is put into a stream is done when it is waited for.

``FakeGpu.is_idle`` lets it be done when somebody asks whether it is, too.

``install(monkeypatch)`` puts them in place of the real ones and returns a :class:`FakeGpu`, which counts what is open.
"""

from __future__ import annotations

import ctypes
import json
import math
import struct
import threading
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from types import ModuleType, SimpleNamespace

import emulator
import fake_core
import numpy as np

from scrfd_trt import _devices
from scrfd_trt._cuda import driver as cuda_driver
from scrfd_trt._cuda import kernels
from scrfd_trt._engine import flavours
from scrfd_trt._engine.flavours import Flavour
from scrfd_trt._pipelines.cuda import program

WIDTHS = {"score": 1, "bbox": 4, "kps": 10}
PRIMARY, OTHER = 0x1000, 0x2000
SCRATCH = 5 * 2**20
RELAXED = 2
UNSAFE = {"cuMemAlloc", "cuMemFree", "cuMemHostAlloc", "cuMemFreeHost", "cuMemHostRegister", "cuMemHostUnregister"}
"""What a thread that captures may not call."""

WITHIN_GRAPH = 1  # CU_EVENT_RECORD_EXTERNAL and CU_EVENT_WAIT_EXTERNAL
MILLISECONDS = {
    "copy": 0.125,
    "letterbox_float": 0.25,
    "letterbox_half": 0.25,
    "find_faces": 0.5,
    "thumbnails": 0.125,
    "network": 1.0,
}
"""What each kind of work takes by the GPU's own clock."""


def specs(side=64, *, invalid=False):
    """The tensors of a batched network; if ``invalid``, landmarks are infinite (``white``: in white images)."""
    rows = -1 if side < 0 else None
    return [["x", "INPUT", [-1, 3, side, side], "FLOAT"]] + [
        [
            f"{name}_{stride}",
            "OUTPUT",
            [-1, rows or 2 * (side // stride) ** 2, width],
            "FLOAT",
            invalid if name == "kps" else False,
        ][: 5 if invalid else 4]
        for name, width in WIDTHS.items()
        for stride in (8, 16, 32)
    ]


SPECS = specs()


def two_sizes():
    """A plan of a network of free size with a profile for 32 and one for 64 pixels."""
    return plan(profiles=ranges((1, 2, 4), side=32) + ranges((1, 2, 4), side=64), tensors=specs(-1))


def ranges(*batches, side=64):
    return [[[count, 3, side, side] for count in batch] for batch in batches]


def plan(
    *,
    version=(8, 6, 0, 12),
    magic=b"ftrt",
    profiles=None,
    tensors=None,
    refuse="",
    native=False,
    unusual=None,
    flat=False,
):
    """Write a plan that the fake TensorRT opens: a real header, then what the engine is like as JSON."""
    about = {
        "profiles": profiles or ranges((1, 2, 4)),
        "tensors": tensors or SPECS,
        "refuse": refuse,
        "native": native,
        "unusual": unusual or {},
        "flat": flat,
    }
    body = json.dumps(about).encode().ljust(200)
    size = 40 + len(body) + 4
    return struct.pack("<4sIQQ4s4x8x", magic, 0, 1, size, bytes(version)) + body + bytes.fromhex("998b8d8b")


class Status(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_IMAGE = 200
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_NOT_FOUND = 500
    CUDA_ERROR_NOT_READY = 600
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900


@dataclass
class FakeGpu:
    """What happened, and what is open."""

    memory: dict = field(default_factory=dict)
    pinned: dict = field(default_factory=dict)
    foreign: list = field(default_factory=list)  # memory of other libraries
    streams: dict = field(default_factory=dict)
    calls: list = field(default_factory=list)
    failing: dict = field(default_factory=dict)
    modules: list = field(default_factory=list)
    binaries: list = field(default_factory=list)
    events: dict = field(default_factory=dict)
    graphs: dict = field(default_factory=dict)
    launches: list = field(default_factory=list)
    graph_launches: list = field(default_factory=list)
    contexts: int = 0
    lying_on: int = 0
    engines: int = 0
    runs: list = field(default_factory=list)
    is_idle: bool = False
    clock: float = 0.0
    stack: threading.local = field(default_factory=threading.local)

    @property
    def leaks(self):
        """Whatever is still open."""
        return {
            name: count
            for name, count in {
                "memory": len(self.memory),
                "pinned": len(self.pinned),
                "streams": len([stream for stream in self.streams if stream >= 0x5000]),
                "events": len(self.events),
                "graphs": len(self.graphs),
                "contexts": self.contexts,
                "engines": self.engines,
                "current": len(self.current),
            }.items()
            if count
        }

    @property
    def is_capturing(self):
        """Whether this thread captures a graph."""
        return getattr(self.stack, "captures", 0) > 0

    @property
    def is_relaxed(self):
        """Whether this thread may call all the same what a graph cannot hold."""
        return getattr(self.stack, "mode", None) == RELAXED

    @property
    def current(self):
        if not hasattr(self.stack, "contexts"):
            self.stack.contexts = []
        return self.stack.contexts

    def fail(self, name, status="CUDA_ERROR_ILLEGAL_ADDRESS", after=0, times=math.inf):
        """Let a call fail some times, after some that do not."""
        self.failing[name] = [after, Status[status], times]

    def check(self, name, needs_context=True):
        self.calls.append(name)
        if needs_context and not self.current:
            return Status.CUDA_ERROR_INVALID_CONTEXT
        if name in UNSAFE and self.is_capturing and not self.is_relaxed:
            return Status.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
        if name in self.failing:
            self.failing[name][0] -= 1
            after, status, times = self.failing[name]
            if -times <= after < 0:
                return status
        return Status.CUDA_SUCCESS

    def timed(self, kind, work):
        """Let the GPU's clock go on when some work is done."""

        def done():
            work()
            self.clock += MILLISECONDS.get(kind, 0.0)

        return done

    def find(self, address, size):
        for block in (*self.memory.values(), *self.pinned.values(), *self.foreign):
            start = ctypes.addressof(block)
            if start <= address < start + len(block):
                assert address + size <= start + len(block), f"{size} bytes at {address:#x} reach beyond the memory"
                return (ctypes.c_ubyte * size).from_buffer(block, address - start)
        return None

    def at(self, address, size):
        memory = self.find(address, size)
        assert memory is not None, f"{size} bytes at {address:#x} are outside all memory"
        return memory


class FakeDriver:
    """``cuda.bindings.driver``, as far as it is used; kernels run on the processor."""

    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_RELAXED=RELAXED)
    CUpointer_attribute = SimpleNamespace(CU_POINTER_ATTRIBUTE_MEMORY_TYPE=2, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL=9)
    CUmemorytype = SimpleNamespace(CU_MEMORYTYPE_HOST=1)

    first_context = PRIMARY

    def __init__(self, gpu):
        self.gpu = gpu
        self.next_stream = 0x5000
        self.capturing = set()
        self.working = threading.RLock()
        gpu.streams.update({0: [], 1: [], 0x77: []})

    def cuInit(self, flags):
        return (self.gpu.check("cuInit", needs_context=False),)

    def cuDeviceGet(self, index):
        return self.gpu.check("cuDeviceGet", needs_context=False), index

    def cuDevicePrimaryCtxRetain(self, device):
        return self.gpu.check("cuDevicePrimaryCtxRetain", needs_context=False), PRIMARY + device

    def cuCtxPushCurrent(self, context):
        status = self.gpu.check("cuCtxPushCurrent", needs_context=False)
        if not status:
            self.gpu.current.append(context)
        return (status,)

    def cuCtxGetCurrent(self):
        return self.gpu.check("cuCtxGetCurrent", needs_context=False), self.gpu.current[-1] if self.gpu.current else 0

    def cuCtxSetCurrent(self, context):
        """Replace the top of the thread's stack of contexts, as CUDA does."""
        self.gpu.current[-1:] = [context] if context else []
        return (self.gpu.check("cuCtxSetCurrent", needs_context=False),)

    @contextmanager
    def any_context(self):
        """cuda.core enters the context of what it destroys."""
        self.gpu.current.append(PRIMARY)
        try:
            yield
        finally:
            self.gpu.current.pop()

    def cuThreadExchangeStreamCaptureMode(self, mode):
        if mode is None:
            raise TypeError("Argument 'mode' must not be None")
        status = self.gpu.check("cuThreadExchangeStreamCaptureMode", needs_context=False)
        if status:
            return status, None
        former, self.gpu.stack.mode = getattr(self.gpu.stack, "mode", 0), mode
        return status, former

    def cuCtxPopCurrent(self):
        return self.gpu.check("cuCtxPopCurrent"), self.gpu.current.pop()

    def cuGetErrorString(self, status):
        return Status.CUDA_SUCCESS, b"what CUDA says"

    def _allocate(self, name, size, where):
        status = self.gpu.check(name)
        if status or size <= 0:
            return status or Status.CUDA_ERROR_INVALID_VALUE, 0
        block = (ctypes.c_ubyte * size)()
        where[ctypes.addressof(block)] = block
        return status, ctypes.addressof(block)

    def _free(self, name, address, where):
        status = self.gpu.check(name)
        if not status:
            del where[address]
        return (status,)

    def cuMemAlloc(self, size):
        return self._allocate("cuMemAlloc", size, self.gpu.memory)

    def cuMemHostAlloc(self, size, flags):
        return self._allocate("cuMemHostAlloc", size, self.gpu.pinned)

    def cuMemHostRegister(self, address, size, flags):
        status = self.gpu.check("cuMemHostRegister")
        assert address % 4096 == size % 4096 == 0, "blocks must not share pages"
        if not status:
            self.gpu.pinned[address] = (ctypes.c_ubyte * size).from_address(address)
        return (status,)

    def cuMemHostUnregister(self, address):
        return self._free("cuMemHostUnregister", address, self.gpu.pinned)

    def cuMemFree(self, address):
        return self._free("cuMemFree", address, self.gpu.memory)

    def cuMemFreeHost(self, address):
        return self._free("cuMemFreeHost", address, self.gpu.pinned)

    def cuStreamCreate(self, flags):
        status = self.gpu.check("cuStreamCreate")
        self.next_stream += 1
        if not status:
            self.gpu.streams[self.next_stream] = []
        return status, self.next_stream

    def cuStreamDestroy(self, stream):
        status = self.gpu.check("cuStreamDestroy")
        if not status:
            del self.gpu.streams[stream]
        return (status,)

    def cuStreamGetCtx(self, stream):
        return self.gpu.check("cuStreamGetCtx"), OTHER if stream == 0x77 else self.gpu.current[-1]

    def _move(self, target, source, size):
        """One side may be any memory of the host."""
        sides = [self.gpu.find(address, size) for address in (target, source)]
        assert any(sides), f"{size} bytes from {source:#x} to {target:#x} are outside all memory of CUDA's"
        ctypes.memmove(*(side or address for side, address in zip(sides, (target, source), strict=True)), size)

    def cuMemcpyAsync(self, target, source, size, stream):
        status = self.gpu.check("cuMemcpyAsync")
        if not status:
            work = partial(self._move, target, source, size)
            self.gpu.streams[stream].append(self.gpu.timed("copy", work))
        return (status,)

    def cuMemcpy(self, target, source, size):
        status = self.gpu.check("cuMemcpy")
        if not status:
            self._move(target, source, size)
        return (status,)

    def cuPointerGetAttribute(self, attribute, address):
        if attribute == self.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
            return Status.CUDA_SUCCESS, self.gpu.lying_on  # as other libraries' arrays, which are not counted here
        for start, block in self.gpu.pinned.items():
            if start <= address < start + len(block):
                return Status.CUDA_SUCCESS, 1
        return Status.CUDA_ERROR_INVALID_VALUE, 0

    def cuLibraryLoadData(self, binary):
        status = self.gpu.check("cuLibraryLoadData")
        if not status:
            self.gpu.binaries.append(binary)
        return status, binary

    def cuLibraryUnload(self, library):
        self.gpu.binaries.remove(library)
        return (self.gpu.check("cuLibraryUnload", needs_context=False),)

    def cuLibraryGetKernel(self, library, name):
        return self.gpu.check("cuLibraryGetKernel"), name.decode()

    def cuKernelGetFunction(self, kernel):
        return self.gpu.check("cuKernelGetFunction"), kernel

    def cuLaunchKernel(self, name, gx, gy, gz, bx, by, bz, shared, stream, arguments, extra):
        status = self.gpu.check("cuLaunchKernel")
        if not status:
            self.gpu.launches.append(name)
            pointers = ctypes.c_void_p(arguments)
            work = partial(emulator.run_at, name, (gx, gy, gz), (bx, by, bz), pointers)
            self.gpu.streams[stream].append(self.gpu.timed(name, work))
        return (status,)

    def cuEventCreate(self, flags):
        status = self.gpu.check("cuEventCreate")
        self.next_stream += 1
        if not status:
            self.gpu.events[self.next_stream] = None
        return status, self.next_stream

    def _work_up_to(self, mark):
        with self.working:  # work of a stream is done in order, whoever waits for it
            while mark and not mark.is_passed:
                self.gpu.streams[mark.stream].pop(0)()

    def cuEventElapsedTime(self, earlier, later):
        return self.gpu.check("cuEventElapsedTime"), self.gpu.events[later].at - self.gpu.events[earlier].at

    def cuMemGetInfo(self):
        return self.gpu.check("cuMemGetInfo"), 2**30 - sum(map(len, self.gpu.memory.values())), 2**30

    def _asked(self, name, *, is_done):
        return self.gpu.check(name) or (Status.CUDA_SUCCESS if is_done else Status.CUDA_ERROR_NOT_READY)

    def cuEventRecord(self, event, stream):
        mark = self.gpu.events[event] = Mark(self.gpu, stream)
        self.gpu.streams[stream].append(mark.reach)
        return (self.gpu.check("cuEventRecord"),)

    def cuEventRecordWithFlags(self, event, stream, flags):
        assert flags == WITHIN_GRAPH
        assert stream in self.capturing

        def mark(launched_in):
            mark = self.gpu.events[event] = Mark(self.gpu, launched_in)
            return mark.reach

        self.gpu.streams[stream].append(AtLaunch(event, mark))
        return (self.gpu.check("cuEventRecordWithFlags"),)

    def cuStreamWaitEvent(self, stream, event, flags):
        assert (flags == WITHIN_GRAPH) == (stream in self.capturing)

        def wait(_):
            awaited = self.gpu.events[event]
            return lambda: self._work_up_to(awaited)

        self.gpu.streams[stream].append(AtLaunch(event, wait) if flags else wait(stream))
        return (self.gpu.check("cuStreamWaitEvent"),)

    def cuEventSynchronize(self, event):
        self._work_up_to(self.gpu.events[event])
        return (self.gpu.check("cuEventSynchronize"),)

    def cuStreamQuery(self, stream):
        if self.gpu.is_idle:
            self._work(stream)
        return (self._asked("cuStreamQuery", is_done=not self.gpu.streams[stream]),)

    def cuEventQuery(self, event):
        mark = self.gpu.events[event]
        return (self._asked("cuEventQuery", is_done=mark is None or mark.is_passed),)

    def cuEventDestroy(self, event):
        held = [each.event for work in list(self.gpu.graphs.values()) for each in work if isinstance(each, AtLaunch)]
        assert event not in held
        del self.gpu.events[event]
        return (self.gpu.check("cuEventDestroy"),)

    def cuStreamBeginCapture(self, stream, mode):
        status = self.gpu.check("cuStreamBeginCapture")
        if not status:
            assert not self.gpu.streams[stream]
            self.capturing.add(stream)
            self.gpu.stack.captures = getattr(self.gpu.stack, "captures", 0) + 1
        return (status,)

    def cuStreamEndCapture(self, stream):
        self.capturing.remove(stream)
        self.gpu.stack.captures -= 1
        work, self.gpu.streams[stream] = self.gpu.streams[stream], []
        return self.gpu.check("cuStreamEndCapture"), FakeGraph(work)

    def cuGraphInstantiate(self, graph, flags):
        status = self.gpu.check("cuGraphInstantiate")
        self.next_stream += 1
        if not status:
            self.gpu.graphs[self.next_stream] = graph.work
        return status, self.next_stream

    def cuGraphDestroy(self, graph):
        return (self.gpu.check("cuGraphDestroy"),)

    def cuGraphLaunch(self, graph, stream):
        status = self.gpu.check("cuGraphLaunch")
        if not status:
            self.gpu.graph_launches.append(stream)
            work = self.gpu.graphs[graph]
            self.gpu.streams[stream] += [each.begin(stream) if isinstance(each, AtLaunch) else each for each in work]
        return (status,)

    def cuGraphExecDestroy(self, graph):
        del self.gpu.graphs[graph]
        return (self.gpu.check("cuGraphExecDestroy"),)

    def cuStreamSynchronize(self, stream):
        assert stream not in self.capturing
        status = self.gpu.check("cuStreamSynchronize")
        if not status:
            self._work(stream)
        return (status,)

    def _work(self, stream):
        with self.working:
            while self.gpu.streams[stream]:
                self.gpu.streams[stream].pop(0)()


@dataclass
class Mark:
    """A place in a stream, which an event was put to."""

    gpu: FakeGpu
    stream: int
    at: float | None = None

    @property
    def is_passed(self):
        return self.at is not None

    def reach(self):
        self.at = self.gpu.clock


@dataclass
class AtLaunch:
    """Work in a graph that is settled whenever the graph is launched: what to do in the stream of the launch."""

    event: int
    begin: Callable


@dataclass
class FakeGraph:
    work: list

    def __int__(self):
        return id(self)


def network(name, blob):
    """The fake network: scores are the input's green, boxes and landmarks count on from the image's mean."""
    kind, stride = name.split("_")
    cells = blob[:, 1, :: int(stride), :: int(stride)].reshape(len(blob), -1).repeat(2, axis=1)
    if kind == "score":
        return cells[..., None]
    steps = np.arange(WIDTHS[kind], dtype=np.float32)
    return cells[..., None] + steps + blob.mean(axis=(1, 2, 3))[:, None, None]


class FakeContext:
    def __init__(self, engine, profile):
        self.engine = engine
        self.gpu = engine.gpu
        self.active_optimization_profile = profile
        self.shape = None
        self.scratch = "its own"
        self.has_run = False
        self.addresses = {}
        self.gpu.contexts += 1
        engine.live.add(self)

    def __del__(self):
        self.gpu.contexts -= 1

    def _said(self, text):
        self.engine.module.say("ERROR", text)
        return False

    def set_optimization_profile_async(self, profile, stream):
        others = [other for other in self.engine.live if other is not self]
        if not self.engine.module.later and profile in [other.active_optimization_profile for other in others]:
            return self._said(f"profile {profile} has been chosen by another IExecutionContext")
        self.active_optimization_profile = profile
        return self.gpu.check("set_optimization_profile_async") == 0

    def set_input_shape(self, name, shape):
        low, _, high = self.engine.about["profiles"][self.active_optimization_profile]
        if not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            return self._said(f"shape {shape} is outside of the profile")
        self.shape = tuple(shape)
        return name == self.engine.names[0]

    def take(self, address, size=SCRATCH):
        assert size >= SCRATCH
        self.scratch = address

    device_memory = property(None, take)

    def get_tensor_shape(self, name):
        shape = self.engine.get_tensor_shape(name)
        if self.engine.about["flat"] or not shape:
            return shape
        rows = shape[1] if shape[1] >= 0 else self._rows(name)
        return Dims((self.shape[0], rows, *[shape[axis] for axis in range(2, len(shape))]))

    def _rows(self, name):
        stride = int(name.split("_")[1])
        return 2 * (self.shape[2] // stride) * (self.shape[3] // stride)

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return name in self.engine.names

    def execute_async_v3(self, stream):
        if self.gpu.check("execute_async_v3"):
            return self._said("[executor.cpp::enqueue::1] Error Code 1: Cuda Runtime (no\nluck)")
        if self.gpu.is_capturing and not self.has_run:
            return self._said("operation not permitted when stream is capturing")
        self.has_run = True
        assert set(self.addresses) == set(self.engine.names)
        if self.scratch != "its own":
            self.gpu.at(self.scratch, SCRATCH)
        self.gpu.runs.append((self.active_optimization_profile, self.shape))
        self.gpu.streams[stream].append(self.gpu.timed("network", self._compute(dict(self.addresses), self.shape)))
        return True

    def _compute(self, addresses, shape):
        def work():
            blob = self._array(self.engine.names[0], addresses, shape).astype(np.float32)
            for name in self.engine.names[1:]:
                found = network(name, blob)
                if len(self.engine.rows[name]) > 4 and self.engine.rows[name][4]:
                    found[blob.min(axis=(1, 2, 3)) > (0.99 if self.engine.rows[name][4] == "white" else -9)] = np.inf
                self._array(name, addresses, found.shape)[:] = found

        return work

    def _array(self, name, addresses, shape):
        dtype = np.float16 if self.engine.get_tensor_dtype(name).name == "HALF" else np.float32
        assert addresses[name] % 16 == 0 or self.engine.about["flat"]
        memory = self.gpu.at(addresses[name], math.prod(shape) * np.dtype(dtype).itemsize)
        return np.ctypeslib.as_array(memory).view(dtype).reshape(shape)


class LaterContext(FakeContext):
    """Of TensorRT 10 and later."""

    def set_device_memory(self, address, size):
        self.take(address, size)


class Dims:
    """TensorRT's shapes are no tuples."""

    def __init__(self, sides):
        self._sides = tuple(sides)

    def __len__(self):
        return len(self._sides)

    def __getitem__(self, index):
        return self._sides[index]


class FakeEngine:
    device_memory_size = SCRATCH

    def __init__(self, module, about):
        self.module, self.gpu, self.about = module, module.gpu, about
        self.rows = {row[0]: row for row in about["tensors"]}
        self.names = list(self.rows)
        self.num_io_tensors = len(self.names)
        self.num_optimization_profiles = len(about["profiles"])
        self.fresh = True
        self.live = weakref.WeakSet()
        self.gpu.engines += 1

    def __del__(self):
        self.gpu.engines -= 1

    def get_tensor_name(self, index):
        return self.names[index]

    def get_tensor_mode(self, name):
        return SimpleNamespace(name=self.rows[name][1])

    def get_tensor_shape(self, name):
        return Dims(self.rows[name][2])

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name=self.rows[name][3])

    def get_tensor_location(self, name):
        self._returns("TensorLocation")
        return SimpleNamespace(name="HOST" if self.about["unusual"].get(name) == "HOST" else "DEVICE")

    def get_tensor_format(self, name):
        self._returns("TensorFormat")
        return SimpleNamespace(name=self.about["unusual"].get(name, "LINEAR"))

    def _returns(self, kind):
        if not hasattr(self.module, kind):
            raise TypeError("Unable to convert function return value to a Python type!")

    def get_tensor_profile_shape(self, name, index):
        return [Dims(shape) for shape in self.about["profiles"][index]]

    def create_execution_context(self, strategy="STATIC"):
        if self.gpu.check("create_execution_context"):
            self.module.say("ERROR", "out of memory")
            return None
        context = (LaterContext if self.module.later else FakeContext)(self, 0 if self.fresh else -1)
        context.scratch = None if strategy == "USER_MANAGED" else "its own"
        self.fresh = False
        return context

    def create_execution_context_without_device_memory(self):
        assert not self.module.later
        return self.create_execution_context("USER_MANAGED")


class FakeRuntime:
    def __init__(self, module, release):
        self.module, self.release = module, release
        self.engine_host_code_allowed = False

    def load_runtime(self, path):
        self.module.lean.append(path)
        if "broken" in path:
            self.module.say("ERROR", f"Unable to load library: {path}")
            return None
        return FakeRuntime(self.module, None)

    def deserialize_cuda_engine(self, data):
        assert self.module.gpu.current
        about = json.loads(data[40:-4])
        if about["refuse"] == "host code" and not self.engine_host_code_allowed:
            self.module.say("ERROR", "Cannot deserialize engine, IRuntime::getEngineHostCodeAllowed() is false.")
            return None
        if about["refuse"] == "raise":
            raise RuntimeError("a bad\nplan")
        if about["refuse"] not in {"", "host code"}:
            self.module.say(
                "ERROR", f"[runtime.cpp::read::42] Error Code 1: Serialization ({about['refuse']}\n failed.)"
            )
            self.module.say("ERROR", "Engine deserialization failed.")
            return None
        return FakeEngine(self.module, about)


class FakeTensorRT(ModuleType):
    """A TensorRT module; ``runtime_says`` is what it logs when a runtime is made."""

    def __init__(self, gpu, version, full=True):
        super().__init__(f"fake_tensorrt_{len(gpu.modules)}_{id(gpu)}")
        gpu.modules.append(self)
        self.gpu, self.__version__ = gpu, version
        self.lean, self.loggers, self.runtime_says = [], [], ()
        self.Runtime = self._runtime
        self.later = not version.startswith("8.")
        if self.later:
            self.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="USER_MANAGED")
        self.ILogger = type("ILogger", (), {"__init__": lambda logger: None})
        if full:
            self.TensorLocation = self.TensorFormat = object

    def _runtime(self, logger):
        assert self.gpu.current
        self.loggers.append(logger)
        for severity, text in self.runtime_says:
            self.say(severity, text)
        return FakeRuntime(self, self.__version__)

    def say(self, severity, text):
        self.loggers[-1].log(SimpleNamespace(name=severity), text)


def flavour(gpu, name="tensorrt", version="8.6.0"):
    full = name in {"tensorrt", "tensorrt_rtx"}
    return Flavour(name, version, FakeTensorRT(gpu, version, full), full)


def install(monkeypatch):
    """Put the fakes in place of the driver and of all TensorRTs; the first one is TensorRT 8.6.0."""
    gpu = FakeGpu()
    fake = FakeDriver(gpu)
    gpus = tuple(_devices.Gpu(index, "Fake H100", (9, 0)) for index in range(2))
    monkeypatch.setattr(_devices, "driver", lambda: _devices.Driver((13, 0), gpus))
    core = fake_core.make_core(fake)
    monkeypatch.setattr(cuda_driver, "bindings", lambda: fake)
    monkeypatch.setattr(cuda_driver, "core", lambda: core)
    monkeypatch.setattr(flavours, "problems", dict)
    monkeypatch.setattr(kernels, "compiled", lambda capability, source=None, *, anew=False: b"cubin")
    monkeypatch.setattr(kernels, "_loaded", {})
    monkeypatch.setattr(program, "FIND_FACES_THREADS", 32)
    monkeypatch.delenv("TRT_LEAN_RUNTIME", raising=False)
    cuda_driver._open.cache_clear()
    use(monkeypatch, flavour(gpu))
    return gpu


def use(monkeypatch, *found):
    """Let these flavours be installed."""
    monkeypatch.setattr(flavours, "installed", lambda: found)


def uninstall():
    cuda_driver._open.cache_clear()
