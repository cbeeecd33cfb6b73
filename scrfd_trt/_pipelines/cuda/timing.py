"""Measure how long each step of a run takes on the GPU, with CUDA events."""

from __future__ import annotations

import operator
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from scrfd_trt._cuda.driver import Device, call
from scrfd_trt._cuda.stream import capture, create_event, create_stream, synchronize
from scrfd_trt._pipelines.cuda.pipeline import CudaPipeline
from scrfd_trt._pipelines.cuda.program import Program

if TYPE_CHECKING:
    from cuda.core import Event, Stream
    from cuda.core.graph import Graph

REPEATS = 20  # repetitions of a short step in the graph that measures it, so that the launch does not count
SPAN = 20  # launches between two events; an event after each launch would make them longer
SPANS = 5
WARM_UP = 10


@dataclass(frozen=True)
class StepTimes:
    """Milliseconds of one run on the GPU, over all passes."""

    engine: float  # inference alone in a CUDA graph, launched without pauses: the reference for the others
    engine_waited: float  # the same with a wait after each launch
    parameters: float
    letterbox: float
    faces: float  # decoding and NMS
    whole: float  # the graph of all steps, launched without pauses


def step_times(pipeline: CudaPipeline, images: Sequence[Any], threshold: float, *, runs: int) -> StepTimes:
    """Return the medians of ``runs`` measurements of each step of a run, while nothing else uses the GPU."""
    with _prepare(pipeline, images, threshold) as (program, replay_of):
        steps: dict[str, tuple[Callable[[Stream], None], int]] = {
            "parameters": (program.send_parameters, REPEATS),
            "letterbox": (program.letterbox_all, REPEATS),
            "faces": (program.find_faces, REPEATS),
            "whole": (program.enqueue_for_graph, 1),
            "engine": (program.infer_all, 1),
        }
        times = {name: _median(replay_of(work, repeats), runs) for name, (work, repeats) in steps.items()}
        with replay_of(program.infer_all) as replay:
            waited = [replay.waited() for _ in range(WARM_UP + runs)][WARM_UP:]
    return StepTimes(engine_waited=statistics.median(waited), **times)


@contextmanager
def engine_alone(pipeline: CudaPipeline, images: Sequence[Any], threshold: float) -> Iterator[Replay]:
    """Yield the inference alone, to measure it in turns with other work; a slot of the pipeline is in use meanwhile."""
    with _prepare(pipeline, images, threshold) as (program, replay_of), replay_of(program.infer_all) as replay:
        replay.span(WARM_UP)
        yield replay


class Replay:
    """A CUDA graph that does some work ``repeats`` times, and a stream of its own to launch it in."""

    def __init__(self, graph: Graph, stream: Stream, device: Device, events: Sequence[Event], repeats: int) -> None:
        self._graph, self._stream, self._device, self._repeats = graph, stream, device, repeats
        self._begin, self._end = events

    def span(self, launches: int) -> float:
        """Launch it several times without pauses; return the milliseconds of the work done once."""
        with self._device.current():
            self._launch(2)  # they keep the GPU busy until the others are enqueued
            call("recording a CUDA event", self._stream.record, self._begin)
            self._launch(launches)
            call("recording a CUDA event", self._stream.record, self._end)
            synchronize(self._stream)
            spent = call("measuring on the GPU", operator.sub, self._end, self._begin)
            return float(spent) / (launches * self._repeats)

    def waited(self) -> float:
        """Launch it once and wait; return the milliseconds."""
        with self._device.current():
            start = time.perf_counter()
            self._launch(1)
            synchronize(self._stream)
            return (time.perf_counter() - start) * 1000.0

    def _launch(self, times: int) -> None:
        for _ in range(times):
            call("launching a CUDA graph", self._graph.launch, self._stream)


@contextmanager
def _prepare(
    pipeline: CudaPipeline, images: Sequence[Any], threshold: float
) -> Iterator[tuple[Program, Callable[..., AbstractContextManager[Replay]]]]:
    """Yield a program that has run with these images, and :func:`_replay` in a stream of its own."""
    with pipeline.borrow_slot() as slot:
        with pipeline.device.current():
            for _ in range(2):  # the second run finds the padding in place
                slot.start(images, threshold, None)
                slot.finish()
        with closing(create_stream(pipeline.device)) as stream:
            yield slot.program(len(images)), partial(_replay, stream=stream, device=pipeline.device)


@contextmanager
def _replay(work: Callable[[Stream], None], repeats: int = 1, *, stream: Stream, device: Device) -> Iterator[Replay]:
    """Capture work several times in one graph, which is freed at the end."""

    def repeat(stream: Stream) -> None:
        for _ in range(repeats):
            work(stream)

    with ExitStack() as stack:
        with device.current():
            graph = stack.enter_context(closing(capture(stream, repeat)))
        events = [stack.enter_context(closing(create_event(device, timed=True))) for _ in range(2)]
        yield Replay(graph, stream, device, events, repeats)


def _median(opening: AbstractContextManager[Replay], runs: int) -> float:
    """Return the median milliseconds over several spans of launches."""
    with opening as replay:
        replay.span(WARM_UP)
        return statistics.median(replay.span(SPAN) for _ in range(max(SPANS, runs // SPAN)))
