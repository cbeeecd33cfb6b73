"""Engines in GPU memory, and their execution contexts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from scrfd_trt._cuda.driver import Device
from scrfd_trt._cuda.finalizers import close_when_dropped
from scrfd_trt._cuda.memory import gpu_memory
from scrfd_trt._cuda.stream import handle_of, synchronize
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
    "FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64", "UINT8": "uint8",
    "BOOL": "bool", "BF16": "bfloat16", "FP8": "float8", "INT4": "int4", "FP4": "float4",
}  # fmt: skip
"""TensorRT's names of element types, and NumPy's where it has them."""

BINDING_ERRORS = (RuntimeError, TypeError, ValueError, MemoryError)  # what TensorRT's bindings raise


class LoadedEngine:
    """An engine in GPU memory; a context manager. ``runtimes``, TensorRT's objects that opened it, outlive it."""

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
        self.io = read_network_io(engine, flavour.module)
        self.outputs, self.ranges = self.io.outputs, self.io.ranges

    @property
    def engine(self) -> tensorrt.ICudaEngine:
        """TensorRT's own object; raise ClosedError after ``close()``."""
        if not self._owned:
            raise ClosedError("the engine was closed; open it again")
        engine: tensorrt.ICudaEngine = self._owned[-1]
        return engine

    @property
    def input(self) -> TensorSpec:
        """The only input, ``(B, 3, H, W)``."""
        return self.io.inputs[0]

    @cached_property
    def layout(self) -> HeadLayout:
        """The head layout; raise ModelFormatError if this is not a SCRFD engine of linear tensors in GPU memory."""
        if self.io.unusual:
            raise ModelFormatError(
                f"linear tensors in GPU memory are required, but {'; '.join(self.io.unusual)}; {REBUILD}"
            )
        return recognize_network(self.io.inputs, self.outputs)

    @property
    def shares_profiles(self) -> bool:
        """Whether several execution contexts may use one optimization profile; not before TensorRT 10."""
        return not self._by_lean_runtime and (self.flavour.is_rtx or self.flavour.release >= (10, 0, 0))

    @property
    def memory(self) -> int | None:
        """Bytes of GPU memory that a running context needs; None if unknown, as with a lean runtime."""
        # The lean runtime of an older release, which then runs the plan, lacks the newer call.
        names = () if self._by_lean_runtime else ("device_memory_size_v2", "device_memory_size")
        user_managed = hasattr(self.flavour.module, "ExecutionContextAllocationStrategy") or hasattr(
            self.engine, "create_execution_context_without_device_memory"
        )
        available = [name for name in names if user_managed and hasattr(type(self.engine), name)]
        return int(getattr(self.engine, available[0])) if available else None

    def call_checked(self, doing: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of TensorRT; raise BackendError, which begins with ``doing``, with its reason if it fails."""
        return call_checked(
            self.flavour, lambda reason: BackendError(f"{self._name}: {doing} failed: {reason}"), function, *arguments
        )

    def new_scratch(self, stream: Stream) -> Buffer | None:
        """Allocate the memory that a context needs to run in a stream; None if contexts allocate their own."""
        return None if self.memory is None else gpu_memory(max(self.memory, 1), self.device, stream)

    def new_context(self, profile: int, stream: Stream, scratch: Buffer | None) -> tensorrt.IExecutionContext:
        """Create a context for a profile, with the device current; contexts with the same ``scratch`` take turns."""
        doing = f"creating an execution context for profile {profile}"
        context = self._new_context(doing, scratch)
        if context.active_optimization_profile != profile:
            self.call_checked(doing, context.set_optimization_profile_async, profile, handle_of(stream))
            synchronize(stream)
        return context

    def _new_context(self, doing: str, scratch: Buffer | None) -> tensorrt.IExecutionContext:
        engine, module = self.engine, self.flavour.module
        context: tensorrt.IExecutionContext
        if scratch is None:
            context = self.call_checked(doing, engine.create_execution_context)
            return context
        if hasattr(module, "ExecutionContextAllocationStrategy"):
            strategy = module.ExecutionContextAllocationStrategy.USER_MANAGED
            context = self.call_checked(doing, engine.create_execution_context, strategy)
        else:
            older: Any = engine  # TensorRT 11 has no such method
            context = self.call_checked(doing, older.create_execution_context_without_device_memory)
        if hasattr(context, "set_device_memory"):
            context.set_device_memory(int(scratch.handle), scratch.size)
        else:
            context.device_memory = int(scratch.handle)
        return context

    def close(self) -> None:
        """Free its memory; a second call does nothing. Its contexts must be released before."""
        self._finalizer.detach()
        _free(self._owned, self.device)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _free(owned: list[Any], device: Device) -> None:
    if owned:
        with device.current():
            while owned:
                owned.pop()


def call_checked(
    flavour: Flavour, failure: Callable[[str], ScrfdError], function: Callable[..., Any], *arguments: Any
) -> Any:
    """Call a function of TensorRT; if it raises or returns False or None, raise ``failure(reason)``."""
    with logs.listen(flavour.module) as messages:
        try:
            result = function(*arguments)
        except BINDING_ERRORS as error:
            raise failure(messages.reason(one_line(error))) from error
    if result is None or result is False:
        raise failure(messages.reason())
    return result


@dataclass(frozen=True)
class NetworkIO:
    """Tensors and profiles of an engine, in its order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ranges: tuple[ShapeRange, ...]  # of the first input, one per optimization profile
    unusual: tuple[str, ...]  # tensors that are not linear or not in GPU memory, and what they are


def read_network_io(engine: tensorrt.ICudaEngine, module: ModuleType) -> NetworkIO:
    """Read an engine's tensors and profiles with the calls that all releases from 8.6 have."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    groups: dict[str, list[TensorSpec]] = {"INPUT": [], "OUTPUT": []}
    for name in names:
        groups[engine.get_tensor_mode(name).name].append(_spec(engine, name))
    inputs, outputs = tuple(groups["INPUT"]), tuple(groups["OUTPUT"])
    ranges = tuple(_range(engine, inputs[0], index) for index in range(engine.num_optimization_profiles) if inputs)
    return NetworkIO(inputs, outputs, ranges, tuple(filter(None, (_unusual(engine, module, name) for name in names))))


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
            return f"{name} is in {location.lower()} memory"
    if hasattr(module, "TensorFormat"):
        form = engine.get_tensor_format(name).name
        if form != "LINEAR":
            return f"{name} has the format {form}"
    return ""


def recognize_network(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> HeadLayout:
    """Return the head layout of a SCRFD model; raise ModelFormatError if these are the tensors of another one."""
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[1] not in {3, None}:
        raise ModelFormatError(f"one input (B, 3, H, W) is required, but the inputs are: {listing(inputs)}")
    layout = recognize(outputs)
    odd = [tensor for tensor in (*inputs, *outputs) if tensor.dtype not in {"float32", "float16"}]
    if odd:
        raise ModelFormatError(f"float32 or float16 is required, but there are: {listing(odd)}")
    return layout


@dataclass(eq=False)
class LeasedContext:
    """An execution context (None once released), and the copy of the engine and the profile that it belongs to."""

    context: tensorrt.IExecutionContext | None
    engine: LoadedEngine
    profile: int


class ContextPool:
    """Leases contexts of an engine, and owns it; before TensorRT 10, each use of a profile needs another copy."""

    def __init__(self, engine: LoadedEngine, reopen: Callable[[], LoadedEngine]) -> None:
        self._copies = [engine]
        self._reopen = reopen
        self._leased: set[tuple[int, int]] = set()
        self._lock = threading.RLock()  # the garbage collector may end a run in the thread that holds it

    def lease(self, profile: int, stream: Stream, scratch: Buffer | None) -> LeasedContext:
        """Return a context; parameters and errors as for :meth:`LoadedEngine.new_context`."""
        with self._lock:
            number = self._copy_for(profile)
            engine = self._copies[number]
            context = engine.new_context(profile, stream, scratch)
            self._leased.add((number, profile))
            return LeasedContext(context, engine, profile)

    def release(self, leased: LeasedContext) -> None:
        """Take a context back, with the device current; its work must be done."""
        with self._lock:
            leased.context = None
            self._leased.discard((self._copies.index(leased.engine), leased.profile))

    def _copy_for(self, profile: int) -> int:
        if self._copies[0].shares_profiles:
            return 0
        for number in range(len(self._copies)):
            if (number, profile) not in self._leased:
                return number
        self._copies.append(self._reopen())
        return len(self._copies) - 1

    def close(self) -> None:
        """Close all copies; a second call does nothing. All contexts must have been released."""
        while self._copies:
            self._copies.pop().close()
