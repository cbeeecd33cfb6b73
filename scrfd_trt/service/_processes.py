"""Several processes behind one port: fronts receive and decode, and the owner of the detector runs it on their pixels.

A front asks the owner for memory that both share, decodes an image into it, and has it detected. So the requests of all
fronts share batches, and the owner does nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import mmap
import multiprocessing
import os
import pickle
import shutil
import signal
import socket
import sys
import time
import weakref
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import reduction
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt import _devices
from scrfd_trt._cuda.memory import page_locked
from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._image_files import ImageFrame
from scrfd_trt._jobs.processes import SIGNALS, blocked_signals, unblock_signals
from scrfd_trt._web.access import Access
from scrfd_trt.errors import BackendError, ClosedError, ImageError, ScrfdError, one_line, without_frames
from scrfd_trt.service import ServiceOptions
from scrfd_trt.service._batches import Engine, State

_logger = logging.getLogger("scrfd_trt.service")

MAX_PROCESSES, MIN_CORES = 32, 4
THREADS = 4  # of a front that decode
STATE_BYTES, OWNER_FIELDS, MAX_GPUS = 4 * mmap.PAGESIZE, 4, 64
STATE_SECONDS, HUNG_SECONDS = 0.2, 15.0  # between two looks, and until an owner that does not look is broken
STARTS = 3  # of fronts that end before they are ready, until the service gives up
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def usual_processes(device: str) -> int:
    """Return how many processes serve a detector: on the CPU one, as the model uses all cores."""
    cores = _devices.usable_cores()
    if _devices.parse(device)[0] == "cpu" or cores < MIN_CORES or not can_share():
        return 1
    return min(MAX_PROCESSES, cores // 2)


def can_share() -> bool:
    """Return whether this system has what several processes need."""
    return sys.platform == "linux" and hasattr(os, "memfd_create")


class Memory:
    """Memory of all processes: the state of the owner, what each front has in work, and pixels.

    A new process inherits its file, which has no name, so that nothing is left when all processes have ended.
    """

    def __init__(self, file: int, fronts: int) -> None:
        self._file, self._count, self.whole = file, fronts, mmap.mmap(file, 0)
        state = np.frombuffer(self.whole, np.float64, STATE_BYTES // 8)
        self.owner, rest = state[: OWNER_FIELDS + MAX_GPUS], state[OWNER_FIELDS + MAX_GPUS :]
        self.fronts = rest[: 2 * fronts].reshape(fronts, 2)

    def __reduce__(self) -> Any:
        return _inherited, (reduction.DupFd(self._file), self._count)

    def pixels(self, offset: int, count: int) -> NDArray[np.uint8]:
        """Return bytes of the part for pixels; arrays made of them keep this one."""
        return np.frombuffer(self.whole, np.uint8, count, STATE_BYTES + offset)


def _inherited(file: Any, fronts: int) -> Memory:
    memory = Memory(number := file.detach(), fronts)
    os.close(number)
    return memory


class Link(asyncio.Protocol):
    """Passes messages to another process; those of one turn of the loop are sent together."""

    def __init__(self, receive: Callable[..., object], lost: Callable[[], object]) -> None:
        self._receive, self._lost = receive, lost
        self._got, self._out = bytearray(), list[Any]()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        start = 0
        while len(self._got) >= (begin := start + 4) + (size := int.from_bytes(self._got[start:begin], "little")):
            if len(self._got) < begin:
                break
            for message in pickle.loads(memoryview(self._got)[begin : begin + size].toreadonly()):  # noqa: S301 - own
                self._receive(*message)
            start = begin + size
        del self._got[:start]

    def connection_lost(self, _: Exception | None) -> None:
        self._lost()

    def send(self, *message: Any) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(message)

    def _flush(self) -> None:
        messages, self._out = self._out, []
        content = pickle.dumps(messages, pickle.HIGHEST_PROTOCOL)
        if not self._transport.is_closing():
            self._transport.write(len(content).to_bytes(4, "little") + content)


@dataclass(eq=False)
class _Front:
    """A process that receives, as the owner sees it."""

    number: int
    process: Any
    link: Any = None
    held: dict[int, NDArray[np.uint8] | None] = field(default_factory=dict)  # None: is waited for
    runs: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    is_ready: bool = False
    end: Any = None


class Arena:
    """Places for pixels in shared memory, the lowest first, within a limit; an image beyond it is granted alone.

    A place is free again when nothing refers to its array, such as a batch whose request was given up.
    """

    def __init__(self, memory: Memory, limit: int) -> None:
        self._memory, self._limit, self.used = memory, limit, 0
        self._end = len(memory.whole) - STATE_BYTES
        self._taken: list[tuple[int, int]] = []
        self._waiting: deque[tuple[int, int, Callable[[int, NDArray[np.uint8]], object]]] = deque()
        self._loop = asyncio.get_running_loop()

    def take(self, size: int, pixels: int, granted: Callable[[int, NDArray[np.uint8]], object]) -> None:
        """Call a function with a place, and its array, as soon as there is room for ``size`` bytes in all."""
        self._waiting.append((size, pixels, granted))
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            size, pixels, granted = self._waiting[0]
            place = self._place(-(-pixels // mmap.PAGESIZE) * mmap.PAGESIZE)
            if place is None or (self.used and self.used + size > self._limit):
                return
            self._waiting.popleft()
            self.used += size
            insort(self._taken, place)
            array = self._memory.pixels(place[0], pixels)
            weakref.finalize(array, self._dropped, place, size).atexit = False
            granted(place[0], array)
            del array, granted

    def _place(self, size: int) -> tuple[int, int] | None:
        start = 0
        for begin, end in self._taken:
            if begin - start >= size:
                break
            start = end
        return (start, start + size) if start + size <= self._end else None

    def _dropped(self, place: tuple[int, int], size: int) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._give, place, size)

    def _give(self, place: tuple[int, int], size: int) -> None:
        self._taken.remove(place)
        self.used -= size
        self._grant()


@dataclass(frozen=True)
class Fronts:
    """How many processes receive, on which sockets, and what they are told."""

    count: int
    sockets: Sequence[Sequence[socket.socket]]  # of each front
    options: ServiceOptions
    model: str
    access: Access | None
    log_requests: bool


def shared_out(listeners: Sequence[socket.socket], count: int) -> list[list[socket.socket]]:
    """Return listening sockets for each front: the system shares connections out, and keeps those of a lost one.

    They replace the given ones, which have found out that nobody else listens there. No client may know of these.
    """
    bound = [(each.family, each.getsockname()) for each in listeners]
    for each in listeners:
        each.close()
    opened = partial(socket.create_server, backlog=2048, reuse_port=True)
    return [[opened(address, family=family) for family, address in bound] for _ in range(count)]


class Owner:
    """The process that has the detector: starts the fronts, gives them memory, and answers them."""

    def __init__(self, detector: SCRFDDetector, fronts: Fronts, limit: int) -> None:
        self._engine = Engine(detector, self._observe, limit)
        self._about, self._limit, self._is_stopping, self._early_ends = fronts, limit, False, 0
        self._fronts: dict[int, _Front] = {}
        self._error: ScrfdError | None = None
        size = max(limit, 3 * fronts.options.max_pixels) // mmap.PAGESIZE * mmap.PAGESIZE + mmap.PAGESIZE
        self._file = os.memfd_create("scrfd-trt")
        os.ftruncate(self._file, STATE_BYTES + size)  # memory is taken when it is written to
        self._memory = Memory(self._file, fronts.count)
        share = -(-self._engine.batches.capacity // fronts.count)
        self._facts = {**self._engine.about, "capacity": share + THREADS}  # images that a front has in work

    async def run(self) -> None:
        """Run the detector until a signal, and then what is in work; raise BackendError if no front starts."""
        loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._arena = Arena(self._memory, self._limit)
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._stop)
        kind, gpu = _devices.parse(self._engine.about["device"])
        with ExitStack() as stack:
            stack.callback(os.close, self._file)
            self._folder = stack.enter_context(TemporaryDirectory(prefix="scrfd-trt-"))
            self._sockets = self._about.sockets
            stack.callback(self._close_sockets)
            if kind != "cpu":  # the GPU copies pixels itself
                stack.enter_context(page_locked([self._memory.pixels(0, self._limit)], gpu or 0))
            self._publish()
            try:
                for number in range(self._about.count):
                    await self._start(number)
                while not self._ended.is_set():
                    self._publish()
                    with suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._ended.wait(), STATE_SECONDS)
            finally:
                for front in self._fronts.values():
                    front.process.kill()
        if self._error:
            raise self._error

    async def _start(self, number: int) -> None:
        if self._is_stopping:
            return
        here, there = socket.socketpair()
        about = replace(self._about, sockets=[self._sockets[number]])
        call = partial(run_front, about, there, self._memory, number=number, folder=self._folder, facts=self._facts)
        process = multiprocessing.get_context("spawn").Process(target=call, daemon=True)
        try:
            with there, blocked_signals():
                process.start()
        except OSError as error:
            here.close()
            raise BackendError(f"a process of the service cannot be started: {one_line(error)}") from error
        front = self._fronts[number] = _Front(number, process)
        front.link = Link(partial(self._receive, front), partial(self._end, front))
        await asyncio.get_running_loop().create_connection(lambda: front.link, sock=here)

    def _end(self, front: _Front) -> None:
        front.end = asyncio.create_task(self._lost(front))

    async def _lost(self, front: _Front) -> None:
        """Replace a front that ended, unless the service stops."""
        for run in front.runs.values():
            run.cancel()
        await asyncio.to_thread(front.process.join)
        front.held.clear()  # it writes no more pixels
        self._memory.fronts[front.number] = 0
        del self._fronts[front.number]
        if not self._is_stopping:
            code = front.process.exitcode
            what = f"a process of the service ended with {signal.Signals(-code).name if code < 0 else f'code {code}'}"
            self._early_ends += not front.is_ready
            if self._early_ends >= STARTS:
                self._fail(BackendError(f"{what} before it was ready"))
            else:
                _logger.error("%s; another one is started", what)
                try:
                    await self._start(front.number)
                except BackendError as error:
                    self._fail(error)
        if not self._fronts:
            self._ended.set()

    def _fail(self, error: ScrfdError) -> None:
        self._error = error
        self._stop()

    def _stop(self) -> None:
        """Let the fronts answer what is in work; the second time, end them."""
        for front in self._fronts.values():
            if self._is_stopping:
                front.process.kill()
            else:
                front.link.send("stop")
        self._is_stopping = True
        self._close_sockets()

    def _close_sockets(self) -> None:
        for sockets in self._sockets:
            for each in sockets:
                each.close()

    def _observe(self, size: int) -> None:
        """Have a front count a batch."""
        for front in self._fronts.values():
            if front.is_ready:
                front.link.send("batch", size)
                return

    def _publish(self) -> None:
        """Write what the probes and metrics of the fronts say."""
        state, gpus = self._engine.state(), np.full(MAX_GPUS, np.nan)
        gpus[list(state.gpus)] = list(state.gpus.values())
        self._memory.owner[:] = time.monotonic(), state.is_broken, self._arena.used, state.busy_seconds, *gpus

    def _receive(self, front: _Front, kind: str, key: int = 0, *values: Any) -> None:
        if kind == "take":
            front.held[key] = None
            size, pixels = values
            self._arena.take(size, pixels, partial(self._granted, front, key))
        elif kind == "detect":
            front.runs[key] = asyncio.create_task(self._detect(front, key, *values))
            front.runs[key].add_done_callback(lambda _: front.runs.pop(key))  # also if it is cancelled before it begins
        elif kind == "give":
            front.held.pop(key, None)
            if run := front.runs.get(key):
                run.cancel()
        elif kind == "ready":
            front.is_ready, self._early_ends = True, 0

    def _granted(self, front: _Front, key: int, offset: int, pixels: NDArray[np.uint8]) -> None:
        if key in front.held:  # otherwise it was given up
            front.held[key] = pixels
            front.link.send("granted", key, offset)

    async def _detect(self, front: _Front, key: int, shape: tuple[int, ...], threshold: float | None) -> None:
        try:
            pixels = front.held[key]
            assert pixels is not None  # noqa: S101 - fronts wait for it
            found = await self._engine.batches.detect(pixels[: math.prod(shape)].reshape(shape), threshold)
        except Exception as error:  # noqa: BLE001 - raised in the front
            known = isinstance(error, ScrfdError)
            what = without_frames(error) if known else BackendError(f"{type(error).__name__}: {one_line(error)}")
            front.link.send("failed", key, what)
        else:
            front.link.send("found", key, (found.boxes, found.scores, found.landmarks, found.image_size))


def run_front(
    about: Fronts, to_owner: socket.socket, memory: Memory, *, number: int, folder: str, facts: dict[str, Any]
) -> None:
    """Receive requests until the owner says to stop, or is gone."""
    for each in SIGNALS:  # the owner decides
        signal.signal(each, signal.SIG_IGN)
    unblock_signals()
    _devices.limit_cores(THREADS)
    os.environ[FOLDER_VARIABLE] = folder  # before Prometheus' client is imported
    from scrfd_trt.service import _app, _metrics  # noqa: PLC0415

    metrics = _metrics.Metrics(folder)
    engine = RemoteEngine(to_owner, memory, facts, metrics.batch.observe)
    service = _app.Service(engine, metrics, about.options, memory.fronts, number)
    app = _app.build_app(service, model=about.model, access=about.access)

    def before(server: Any) -> None:
        server.handle_exit = lambda *_: None
        engine.on_stop = lambda: setattr(server, "should_exit", True)

    _app.run_server(app, about.sockets[0], log_requests=about.log_requests, processes=about.count, before=before)
    if engine.is_lost:  # the owner was killed
        shutil.rmtree(folder, ignore_errors=True)


class RemoteEngine:
    """The detector and the memory of the owner, as :class:`Engine` and its parts have them."""

    def __init__(
        self, to_owner: socket.socket, memory: Memory, facts: dict[str, Any], observe: Callable[[int], object]
    ) -> None:
        self.about = {**facts}
        self.capacity: int = self.about.pop("capacity")
        self.batches = self.room = self
        self.on_stop: Callable[[], object] = lambda: None
        self._socket, self._memory, self._observe = to_owner, memory, observe
        self._link = Link(self._receive, self._lost)
        self._waiting: dict[int, Future[Any]] = {}
        self._keys, self.is_lost = itertools.count(), False

    async def start(self) -> None:
        """Connect to the owner."""
        self._loop = asyncio.get_running_loop()
        await self._loop.create_connection(lambda: self._link, sock=self._socket)
        self._link.send("ready")

    def state(self) -> State:
        """Return what the probes and the metrics say."""
        looked, broken, used, busy, *gpus = self._memory.owner.tolist()
        is_broken = bool(broken) or time.monotonic() - looked > HUNG_SECONDS
        return State(is_broken, used, busy, {number: each for number, each in enumerate(gpus) if not math.isnan(each)})

    def take(self, size: int, pixels: int) -> Any:
        """Wait, on a thread, until the owner grants memory."""
        key, answer = next(self._keys), Future[int]()
        self._loop.call_soon_threadsafe(self._ask, key, answer, "take", size, pixels)
        return key, self._memory.pixels(answer.result(), pixels)

    def put(self, taken: Any, frame: ImageFrame) -> tuple[ImageFrame, tuple[int, tuple[int, ...]]]:
        """Copy the pixels of a frame to memory of the owner; return the frame, and what :meth:`detect` takes."""
        visible = frame.visible()
        key, pixels = taken
        if visible.size > pixels.size:
            raise ImageError("the image is damaged: it is larger than its header says")
        shared = pixels[: visible.size].reshape(visible.shape)
        np.copyto(shared, visible)
        shared.flags.writeable = False  # a drawing that is given up goes on when the place is another image's
        return (frame if frame.alpha is not None else replace(frame, pixels=shared)), (key, visible.shape)

    def give(self, taken: Any) -> None:
        """Give memory back, from any thread."""
        self._loop.call_soon_threadsafe(self._link.send, "give", taken[0])

    async def detect(self, image: tuple[int, tuple[int, ...]], threshold: float | None) -> Detections:
        """Return the faces in an image; raise the error of its run."""
        answer: Future[Any] = Future()
        self._ask(image[0], answer, "detect", image[1], threshold)
        try:
            boxes, scores, landmarks, size = await asyncio.wrap_future(answer)
        finally:
            self._waiting.pop(image[0], None)  # of a request that was given up
        return Detections(boxes, scores, landmarks, image_size=size)

    def _ask(self, key: int, answer: Future[Any], kind: str, *values: Any) -> None:
        if self.is_lost:
            answer.set_exception(ClosedError("the service stops"))
            return
        self._waiting[key] = answer
        self._link.send(kind, key, *values)

    def _receive(self, kind: str, *values: Any) -> None:
        if kind == "batch":
            self._observe(*values)
        elif kind == "stop":
            self.on_stop()
        elif (answer := self._waiting.pop(values[0], None)) and answer.set_running_or_notify_cancel():
            answer.set_exception(values[1]) if kind == "failed" else answer.set_result(values[1])

    def _lost(self) -> None:
        """Answer what waits, and stop: the owner has ended."""
        self.is_lost = True
        for answer in self._waiting.values():
            if answer.set_running_or_notify_cancel():
                answer.set_exception(ClosedError("the service stops"))
        self._waiting.clear()
        self.on_stop()
