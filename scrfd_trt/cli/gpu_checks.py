"""The checks of ``scrfd-trt doctor`` that only NVIDIA GPUs need."""

from __future__ import annotations

from importlib import metadata

from scrfd_trt import devices, opening
from scrfd_trt.cli.check import Check, State, pip
from scrfd_trt.cuda import driver as cuda
from scrfd_trt.cuda import kernels
from scrfd_trt.devices import Driver, Gpu
from scrfd_trt.engine import flavours
from scrfd_trt.engine.flavours import Flavour, FlavourName
from scrfd_trt.errors import DeviceError, MissingDependencyError, ScrfdError

CUDA_PYTHON, CUDA_CORE = CUDA_PACKAGES = ("cuda-python", "cuda-core")
ONLY_FOR_GPUS = "; only NVIDIA GPUs need it"
TURING = (7, 5)
"""The oldest compute capability of TensorRT 10.5 and newer."""

RUNS_ONLY = "runs version compatible engines"
PURPOSES: dict[FlavourName, str] = {
    "tensorrt": "builds and runs engines",
    "tensorrt_lean": RUNS_ONLY,
    "tensorrt_dispatch": RUNS_ONLY,
    "tensorrt_rtx": "builds and runs engines of its own kind",
}
CUDA_13 = 13
"""From this release on, NVIDIA's packages have no release in their names."""

CUDA_RELEASES = range(11, 15)
"""Major releases of CUDA that TensorRT packages may be for."""


def gpu_checks(cuda_python: str = CUDA_PYTHON, cuda_core: str = CUDA_CORE) -> list[Check]:
    """Look at driver, GPUs, CUDA and TensorRT.

    Parameters
    ----------
    cuda_python, cuda_core
        What to install where one of them is missing.
    """
    driver = devices.driver()
    checks = [
        _driver(driver),
        *map(_gpu, driver.gpus),
        _chosen(driver),
        _cuda(driver, cuda_python),
        _nvrtc(driver, cuda_core),
    ]
    found = {flavour.name: flavour for flavour in flavours.installed()}
    problems = flavours.problems()
    for name in flavours.NAMES:
        if name in found:
            checks.append(_usable(found[name], driver))
        else:
            wanted = name == "tensorrt" and not any(flavour.can_build for flavour in found.values())
            checks.append(_unusable(name, problems.get(name, flavours.NOT_INSTALLED), driver, wanted=wanted))
    return checks


def _driver(driver: Driver) -> Check:
    version = "" if driver.cuda_version is None else f"runs CUDA up to {_dotted(driver.cuda_version)}"
    if driver.gpus:
        return Check("device", "NVIDIA driver", "ok", version)
    return Check("device", "NVIDIA driver", "absent", "; ".join(filter(None, (version, driver.problem))))


def _gpu(gpu: Gpu) -> Check:
    if gpu.compute_capability >= TURING:
        return Check("device", f"GPU {gpu.index}", "ok", str(gpu))
    detail = f"{gpu}: too old for TensorRT 10.5 and newer, which begin at {_dotted(TURING)}"
    return Check("device", f"GPU {gpu.index}", "note", detail, f'{pip()} "tensorrt<10.5"')


def _chosen(driver: Driver) -> Check:
    chosen = devices.choose("auto", opening.cuda_problem)
    state: State = "note" if driver.gpus and chosen == "cpu" else "ok"
    return Check("device", 'device="auto"', state, chosen + _why_not_cuda(chosen))


def _why_not_cuda(chosen: str) -> str:
    if chosen != "cpu":
        return ""
    try:
        devices.choose("cuda", opening.cuda_problem)
    except DeviceError as error:
        return f"; not the GPU: {devices.driver().problem or error}"
    return ""


def _cuda(driver: Driver, requirement: str) -> Check:
    """Import the bindings, and start CUDA where there is a GPU for it."""
    name, remedy = "CUDA (cuda.bindings)", f'{pip()} "{requirement}"'
    version = _version("cuda-bindings") or _version(CUDA_PYTHON)
    try:
        cuda.bindings()
        if driver.gpus:
            cuda.call("cuInit", 0, doing="starting CUDA")
    except ScrfdError as error:
        return _missing(name, f"{version}: {error}" if version else "not installed", driver, remedy)
    return Check("engines", name, "ok", version or "found")


def _nvrtc(driver: Driver, requirement: str) -> Check:
    """Look whether the GPU's kernels can be compiled."""
    name = "NVRTC (cuda.core)"
    version = _version(CUDA_CORE)
    if version is None:
        return _missing(name, "not installed", driver, f'{pip()} "{requirement}"')
    try:
        release = kernels.nvrtc_release()
    except MissingDependencyError as error:
        major = (driver.cuda_version or (13, 0))[0]
        package = "nvidia-cuda-nvrtc" if major >= CUDA_13 else f"nvidia-cuda-nvrtc-cu{major}"
        return _missing(name, str(error).partition(" (")[0], driver, f"{pip()} {package}")
    return Check("engines", name, "ok", f"{_dotted(release)}, cuda-core {version}")


def _usable(flavour: Flavour, driver: Driver) -> Check:
    needs = _built_for(flavour.name)
    detail = f"{flavour.version}, {PURPOSES[flavour.name]}"
    if driver.gpus and driver.cuda_version and needs and min(needs) > driver.cuda_version[0]:
        detail = f"{flavour.version} is for CUDA {min(needs)}, and the driver runs up to {_dotted(driver.cuda_version)}"
        return Check("engines", flavour.name, "problem", detail, _install(flavour.name))
    return Check("engines", flavour.name, "ok", detail)


def _unusable(name: FlavourName, reason: str, driver: Driver, *, wanted: bool) -> Check:
    if not reason.startswith(flavours.NOT_INSTALLED):
        return _missing(name, reason, driver, _install(name, anew=True))
    if wanted:
        return _missing(name, f"{reason}; it {PURPOSES[name]}", driver, _install(name))
    return Check("engines", name, "absent", f"{reason}; it {PURPOSES[name]}", _install(name))


def _missing(name: str, detail: str, driver: Driver, remedy: str) -> Check:
    """Say what is missing: a problem where there is a GPU, and elsewhere nothing to mind."""
    if driver.gpus:
        return Check("engines", name, "problem", detail, remedy)
    return Check("engines", name, "absent", detail + ONLY_FOR_GPUS, remedy)


def _install(name: FlavourName, *, anew: bool = False) -> str:
    """Return the command that installs a flavour which fits the driver."""
    return flavours.remedy(name=name, pip=f"{pip()} --force-reinstall" if anew else pip())


def _built_for(name: FlavourName) -> list[int]:
    """Return the major releases of CUDA that the installed packages of a flavour are for; empty if that is not told."""
    package = name.replace("_", "-")
    return [release for release in CUDA_RELEASES if _version(f"{package}-cu{release}-libs")]


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
