"""How long each step of a run takes on the GPU, measured by the GPU itself."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from scrfd_trt.cuda import Event, Graph, Stream
from scrfd_trt.pipelines.cuda.pipeline import CudaPipeline
from scrfd_trt.pipelines.cuda.program import Program

REPEATED = 20
"""How often a short step stands in the graph that measures it, so that launching it does not count."""


@dataclass(frozen=True)
class StepTimes:
    """Milliseconds of one run on the GPU.

    Attributes
    ----------
    engine
        The network alone in a CUDA graph, launched again and again: what all else is held against.
    engine_waited
        The same, launched and waited for each time; what a program that only runs the network would see.
    letterbox, network, faces, parameters
        Of each step, over all passes.
    whole
        The graph of all steps, launched again and again.
    """

    engine: float
    engine_waited: float
    parameters: float
    letterbox: float
    network: float
    faces: float
    whole: float


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
    with pipeline.borrow_slot() as slot, pipeline.device.current():
        for _ in range(2):  # from the second run on, the padding is there
            slot.start(images, threshold, None)
            slot.finish()
        program = slot.program(len(images))
        with Stream.create(pipeline.device) as stream:
            times = {name: _time(work, times, stream, runs) for name, (work, times) in _steps(program).items()}
            return StepTimes(engine_waited=_waited(_network(program), stream, runs), **times)


def _steps(program: Program) -> dict[str, tuple[Callable[[Stream], None], int]]:
    passes = range(program.passes)

    def letterbox(stream: Stream) -> None:
        for number in passes:
            program.letterbox(number, stream)

    network = _network(program)
    return {
        "parameters": (program.send_parameters, REPEATED),
        "letterbox": (letterbox, REPEATED),
        "network": (network, 1),
        "faces": (program.find, REPEATED),
        "whole": (program.enqueue, 1),
        "engine": (network, 1),
    }


def _network(program: Program) -> Callable[[Stream], None]:
    def network(stream: Stream) -> None:
        for number in range(program.passes):
            program.infer(number, stream)

    return network


def _time(work: Callable[[Stream], None], repeated: int, stream: Stream, runs: int) -> float:
    """Return the median of a step's milliseconds, launched again and again."""

    def several(stream: Stream) -> None:
        for _ in range(repeated):
            work(stream)

    device = stream.device
    marks = [Event(device, timed=True) for _ in range(runs + 1)]
    try:
        with Graph.capture(stream, several) as graph:
            for _ in range(10):
                graph.launch(stream)
            for mark in marks:
                mark.record(stream)
                graph.launch(stream)
            stream.synchronize()
        spans = [later.milliseconds_since(earlier) for earlier, later in pairwise(marks)]
    finally:
        for mark in marks:
            mark.close()
    return statistics.median(spans) / repeated


def _waited(work: Callable[[Stream], None], stream: Stream, runs: int) -> float:
    seconds = []
    with Graph.capture(stream, work) as graph:
        for _ in range(runs + 10):
            start = time.perf_counter()
            graph.launch(stream)
            stream.synchronize()
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[10:]) * 1000.0
