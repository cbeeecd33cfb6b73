"""The work of a run for one batch size: enqueued step by step, or launched as one CUDA graph."""

from __future__ import annotations

import ctypes
import logging
import math
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cuda.driver import call
from scrfd_trt._cuda.kernels import BATCH, Launch, frame_bytes, heads
from scrfd_trt._cuda.memory import copy, free
from scrfd_trt._cuda.stream import capture, handle_of, record_at_launch, synchronize, wait_at_launch
from scrfd_trt._engine.loaded_engine import LeasedContext
from scrfd_trt._heads import check, output_shapes
from scrfd_trt._pipelines.cuda.resources import PipelineResources, profile_for
from scrfd_trt._pipelines.cuda.slot_memory import Arena
from scrfd_trt.errors import ModelFormatError, ScrfdError

if TYPE_CHECKING:
    from cuda.core import Buffer, Stream
    from cuda.core.graph import Graph

log = logging.getLogger("scrfd_trt")

Scales = tuple[tuple[int, int], ...]  # width and height in pixels of each pass
LETTERBOX_BLOCK = (32, 8)  # threads along x and y per block of the letterbox kernel
QUAD = 4  # pixels along x per thread of the letterbox kernel, as in kernels.cu
FIND_FACES_THREADS = 1024  # threads of the one block per image that decodes and suppresses
LARGE_RUN = 16 * 640 * 640
"""Input pixels at which inference fills the GPU; concurrent runs of this size are slower (measured on an H100)."""


PROGRAMS = 8  # programs that are kept, one for each batch size and scale


class Programs:
    """Memory for one run at a time, of ``views`` or whole images, and the last programs; ``stack`` frees all."""

    def __init__(self, resources: PipelineResources, stream: Stream, stack: ExitStack, *, views: bool = False) -> None:
        self._resources, self._stream, self._views = resources, stream, views
        self.arena = Arena(resources, stream, stack, kept=1 if views else None)
        self._scratch = resources.engine.new_scratch(stream)
        if self._scratch is not None:
            stack.callback(free, self._scratch)
        self._programs: OrderedDict[tuple[int, Scales], Program] = OrderedDict()
        stack.callback(self._close)

    def get(self, images: int, scales: Scales) -> Program:
        """Return the program for a batch; prepare it if there is none."""
        program = self._programs.get((images, scales))
        if program is None:
            with self._resources.setup_lock:
                if len(self._programs) == PROGRAMS:
                    synchronize(self._stream)
                    self._programs.popitem(last=False)[1].close()
                resources = replace(self._resources, scales=scales)
                program = Program(resources, self.arena, self._scratch, images, self._stream, views=self._views)
            self._programs[images, scales] = program
        self._programs.move_to_end((images, scales))
        return program

    def capture(self, stream: Stream) -> None:
        """Capture the programs that have run."""
        for program in self._programs.values():
            program.capture(stream)

    def _close(self) -> None:
        with ExitStack() as stack:  # all of them, even if one raises
            while self._programs:
                stack.callback(self._programs.popitem()[1].close)


class Program:
    """Parameters (but of ``views``), letterbox, inference, decoding and NMS; the device must be current."""

    def __init__(
        self,
        resources: PipelineResources,
        arena: Arena,
        scratch: Buffer | None,
        images: int,
        stream: Stream,
        *,
        views: bool = False,
    ) -> None:
        self._resources, self._arena, self._images, self._views = resources, arena, images, views
        self._leased: list[LeasedContext] = []
        self._graph: Graph | None = None
        self._has_run = self.capture_tried = False
        self._pixels = 0
        try:
            numbers = range(len(resources.scales))
            for number in numbers:
                self._lease_context(number, scratch, stream)
            self._letterboxes = [self._letterbox_launch(number) for number in numbers]
            self._find_faces = self._find_faces_launch()
        except BaseException:
            self.close()
            raise

    @property
    def is_captured(self) -> bool:
        """Whether it runs as one CUDA graph."""
        return self._graph is not None

    def start(self, stream: Stream) -> None:
        """Enqueue all of the work."""
        self._has_run = True
        if self._graph is not None:
            call("launching a CUDA graph", self._graph.launch, stream)
        else:
            self.enqueue(stream)

    def capture(self, stream: Stream) -> None:
        """Capture work that has run as a CUDA graph in a stream of its own; log a warning if that is not possible."""
        if self.capture_tried or not self._has_run:
            return
        try:
            self._graph = capture(stream, self.enqueue_for_graph)
        except ScrfdError as error:
            failed = self._resources.capture_failed
            level = logging.DEBUG if failed.is_set() else logging.WARNING
            failed.set()
            log.log(level, "the work cannot be captured as a CUDA graph, and runs step by step, slower: %s", str(error))
        self.capture_tried = True

    def enqueue(self, stream: Stream) -> None:
        """Enqueue the steps one by one."""
        self._enqueue_letterboxes(stream)
        self.infer_all(stream)
        self.find_faces(stream)

    def enqueue_for_graph(self, stream: Stream) -> None:
        """Enqueue the steps in a captured stream; for speed, a large run waits for the previous one's inference."""
        inference_done = self._resources.inference_done if self._pixels >= LARGE_RUN else None
        self._enqueue_letterboxes(stream)
        if inference_done is not None:
            wait_at_launch(inference_done, stream)
        self.infer_all(stream)
        if inference_done is not None:
            record_at_launch(inference_done, stream)
        self.find_faces(stream)

    def _enqueue_letterboxes(self, stream: Stream) -> None:
        if not self._views:
            self.send_parameters(stream)
        self.letterbox_all(stream)

    def send_parameters(self, stream: Stream) -> None:
        size = BATCH.size + self._images * frame_bytes(len(self._resources.scales))
        copy("copying parameters", self._arena.parameters_at, self._arena.pinned_parameters_at, size, stream)

    def letterbox_all(self, stream: Stream) -> None:
        for launch in self._letterboxes:
            launch.start(stream)

    def infer_all(self, stream: Stream) -> None:
        for leased in self._leased:
            assert leased.context is not None  # noqa: S101 - until close()
            leased.engine.call_checked("running the model", leased.context.execute_async_v3, handle_of(stream))

    def find_faces(self, stream: Stream) -> None:
        self._find_faces.start(stream)

    def outputs(self, number: int, stream: Stream) -> list[NDArray[Any]]:
        """Return the model outputs of a pass on the host; the work must be done."""
        resources, leased = self._resources, self._leased[number]
        found = []
        for tensor, address in zip(resources.engine.outputs, self._arena.outputs_at[number], strict=True):
            assert leased.context is not None  # noqa: S101 - until close()
            array = np.empty(tuple(leased.context.get_tensor_shape(tensor.name)), tensor.dtype)
            copy("copying outputs from the GPU", array.ctypes.data, address, array.nbytes, stream)
            found.append(array)
        synchronize(stream)
        check(resources.layout, found, resources.scales[number])
        return found

    def close(self) -> None:
        """Free the graph and release the contexts; the work must be done."""
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.close()
        while self._leased:
            self._resources.contexts.release(self._leased.pop())

    def _lease_context(self, number: int, scratch: Buffer | None, stream: Stream) -> None:
        resources, scale = self._resources, self._resources.scales[number]
        batch_size, profile = profile_for(resources.engine.ranges, scale, self._images)
        leased = resources.contexts.lease(profile, stream, scratch)
        self._leased.append(leased)
        self._pixels += batch_size * math.prod(scale)
        engine, context, shape = leased.engine, leased.context, (batch_size, 3, scale[1], scale[0])
        assert context is not None  # noqa: S101 - just created
        engine.call_checked(f"setting an input of {shape}", context.set_input_shape, engine.input.name, shape)
        addresses = (self._arena.inputs_at[number], *self._arena.outputs_at[number])
        for tensor, address in zip((engine.input, *engine.outputs), addresses, strict=True):
            engine.call_checked("setting an address", context.set_tensor_address, tensor.name, address)
        expected = output_shapes(resources.layout, batch_size, scale)
        for index, tensor in enumerate(engine.outputs):
            wanted, name = expected[index]
            sides = tuple(context.get_tensor_shape(tensor.name))
            if sides != wanted:
                raise ModelFormatError(
                    f"{name} has shape {sides} at {scale[0]}×{scale[1]} pixels, but SCRFD with "
                    f"{resources.layout.anchors} anchor(s) per cell has {wanted}: this is not a SCRFD model"
                )

    def _letterbox_launch(self, number: int) -> Launch:
        width, height = self._resources.scales[number]
        across, down = LETTERBOX_BLOCK
        grid = (-(-width // (across * QUAD)), -(-height // down), self._images)
        sides = [ctypes.c_int(value) for value in (width, height, number)]
        arguments = [*self._records(), ctypes.c_void_p(self._arena.inputs_at[number]), *sides]
        is_half = self._resources.engine.input.dtype == "float16"
        name = f"letterbox_{'views_' * self._views}{'half' if is_half else 'float'}"
        return self._resources.kernels.prepare(name, grid, (across, down, 1), arguments)

    def _find_faces_launch(self) -> Launch:
        resources = self._resources
        dtypes = [output.dtype for output in resources.engine.outputs]
        table = heads(resources.layout, resources.scales, self._arena.outputs_at, dtypes)
        workspace = ctypes.c_void_p(self._arena.workspace_at)
        arguments = [*self._records(), workspace, (ctypes.c_char * len(table)).from_buffer_copy(table)]
        return resources.kernels.prepare("find_faces", (self._images, 1, 1), (FIND_FACES_THREADS, 1, 1), arguments)

    def _records(self) -> tuple[ctypes.c_void_p, ctypes.c_int]:
        return ctypes.c_void_p(self._arena.parameters_at), ctypes.c_int(frame_bytes(len(self._resources.scales)))
