"""Run the parts of a pile on a Ray cluster: an actor on each GPU or CPU, and a new one where one is lost."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any, Protocol

from scrfd_trt import _devices
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._exports import load
from scrfd_trt._image_files.stderr import redirected_stderr
from scrfd_trt._jobs.decoders import ImageSettings, OpenedImage
from scrfd_trt._jobs.stages import grouped, prefetched
from scrfd_trt.distributed._parts import ROW, Detection, Output, Part, Picture, read_part
from scrfd_trt.distributed._ray import RAY, assigned_cpus, choose_gpu
from scrfd_trt.distributed._stores import shown_name
from scrfd_trt.errors import BackendError, DeviceError, ImageError, OptionError, ScrfdError, one_line, without_frames

ATTEMPTS = 3  # at a part, and at opening workers in a row
DECODED, BYTES_AHEAD = 8, 1 << 31  # pictures a decoding task, and bytes that are decoded before their turn
OPENING = -1  # in place of the index of a part
SECONDS, GPU_SECONDS = 2.0, 600.0  # between two looks at the cluster, and until it has started its first GPU

Pictures = Callable[[Part], Iterator[Picture]]
Work = Callable[[Part, Pictures], Any]
"""Processes a part, whose pictures the second argument yields: their files, or pixels ``(H, W, 3)`` BGR."""


class PartWork(Protocol):
    """What an actor does with parts; it is pickled."""

    @property
    def settings(self) -> ImageSettings:
        """How tasks decode pictures."""

    def __call__(self, device: str) -> Work:
        """Open a detector for ``cuda`` or ``cpu``."""


@dataclass(frozen=True)
class DetectParts:
    """Opens a detector for ``cuda`` or ``cpu``; writes the faces of each part, and returns its spherical pictures."""

    output: Output
    open_detector: Callable[[str], SCRFDDetector]
    detection: Detection = field(default_factory=Detection)

    @property
    def settings(self) -> ImageSettings:
        return self.detection.settings

    def __call__(self, device: str) -> Work:
        detector = self.open_detector(device)

        def work(part: Part, pictures: Pictures) -> int:
            how = replace(self.detection, read=pictures)
            (result,) = how.run([part], lambda: nullcontext(detector), forks=False)
            self.output.write_part(result.part, result.table, result.errors, result.faces)
            return result.spherical

        return work


def connect(address: str | None) -> Any:
    """Return Ray, connected to the cluster at an address; ``auto``: to that of this machine, or to a new one."""
    ray = load("ray", "a run on a cluster", RAY)
    if not ray.is_initialized():
        about = {"include_dashboard": False} if address in (None, "auto") else {"address": address}
        try:
            ray.init(**about, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise DeviceError(f"the Ray cluster {address} cannot be reached: {one_line(error)}") from error
    return ray


def run_parts(
    parts: Iterable[Part],
    work: PartWork,
    *,
    address: str | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> Iterator[tuple[Part, Any]]:
    """Yield each part and what came of it as soon as it is done, on all GPUs of a cluster, or on its CPUs.

    Each actor opens a detector once. If an actor or its node is lost, another one does its part again. Raises what a
    part raises three times, and DeviceError if a cluster without a GPU does not start one for ``cuda``.
    """
    ray = connect(address)
    on_gpu = choose_gpu(device, ray.cluster_resources(), workers or 1)
    with prefetched(parts, 64) as planned:
        pool = _Pool(ray, work, planned, on_gpu, workers)
        try:
            while pool.start():
                yield from pool.wait()
        finally:
            pool.close()


@dataclass
class _Pool:
    """Actors, each of which opens the work or has one part."""

    ray: Any
    work: PartWork
    parts: Iterator[Part]
    on_gpu: bool
    size: int | None
    again: deque[Part] = field(default_factory=deque)
    idle: list[Any] = field(default_factory=list)
    calls: dict[Any, tuple[Any, Part | None]] = field(default_factory=dict)
    failures: Counter[int] = field(default_factory=Counter)  # of parts by their indexes, and of opening
    next_look: float = 0.0
    begun: float = field(default_factory=time.monotonic)

    def start(self) -> bool:
        """Give each idle worker a part, and start workers where there is room; return whether any is left."""
        while self.idle and (part := self._next()):
            worker = self.idle.pop()
            self.calls[worker.run.remote(part, self.failures[part.index] > 0)] = worker, part
        for _ in range(self._room()):
            if (part := self._next()) is None:
                break
            self.again.appendleft(part)
            resources = {"num_gpus": 1, "num_cpus": 0} if self.on_gpu else {"num_cpus": 1}
            worker = self.ray.remote(_Worker).options(**resources).remote(self.work, by_tasks=self.on_gpu)
            self.calls[worker.open.remote()] = worker, None
        return bool(self.again) or any(part for _, part in self.calls.values())

    def _next(self) -> Part | None:
        return self.again.popleft() if self.again else next(self.parts, None)

    def _room(self) -> int:
        """Return how many workers the cluster has room for; nodes come and go."""
        running = len(self.calls) + len(self.idle)
        if time.monotonic() < self.next_look or (running and self.failures[OPENING] >= ATTEMPTS):
            return 0
        self.next_look = time.monotonic() + SECONDS
        size = int(self.ray.cluster_resources().get("GPU" if self.on_gpu else "CPU", 0))
        if self.on_gpu and not size and time.monotonic() - self.begun > GPU_SECONDS:
            what = f"the cluster has no GPU, and has started none within {GPU_SECONDS / 60:g} minutes"
            raise DeviceError(what, fields=["device"])
        return (self.size or max(1, size)) - running

    def wait(self) -> Iterator[tuple[Part, Any]]:
        """Wait for calls, at most until the next look; yield the parts that are done."""
        errors = self.ray.exceptions
        for call in self.ray.wait(list(self.calls), timeout=SECONDS)[0]:
            worker, part = self.calls.pop(call)
            try:
                result = self.ray.get(call)
            except errors.RayTaskError as error:
                self._failed(worker, part, error.cause)
            except errors.RayError as error:
                lost = BackendError(f"a worker ended: {one_line(error)}", subject=f"part {part.index}" if part else "")
                self._failed(worker, part, lost)
            else:
                self.idle.append(worker)
                del self.failures[OPENING]
                if part:
                    del self.failures[part.index]
                    yield part, result

    def _failed(self, worker: Any, part: Part | None, error: Exception) -> None:
        """Have a part done again by another worker; raise the error of its last attempt, and if no worker is left."""
        self._kill(worker)
        index = part.index if part else OPENING
        self.failures[index] += 1
        self.next_look = 0.0
        if part:
            self.again.append(part)
        is_last = self.failures[index] >= ATTEMPTS and (part or not (self.calls or self.idle))
        if is_last or isinstance(error, OptionError):  # which another worker raises, too
            raise error

    def _kill(self, worker: Any) -> None:
        with suppress(self.ray.exceptions.RayError):
            self.ray.kill(worker)

    def close(self) -> None:
        for worker in [*self.idle, *(worker for worker, _ in self.calls.values())]:
            self._kill(worker)


class _Worker:
    """The actor. Where it has a GPU, or where a part has ended another one, tasks on CPUs decode the pictures."""

    def __init__(self, work: PartWork, *, by_tasks: bool) -> None:
        self._open_work, self._by_tasks = work, by_tasks

    def open(self) -> None:
        """Open the work; errors of the constructor would not reach the driver as they are."""
        _devices.limit_cores(assigned_cpus())
        self._work = self._open_work("cuda" if self._by_tasks else "cpu")

    def run(self, part: Part, is_suspect: bool) -> Any:
        """Process a part."""
        return self._work(part, self._decoded if self._by_tasks or is_suspect else read_part)

    def _decoded(self, part: Part) -> Iterator[Picture]:
        """Yield the pictures of a part, decoded by tasks, on this node as far as it has CPUs."""
        ray = load("ray", "decoding", RAY)
        near = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        # An actor on a CPU holds the one that a task would wait for.
        task = ray.remote(_decode).options(num_cpus=1 if self._by_tasks else 0, max_retries=0, scheduling_strategy=near)
        again = partial(task.remote, settings=self._open_work.settings)
        limit, size = 2 * _devices.cores(), 0
        calls: deque[tuple[Sequence[Any], Any]] = deque()
        for pictures in _in_runs(part):
            calls.append((pictures, again(pictures)))
            if len(calls) >= max(2, min(limit, BYTES_AHEAD // (size or 1))):
                size = 0
                for picture in _taken(*calls.popleft(), again):
                    size += getattr(picture.content, "nbytes", 0)
                    yield picture
        for call in calls:
            yield from _taken(*call, again)


def _in_runs(part: Part) -> Iterator[list[Any]]:
    """Yield what a task decodes: addresses, or pictures that come from one file of many."""
    for in_file, uris in groupby(part.uris, lambda uri: ROW.fullmatch(uri) is not None):
        several = list(uris)
        yield from grouped(read_part(Part(part.index, several)) if in_file else several, DECODED)


def _decode(pictures: Sequence[Any], settings: ImageSettings) -> list[tuple[str, Any]]:
    """Return the pixels of pictures, or their errors; those that need more than their pixels as they are."""
    with redirected_stderr():
        return [
            (picture.name, _content(picture, settings))
            for picture in (read_part(Part(0, pictures)) if isinstance(pictures[0], str) else pictures)
        ]


def _content(picture: Picture, settings: ImageSettings) -> Any:
    try:
        image = OpenedImage.open(picture, settings)
        if image.file.count > 1 or image.metadata.is_equirectangular:
            return picture.content
        (frame,) = image.file.frames()
        visible = frame.visible()
    except ScrfdError as error:
        return without_frames(error)
    except MemoryError:
        return picture.content
    return picture.content if image.file.damage else visible


def _taken(pictures: Sequence[Any], call: Any, again: Callable[..., Any]) -> Iterator[Picture]:
    """Yield the pictures of a call; where its process died, each by a process of its own."""
    ray = load("ray", "decoding", RAY)
    try:
        yield from (Picture(*named) for named in ray.get(call))
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        if len(pictures) > 1:
            for picture in pictures:
                yield from _taken([picture], again([picture]), again)
        else:
            (name,) = [each if isinstance(each, str) else each.name for each in pictures]
            what = "the process that decodes it ended; is there enough memory?"
            yield Picture(shown_name(name), ImageError(f"{what} {one_line(error)}"))
