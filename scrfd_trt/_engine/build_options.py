"""Build options, and their translation for the installed TensorRT; unsupported ones are errors, never ignored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import BeforeValidator, Field, model_validator

from scrfd_trt._devices import Gpu
from scrfd_trt._engine.flavours import Api, Flavour
from scrfd_trt._options import OptionsModel, Scales
from scrfd_trt._tensors import ShapeRange
from scrfd_trt.errors import OptionError

if TYPE_CHECKING:
    import tensorrt
    from typing_extensions import Self

Precision = Literal["fp32", "tf32", "fp16", "int8"]
IoType = Literal["float32", "float16"]


def _as_range(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value, value)
    return tuple(value) if isinstance(value, list) else value


Count = Annotated[int, Field(ge=1, le=1024)]
Batch = Annotated[tuple[Count, Count, Count], BeforeValidator(_as_range)]
"""Minimum, optimum and maximum number of images per run; one number for all three."""

ComputeCapability = Annotated[str, Field(pattern=r"^\d+\.\d+$")]


class BuildOptions(OptionsModel):
    """How an engine is built.

    Attributes
    ----------
    precision
        ``fp16``: 16-bit floating point. ``tf32``: 32-bit numbers rounded to 10 bits of mantissa, on GPUs from compute
        capability 8.0. ``fp32``: full 32-bit floating point. ``int8``: 8-bit integers where the faces stay the same,
        else 16-bit floating point.
    io
        Type of the model's input and outputs.
    sizes
        Input sizes in pixels, multiples of 32: one number for a square, or several squares or (width, height) pairs.
        Each gets its own optimization profiles. ``None`` means the model's own size, or 128 and 640 if that is free.
    batch
        Minimum, optimum and maximum number of images per run; one number fixes the batch.
    batch_one_profile
        Add an optimization profile for single images, which are slower in a profile for a range of batches.
    optimization_level
        0 to 5: how long TensorRT searches for faster kernels. ``None`` means TensorRT's default, 3.
    workspace_mib
        Maximum GPU memory in MiB that a layer may use in addition to its tensors. ``None`` means all.
    version_compatible
        Build an engine that newer TensorRT releases run as well; slightly slower.
    lean_runtime_inside
        Include the lean runtime, which newer releases need to run a version compatible engine. The file then contains
        host code, which its users must allow to run. Without it, they specify the lean runtime's file.
    hardware_compatible
        Build an engine for all GPUs from compute capability 8.0; slightly slower.
    timing_cache
        File of TensorRT's measurements, which makes the next build faster; created if missing. ``None`` means a file
        beside the engine, one per release and GPU. TensorRT-RTX has none.
    compute_capabilities
        GPUs that TensorRT-RTX builds for, for example ``("7.5",)``. ``None`` means its default: all that it supports
        from 8.0, except 9.0 and 10.x. Other flavours build for the GPU that they run on.
    calibration
        Folder of images like those that will be searched, which ``int8`` is calibrated with and checked on: up to 64 of
        them are used. ``None`` means the drawn scenes.
    max_face_change
        Largest share of the faces of the calibration images that ``int8`` may lose or add; the build fails beyond it.
    """

    precision: Precision = "fp16"
    io: IoType = "float32"
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
    calibration: Path | None = None
    max_face_change: float = Field(0.01, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.batch) != sorted(self.batch):
            raise ValueError("batch: minimum, optimum and maximum must not decrease")
        if self.lean_runtime_inside and not self.version_compatible:
            raise ValueError("lean_runtime_inside requires version_compatible")
        for name in ("calibration", "max_face_change"):
            if self.precision != "int8" and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} requires precision int8")
        return self


AMPERE = (8, 0)
MIB = 1 << 20
FIRST_WITHOUT_IMPLICIT_BATCH = (10, 0, 0)

NOT_FOR_RTX = {
    "optimization_level": "it selects kernels without measuring, on the GPU that runs the engine",
    "version_compatible": "its engines run only on the release that built them",
    "hardware_compatible": "its engines run on all supported GPUs from compute capability 8.0; for 7.5 set "
    "compute_capabilities",
    "timing_cache": "it measures nothing while it builds",
}


def check_supported(flavour: Flavour, options: BuildOptions, gpu: Gpu | None) -> None:
    """Raise OptionError for options that a flavour, or the GPU that it builds for (if known), does not support."""
    if flavour.is_rtx:
        for name, reason in NOT_FOR_RTX.items():
            value = getattr(options, name)
            if value is not None and value is not False:
                raise _refusal(f"{name} is not supported by {flavour}: {reason}; leave it out", value, name)
        return
    if options.compute_capabilities is not None:
        message = (
            f"compute_capabilities are not supported by {flavour}, which builds for the GPU that it runs on; leave "
            "them out, set hardware_compatible, or build with tensorrt_rtx"
        )
        raise _refusal(message, options.compute_capabilities, "compute_capabilities", "hardware_compatible")
    if gpu is not None and gpu.compute_capability < AMPERE:
        if options.precision == "tf32":
            raise _no_tf32(f"{gpu} has no TF32, which requires compute capability 8.0")
        if options.hardware_compatible:
            message = f"hardware_compatible engines require compute capability 8.0, and this is {gpu}"
            raise _refusal(message, True, "hardware_compatible")


def _refusal(message: str, value: object, *fields: str, choices: Sequence[str] = ()) -> OptionError:
    return OptionError(message, fields=fields, value=value, choices=choices)


def _no_tf32(reason: str) -> OptionError:
    return _refusal(f"{reason}; the choices are: fp32, fp16", "tf32", "precision", choices=["fp32", "fp16"])


def is_strongly_typed(flavour: Flavour) -> bool:
    """Return whether networks have the types of the ONNX file; 8.6 chooses types itself."""
    return hasattr(cast("Api", flavour.module).NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def network_flags(flavour: Flavour) -> int:
    """Return the flags of a strongly typed network, as all are from TensorRT 11 on; 8.6 has none."""
    kinds = cast("Api", flavour.module).NetworkDefinitionCreationFlag
    flags = 0
    if hasattr(kinds, "STRONGLY_TYPED"):
        flags |= 1 << int(kinds.STRONGLY_TYPED)
    if hasattr(kinds, "EXPLICIT_BATCH") and flavour.release < FIRST_WITHOUT_IMPLICIT_BATCH:
        flags |= 1 << int(kinds.EXPLICIT_BATCH)
    return flags


def configure(config: tensorrt.IBuilderConfig, flavour: Flavour, options: BuildOptions) -> None:
    """Set all options but profiles and timing cache; raise OptionError if this release does not support one."""
    api = cast("Api", flavour.module)
    _set_precision(config, api, flavour, options)
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, options.workspace_mib * MIB)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.hardware_compatible:
        config.hardware_compatibility_level = api.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.version_compatible:
        _set_flag(config, api.BuilderFlag.VERSION_COMPATIBLE, flavour)
        if not options.lean_runtime_inside:
            _set_flag(config, api.BuilderFlag.EXCLUDE_LEAN_RUNTIME, flavour)
    if options.compute_capabilities is not None:
        _set_compute_capabilities(config, flavour, options.compute_capabilities)


def _set_precision(config: tensorrt.IBuilderConfig, api: Api, flavour: Flavour, options: BuildOptions) -> None:
    flags = api.BuilderFlag
    if hasattr(flags, "TF32"):
        # TF32 is on by default, and would silently reduce FP32 convolutions to 19 bits.
        if options.precision == "fp32":
            config.clear_flag(flags.TF32)
        else:
            _set_flag(config, flags.TF32, flavour)
    elif options.precision == "tf32":
        raise _no_tf32(f"{flavour} has no TF32 option")
    if options.precision in {"fp16", "int8"} and not is_strongly_typed(flavour) and hasattr(flags, "FP16"):
        # Without this flag the builder refuses the FP16 types of the ONNX file.
        _set_flag(config, flags.FP16, flavour)
        if options.precision == "int8":
            _set_flag(config, flags.INT8, flavour)


HALF_LAYERS = ("ACTIVATION", "CONVOLUTION", "ELEMENTWISE", "POOLING", "RESIZE")


def prefer_types(
    network: tensorrt.INetworkDefinition, config: tensorrt.IBuilderConfig, flavour: Flavour, precision: Precision
) -> None:
    """Set the types of layers, which TensorRT 8.6 would else find by measuring: FP16, but FP32 for the scores."""
    # Rounded to FP16 after the sigmoid, boxes of one face tie. INT8 layers have the types of what quantizes them.
    module = flavour.module
    halves = [getattr(module.LayerType, name) for name in HALF_LAYERS] if precision == "fp16" else []
    outputs = {network.get_output(index).name for index in range(network.num_outputs)}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        output = layer.get_output(0)
        is_output = output.name in outputs
        if is_output and layer.type == module.LayerType.ACTIVATION:
            layer.precision = module.DataType.FLOAT
        elif layer.type in halves and output.dtype == module.DataType.FLOAT:
            layer.precision = module.DataType.HALF
            # That of an output would change the type of the engine's output.
            if not is_output:
                layer.set_output_type(0, module.DataType.HALF)
    _set_flag(config, module.BuilderFlag.PREFER_PRECISION_CONSTRAINTS, flavour)


def _set_flag(config: tensorrt.IBuilderConfig, flag: tensorrt.BuilderFlag, flavour: Flavour) -> None:
    config.set_flag(flag)
    # TensorRT reports only in its log that a flag is not supported on this GPU or beside the others.
    if not config.get_flag(flag):
        raise OptionError(f"{flavour} does not support {flag.name} here; build without it")


def _set_compute_capabilities(config: tensorrt.IBuilderConfig, flavour: Flavour, wanted: tuple[str, ...]) -> None:
    module = flavour.module
    if not (
        hasattr(module, "ComputeCapability")
        and hasattr(config, "num_compute_capabilities")
        and hasattr(config, "set_compute_capability")
    ):
        message = f"compute_capabilities are not supported by {flavour}; leave them out"
        raise _refusal(message, wanted, "compute_capabilities")
    known = {name.removeprefix("SM"): kind for name, kind in module.ComputeCapability.__members__.items()}
    config.num_compute_capabilities = len(wanted)
    for index, capability in enumerate(wanted):
        kind = known.get(capability.replace(".", ""))
        if kind is None or not config.set_compute_capability(kind, index):
            choices = [f"{name[:-1]}.{name[-1]}" for name in known if name.isdigit()]
            message = f"{flavour} does not build for compute capability {capability}"
            message += f"; the choices are: {', '.join(choices)}"
            raise _refusal(message, capability, "compute_capabilities", choices=choices)


def add_profiles(
    builder: tensorrt.Builder,
    config: tensorrt.IBuilderConfig,
    flavour: Flavour,
    name: str,
    ranges: tuple[ShapeRange, ...],
) -> None:
    """Add an optimization profile per range of shapes of the input ``name``; raise OptionError if one is refused."""
    api = cast("Api", flavour.module)
    for shapes in ranges:
        refusal = f"{flavour} does not support an optimization profile for {shapes}"
        profile = builder.create_optimization_profile()
        try:
            profile.set_shape(name, *(api.Dims(list(shape)) for shape in (shapes.min, shapes.opt, shapes.max)))
        except (ValueError, RuntimeError) as error:  # RuntimeError before TensorRT 10
            raise OptionError(f"{refusal}: {error}") from error
        if config.add_optimization_profile(profile) < 0:
            raise OptionError(refusal)
