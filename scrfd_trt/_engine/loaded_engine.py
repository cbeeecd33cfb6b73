"""Execution contexts for many at a time, also where a release allows only one for an optimization profile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from scrfd_trt._cuda.device import Device
from scrfd_trt._cuda.dropping import close_when_dropped
from scrfd_trt._cuda.memory import gpu_memory
from scrfd_trt._cuda.stream import synchronize
from scrfd_trt._engine import logs
from scrfd_trt._engine.flavours import Flavour
from scrfd_trt._engine.plan import REBUILD
from scrfd_trt._heads import HeadLayout, recognize
from scrfd_trt._tensors import ShapeRange, TensorSpec, listing
from scrfd_trt.errors import BackendError, ClosedError, ModelFormatError, ScrfdError, one_line

if TYPE_CHECKING:
    import tensorrt
    from cuda.core import Buffer, Stream
    from typing_extensions import Self

DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
    "BF16": "bfloat16",
    "FP8": "float8",
    "INT4": "int4",
    "FP4": "float4",
}
"""TensorRT's names of element types, and NumPy's where it has them."""

FLOATS = {"float32", "float16"}
RANK = 4


@dataclass(frozen=True)
class NetworkIO:
    """Tensors and profiles of an engine.

    Attributes
    ----------
    inputs, outputs
        In the engine's own order; None where a side is free.
    ranges
        Shapes of the first input, one for each optimization profile.
    unusual
        Tensors that are not plain arrays on the GPU, and how they lie instead.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ranges: tuple[ShapeRange, ...]
    unusual: tuple[str, ...]


def read_network_io(engine: tensorrt.ICudaEngine, module: ModuleType) -> NetworkIO:
    """Read an engine's tensors and profiles, by the calls that all releases from 8.6 have.

    Parameters
    ----------
    engine
        Open.
    module
        The TensorRT that opened it.
    """
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    groups: dict[str, list[TensorSpec]] = {"INPUT": [], "OUTPUT": []}
    for name in names:
        groups[engine.get_tensor_mode(name).name].append(_spec(engine, name))
    inputs, outputs = tuple(groups["INPUT"]), tuple(groups["OUTPUT"])
    ranges = tuple(_range(engine, inputs[0], index) for index in range(engine.num_optimization_profiles) if inputs)
    return NetworkIO(inputs, outputs, ranges, tuple(filter(None, (_unusual(engine, module, name) for name in names))))


def recognize_network(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> HeadLayout:
    """Find out whether tensors are those of a SCRFD network.

    Parameters
    ----------
    inputs, outputs
        Of a network.

    Raises
    ------
    ModelFormatError
        If they are not; the message lists them.
    """
    if len(inputs) != 1 or len(inputs[0].shape) != RANK or inputs[0].shape[1] not in {3, None}:
        raise ModelFormatError(f"one input (B, 3, H, W) is wanted, but the inputs are: {listing(inputs)}")
    layout = recognize(outputs)
    odd = [tensor for tensor in (*inputs, *outputs) if tensor.dtype not in FLOATS]
    if odd:
        raise ModelFormatError(f"float32 or float16 is wanted, but there are: {listing(odd)}")
    return layout


def _spec(engine: tensorrt.ICudaEngine, name: str) -> TensorSpec:
    shape = tuple(None if side < 0 else side for side in tuple(engine.get_tensor_shape(name)))
    kind = engine.get_tensor_dtype(name).name
    return TensorSpec(name, shape, DTYPES.get(kind, kind.lower()))


def _range(engine: tensorrt.ICudaEngine, tensor: TensorSpec, index: int) -> ShapeRange:
    fixed = tuple(side for side in tensor.shape if side is not None)
    if len(fixed) == len(tensor.shape):
        return ShapeRange(fixed, fixed, fixed)
    return ShapeRange(*(tuple(shape) for shape in engine.get_tensor_profile_shape(tensor.name, index)))


def _unusual(engine: tensorrt.ICudaEngine, module: ModuleType, name: str) -> str:
    # The lean and dispatch runtimes have the calls, but not all of the types that they return.
    if hasattr(module, "TensorLocation"):
        location = engine.get_tensor_location(name).name
        if location != "DEVICE":
            return f"{name} lies in the memory of the {location.lower()}"
    if hasattr(module, "TensorFormat"):
        form = engine.get_tensor_format(name).name
        if form != "LINEAR":
            return f"{name} is laid out as {form}"
    return ""


FOREIGN = (RuntimeError, TypeError, ValueError, MemoryError)
"""What TensorRT's bindings raise."""


def call_checked(
    flavour: Flavour, failure: Callable[[str], ScrfdError], function: Callable[..., Any], *arguments: Any
) -> Any:
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
    """An engine in the GPU's memory. A context manager, made by :func:`scrfd_trt._engine.runtime.load_engine`.

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
        self._owned = [*runtimes, engine]  # freed from the last to the first
        self._finalizer = close_when_dropped(self, partial(_free, self._owned, device))
        self._name = name
        self._by_lean_runtime = by_lean_runtime
        self.flavour = flavour
        self.device = device
        self.outside = read_network_io(engine, flavour.module)

    @property
    def engine(self) -> tensorrt.ICudaEngine:
        """TensorRT's own object.

        Raises
        ------
        ClosedError
            After ``close()``.
        """
        if not self._owned:
            raise ClosedError("the engine was closed; open it again")
        engine: tensorrt.ICudaEngine = self._owned[-1]
        return engine

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
        return call_checked(
            self.flavour, lambda why: BackendError(f"{self._name}: {doing} failed: {why}"), function, *arguments
        )

    def new_scratch(self, stream: Stream) -> Buffer | None:
        """Return the memory that a context needs to run in a stream; None where contexts bring their own."""
        return None if self.memory is None else gpu_memory(max(self.memory, 1), self.device, stream)

    def new_context(self, profile: int, stream: Stream, scratch: Buffer | None) -> tensorrt.IExecutionContext:
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
            self.ask(doing, context.set_optimization_profile_async, profile, int(stream.handle))
            synchronize(stream)
        return context

    def _new_context(self, doing: str, scratch: Buffer | None) -> tensorrt.IExecutionContext:
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
            context.set_device_memory(int(scratch.handle), scratch.size)
        else:
            context.device_memory = int(scratch.handle)
        return context

    @property
    def shares_profiles(self) -> bool:
        return not self._by_lean_runtime and (self.flavour.is_rtx or self.flavour.release >= (10, 0, 0))

    @property
    def memory(self) -> int | None:
        # The lean runtime of an older release, which runs the plan then, does not know the later call.
        names = () if self._by_lean_runtime else ("device_memory_size_v2", "device_memory_size")
        can_lend = hasattr(self.flavour.module, "ExecutionContextAllocationStrategy") or hasattr(
            self.engine, "create_execution_context_without_device_memory"
        )
        own = [name for name in names if can_lend and hasattr(type(self.engine), name)]
        return int(getattr(self.engine, own[0])) if own else None

    def close(self) -> None:
        """Give its memory back; a second call does nothing. Its contexts must be gone by then."""
        self._finalizer.detach()
        _free(self._owned, self.device)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _free(owned: list[Any], device: Device) -> None:
    if owned:
        with device.current():
            while owned:
                owned.pop()


@dataclass(eq=False)
class LeasedContext:
    """An execution context, and where it is from.

    Attributes
    ----------
    context
        TensorRT's own; None once it is given back.
    engine
        The copy of the engine that it belongs to.
    profile
        Number of its optimization profile.
    """

    context: tensorrt.IExecutionContext | None
    engine: LoadedEngine
    profile: int


class ContextPool:
    """Lends execution contexts of an engine, and opens further copies of it where it must.

    Before TensorRT 10, an optimization profile of an engine serves one execution context only. A SCRFD engine is a few
    megabytes, so it is opened once more where a profile is taken.

    Parameters
    ----------
    engine
        Belongs to this from now on, and is closed with it.
    reopen
        Opens the same engine again.
    """

    def __init__(self, engine: LoadedEngine, reopen: Callable[[], LoadedEngine]) -> None:
        self._copies = [engine]
        self._reopen = reopen
        self._taken: set[tuple[int, int]] = set()
        self._lock = threading.RLock()  # the garbage collector may end a run in the thread that has it

    def take(self, profile: int, stream: Stream, scratch: Buffer | None) -> LeasedContext:
        """Lend an execution context, with the device current.

        Parameters
        ----------
        profile, stream, scratch
            As for :meth:`LoadedEngine.new_context`.

        Raises
        ------
        BackendError
            If there is not enough memory, say.
        """
        with self._lock:
            number = self._copy_for(profile)
            engine = self._copies[number]
            context = engine.new_context(profile, stream, scratch)
            self._taken.add((number, profile))
            return LeasedContext(context, engine, profile)

    def give_back(self, lent: LeasedContext) -> None:
        """Take a context back, with the device current; its work must be done."""
        with self._lock:
            lent.context = None
            self._taken.discard((self._copies.index(lent.engine), lent.profile))

    def _copy_for(self, profile: int) -> int:
        if self._copies[0].shares_profiles:
            return 0
        for number in range(len(self._copies)):
            if (number, profile) not in self._taken:
                return number
        self._copies.append(self._reopen())
        return len(self._copies) - 1

    def close(self) -> None:
        """Close all copies; a second call does nothing. All contexts must have been given back."""
        while self._copies:
            self._copies.pop().close()
