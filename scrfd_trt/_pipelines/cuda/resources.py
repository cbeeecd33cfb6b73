"""What all slots of a pipeline share."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scrfd_trt._cuda import kernels as gpu_kernels
from scrfd_trt._cuda.driver import Device
from scrfd_trt._cuda.kernels import LEVELS, Kernels
from scrfd_trt._engine.loaded_engine import ContextPool, LoadedEngine
from scrfd_trt._heads import HeadLayout
from scrfd_trt._pipelines.cuda.slot_memory import Helpers
from scrfd_trt._pipelines.profiles import choose_scales, largest_batch, split
from scrfd_trt._tensors import ShapeRange
from scrfd_trt.errors import BackendError, OptionError

if TYPE_CHECKING:
    from cuda.core import Event

    from scrfd_trt._options import DetectorOptions


@dataclass(frozen=True)
class PipelineResources:
    """What all slots of a pipeline share."""

    engine: LoadedEngine
    contexts: ContextPool
    kernels: Kernels
    layout: HeadLayout
    scales: tuple[tuple[int, int], ...]  # width and height in pixels of each pass
    options: DetectorOptions
    max_batch: int  # maximum number of images per run
    engine_batch: int  # maximum batch size of the engine; above max_batch if small batches are padded
    helpers: Helpers  # threads that help to copy images
    # Orders large runs: each waits until the previous one's inference has finished.
    inference_done: Event
    # Held while contexts are created and graphs captured. Reentrant: the garbage collector may end a stream of results
    # meanwhile in the same thread, and its runs need the lock.
    setup_lock: threading.RLock = field(default_factory=threading.RLock)
    capture_failed: threading.Event = field(default_factory=threading.Event)  # set once that was logged

    @property
    def device(self) -> Device:
        return self.engine.device

    @property
    def description(self) -> str:
        return f"{self.engine.flavour} on {self.device.gpu}"

    def invalid_values(self) -> BackendError:
        """Return the error of an image for which the model returned numbers that cannot be a face's."""
        return BackendError(f"{self.description}: the model returned invalid values: NaN, infinity, or scores above 1")


def make_resources(
    engine: LoadedEngine, contexts: ContextPool, options: DetectorOptions, helpers: Helpers, inference_done: Event
) -> PipelineResources:
    """Choose scales and batch sizes, and load the kernels."""
    layout = engine.layout
    scales = choose_scales(engine.input.shape, options.scales, engine.ranges)
    if len(scales) * len(layout.strides) > LEVELS:
        raise OptionError(f"scales: a GPU supports at most {LEVELS // len(layout.strides)} sizes per detector")
    batch = (engine.input.shape[0] if layout.has_batch_axis else 1) or options.max_batch
    max_batch = min(batch, *(largest_batch(engine.ranges, scale) for scale in scales))
    counts = range(1, max_batch + 1)
    engine_batch = max(profile_for(engine.ranges, scale, count)[0] for scale in scales for count in counts)
    kernels = gpu_kernels.load(engine.device)
    return PipelineResources(
        engine, contexts, kernels, layout, scales, options, max_batch, engine_batch, helpers, inference_done
    )


def profile_for(ranges: Sequence[ShapeRange], scale: tuple[int, int], images: int) -> tuple[int, int]:
    """Return the batch size of the engine for so many images, at least as large, and the optimization profile."""
    (part,) = split(ranges, (images, 3, scale[1], scale[0]))
    return part.batch_size, part.profile
