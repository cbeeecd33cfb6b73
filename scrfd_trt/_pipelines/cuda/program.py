"""The work of one run, for one number of images: put into a stream step by step, or launched as one CUDA graph."""

from __future__ import annotations

import ctypes
import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cuda.driver import call
from scrfd_trt._cuda.graph import capture, record_at_launch, wait_at_launch
from scrfd_trt._cuda.kernels import Launch
from scrfd_trt._cuda.memory import copy
from scrfd_trt._cuda.records import BATCH, frame_bytes, heads
from scrfd_trt._cuda.stream import handle_of, synchronize
from scrfd_trt._engine.loaded_engine import LeasedContext
from scrfd_trt._heads import check, output_sizes
from scrfd_trt._pipelines.cuda.memory import Arena
from scrfd_trt._pipelines.cuda.resources import PipelineResources, places_for
from scrfd_trt.errors import ModelFormatError, ScrfdError

if TYPE_CHECKING:
    from cuda.core import Buffer, Stream
    from cuda.core.graph import Graph

log = logging.getLogger("scrfd_trt")

TILE = (32, 8)
"""Threads along x and y of a block of the letterbox."""

QUAD = 4
"""Pixels along x that each of them makes."""

CROWD = 16 * 640 * 640
"""Pixels of a run from which on the network fills a GPU, so that two of them at a time only hinder each other.

Measured with 640×640 pixels on an H100.
"""

THREADS = 1024
"""Threads of the one block that finds an image's faces."""


class Program:
    """Parameters in, and for each pass letterbox and network, then decoding and suppression over all passes.

    Parameters
    ----------
    setting, arena, scratch
        Of the slot.
    images
        How many images it is for.
    stream
        What is needed to make execution contexts ready is done in it.

    Raises
    ------
    BackendError
        If there is not enough memory, say.
    ModelFormatError
        If the engine gives another number of rows than SCRFD does.
    """

    def __init__(
        self, setting: PipelineResources, arena: Arena, scratch: Buffer | None, images: int, stream: Stream
    ) -> None:
        self._setting, self._arena, self._images = setting, arena, images
        self._lent: list[LeasedContext] = []
        self._graph: Graph | None = None
        self._tried = False
        self._pixels = 0
        try:
            for number in range(len(setting.scales)):
                self._context(number, scratch, stream)
            self._letterboxes = [self._letterbox(number) for number in range(len(setting.scales))]
            self._finding = self._find()
        except BaseException:
            self.close()
            raise

    @property
    def passes(self) -> int:
        """How many passes there are."""
        return len(self._lent)

    @property
    def is_captured(self) -> bool:
        """Whether it runs as one CUDA graph."""
        return self._graph is not None

    @property
    def is_settled(self) -> bool:
        """Whether a capture was tried."""
        return self._tried

    def start(self, stream: Stream) -> None:
        """Put all of the work into a stream, with the device current."""
        if self._graph is not None:
            call("launching a CUDA graph", self._graph.launch, stream)
        else:
            self.enqueue(stream)

    def capture(self, stream: Stream) -> None:
        """Make a CUDA graph of the work, where that can be, with the device current.

        It must have run once before: TensorRT settles things then that a capture does not allow.

        Parameters
        ----------
        stream
            One that nobody else uses.
        """
        if self._tried:
            return
        try:
            self._graph = capture(stream, self.enqueue_for_graph)
        except ScrfdError as error:
            level = logging.DEBUG if self._setting.uncaptured.is_set() else logging.WARNING
            self._setting.uncaptured.set()
            log.log(level, "the work cannot be captured as a CUDA graph, and runs step by step, slower: %s", str(error))
        self._tried = True

    def enqueue(self, stream: Stream) -> None:
        """Put the steps into a stream one by one."""
        self._enqueue_letterboxes(stream)
        self._enqueue_network(stream)
        self.find(stream)

    def enqueue_for_graph(self, stream: Stream) -> None:
        """Put the steps into a stream that is being captured; large networks take turns, and all else goes on beside.

        Memory is never shared between runs, so turns are for speed alone.
        """
        turn = self._setting.turn if self._pixels >= CROWD else None
        self._enqueue_letterboxes(stream)
        if turn is not None:
            wait_at_launch(turn, stream)
        self._enqueue_network(stream)
        if turn is not None:
            record_at_launch(turn, stream)
        self.find(stream)

    def _enqueue_letterboxes(self, stream: Stream) -> None:
        self.send_parameters(stream)
        for number in range(len(self._lent)):
            self.letterbox(number, stream)

    def _enqueue_network(self, stream: Stream) -> None:
        for number in range(len(self._lent)):
            self.infer(number, stream)

    def send_parameters(self, stream: Stream) -> None:
        """Put the copy of the parameters into a stream."""
        size = BATCH.size + self._images * frame_bytes(len(self._setting.scales))
        copy("copying parameters", self._arena.parameters_at, self._arena.pinned_parameters_at, size, stream)

    def letterbox(self, number: int, stream: Stream) -> None:
        """Put the letterbox of a pass into a stream."""
        self._letterboxes[number].start(stream)

    def infer(self, number: int, stream: Stream) -> None:
        """Put the network of a pass into a stream."""
        lent = self._lent[number]
        assert lent.context is not None  # noqa: S101 - until close()
        lent.engine.call_checked("running the model", lent.context.execute_async_v3, handle_of(stream))

    def find(self, stream: Stream) -> None:
        """Put decoding and suppression into a stream."""
        self._finding.start(stream)

    def outputs(self, number: int, stream: Stream) -> list[NDArray[Any]]:
        """Copy the network's outputs of a pass to the host; the work must be done."""
        setting, scale, lent = self._setting, self._setting.scales[number], self._lent[number]
        found = []
        for tensor, address in zip(setting.engine.outputs, self._arena.outputs_at[number], strict=True):
            assert lent.context is not None  # noqa: S101 - until close()
            array = np.empty(tuple(lent.context.get_tensor_shape(tensor.name)), tensor.dtype)
            copy("copying outputs from the GPU", array.ctypes.data, address, array.nbytes, stream)
            found.append(array)
        synchronize(stream)
        check(setting.layout, found, scale)
        return found

    def close(self) -> None:
        """Give graph and execution contexts back, with the device current; the work must be done."""
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.close()
        while self._lent:
            self._setting.contexts.release(self._lent.pop())

    def _context(self, number: int, scratch: Buffer | None, stream: Stream) -> None:
        setting, scale = self._setting, self._setting.scales[number]
        places, profile = places_for(setting.engine.ranges, scale, self._images)
        lent = setting.contexts.lease(profile, stream, scratch)
        self._lent.append(lent)
        self._pixels += places * math.prod(scale)
        engine, context, shape = lent.engine, lent.context, (places, 3, scale[1], scale[0])
        assert context is not None  # noqa: S101 - it was just made
        engine.call_checked(f"setting an input of {shape}", context.set_input_shape, engine.input.name, shape)
        addresses = (self._arena.inputs_at[number], *self._arena.outputs_at[number])
        for tensor, address in zip((engine.input, *engine.outputs), addresses, strict=True):
            engine.call_checked("setting an address", context.set_tensor_address, tensor.name, address)
        wanted = output_sizes(setting.layout, places, scale)
        for index, tensor in enumerate(engine.outputs):
            sides = tuple(context.get_tensor_shape(tensor.name))
            if math.prod(sides) != wanted[index][0] or min(sides) < 0:
                raise ModelFormatError(
                    f"{wanted[index][1]} has shape {sides} for {scale[0]}×{scale[1]} pixels where SCRFD with "
                    f"{setting.layout.anchors} anchor(s) a cell has {wanted[index][0]} values: this is another network"
                )

    def _letterbox(self, number: int) -> Launch:
        width, height = self._setting.scales[number]
        half = self._setting.engine.input.dtype == "float16"
        grid = (-(-width // (TILE[0] * QUAD)), -(-height // TILE[1]), self._images)
        sides = [ctypes.c_int(value) for value in (width, height, number)]
        arguments = [*self._records(), ctypes.c_void_p(self._arena.inputs_at[number]), *sides]
        name = "letterbox_half" if half else "letterbox_float"
        return self._setting.kernels.prepare(name, grid, (*TILE, 1), arguments)

    def _find(self) -> Launch:
        setting = self._setting
        dtypes = [output.dtype for output in setting.engine.outputs]
        table = heads(setting.layout, setting.scales, self._arena.outputs_at, dtypes)
        workspace = ctypes.c_void_p(self._arena.workspace_at)
        arguments = [*self._records(), workspace, (ctypes.c_char * len(table)).from_buffer_copy(table)]
        return setting.kernels.prepare("find_faces", (self._images, 1, 1), (THREADS, 1, 1), arguments)

    def _records(self) -> tuple[ctypes.c_void_p, ctypes.c_int]:
        return ctypes.c_void_p(self._arena.parameters_at), ctypes.c_int(frame_bytes(len(self._setting.scales)))
