"""Open engines: one code path for TensorRT 8.6 to 11, and TensorRT-RTX."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scrfd_trt._cuda.driver import Device, find
from scrfd_trt._devices import Gpu
from scrfd_trt._engine import flavours, logs
from scrfd_trt._engine.flavours import Flavour
from scrfd_trt._engine.loaded_engine import BINDING_ERRORS, LoadedEngine, call_checked
from scrfd_trt._engine.plan import REBUILD, RTX_CAPABILITIES, Plan, PlanHeader, dotted
from scrfd_trt.errors import (
    BackendError,
    DeviceError,
    EngineError,
    MissingDependencyError,
    OptionError,
    ScrfdError,
    one_line,
)

LEAN_RUNTIME = "TRT_LEAN_RUNTIME"  # environment variable with the lean runtime's path
FULL, LEAN, DISPATCH = "tensorrt", "tensorrt_lean", "tensorrt_dispatch"
FIRST_COMPATIBLE = (8, 6, 0)
NEXT_MAJOR = {8: 10, 9: 10, 10: 11}
"""The newest major release that runs version compatible plans of another one (TensorRT's support matrix)."""

NO_CUDA = "CUDA initialization failure"


def opener(
    plan: Plan,
    device: int,
    *,
    flavour: Flavour | None = None,
    lean_runtime: str | os.PathLike[str] | None = None,
    allow_host_code: bool = False,
) -> Callable[[], LoadedEngine]:
    """Return a function that opens a plan of a SCRFD model on ``cuda:device``; a flavour of None is chosen.

    Host code in a plan runs only with ``allow_host_code``; ``lean_runtime`` is for plans of older releases.
    """
    installed = flavours.installed() if flavour is None else (flavour,)

    def open_engine() -> LoadedEngine:
        try:
            engine = open_plan(plan, device, installed, lean_runtime=lean_runtime, allow_host_code=allow_host_code)
            try:
                _ = engine.layout
            except BaseException:
                engine.close()
                raise
        except ScrfdError as error:
            raise error.within(plan.name) from error
        return engine

    return open_engine


def open_plan(
    plan: Plan,
    device: int,
    installed: tuple[Flavour, ...],
    *,
    lean_runtime: str | os.PathLike[str] | None = None,
    allow_host_code: bool = False,
) -> LoadedEngine:
    """Open a plan of any model; otherwise as :func:`opener`, but messages do not name the plan."""
    gpu = find(device)
    runner = find_runner(
        plan.header,
        installed,
        lean_runtime=lean_runtime_path(lean_runtime),
        allow_host_code=allow_host_code,
        version_compatible=plan.version_compatible,
    )
    check_gpu(plan.capabilities, gpu, unlisted=plan.header.unlisted)
    opened = Device(device)
    with opened.current():
        return _deserialize(plan, runner, opened, allow_host_code)


def lean_runtime_path(path: str | os.PathLike[str] | None) -> Path | None:
    """Return the lean runtime's path, by default the environment's."""
    path = path or os.environ.get(LEAN_RUNTIME)
    return Path(path) if path else None


@dataclass(frozen=True)
class Runner:
    """A flavour that runs a plan, and the lean runtime of the plan's release that it must load first, if any."""

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
    """Choose the flavour that runs a plan; ``version_compatible`` is None if it is unknown."""
    family = [flavour for flavour in installed if flavour.is_rtx == (header.family == "tensorrt_rtx")]
    if not family:
        found = [f"{', '.join(map(str, installed))} cannot run it"] if installed else ["none is installed"]
        found += [f"{name} is {why}" for name, why in flavours.problems().items() if why != flavours.NOT_INSTALLED]
        raise MissingDependencyError(f"it needs {header}, and {'; '.join(found)}: {_install_command(header)}")
    same = [flavour for flavour in family if flavour.release == header.release and flavour.name != DISPATCH]
    if same:
        return Runner(same[0])
    newer = [flavour for flavour in family if version_compatible is not False and _is_compatible(flavour, header)]
    if not newer:
        raise EngineError(
            f"{header} built it, which {', '.join(map(str, family))} cannot run; {REBUILD}, or "
            f"{_install_command(header)}"
        )
    chosen = min(newer, key=lambda flavour: (FULL, DISPATCH, LEAN).index(flavour.name))
    if lean_runtime is not None:
        if not os.path.isfile(lean_runtime):  # noqa: PTH113 - Path.is_file raises for a name that is too long
            raise OptionError(
                f"lean runtime {lean_runtime}: there is no such file; correct lean_runtime= or {LEAN_RUNTIME}",
                fields=["lean_runtime"],
                value=lean_runtime,
            )
        return Runner(chosen, lean_runtime.resolve())
    if allow_host_code:
        return Runner(chosen)
    raise EngineError(
        f"{header} built it, and {chosen} runs it only with the lean runtime of {dotted(header.release)}: set "
        f"lean_runtime= or {LEAN_RUNTIME} to its libnvinfer_lean.so.{header.version[0]}, or set allow_host_code if one "
        f"is inside the plan and you trust its origin; or {REBUILD}",
        fields=["lean_runtime", "allow_host_code"],
    )


def _is_compatible(flavour: Flavour, header: PlanHeader) -> bool:
    """Return whether a flavour may run version compatible plans of another release."""
    if flavour.is_rtx or header.release < FIRST_COMPATIBLE or flavour.release < header.release:
        return False
    major = header.version[0]
    return flavour.release[0] in range(major, NEXT_MAJOR.get(major, major) + 1)


def _install_command(header: PlanHeader) -> str:
    package = "tensorrt" if header.family == "tensorrt" else "tensorrt-rtx-cu13"
    return f'pip install "{package}=={dotted(header.release)}.*"'


def check_gpu(capabilities: Sequence[tuple[int, int]], gpu: Gpu, *, unlisted: bool = False) -> None:
    """Raise EngineError if a plan was not built for this GPU; ``unlisted``: also for GPUs without a name here."""
    own = gpu.compute_capability
    if not capabilities or own in capabilities or (unlisted and own not in RTX_CAPABILITIES):
        return
    built_for = ", ".join(map(dotted, capabilities))
    raise EngineError(f"it was built for compute capability {built_for}, and this GPU is {gpu}; {REBUILD}")


def _deserialize(plan: Plan, runner: Runner, device: Device, allow_host_code: bool) -> LoadedEngine:
    flavour = runner.flavour
    runtimes = [_new_runtime(flavour)]
    if runner.lean_runtime is not None:
        runtimes.append(_load_lean(runtimes[0], flavour, runner.lean_runtime))
    if allow_host_code:
        runtimes[-1].engine_host_code_allowed = True

    def deserialize() -> LoadedEngine:
        engine = runtimes[-1].deserialize_cuda_engine(plan.data)
        other = plan.header.release != flavour.release
        return engine and LoadedEngine(engine, runtimes, flavour, device, plan.name, by_lean_runtime=other)

    loaded: LoadedEngine = call_checked(flavour, lambda reason: _refusal(flavour, reason), deserialize)
    return loaded


def _new_runtime(flavour: Flavour) -> Any:
    advice = "is the NVIDIA driver new enough for this TensorRT? scrfd-trt doctor prints both versions"
    with logs.listen(flavour.module) as messages, logs.creating:
        try:
            runtime = flavour.module.Runtime(logs.logger(flavour.module))
        except BINDING_ERRORS as error:
            raise DeviceError(f"{flavour} does not start: {messages.reason(one_line(error))}; {advice}") from error
    # Without a usable driver an object may be returned nevertheless, and any use of it ends the process.
    if messages.errors or any(NO_CUDA in warning for warning in messages.warnings):
        raise DeviceError(f"{flavour} does not start: {messages.reason()}; {advice}")
    return runtime


def _load_lean(runtime: Any, flavour: Flavour, path: Path) -> Any:
    def failure(reason: str) -> BackendError:
        return BackendError(
            f"{flavour} cannot load the lean runtime {path}: {reason}; set lean_runtime= or {LEAN_RUNTIME} to the one "
            "of the release that built the plan",
            fields=["lean_runtime"],
        )

    return call_checked(flavour, failure, runtime.load_runtime, str(path))


def _refusal(flavour: Flavour, reason: str) -> BackendError:
    if "HostCodeAllowed" in reason:
        return EngineError(
            f"{flavour} does not open it, because it contains host code; set allow_host_code if you trust its origin",
            fields=["allow_host_code"],
        )
    if "memory" in reason.lower():
        return BackendError(f"{flavour} cannot open it: {reason}; free some of the GPU's memory")
    if "call to stub" in reason:
        return EngineError(
            f"{flavour} cannot open it: it is not version compatible, so only the release that built it runs it; "
            f"{REBUILD}"
        )
    return EngineError(f"{flavour} cannot open it: {reason}; {REBUILD}")
