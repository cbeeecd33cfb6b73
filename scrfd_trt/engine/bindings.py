"""What is used of a TensorRT module to build engines, for the type checker.

``nox -s tensorrt_types`` checks the rooms that use this against the bindings of real releases. A name that is not in
all of them does not pass there unless ``hasattr`` has asked for it before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import tensorrt


class Api(Protocol):
    """The classes that all releases from 8.6 on have; what only some have is asked for with ``hasattr``."""

    Builder: type[tensorrt.Builder]
    BuilderFlag: type[tensorrt.BuilderFlag]
    Dims: type[tensorrt.Dims]
    HardwareCompatibilityLevel: type[tensorrt.HardwareCompatibilityLevel]
    ILogger: type[tensorrt.ILogger]
    MemoryPoolType: type[tensorrt.MemoryPoolType]
    NetworkDefinitionCreationFlag: type[tensorrt.NetworkDefinitionCreationFlag]
    OnnxParser: type[tensorrt.OnnxParser]


def subclass(mixin: type[Any], base: type[Any]) -> type[Any]:
    """Join a class of this library with one of TensorRT's interfaces, which is known at run time only."""
    return type(mixin.__name__, (mixin, base), {})
