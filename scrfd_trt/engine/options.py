"""How an engine is to be built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from scrfd_trt.options import OptionsModel, Scales

if TYPE_CHECKING:
    from typing_extensions import Self

Precision = Literal["fp32", "tf32", "fp16"]


def _as_range(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value, value)
    return tuple(value) if isinstance(value, list) else value


Count = Annotated[int, Field(ge=1, le=1024)]
Batch = Annotated[tuple[Count, Count, Count], BeforeValidator(_as_range)]
"""Fewest, usual and most images of a batch; one number fixes it."""

ComputeCapability = Annotated[str, Field(pattern=r"^\d+\.\d+$")]


class BuildOptions(OptionsModel):
    """How an engine is to be built.

    Attributes
    ----------
    precision
        ``fp16`` computes with 16-bit floating point, ``tf32`` with 32-bit numbers rounded to 10 bits of mantissa (GPUs
        from compute capability 8.0), ``fp32`` with full 32-bit ones.
    io
        Type of the network's input and outputs.
    sizes
        Input sizes in pixels, multiples of 32: one number for a square, or several squares or (width, height) pairs.
        Each gets optimization profiles of its own. ``None`` takes the network's own size where that is fixed, and
        otherwise 128 and 640.
    batch
        Images at once: the fewest, the number to tune for, and the most; one number fixes it.
    batch_one_profile
        Tune for single images too, with an optimization profile of their own beside the range; a shared one is slower
        for them.
    optimization_level
        0 to 5: how long TensorRT looks for faster kernels. ``None`` leaves it at TensorRT's own, 3.
    workspace_mib
        Most GPU memory, in MiB, that a layer may use beside its tensors. ``None`` lets it use all that there is.
    version_compatible
        Build an engine that newer releases run too, at some cost in speed.
    lean_runtime_inside
        Put the lean runtime, which newer releases need to run a version compatible engine, into it. Such a file holds
        code for the processor, which a reader must allow to run; without it, the reader names the lean runtime's file.
    hardware_compatible
        Build an engine that all GPUs from compute capability 8.0 on run, at some cost in speed.
    timing_cache
        A file that keeps what TensorRT has measured, so that the next build is faster; it is made if need be. ``None``
        puts it beside the engine, one a release and GPU. TensorRT-RTX measures nothing and has none.
    compute_capabilities
        GPUs that TensorRT-RTX builds for, ``("7.5",)`` say. ``None`` leaves it at its own choice: all that it knows
        from 8.0 on, 9.0 and 10.x not being among them. Other flavours build for the GPU that they run on.
    """

    precision: Precision = "fp16"
    io: Literal["float32", "float16"] = "float32"
    sizes: Scales | None = None
    batch: Batch = (1, 8, 32)
    batch_one_profile: bool = True
    optimization_level: int | None = Field(None, ge=0, le=5)
    workspace_mib: int | None = Field(None, ge=1, le=1 << 20)
    version_compatible: bool = False
    lean_runtime_inside: bool = False
    hardware_compatible: bool = False
    timing_cache: Path | None = None
    compute_capabilities: tuple[ComputeCapability, ...] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.batch) != sorted(self.batch):
            raise ValueError("batch: fewest, usual and most images must not fall")
        if self.lean_runtime_inside and not self.version_compatible:
            raise ValueError("lean_runtime_inside needs version_compatible")
        return self
