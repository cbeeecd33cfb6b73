"""A TensorRT engine as a backend of the host pipeline, for comparisons with the cuda pipeline."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

import numpy as np

from scrfd_trt._cuda import DeviceBuffer, PinnedBuffer, Stream
from scrfd_trt._cuda.driver import call
from scrfd_trt._engine.runtime import load_engine
from scrfd_trt._pipelines.scales import split


class EngineBackend:
    """Copy in, run, wait, copy out: one execution context per optimization profile, and new memory for each run.

    Parameters
    ----------
    source, **running
        As for :func:`scrfd_trt._engine.runtime.load_engine`.
    """

    def __init__(self, source: Any, **running: Any) -> None:
        with ExitStack() as opening:
            self._engine = opening.enter_context(load_engine(source, **running))
            self._device = self._engine.device
            self._stream = opening.enter_context(Stream.create(self._device))
            self._scratch = self._engine.new_scratch()
            if self._scratch is not None:
                opening.enter_context(self._scratch)
            self._contexts: dict[int, Any] = {}
            opening.callback(self._contexts.clear)
            self._open = opening.pop_all()
        self._lock = threading.Lock()
        self.input, self.outputs, self.ranges = self._engine.input, self._engine.outputs, self._engine.ranges
        self.description = f"{self._engine.flavour} on {self._device.gpu}"

    def run(self, blob):
        with self._lock, self._device.current():
            runs = [self._run(blob[part.start : part.stop], part) for part in split(self.ranges, blob.shape)]
        return runs[0] if len(runs) == 1 else [np.concatenate(outputs) for outputs in zip(*runs, strict=True)]

    def _run(self, blob, part):
        engine, stream, tensors = self._engine, self._stream, (self.input, *self.outputs)
        if part.profile not in self._contexts:
            self._contexts[part.profile] = engine.new_context(part.profile, stream, self._scratch)
        context = self._contexts[part.profile]
        shape = (part.places, *blob.shape[1:])
        engine.ask("setting the shape", context.set_input_shape, self.input.name, shape)
        arrays = [np.zeros(tuple(context.get_tensor_shape(tensor.name)), tensor.dtype) for tensor in self.outputs]
        with ExitStack() as memory:
            given = memory.enter_context(PinnedBuffer(np.empty(shape, self.input.dtype).nbytes, self._device))
            sizes = [given.size, *(array.nbytes for array in arrays)]
            buffers = [memory.enter_context(DeviceBuffer(size, self._device)) for size in sizes]
            pixels = given.view(shape, self.input.dtype)
            pixels[: len(blob)], pixels[len(blob) :] = blob, 0
            buffers[0].upload(given, given.size, stream)
            for tensor, buffer in zip(tensors, buffers, strict=True):
                engine.ask("setting an address", context.set_tensor_address, tensor.name, buffer.handle)
            engine.ask("running the network", context.execute_async_v3, stream.handle)
            for array, buffer in zip(arrays, buffers[1:], strict=True):
                call(
                    "cuMemcpyDtoHAsync",
                    array.ctypes.data,
                    buffer.handle,
                    array.nbytes,
                    stream.handle,
                    doing="copying an output",
                )
            stream.synchronize()
        return arrays if part.places == len(blob) else [array[: len(blob)] for array in arrays]

    def close(self) -> None:
        with self._device.current():
            self._open.close()

    def __enter__(self):
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
