"""Which of the installed TensorRTs runs a plan, and what it needs for that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scrfd_trt.devices import Gpu
from scrfd_trt.engine import flavours
from scrfd_trt.engine.flavours import Flavour
from scrfd_trt.engine.plan import REBUILD, RTX_CAPABILITIES, PlanHeader, dotted
from scrfd_trt.errors import EngineError, MissingDependencyError, OptionError

LEAN_RUNTIME = "TRT_LEAN_RUNTIME"
"""The environment variable that names a lean runtime."""

FULL, LEAN, DISPATCH = "tensorrt", "tensorrt_lean", "tensorrt_dispatch"
FIRST_COMPATIBLE = (8, 6, 0)
NEXT_MAJOR = {8: 10, 9: 10, 10: 11}
"""The newest major release that runs version compatible plans of another one (TensorRT's support matrix)."""


@dataclass(frozen=True)
class Runner:
    """How a plan is run here.

    Attributes
    ----------
    flavour
        By this TensorRT.
    lean_runtime
        After loading this lean runtime, of the plan's own release; None where none is needed.
    """

    flavour: Flavour
    lean_runtime: Path | None = None


def find_runner(
    header: PlanHeader,
    installed: Sequence[Flavour],
    *,
    lean_runtime: Path | None = None,
    allow_host_code: bool = False,
    version_compatible: bool | None = None,
) -> Runner:
    """Settle which TensorRT runs a plan.

    Parameters
    ----------
    header
        The plan's.
    installed
        What there is to choose from.
    lean_runtime
        The lean runtime of the plan's release, for a plan without one inside.
    allow_host_code
        Whether the lean runtime inside a plan may be run.
    version_compatible
        Whether the plan was built to run on newer releases too; None if that is not known.

    Raises
    ------
    MissingDependencyError
        If no TensorRT of the plan's family is installed.
    EngineError
        If none that is installed runs plans of this release.
    OptionError
        If the lean runtime is needed and is no file.
    """
    family = [flavour for flavour in installed if flavour.is_rtx == (header.family == "tensorrt_rtx")]
    if not family:
        raise MissingDependencyError(f"it needs {header}, and {_found(installed)}: {install(header)}")
    same = [flavour for flavour in family if flavour.release == header.release and flavour.name != DISPATCH]
    if same:
        return Runner(same[0])
    newer = [flavour for flavour in family if version_compatible is not False and _reads(flavour, header)]
    if not newer:
        raise EngineError(
            f"{header} built it, which {', '.join(map(str, family))} cannot run; {REBUILD}, or {install(header)}"
        )
    chosen = min(newer, key=lambda flavour: (FULL, DISPATCH, LEAN).index(flavour.name))
    if lean_runtime is not None:
        return Runner(chosen, _existing(lean_runtime))
    if allow_host_code:
        return Runner(chosen)
    raise EngineError(
        f"{header} built it, and {chosen} runs it only with the lean runtime of {dotted(header.release)}: name its "
        f"libnvinfer_lean.so.{header.version[0]} with lean_runtime= or {LEAN_RUNTIME}, or set allow_host_code if one "
        f"is inside the plan and you trust where it comes from; or {REBUILD}",
        fields=["lean_runtime", "allow_host_code"],
    )


def check_gpu(capabilities: Sequence[tuple[int, int]], gpu: Gpu, *, unlisted: bool = False) -> None:
    """Check that a plan was built for a GPU.

    Parameters
    ----------
    capabilities
        The compute capabilities that it was built for; empty if that is not known.
    gpu
        The one that is to run it.
    unlisted
        Whether it was built for GPUs too that have no name here.

    Raises
    ------
    EngineError
        If it was built for others.
    """
    own = gpu.compute_capability
    if not capabilities or own in capabilities or (unlisted and own not in RTX_CAPABILITIES):
        return
    wanted = ", ".join(map(dotted, capabilities))
    raise EngineError(f"it was built for compute capability {wanted}, and this GPU is {gpu}; {REBUILD}")


def install(header: PlanHeader) -> str:
    """Return the command that installs the TensorRT that a plan was built with."""
    package = "tensorrt" if header.family == "tensorrt" else "tensorrt-rtx-cu13"
    return f'pip install "{package}=={dotted(header.release)}.*"'


def _found(installed: Sequence[Flavour]) -> str:
    there = [f"{', '.join(map(str, installed))} cannot run it"] if installed else ["there is none"]
    broken = [f"{name} is {why}" for name, why in flavours.problems().items() if why != flavours.NOT_INSTALLED]
    return "; ".join(there + broken)


def _reads(flavour: Flavour, header: PlanHeader) -> bool:
    """Tell whether a flavour may run version compatible plans of another release."""
    if flavour.is_rtx or header.release < FIRST_COMPATIBLE or flavour.release < header.release:
        return False
    major = header.version[0]
    return flavour.release[0] in range(major, NEXT_MAJOR.get(major, major) + 1)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise OptionError(
            f"lean runtime {path}: there is no such file; correct lean_runtime= or {LEAN_RUNTIME}",
            fields=["lean_runtime"],
            value=path,
        )
    return path.resolve()
