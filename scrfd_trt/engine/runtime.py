"""Open engines: one way for all TensorRTs from 8.6 to 11, and TensorRT-RTX."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scrfd_trt.cuda import Device
from scrfd_trt.cuda.device import find
from scrfd_trt.engine import flavours, logs, runners
from scrfd_trt.engine.flavours import Flavour
from scrfd_trt.engine.loaded import FOREIGN, LoadedEngine, ask
from scrfd_trt.engine.plan import REBUILD
from scrfd_trt.engine.plan_file import Plan, read_plan
from scrfd_trt.engine.runners import Runner
from scrfd_trt.errors import BackendError, DeviceError, EngineError, ScrfdError, one_line

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
    runner = runners.find_runner(
        plan.header,
        installed,
        lean_runtime=lean_runtime_of(lean_runtime),
        allow_host_code=allow_host_code,
        version_compatible=plan.version_compatible,
    )
    runners.check_gpu(plan.capabilities, gpu, unlisted=plan.header.unlisted)
    opened = Device(device)
    with opened.current():
        return _deserialize(plan, runner, opened, allow_host_code)


def lean_runtime_of(given: str | os.PathLike[str] | None) -> Path | None:
    """Return the lean runtime's file as given, or else as the environment names it."""
    path = given or os.environ.get(runners.LEAN_RUNTIME)
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

    loaded: LoadedEngine = ask(flavour, lambda why: _refusal(flavour, why), opened)
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
            f"with lean_runtime= or {runners.LEAN_RUNTIME}",
            fields=["lean_runtime"],
        )

    return ask(flavour, failure, runtime.load_runtime, str(path))


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
