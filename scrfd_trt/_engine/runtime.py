"""Open engines: one way for all TensorRTs from 8.6 to 11, and TensorRT-RTX."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scrfd_trt._cuda.device import Device, find
from scrfd_trt._devices import Gpu
from scrfd_trt._engine import flavours, logs
from scrfd_trt._engine.flavours import Flavour
from scrfd_trt._engine.loaded_engine import FOREIGN, LoadedEngine, call_checked
from scrfd_trt._engine.plan import REBUILD, RTX_CAPABILITIES, Plan, PlanHeader, dotted, read_plan
from scrfd_trt.errors import (
    BackendError,
    DeviceError,
    EngineError,
    MissingDependencyError,
    OptionError,
    ScrfdError,
    one_line,
)

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


NO_CUDA = "CUDA initialization failure"


def load_engine(
    source: str | os.PathLike[str] | bytes,
    *,
    device: int = 0,
    flavour: Flavour | None = None,
    lean_runtime: str | os.PathLike[str] | None = None,
    allow_host_code: bool = False,
) -> LoadedEngine:
    """Open the engine of a SCRFD network.

    Parameters
    ----------
    source
        The plan's path, or the plan itself.
    device
        n in ``cuda:n``.
    flavour
        The TensorRT to use; None takes one that is installed and runs this plan.
    lean_runtime
        A file ``libnvinfer_lean.so.…`` of the release that built the plan; it is loaded only if the plan is of an older
        release than TensorRT here. None takes it from the environment variable ``TRT_LEAN_RUNTIME``, if that is set.
    allow_host_code
        Whether code for the processor that is inside the plan may run. Allow it only if you trust where the plan comes
        from.

    Raises
    ------
    ModelNotFoundError
        If there is no such file.
    ModelFormatError
        If it is no plan, a damaged one, or one of another network.
    DeviceError
        If the GPU is not there or cannot be used.
    BackendError
        If this TensorRT or this GPU cannot run it.
    MissingDependencyError
        If cuda-python, or a TensorRT for it, is not installed.
    OptionError
        If the lean runtime is needed and is no file.
    """
    return opener(
        read_plan(source), device, flavour=flavour, lean_runtime=lean_runtime, allow_host_code=allow_host_code
    )()


def opener(
    plan: Plan,
    device: int,
    *,
    flavour: Flavour | None = None,
    lean_runtime: str | os.PathLike[str] | None = None,
    allow_host_code: bool = False,
) -> Callable[[], LoadedEngine]:
    """Return what opens a plan that was read, as often as it is called; otherwise as :func:`load_engine`."""
    installed = flavours.installed() if flavour is None else (flavour,)

    def opened() -> LoadedEngine:
        with _named(plan.name):
            engine = open_plan(plan, device, installed, lean_runtime=lean_runtime, allow_host_code=allow_host_code)
            try:
                _ = engine.layout
            except BaseException:
                engine.close()
                raise
        return engine

    return opened


def open_plan(
    plan: Plan,
    device: int,
    installed: tuple[Flavour, ...],
    *,
    lean_runtime: str | os.PathLike[str] | None = None,
    allow_host_code: bool = False,
) -> LoadedEngine:
    """Open a plan of any network; otherwise as :func:`load_engine`, but messages do not name the plan."""
    gpu = find(device)
    runner = find_runner(
        plan.header,
        installed,
        lean_runtime=lean_runtime_of(lean_runtime),
        allow_host_code=allow_host_code,
        version_compatible=plan.version_compatible,
    )
    check_gpu(plan.capabilities, gpu, unlisted=plan.header.unlisted)
    opened = Device(device)
    with opened.current():
        return _deserialize(plan, runner, opened, allow_host_code)


def lean_runtime_of(given: str | os.PathLike[str] | None) -> Path | None:
    """Return the lean runtime's file as given, or else as the environment names it."""
    path = given or os.environ.get(LEAN_RUNTIME)
    return Path(path) if path else None


def _deserialize(plan: Plan, runner: Runner, device: Device, allow_host_code: bool) -> LoadedEngine:
    flavour = runner.flavour
    runtimes = [_new_runtime(flavour)]
    if runner.lean_runtime is not None:
        runtimes.append(_load_lean(runtimes[0], flavour, runner.lean_runtime))
    if allow_host_code:
        runtimes[-1].engine_host_code_allowed = True

    def opened() -> LoadedEngine:
        engine = runtimes[-1].deserialize_cuda_engine(plan.data)
        other = plan.header.release != flavour.release
        return engine and LoadedEngine(engine, runtimes, flavour, device, plan.name, by_lean_runtime=other)

    loaded: LoadedEngine = call_checked(flavour, lambda why: _refusal(flavour, why), opened)
    return loaded


def _new_runtime(flavour: Flavour) -> Any:
    advice = "is the NVIDIA driver new enough for this TensorRT? scrfd-trt doctor tells both versions"
    with logs.listen(flavour.module) as said:
        try:
            runtime = flavour.module.Runtime(logs.logger(flavour.module))
        except FOREIGN as error:
            raise DeviceError(f"{flavour} does not start: {said.reason(one_line(error))}; {advice}") from error
    # Without a usable driver there may be an object all the same, and any use of it ends the process.
    if said.errors or any(NO_CUDA in warning for warning in said.warnings):
        raise DeviceError(f"{flavour} does not start: {said.reason()}; {advice}")
    return runtime


def _load_lean(runtime: Any, flavour: Flavour, path: Path) -> Any:
    def failure(why: str) -> BackendError:
        return BackendError(
            f"{flavour} cannot load the lean runtime {path}: {why}; name the one of the release that built the plan, "
            f"with lean_runtime= or {LEAN_RUNTIME}",
            fields=["lean_runtime"],
        )

    return call_checked(flavour, failure, runtime.load_runtime, str(path))


def _refusal(flavour: Flavour, reason: str) -> BackendError:
    if "HostCodeAllowed" in reason:
        return EngineError(
            f"{flavour} does not open it, because it has code for the processor inside; set allow_host_code if you "
            "trust where it comes from",
            fields=["allow_host_code"],
        )
    if "memory" in reason.lower():
        return BackendError(f"{flavour} cannot open it: {reason}; free some of the GPU's memory")
    if "call to stub" in reason:
        return EngineError(
            f"{flavour} cannot open it: it is not version compatible, and only the release that built it runs it; "
            f"{REBUILD}"
        )
    return EngineError(f"{flavour} cannot open it: {reason}; {REBUILD}")


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except ScrfdError as error:
        raise error.within(name) from error
