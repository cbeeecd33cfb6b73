"""The GPU memory of one slot, laid out once for the largest run."""

from __future__ import annotations

import itertools
import math
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.cuda import DeviceBuffer, PinnedBuffer
from scrfd_trt.cuda.records import (
    BATCH,
    BOX_BYTES,
    CANDIDATES,
    HEADER,
    RESULT_BYTES,
    ROW,
    frame_bytes,
)
from scrfd_trt.heads import output_sizes
from scrfd_trt.pipelines.cuda.setting import Setting

ALIGNMENT = 256
"""Bytes; TensorRT wants this of all memory that it is handed."""


class Arena:
    """GPU memory for inputs, outputs and what the kernels need, and page-locked memory for parameters and results.

    Parameters
    ----------
    setting
        Of the pipeline.
    opening
        Gives the memory back when it is closed.

    Attributes
    ----------
    parameters : numpy.ndarray
        Bytes of one run's records, on the host.
    results : numpy.ndarray
        ``(images, HEADER + CANDIDATES · ROW)`` float32 on the host, which the GPU writes to.
    headers : numpy.ndarray
        ``(images, 3)`` int32 of these.
    boxes, scores, landmarks : numpy.ndarray
        ``(images, CANDIDATES, 4)``, ``(images, CANDIDATES)`` and ``(images, CANDIDATES, 5, 2)`` of these.
    parameters_at, workspace_at : int
        Addresses on the GPU.
    inputs_at : list of int
        Of the network's input in each pass.
    outputs_at : list of list of int
        Of its outputs in each pass.
    """

    def __init__(self, setting: Setting, opening: ExitStack) -> None:
        sizes = _sizes(setting)
        starts = list(itertools.accumulate((_aligned(size) for size in sizes), initial=0))
        memory = opening.enter_context(DeviceBuffer(starts.pop(), setting.device))
        addresses = iter([memory.handle + start for start in starts])
        self.parameters_at, self.workspace_at = next(addresses), next(addresses)
        self.inputs_at = [next(addresses) for _ in setting.scales]
        self.outputs_at = [[next(addresses) for _ in setting.engine.outputs] for _ in setting.scales]
        self.pinned_parameters = opening.enter_context(PinnedBuffer(sizes[0], setting.device))
        self._pinned_results = opening.enter_context(PinnedBuffer(setting.images * RESULT_BYTES, setting.device))
        self.parameters: NDArray[np.uint8] = self.pinned_parameters.view((sizes[0],), np.uint8)
        self.results: NDArray[np.float32] = self._pinned_results.view(
            (setting.images, HEADER + CANDIDATES * ROW), np.float32
        )
        self.headers: NDArray[np.int32] = self.results.view(np.int32)[:, :3]
        rows = self.results[:, HEADER:].reshape(setting.images, CANDIDATES, ROW)
        self.boxes, self.scores = rows[..., :4], rows[..., 4]
        self.landmarks = rows[..., 5:15].reshape(setting.images, CANDIDATES, 5, 2)
        self.results_at = self._pinned_results.handle

    def forget(self) -> None:
        """Let go of the arrays, which must not be touched once the memory is given back."""
        self.parameters, self.results = np.empty(0, np.uint8), np.empty((0, 0), np.float32)
        self.headers = np.empty((0, 3), np.int32)
        self.boxes = self.scores = self.landmarks = self.results


def _sizes(setting: Setting) -> list[int]:
    """Return the bytes of each part: parameters, workspace, inputs and outputs."""
    parameters = BATCH.size + setting.images * frame_bytes(len(setting.scales))
    sizes = [parameters, setting.images * CANDIDATES * BOX_BYTES]
    item = np.dtype(setting.engine.input.dtype).itemsize
    sizes += [setting.places * 3 * math.prod(scale) * item for scale in setting.scales]
    for scale in setting.scales:
        values = output_sizes(setting.layout, setting.places, scale)
        sizes += [
            values[index][0] * np.dtype(output.dtype).itemsize for index, output in enumerate(setting.engine.outputs)
        ]
    return sizes


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
