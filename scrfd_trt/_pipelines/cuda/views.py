"""Views of images, which may be turned: they share batches, which take turns in two lanes of all slots."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import lru_cache
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cuda.driver import call
from scrfd_trt._cuda.kernels import BATCH, FRAME, HEADER, NO_LIMIT, ROW, fit, frame_bytes
from scrfd_trt._cuda.memory import copy, free, pinned_memory, view
from scrfd_trt._cuda.stream import create_event, create_stream
from scrfd_trt._decode import Candidates, decode, rows_above
from scrfd_trt._nms import nms
from scrfd_trt._passes import Look, Size, View, ViewTable, keep, plan_views, warn_if_thin
from scrfd_trt._pipelines.base import Outcome, validated
from scrfd_trt._pipelines.cuda.device_detections import rows_of
from scrfd_trt._pipelines.cuda.frames import Geometry, Located
from scrfd_trt._pipelines.cuda.program import Program, Programs
from scrfd_trt._pipelines.cuda.resources import PipelineResources, profile_for
from scrfd_trt._pipelines.profiles import largest_batch

if TYPE_CHECKING:
    from cuda.core import Buffer, Stream

log = logging.getLogger("scrfd_trt")

ROWS = 32  # views per batch; larger batches are hardly faster
STEP = 4  # batches have a multiple of so many views if they can, so that few programs serve all images
ROOM = 512  # faces of one view that the GPU returns; the CPU decodes views with more
RESULT_BYTES = 16 * 2**20  # page-locked memory for the faces of one run; views have less room if there are many
RECORD = np.dtype([("address", "<u8"), ("chroma", "<u8"), ("rest", f"V{frame_bytes(1) - 16}")])
"""The record of a view and its fit."""

NO_FACES = np.empty((0, ROW), np.float32)


class Planned(NamedTuple):
    """The views of images of one geometry, their records with offsets for addresses, and their numbers of scales."""

    size: Size
    views: tuple[View, ...]
    table: ViewTable
    records: NDArray[Any]
    scales: NDArray[np.intp]


@lru_cache(maxsize=64)
def plan(geometry: Geometry, scales: tuple[Size, ...], min_face: float | None, rotations: tuple[int, ...]) -> Planned:
    """Return the views of images that lie in memory like this."""
    views = plan_views(geometry.size, scales, min_face=min_face, rotations=rotations)
    packed = b""
    for each in views:
        turned, luma, chroma, flags = geometry.turned(each.window, each.rotation)
        packed += FRAME.pack(luma % 2**64, chroma % 2**64, *turned, flags) + fit(each.box)
    numbers = np.array([scales.index(each.target) for each in views])
    return Planned(geometry.size, views, ViewTable(views, geometry.size), np.frombuffer(packed, RECORD), numbers)


class Lane:
    """A stream, and programs for one batch of views at a time. ``stack`` frees them when it is closed."""

    def __init__(self, resources: PipelineResources, stack: ExitStack) -> None:
        self.stream = stack.enter_context(closing(create_stream(resources.device)))
        self.done = stack.enter_context(closing(create_event(resources.device)))
        self.programs = Programs(resources, self.stream, stack, views=True)

    def start(self, batch: Batch, parameters_at: int) -> Program:
        """Enqueue a batch whose parameters are in page-locked memory; return its program."""
        program, target = self.programs.get(batch.size, (batch.scale,)), self.programs.arena.parameters_at
        size = BATCH.size + batch.size * RECORD.itemsize
        copy("copying parameters", target, parameters_at + batch.offset, size, self.stream)
        program.start(self.stream)
        return program


class Lanes:
    """The lanes of a pipeline, created on first use. ``resources.setup_lock`` must be held in :meth:`turn`."""

    def __init__(self, resources: PipelineResources, capture_stream: Stream) -> None:
        engine, self._capture_stream, self._resources = resources.engine, capture_stream, resources
        fixed = engine.input.shape[0] if resources.layout.has_batch_axis else 1
        self.rows = {scale: min(fixed or ROWS, largest_batch(engine.ranges, scale)) for scale in resources.scales}
        self._owned = ExitStack()
        self._lanes: list[Lane] = []
        self._turns: Iterator[Lane] = iter(())

    def prepare(self, batches: Sequence[Batch]) -> None:
        """Create what the batches need and is not there yet; raise BackendError without enough memory."""
        with self._resources.setup_lock:
            if not self._lanes:
                self._open()
            for lane in self._lanes:
                for batch in batches:
                    lane.programs.get(batch.size, (batch.scale,))

    def turn(self) -> Lane:
        """Return the lane of the next batch."""
        return next(self._turns)

    def _open(self) -> None:
        resources, ranges = self._resources, self._resources.engine.ranges
        batches = [
            profile_for(ranges, scale, size)[0] for scale, most in self.rows.items() for size in range(1, most + 1)
        ]
        largest = max(resources.scales, key=math.prod)
        memory = replace(resources, scales=(largest,), max_batch=max(self.rows.values()), engine_batch=max(batches))
        with ExitStack() as stack:
            lanes = [Lane(memory, stack) for _ in range(2)]
            self._owned = stack.pop_all()
        self._lanes, self._turns = lanes, cycle(lanes)

    def outputs(self, batch: Batch, parameters_at: int) -> list[NDArray[Any]]:
        """Run a batch again, and return the outputs of the model on the host."""
        with self._resources.setup_lock:
            lane = self.turn()
            return lane.start(batch, parameters_at).outputs(0, lane.stream)

    def capture(self) -> None:
        """Capture the programs that have run, with the device current."""
        with self._resources.setup_lock:
            for lane in self._lanes:
                lane.programs.capture(self._capture_stream)

    def close(self) -> None:
        """Free everything; all work must be done."""
        with self._resources.device.current():
            self._owned.close()


class Batch(NamedTuple):
    """Views that the model sees together."""

    scale: Size
    size: int  # views, repeated ones included
    first: int  # number of the first view among all results
    offset: int  # of its parameters in bytes


class ViewRun:
    """The views of the images of a run: their parameters and results. The device must be current in all methods."""

    def __init__(self, resources: PipelineResources, lanes: Lanes, stream: Stream) -> None:
        self._resources, self._lanes, self._stream = resources, lanes, stream
        self._begun = create_event(resources.device)
        self._memory: list[Buffer] = []  # page-locked: parameters and results
        self._batches: list[Batch] = []
        self._planned: list[Planned] = []
        self._rows = np.empty(0, np.intp)  # where the result of each view of each image is
        self._outputs: dict[int, list[NDArray[Any]]] = {}  # of the model by batch, where they were needed on the host
        self._room, self._threshold = ROOM, 0.0

    def prepare(self, images: Sequence[Located], looks: Sequence[Look], threshold: float) -> None:
        """Plan the views of images, and write the parameters of all batches."""
        scales, self._threshold, self._planned, records = self._resources.scales, threshold, [], []
        for image, look in zip(images, looks, strict=True):
            if look.min_face is None:
                warn_if_thin(image.geometry.size, scales)
            planned = plan(image.geometry, scales, look.min_face, look.rotations)
            self._planned.append(planned)
            records.append(planned.records.copy())
            records[-1]["address"] += np.uint64(image.address)
            records[-1]["chroma"] += np.uint64(image.chroma)
        block, numbers = np.concatenate(records), np.concatenate([planned.scales for planned in self._planned])
        self._batches, self._rows, parts, count, size = [], np.empty(len(block), np.intp), [], 0, 0
        for number, (scale, most) in enumerate(self._lanes.rows.items()):
            members = np.flatnonzero(numbers == number)
            for part in np.split(members, range(most, len(members), most)) if len(members) else ():
                rows = min(most, -(-len(part) // STEP) * STEP)
                self._rows[part] = np.arange(count, count + len(part))
                self._batches.append(Batch(scale, rows, count, size))
                parts.append(block[np.append(part, part[-1:].repeat(rows - len(part)))].view(np.uint8))
                count, size = count + rows, size + BATCH.size + rows * RECORD.itemsize
        self._room = max(1, min(ROOM, (RESULT_BYTES // (4 * count) - HEADER) // ROW))
        self._lanes.prepare(self._batches)
        self._reserve(size, count * self._row * 4)
        parameters, results_at = view(self._memory[0], (size,), np.uint8), int(self._memory[1].handle)
        for batch, packed in zip(self._batches, parts, strict=True):
            result, iou = results_at + batch.first * self._row * 4, self._resources.options.iou
            BATCH.pack_into(parameters.data, batch.offset, result, threshold, iou, NO_LIMIT, self._room)
            parameters[batch.offset + BATCH.size :][: len(packed)] = packed

    @property
    def _row(self) -> int:
        """Floats of the result of one view."""
        return HEADER + self._room * ROW

    def _reserve(self, *sizes: int) -> None:
        if [size for size, part in zip(sizes, self._memory, strict=False) if size <= part.size] != list(sizes):
            self._free()
            for size in sizes:
                self._memory.append(pinned_memory(size, self._resources.device, self._stream))

    def start(self) -> None:
        """Enqueue all batches; work that is enqueued in the stream of the run later waits for them."""
        with self._resources.setup_lock:
            call("recording a CUDA event", self._stream.record, self._begun)
            lanes: list[Lane] = []
            try:
                for batch in self._batches:
                    lane = self._lanes.turn()
                    if lane not in lanes:
                        call("letting one stream wait for another", lane.stream.wait, self._begun)
                        lanes.append(lane)
                    lane.start(batch, int(self._memory[0].handle))
            finally:
                for lane in lanes:
                    call("recording a CUDA event", lane.stream.record, lane.done)
                    call("letting one stream wait for another", self._stream.wait, lane.done)

    def outcomes(self, threshold: float) -> list[tuple[Outcome, Outcome]]:
        """Return each image's faces or error, and the same down to the threshold of :meth:`prepare`, after the run."""
        last = self._batches[-1]
        results = view(self._memory[1], (last.first + last.size, self._row), np.float32)
        rows = np.split(self._rows, np.cumsum([len(planned.views) for planned in self._planned[:-1]]))
        try:
            return [self._outcome(*each, results, threshold) for each in zip(self._planned, rows, strict=True)]
        finally:
            self._outputs = {}

    def _outcome(
        self, planned: Planned, rows: NDArray[np.intp], results: NDArray[np.float32], threshold: float
    ) -> tuple[Outcome, Outcome]:
        resources = self._resources
        headers = results.view(np.int32)[rows, :3]
        if headers[:, 2].any():
            return (resources.invalid_values(),) * 2
        parts = [NO_FACES]
        for place, (row, count) in enumerate(zip(rows.tolist(), headers[:, 1].tolist(), strict=True)):
            if count > 0:
                parts.append(results[row, HEADER : HEADER + count * ROW].reshape(-1, ROW))
            elif count < 0:
                parts.append(self._decode(row, planned.views[place]))
                headers[place, 1] = len(parts[-1])
        found, numbers = np.concatenate(parts), np.repeat(np.arange(len(rows)), headers[:, 1])
        points = found[:, 5:15].reshape(-1, 5, 2) if resources.layout.landmarks is not None else None
        faces = planned.table.to_source(Candidates(found[:, :4], found[:, 4], points), numbers)
        aside = planned.table.gives_way(faces.boxes, numbers)
        sure = rows_above(faces.scores, threshold)
        strong = self._join(planned, faces.select(sure), aside[sure])
        return strong, self._join(planned, faces, aside) if len(sure) < len(faces) else strong

    def _join(self, planned: Planned, faces: Candidates, aside: NDArray[np.bool_]) -> Outcome:
        kept = keep(faces, aside, self._resources.options.iou)
        return validated(faces.select(kept), planned.size, self._resources.description)

    def _decode(self, row: int, seen: View) -> NDArray[np.float32]:
        """Return the faces of one view as the GPU does; its batch runs again, and the host decodes the outputs."""
        batch = next(batch for batch in self._batches if row < batch.first + batch.size)
        if batch.first not in self._outputs:
            log.info("a view has more faces than the GPU can return; the CPU decodes them, which is slower")
            self._outputs[batch.first] = self._lanes.outputs(batch, int(self._memory[0].handle))
        layout, place = self._resources.layout, row - batch.first
        found = decode(layout, self._outputs[batch.first], place, batch.scale, self._threshold).to_source(seen.box)
        found = found.select(nms(found.boxes, found.scores, self._resources.options.iou))
        return rows_of(found)

    def close(self) -> None:
        """Free everything; the run must be done."""
        self._begun.close()
        self._free()

    def _free(self) -> None:
        while self._memory:
            free(self._memory.pop())
