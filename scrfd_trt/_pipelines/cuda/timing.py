"""How long each step of a run takes on the GPU, measured by the GPU itself."""

from __future__ import annotations

import operator
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from scrfd_trt._cuda.device import Device
from scrfd_trt._cuda.driver import call
from scrfd_trt._cuda.graph import capture
from scrfd_trt._cuda.stream import create_event, create_stream, synchronize
from scrfd_trt._pipelines.cuda.pipeline import CudaPipeline
from scrfd_trt._pipelines.cuda.program import Program
from scrfd_trt._pipelines.cuda.slot import Slot

if TYPE_CHECKING:
    from cuda.core import Event, Stream
    from cuda.core.graph import Graph

REPEATED = 20
"""How often a short step stands in the graph that measures it, so that launching it does not count."""

SPAN = 20
"""Launches between two events; one after each launch would make them longer."""

SPANS = 5
WARM_UP = 10


@dataclass(frozen=True)
class StepTimes:
    """Milliseconds of one run on the GPU.

    Attributes
    ----------
    engine
        The network alone in a CUDA graph, launched again and again: what all else is held against.
    engine_waited
        The same, launched and waited for each time; what a program that only runs the network would see.
    letterbox, faces, parameters
        Of the other steps, over all passes.
    whole
        The graph of all steps, launched again and again.
    """

    engine: float
    engine_waited: float
    parameters: float
    letterbox: float
    faces: float
    whole: float


class Replay:
    """Work as a CUDA graph, to be launched again and again. Made by :func:`replaying`.

    Parameters
    ----------
    graph
        What is launched.
    stream
        Where; nothing else is put into it.
    device
        The GPU.
    marks
        Two events that are timed.
    repeated
        How often the graph does the work.
    """

    def __init__(self, graph: Graph, stream: Stream, device: Device, marks: Sequence[Event], repeated: int) -> None:
        self._graph, self._stream, self._device, self._repeated = graph, stream, device, repeated
        self._begin, self._end = marks

    def span(self, launches: int) -> float:
        """Launch it so often without a pause, and return the milliseconds of one time."""
        with self._device.current():
            self._launch(2)  # they keep the GPU busy until the others are there
            call("recording a CUDA event", self._stream.record, self._begin)
            self._launch(launches)
            call("recording a CUDA event", self._stream.record, self._end)
            synchronize(self._stream)
            spent = call("measuring on the GPU", operator.sub, self._end, self._begin)
            return float(spent) / (launches * self._repeated)

    def waited(self) -> float:
        """Launch it, wait for it, and return the milliseconds of that."""
        with self._device.current():
            start = time.perf_counter()
            self._launch(1)
            synchronize(self._stream)
            return (time.perf_counter() - start) * 1000.0

    def _launch(self, times: int) -> None:
        for _ in range(times):
            call("launching a CUDA graph", self._graph.launch, self._stream)


@contextmanager
def replaying(work: Callable[[Stream], None], repeated: int = 1, *, stream: Stream, device: Device) -> Iterator[Replay]:
    """Capture work so often within one graph, and give it back at the end."""

    def several(stream: Stream) -> None:
        for _ in range(repeated):
            work(stream)

    with ExitStack() as opening:
        with device.current():
            graph = opening.enter_context(closing(capture(stream, several)))
        marks = [opening.enter_context(closing(create_event(device, timed=True))) for _ in range(2)]
        yield Replay(graph, stream, device, marks, repeated)


@contextmanager
def engine_alone(pipeline: CudaPipeline, images: Sequence[Any], threshold: float) -> Iterator[Replay]:
    """Lend the network alone, to be measured in turns with other work that waits for its end each time.

    Parameters
    ----------
    pipeline
        One of its slots is lent for that while.
    images, threshold
        As for :func:`step_times`.
    """
    with _prepared(pipeline, images, threshold) as (program, replayed), replayed(_network(program)) as replay:
        replay.span(WARM_UP)
        yield replay


def step_times(pipeline: CudaPipeline, images: Sequence[Any], threshold: float, *, runs: int) -> StepTimes:
    """Measure the steps of a run.

    Parameters
    ----------
    pipeline
        Nothing else may use the GPU meanwhile.
    images
        As many as one run takes at most.
    threshold
        Lowest score.
    runs
        How often each step is measured; medians are returned.
    """
    with _prepared(pipeline, images, threshold) as (program, replayed):
        times = {name: _time(replayed(work, times), runs) for name, (work, times) in _steps(program).items()}
        with replayed(_network(program)) as replay:
            waited = [replay.waited() for _ in range(WARM_UP + runs)][WARM_UP:]
    return StepTimes(engine_waited=statistics.median(waited), **times)


@contextmanager
def _prepared(
    pipeline: CudaPipeline, images: Sequence[Any], threshold: float
) -> Iterator[tuple[Program, Callable[..., AbstractContextManager[Replay]]]]:
    """Lend a program that has run with some images, and :func:`replaying` in a stream of its own."""
    with pipeline.borrow_slot() as slot:
        with pipeline.device.current():
            _run_twice(slot, images, threshold)
        with closing(create_stream(pipeline.device)) as stream:
            yield slot.program(len(images)), partial(replaying, stream=stream, device=pipeline.device)


def _run_twice(slot: Slot, images: Sequence[Any], threshold: float) -> None:
    for _ in range(2):  # from the second run on, the padding is there
        slot.start(images, threshold, None)
        slot.finish()


def _steps(program: Program) -> dict[str, tuple[Callable[[Stream], None], int]]:
    def letterbox(stream: Stream) -> None:
        for number in range(program.passes):
            program.letterbox(number, stream)

    return {
        "parameters": (program.send_parameters, REPEATED),
        "letterbox": (letterbox, REPEATED),
        "faces": (program.find, REPEATED),
        "whole": (program.enqueue_for_graph, 1),
        "engine": (_network(program), 1),
    }


def _network(program: Program) -> Callable[[Stream], None]:
    def network(stream: Stream) -> None:
        for number in range(program.passes):
            program.infer(number, stream)

    return network


def _time(replayed: AbstractContextManager[Replay], runs: int) -> float:
    """Return the median of a step's milliseconds over some spans of launches."""
    with replayed as replay:
        replay.span(WARM_UP)
        return statistics.median(replay.span(SPAN) for _ in range(max(SPANS, runs // SPAN)))
