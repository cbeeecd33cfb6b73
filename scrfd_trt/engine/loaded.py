"""An engine in the GPU's memory, and the one way to call TensorRT."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

from scrfd_trt.cuda import Device, DeviceBuffer, Stream
from scrfd_trt.engine import logs
from scrfd_trt.engine.flavours import Flavour
from scrfd_trt.engine.outside import read_outside, recognize_network
from scrfd_trt.engine.plan import REBUILD
from scrfd_trt.errors import BackendError, ClosedError, ModelFormatError, ScrfdError, one_line
from scrfd_trt.heads import HeadLayout
from scrfd_trt.tensors import ShapeRange, TensorSpec

if TYPE_CHECKING:
    import tensorrt
    from typing_extensions import Self

FOREIGN = (RuntimeError, TypeError, ValueError, MemoryError)
"""What TensorRT's bindings raise."""


def ask(flavour: Flavour, failure: Callable[[str], ScrfdError], function: Callable[..., Any], *arguments: Any) -> Any:
    """Call TensorRT, and raise what it says where it fails.

    Parameters
    ----------
    flavour
        Whose function it is.
    failure
        Makes the error from TensorRT's reason.
    function, *arguments
        What returns False or None where it fails.

    Raises
    ------
    ScrfdError
        The one that ``failure`` makes, if it fails.
    """
    with logs.listen(flavour.module) as said:
        try:
            result = function(*arguments)
        except FOREIGN as error:
            raise failure(said.reason(one_line(error))) from error
    if result is None or result is False:
        raise failure(said.reason())
    return result


class LoadedEngine:
    """An engine in the GPU's memory. A context manager, made by :func:`scrfd_trt.engine.runtime.load_engine`.

    Parameters
    ----------
    engine
        As TensorRT opened it.
    runtimes
        What opened it, which must live as long.
    flavour
        The TensorRT.
    device
        The GPU.
    name
        For messages.
    by_lean_runtime
        Whether a lean runtime of another release runs it.

    Attributes
    ----------
    flavour : Flavour
        The TensorRT that runs it.
    device : Device
        The GPU that it is on.
    outside : Outside
        Its tensors and profiles.
    memory : int or None
        Bytes that an execution context needs on the GPU while it runs; None where a lean runtime runs it, which does
        not tell.
    shares_profiles : bool
        Whether several execution contexts may use one optimization profile. Before TensorRT 10, only one may.
    """

    def __init__(
        self,
        engine: tensorrt.ICudaEngine,
        runtimes: list[Any],
        flavour: Flavour,
        device: Device,
        name: str,
        *,
        by_lean_runtime: bool = False,
    ) -> None:
        self._engine: tensorrt.ICudaEngine | None = engine
        self._runtimes = runtimes
        self._name = name
        self._by_lean_runtime = by_lean_runtime
        self.flavour = flavour
        self.device = device
        self.outside = read_outside(engine, flavour.module)

    @property
    def engine(self) -> tensorrt.ICudaEngine:
        """TensorRT's own object.

        Raises
        ------
        ClosedError
            After ``close()``.
        """
        if self._engine is None:
            raise ClosedError("the engine was closed; open it again")
        return self._engine

    @property
    def input(self) -> TensorSpec:
        """The one input, ``(B, 3, H, W)``."""
        return self.outside.inputs[0]

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, in the engine's own order."""
        return self.outside.outputs

    @property
    def ranges(self) -> tuple[ShapeRange, ...]:
        """The input shapes that each optimization profile takes."""
        return self.outside.ranges

    @cached_property
    def layout(self) -> HeadLayout:
        """The head layout.

        Raises
        ------
        ModelFormatError
            If this is the engine of another network, or not one of plain arrays; the message lists the tensors.
        """
        if self.outside.unusual:
            raise ModelFormatError(
                f"plain arrays on the GPU are wanted, but {'; '.join(self.outside.unusual)}; {REBUILD}"
            )
        return recognize_network(self.outside.inputs, self.outputs)

    def ask(self, doing: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call TensorRT.

        Parameters
        ----------
        doing
            What for, for messages, as in "running".
        function, *arguments
            A method of TensorRT's that returns False or None where it fails.

        Raises
        ------
        BackendError
            If it fails; the message is TensorRT's own.
        """
        return ask(self.flavour, lambda why: BackendError(f"{self._name}: {doing} failed: {why}"), function, *arguments)

    def new_scratch(self) -> DeviceBuffer | None:
        """Reserve the memory that a running context needs; None where contexts bring their own."""
        return None if self.memory is None else DeviceBuffer(max(self.memory, 1), self.device)

    def new_context(self, profile: int, stream: Stream, scratch: DeviceBuffer | None) -> tensorrt.IExecutionContext:
        """Make an execution context for one optimization profile, with the device current.

        Parameters
        ----------
        profile
            Its number.
        stream
            What is needed to change to the profile is done in it, and waited for.
        scratch
            Of :meth:`new_scratch`. Of the contexts that are given the same, only one may run at a time.

        Raises
        ------
        BackendError
            If there is not enough memory, say.
        """
        doing = f"making an execution context for profile {profile}"
        context = self._new_context(doing, scratch)
        if context.active_optimization_profile != profile:
            self.ask(doing, context.set_optimization_profile_async, profile, stream.handle)
            stream.synchronize()
        return context

    def _new_context(self, doing: str, scratch: DeviceBuffer | None) -> tensorrt.IExecutionContext:
        engine, module = self.engine, self.flavour.module
        context: tensorrt.IExecutionContext
        if scratch is None:
            context = self.ask(doing, engine.create_execution_context)
            return context
        if hasattr(module, "ExecutionContextAllocationStrategy"):
            lent = module.ExecutionContextAllocationStrategy.USER_MANAGED
            context = self.ask(doing, engine.create_execution_context, lent)
        else:
            context = self.ask(doing, engine.create_execution_context_without_device_memory)
        if hasattr(context, "set_device_memory"):
            context.set_device_memory(scratch.handle, scratch.size)
        else:
            context.device_memory = scratch.handle
        return context

    @property
    def shares_profiles(self) -> bool:  # noqa: D102 - told above
        return not self._by_lean_runtime and (self.flavour.is_rtx or self.flavour.release >= (10, 0, 0))

    @property
    def memory(self) -> int | None:  # noqa: D102 - told above
        # The lean runtime of an older release, which runs the plan then, does not know the later call.
        names = () if self._by_lean_runtime else ("device_memory_size_v2", "device_memory_size")
        can_lend = hasattr(self.flavour.module, "ExecutionContextAllocationStrategy") or hasattr(
            self.engine, "create_execution_context_without_device_memory"
        )
        own = [name for name in names if can_lend and hasattr(type(self.engine), name)]
        return int(getattr(self.engine, own[0])) if own else None

    def close(self) -> None:
        """Give its memory back; a second call does nothing. Its contexts must be gone by then."""
        if self._engine is not None:
            with self.device.current():
                self._engine = None
                while self._runtimes:
                    self._runtimes.pop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
