"""Build options in the words of one TensorRT release; what it cannot do is refused, never left out silently."""

from __future__ import annotations

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


AMPERE = (8, 0)
MIB = 1 << 20
FIRST_WITHOUT_IMPLICIT_BATCH = (10, 0, 0)

NOT_OF_RTX = {
    "optimization_level": "it picks kernels without measuring, on the GPU that runs the engine",
    "version_compatible": "its engines run on the release that built them only",
    "hardware_compatible": "its engines run on all that it knows from compute capability 8.0 on as they are; for 7.5 "
    "set compute_capabilities",
    "timing_cache": "it measures nothing while it builds",
}


def check_supported(flavour: Flavour, options: BuildOptions, gpu: Gpu | None) -> None:
    """Refuse options that this flavour, or the GPU that it builds for, cannot honour.

    Parameters
    ----------
    flavour
        What is to build.
    options
        As asked for.
    gpu
        What it builds for; None where that is not settled, as for TensorRT-RTX.

    Raises
    ------
    OptionError
        If it cannot; the message names the flavour and the reason.
    """
    if flavour.is_rtx:
        for name, reason in NOT_OF_RTX.items():
            value = getattr(options, name)
            if value is not None and value is not False:
                raise OptionError(f"{name} is not for {flavour}: {reason}; leave it out", fields=[name], value=value)
        return
    if options.compute_capabilities is not None:
        raise OptionError(
            f"compute_capabilities are not for {flavour}, which builds for the GPU that it runs on; leave them out, "
            "set hardware_compatible, or build with tensorrt_rtx",
            fields=["compute_capabilities", "hardware_compatible"],
            value=options.compute_capabilities,
        )
    if gpu is not None and gpu.compute_capability < AMPERE:
        if options.precision == "tf32":
            raise OptionError(
                f"{gpu} has no TF32, which begins at 8.0; the choices are: fp32, fp16",
                fields=["precision"],
                value="tf32",
                choices=["fp32", "fp16"],
            )
        if options.hardware_compatible:
            raise OptionError(
                f"hardware_compatible engines begin at compute capability 8.0, and this is {gpu}",
                fields=["hardware_compatible"],
                value=True,
            )


def network_flags(flavour: Flavour) -> int:
    """Return the flags that a network is created with.

    Strongly typed networks compute in the types of the ONNX file. TensorRT 8.6 does not know them; from 11 on, and in
    TensorRT-RTX, all networks are.
    """
    kinds = cast("Api", flavour.module).NetworkDefinitionCreationFlag
    flags = 0
    if hasattr(kinds, "STRONGLY_TYPED"):
        flags |= 1 << int(kinds.STRONGLY_TYPED)
    if hasattr(kinds, "EXPLICIT_BATCH") and flavour.release < FIRST_WITHOUT_IMPLICIT_BATCH:
        flags |= 1 << int(kinds.EXPLICIT_BATCH)
    return flags


def configure(config: tensorrt.IBuilderConfig, flavour: Flavour, options: BuildOptions) -> None:
    """Set all but the optimization profiles and the timing cache.

    Parameters
    ----------
    config
        Changed in place.
    flavour
        Whose it is.
    options
        Must have been through :func:`check_supported`.

    Raises
    ------
    OptionError
        If this release cannot do what is asked.
    """
    api = cast("Api", flavour.module)
    _set_precision(config, api, flavour, options)
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, options.workspace_mib * MIB)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.hardware_compatible:
        config.hardware_compatibility_level = api.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.version_compatible:
        _set(config, api.BuilderFlag.VERSION_COMPATIBLE, flavour)
        if not options.lean_runtime_inside:
            _set(config, api.BuilderFlag.EXCLUDE_LEAN_RUNTIME, flavour)
    if options.compute_capabilities is not None:
        _set_compute_capabilities(config, flavour, options.compute_capabilities)


def _set_precision(config: tensorrt.IBuilderConfig, api: Api, flavour: Flavour, options: BuildOptions) -> None:
    flags = api.BuilderFlag
    if hasattr(flags, "TF32"):
        # It is on by default, and would turn 32-bit convolutions into 19-bit ones without a word.
        if options.precision == "fp32":
            config.clear_flag(flags.TF32)
        else:
            _set(config, flags.TF32, flavour)
    elif options.precision == "tf32":
        raise OptionError(
            f"{flavour} has no TF32 to choose; the choices are: fp32, fp16",
            fields=["precision"],
            value="tf32",
            choices=["fp32", "fp16"],
        )
    weakly_typed = not hasattr(api.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    if options.precision == "fp16" and weakly_typed and hasattr(flags, "FP16"):
        # The 16-bit types of the ONNX file are refused unless 16-bit kernels are allowed.
        _set(config, flags.FP16, flavour)


def _set(config: tensorrt.IBuilderConfig, flag: tensorrt.BuilderFlag, flavour: Flavour) -> None:
    config.set_flag(flag)
    # A flag that cannot be set on this GPU or beside the others is only told of in the log.
    if not config.get_flag(flag):
        raise OptionError(f"{flavour} does not take {flag.name} here; build without it")


def _set_compute_capabilities(config: tensorrt.IBuilderConfig, flavour: Flavour, wanted: tuple[str, ...]) -> None:
    module = flavour.module
    if not (
        hasattr(module, "ComputeCapability")
        and hasattr(config, "num_compute_capabilities")
        and hasattr(config, "set_compute_capability")
    ):
        raise OptionError(
            f"{flavour} has no compute_capabilities to choose; leave them out",
            fields=["compute_capabilities"],
            value=wanted,
        )
    known = {name.removeprefix("SM"): kind for name, kind in module.ComputeCapability.__members__.items()}
    config.num_compute_capabilities = len(wanted)
    for index, capability in enumerate(wanted):
        kind = known.get(capability.replace(".", ""))
        if kind is None or not config.set_compute_capability(kind, index):
            choices = [f"{name[:-1]}.{name[-1]}" for name in known if name.isdigit()]
            raise OptionError(
                f"{flavour} does not build for compute capability {capability}; the choices are: {', '.join(choices)}",
                fields=["compute_capabilities"],
                value=capability,
                choices=choices,
            )


def add_profiles(
    builder: tensorrt.Builder,
    config: tensorrt.IBuilderConfig,
    flavour: Flavour,
    name: str,
    ranges: tuple[ShapeRange, ...],
) -> None:
    """Add an optimization profile for each range of shapes of a network's one input.

    Parameters
    ----------
    builder, config, flavour
        The configuration is changed in place.
    name
        The input's.
    ranges
        One a profile.

    Raises
    ------
    OptionError
        If TensorRT refuses one.
    """
    api = cast("Api", flavour.module)
    for shapes in ranges:
        profile = builder.create_optimization_profile()
        try:
            profile.set_shape(name, *(api.Dims(list(shape)) for shape in (shapes.min, shapes.opt, shapes.max)))
        # ValueError from 10 on; RuntimeError before.
        except (ValueError, RuntimeError) as error:
            raise OptionError(f"{flavour} does not take an optimization profile for {shapes}: {error}") from error
        if config.add_optimization_profile(profile) < 0:
            raise OptionError(f"{flavour} does not take an optimization profile for {shapes}")
