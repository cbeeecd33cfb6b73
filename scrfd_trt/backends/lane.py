"""One execution context of an engine, made ready for an input's shape only where that changed."""

from __future__ import annotations

from scrfd_trt.backends.staging import Staging
from scrfd_trt.cuda import DeviceBuffer, Stream
from scrfd_trt.engine.loaded import LoadedEngine
from scrfd_trt.errors import BackendError


class Lane:
    """An execution context for one optimization profile.

    Parameters
    ----------
    engine
        Its engine.
    profile
        The profile's number.
    stream
        What its runs are put into.
    scratch
        Memory that it needs while it runs; see :meth:`LoadedEngine.new_scratch`.
    """

    def __init__(self, engine: LoadedEngine, profile: int, stream: Stream, scratch: DeviceBuffer | None) -> None:
        self._engine = engine
        self._stream = stream
        self._context = engine.new_context(profile, stream, scratch)
        self._shape: tuple[int, ...] = ()
        self._outputs: list[tuple[int, ...]] = []
        self._addresses: list[int] = []

    def prepare(self, shape: tuple[int, ...], source: Staging, target: Staging) -> None:
        """Make ready for an input of this shape.

        Parameters
        ----------
        shape
            ``(B, 3, H, W)``, one that the profile admits.
        source, target
            Where input and outputs lie; they are prepared too.

        Raises
        ------
        BackendError
            If TensorRT refuses, or there is not enough memory.
        """
        if shape != self._shape:
            self._set_shape(shape)
        addresses = source.prepare([shape]) + target.prepare(self._outputs)
        if addresses != self._addresses:
            self._addresses = []
            for tensor, address in zip((self._engine.input, *self._engine.outputs), addresses, strict=True):
                self._engine.ask("setting an address", self._context.set_tensor_address, tensor.name, address)
            self._addresses = addresses

    def _set_shape(self, shape: tuple[int, ...]) -> None:
        self._shape = ()
        self._engine.ask(f"setting an input of {shape}", self._context.set_input_shape, self._engine.input.name, shape)
        self._outputs = [tuple(self._context.get_tensor_shape(tensor.name)) for tensor in self._engine.outputs]
        for tensor, sides in zip(self._engine.outputs, self._outputs, strict=True):
            if any(side < 0 for side in sides):
                raise BackendError(f"the shape of output {tensor.name} is not known before the run: {sides}")
        self._shape = shape

    def start(self) -> None:
        """Put a run into the stream.

        Raises
        ------
        BackendError
            If TensorRT refuses.
        """
        self._engine.ask("running the network", self._context.execute_async_v3, self._stream.handle)
