"""What all slots of a pipeline have in common."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scrfd_trt._cuda.device import Device
from scrfd_trt._cuda.kernels import Kernels
from scrfd_trt._engine.loaded_engine import ContextPool, LoadedEngine
from scrfd_trt._heads import HeadLayout
from scrfd_trt._pipelines.profiles import largest_batch, split
from scrfd_trt._tensors import ShapeRange

if TYPE_CHECKING:
    from cuda.core import Event

    from scrfd_trt._options import DetectorOptions

HELPERS = 2
"""Threads that help to copy images."""


@dataclass(frozen=True)
class PipelineResources:
    """What all slots of a pipeline have in common.

    Attributes
    ----------
    engine
        The network.
    contexts
        Lends its execution contexts.
    kernels
        Of this project, loaded on the engine's GPU.
    layout
        The network's head layout.
    scales
        Width and height of each pass in pixels.
    options
        Of the detector.
    images
        How many images a run takes at most.
    places
        How many images the network is given at most in one run; more than ``images`` where its batch is fixed.
    helpers
        Threads that help to copy images, ``HELPERS`` many.
    turn
        Set by each large run once its network is done; the next one's begins then, so that a run whose images are late
        holds those up that were started after it.
    preparing
        Held while execution contexts are made and graphs are captured. The garbage collector may end a stream of
        results meanwhile, in the same thread, whose runs need it too.
    uncaptured
        Set once it was said that work cannot be captured.
    """

    engine: LoadedEngine
    contexts: ContextPool
    kernels: Kernels
    layout: HeadLayout
    scales: tuple[tuple[int, int], ...]
    options: DetectorOptions
    images: int
    places: int
    helpers: Executor
    turn: Event
    preparing: threading.RLock = field(default_factory=threading.RLock)
    uncaptured: threading.Event = field(default_factory=threading.Event)

    @property
    def device(self) -> Device:
        """The GPU."""
        return self.engine.device

    @property
    def description(self) -> str:
        """What runs the network, a few words for messages."""
        return f"{self.engine.flavour} on {self.device.gpu}"


def max_batch(ranges: Sequence[ShapeRange], scales: Sequence[tuple[int, int]], batch: int | None, wanted: int) -> int:
    """Return how many images a run takes at most.

    Parameters
    ----------
    ranges
        What each optimization profile takes.
    scales
        Width and height of each pass.
    batch
        The network's own batch, None where it is free.
    wanted
        What the options ask for.
    """
    return min(batch or wanted, *(largest_batch(ranges, scale) for scale in scales))


def places_for(ranges: Sequence[ShapeRange], scale: tuple[int, int], images: int) -> tuple[int, int]:
    """Return how many images the network is given for so many, and by which optimization profile."""
    (part,) = split(ranges, (images, 3, scale[1], scale[0]))
    return part.batch_size, part.profile
