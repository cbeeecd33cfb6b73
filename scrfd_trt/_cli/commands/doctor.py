"""``scrfd-trt doctor``: check this machine and show how to fix what is missing."""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import typer
from rich.text import Text

from scrfd_trt import _devices, models, samples
from scrfd_trt._cli import console, settings
from scrfd_trt._cli.exits import FAILED
from scrfd_trt._cuda import driver as cuda
from scrfd_trt._cuda import kernels
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._devices import Driver, Gpu
from scrfd_trt._display import other_overlays
from scrfd_trt._engine import flavours
from scrfd_trt._engine.flavours import Flavour, FlavourName
from scrfd_trt._engine.plan import dotted
from scrfd_trt._pipelines import factory
from scrfd_trt._version import __version__
from scrfd_trt.errors import DeviceError, MissingDependencyError, ScrfdError, installable, one_line, redact_password
from scrfd_trt.models import DEFAULT_MODEL

State = Literal["ok", "absent", "problem", "note"]
STYLES: dict[State, str] = {"ok": "green", "absent": "dim", "problem": "bold red", "note": ""}

DISTRIBUTION, OVERLAYS = "scrfd-trt", "overlays"
CUDA_PYTHON, CUDA_CORE = "cuda-python", "cuda-core"
ALTERNATIVES = {
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
}
"""Distributions that provide the same module."""
IMPORTED = {"onnxruntime": "cpu", "onnx": "build"}
"""Modules that are imported as a check, with their extras; also checked if this distribution is not installed."""
GPU_EXTRAS = {"cuda", "build"}
GPU_ONLY = "; needed for NVIDIA GPUs only"

MIN_CAPABILITY = (7, 5)
"""The lowest compute capability that TensorRT 10.5 and newer support."""
CUDA_RELEASES = range(11, 15)
"""Major releases of CUDA that have TensorRT packages. From 13 on, the names of CUDA packages have no release."""
RUNS_ONLY = ("runs version-compatible engines", "Optional, to run prebuilt engines only:")
RTX = ("builds and runs engines for RTX cards, in its own format", "Optional, to build and run engines for RTX cards:")
FLAVOURS: dict[str, tuple[str, str]] = {
    "tensorrt": ("builds and runs engines", "Optional, to build and run engines for other NVIDIA GPUs:"),
    **dict.fromkeys(("tensorrt_lean", "tensorrt_dispatch"), RUNS_ONLY),
    "tensorrt_rtx": RTX,
}
"""What TensorRT's packages do, and the headings above the commands that install those which are not needed."""
ADD, USE_GPU = "To add (optional):", "To use an NVIDIA GPU:"
FIX, CHANGE = "To fix:", "To change if needed:"


@dataclass(frozen=True)
class Check:
    """The result of one check, as ``--json`` writes it."""

    group: str  # checks of one group are shown together
    name: str
    state: State  # "absent" is optional
    detail: str  # one line
    remedy: str = ""  # the command that fixes it
    needed: bool = False  # whether detection requires it


def doctor(context: typer.Context, *, as_json: bool = False) -> None:
    """Check this machine and show how to fix what is missing.

    Nothing is downloaded or changed. The exit code is 0 if detection works,
    else 1.

    For example:
      scrfd-trt doctor
      scrfd-trt doctor --json
    """
    with console.logged(quiet=True):
        checks = [*all_checks(), *_settings(context.meta[settings.PATH])]
    works = all(check.state != "problem" for check in checks if check.needed)
    if as_json:
        console.write_json({"works": works, "checks": [asdict(check) for check in checks]})
    else:
        _show(checks)
        _show_remedies([check for check in checks if check.remedy])
        text, style = ("Detection works.", "green") if works else ("Detection does not work yet.", "red")
        console.write("\n")
        console.print_line(text, style=f"bold {style}")
    if not works:
        raise typer.Exit(FAILED)


def _show(checks: list[Check]) -> None:
    table = console.table("check", "state")
    table.add_column("detail", overflow="fold")
    group = checks[0].group
    for check in checks:
        if check.group != group:
            table.add_section()
            group = check.group
        table.add_row(check.name, Text(check.state, style=STYLES[check.state]), Text(console.printable(check.detail)))
    console.show(table)


def _show_remedies(checks: list[Check]) -> None:
    shown: set[str] = set()
    for title in dict.fromkeys((FIX, ADD, USE_GPU, *(heading for _, heading in FLAVOURS.values()), CHANGE)):
        found = dict.fromkeys(check.remedy for check in checks if _title(check) == title)
        remedies = [each for each in found if each not in shown and not _is_included(each, found)]
        shown.update(remedies)
        if remedies:
            console.write(f"\n{title}\n")
        for remedy in remedies:
            console.print_line(f"  {remedy}")


def _title(check: Check) -> str:
    """Return the heading above the command of a check."""
    if check.state != "absent":
        return FIX if check.state == "problem" else CHANGE
    if check.detail.endswith(GPU_ONLY):
        return USE_GPU
    return FLAVOURS.get(check.name, ("", USE_GPU if check.group == "engines" else ADD))[1]


def _is_included(remedy: str, remedies: Iterable[str]) -> bool:
    """Return whether another of the commands installs the same packages and more; the extra cuda includes build."""
    starts = (f"{remedy} ", f"{remedy} ".replace("[build]", "[cuda]"))
    return any(each != remedy and f"{each} ".startswith(starts) for each in remedies)


def all_checks() -> list[Check]:
    """Run all checks; nothing is downloaded or changed."""
    return [*_program(), *_import_name(), *_packages(), *gpu_checks(), _model(), _detection()]


def _program() -> list[Check]:
    folder = Path(__file__).parents[3]
    program = Check("program", DISTRIBUTION, "ok", f"{__version__} at {folder}")
    if _version(DISTRIBUTION) is None:
        detail = f"{program.detail}, not installed: no overlays are available"
        program = replace(program, state="problem", detail=detail, remedy=f"{pip()} -e {folder}")
    python = f"{platform.python_version()} at {sys.executable}"
    system = f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} CPUs"
    return [program, Check("program", "Python", "ok", python), Check("program", "system", "ok", system)]


def pip(verb: str = "install") -> str:
    """Return the command that installs into this Python; environments of uv have no pip."""
    found = shutil.which("python")
    same = found is not None and os.path.realpath(Path(found).parent) == os.path.realpath(Path(sys.executable).parent)
    python = "python" if same else f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return f"{python} -m pip {verb}" if find_spec("pip") else f"uv pip {verb.split(maxsplit=1)[0]} --python {python}"


def _add(extra: str) -> str:
    """Return the command that installs an extra."""
    return " ".join([pip(), installable(f'"{DISTRIBUTION}[{extra}]"')])


class Requirement(NamedTuple):
    """A requirement of this distribution."""

    name: str
    spec: str  # with version, as pip takes it
    extra: str  # empty for base dependencies


def _requirements() -> list[Requirement]:
    """Parse texts such as ``onnxruntime>=1.17; extra == 'cpu'``; empty if this distribution is not installed."""
    try:
        texts = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    pattern = r"([\w.-]+)\s*([^;]*?)\s*(?:;.*\bextra\s*==\s*['\"]([\w-]+)['\"].*)?$"
    matches = filter(None, (re.match(pattern, text) for text in texts))
    return [Requirement(match[1], match[1] + match[2], match[3] or "") for match in matches]


def _import_name() -> list[Check]:
    """Return a problem if another distribution, or a folder, owns the import name of the overlays."""
    owners = metadata.packages_distributions().get(OVERLAYS, [])
    others = sorted({name for name in owners if re.sub(r"[-_.]+", "-", name).lower() != DISTRIBUTION})
    found, folder = other_overlays(), Path(__file__).parents[3]
    if not others and not found:
        return []
    names = f"the distribution {' and '.join(others)}" if others else found
    detail = f"{names} provides the import name '{OVERLAYS}', which {DISTRIBUTION} needs; keep {DISTRIBUTION} alone"
    source = f"-e {folder}" if (folder / "pyproject.toml").is_file() else DISTRIBUTION
    uninstall = f"{pip('uninstall -y')} {' '.join(others)} && " if others else ""
    again = f"{pip()} --force-reinstall --no-deps {source}"
    return [Check("program", OVERLAYS, "problem", detail, uninstall + again)]


def _settings(path: Path) -> list[Check]:
    """Return what the settings file and variables set, or what is wrong with them."""
    from scrfd_trt._cli.application import COMMANDS, load_command  # noqa: PLC0415 - imports this module

    file = Check("settings", "settings file", "absent", f"{path} does not exist")
    if path.exists():
        try:
            found = settings.read(path)
            for key in found.keys() & COMMANDS.keys() or {"doctor"}:
                settings.defaults(path, found, load_command(key), COMMANDS)
            file = replace(file, state="ok", detail=f"{path} sets {json.dumps(found, default=str)}")
        except ScrfdError as error:
            file = replace(file, state="problem", detail=str(error))
    given = {name: value for name, value in os.environ.items() if name.startswith(settings.PREFIX)}
    known = {models.HOME_VARIABLE, models.MIRROR_VARIABLE, settings.VARIABLE}
    if given.keys() - known:
        try:
            options = [one for command in COMMANDS for one in settings.by_name(load_command(command)).values()]
            known.update(name for one in options for name in one.envvar)
        except MissingDependencyError:  # other overlays, which are a check of their own
            known.update(given)
    states: dict[bool, tuple[State, str]] = {True: ("ok", ""), False: ("note", " (no option has this name)")}
    rows = [(name, redact_password(value), *states[name in known]) for name, value in sorted(given.items())]
    return [file, *(Check("settings", name, state, value + more) for name, value, state, more in rows)]


def _packages() -> list[Check]:
    """Check the packages of all extras except the tests' and those of CUDA, which has its own checks."""
    requirements = [each for each in _requirements() if each.extra != "test"]
    listed = {each.name for each in requirements}
    requirements += [Requirement(name, name, extra) for name, extra in IMPORTED.items() if name not in listed]
    names = dict.fromkeys(each.name for each in requirements if each.name not in {CUDA_PYTHON, CUDA_CORE, DISTRIBUTION})
    checks = [_package([each for each in requirements if each.name == name]) for name in names]
    return sorted(checks, key=lambda check: check.state == "absent")


def _package(requirements: list[Requirement]) -> Check:
    """Check a package; ``requirements`` are those of the base and of the extras."""
    name, spec, _ = requirements[0]
    extras = list(dict.fromkeys(each.extra for each in requirements))
    installed = _installed(name)
    versions = ", ".join(str(_version(one)) if one == name else f"{one} {_version(one)}" for one in installed)
    optional = "" not in extras
    extra = f" (extra{'s' * (len(extras) > 1)} {', '.join(extras)})" if optional else ""
    if len(installed) > 1:
        detail = f"{versions}: they overwrite each other's files; keep one"
        # Uninstalling only one would delete files of the others.
        return Check("packages", name, "note", detail, f"{pip('uninstall -y')} {' '.join(installed)} && {pip()} {name}")
    if installed and name in IMPORTED and (reason := _import_problem(name)):
        detail = f"{versions}{extra}: installed, but cannot be loaded: {reason}"
        return Check("packages", name, "problem", detail, f"{pip()} --force-reinstall {installed[0]}")
    if name in installed and (problem := _release_problem(str(_version(name)), spec)):
        return Check("packages", name, "problem", f"{versions}{extra}: {problem}", f'{pip()} "{spec}"')
    if installed:
        return Check("packages", name, "ok", versions + extra)
    gpu_only = GPU_ONLY if set(extras) <= GPU_EXTRAS else ""
    detail = f"not installed{extra}{gpu_only}"
    remedy = _add(extras[0]) if optional else f'{pip()} "{spec}"'
    return Check("packages", name, "absent" if optional else "problem", detail, remedy)


def _release_problem(version: str, spec: str) -> str:
    """Return what is wrong with a version for a requirement such as ``av<19,>=17.1``; empty if nothing is."""
    release, limits = flavours.release_of(version), re.findall(r"(>=|<)\s*([\d.]+)", spec)
    wrong = [sign + limit for sign, limit in limits if (release >= flavours.release_of(limit)) != (sign == ">=")]
    return f"{wrong[0]} is required" if wrong else ""


def _import_problem(module: str) -> str:
    """Return why a module cannot be imported; empty if it can."""
    try:
        importlib.import_module(module)
    # Incompatible packages raise any of these.
    except (ImportError, OSError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        return one_line(error)
    return ""


def _installed(name: str) -> list[str]:
    """Return those of a distribution and its alternatives that are installed."""
    return [one for one in (name, *ALTERNATIVES.get(name, ())) if _version(one)]


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def gpu_checks() -> list[Check]:
    """Check driver, GPUs, CUDA and TensorRT."""
    driver = _devices.driver()
    checks = [_driver(driver), *map(_gpu, driver.gpus), _auto_device(driver), _cuda(driver), _nvrtc(driver)]
    installed = {flavour.name: flavour for flavour in flavours.installed()}
    problems = flavours.problems()
    for name in flavours.NAMES:
        if name in installed:
            checks.append(_usable_flavour(installed[name], driver))
        else:
            needed = name == "tensorrt" and not any(flavour.can_build for flavour in installed.values())
            checks.append(_missing_flavour(name, problems.get(name, flavours.NOT_INSTALLED), driver, needed=needed))
    return checks


def _driver(driver: Driver) -> Check:
    version = "" if driver.cuda_version is None else f"supports CUDA up to {dotted(driver.cuda_version)}"
    if driver.gpus:
        return Check("device", "NVIDIA driver", "ok", version)
    return Check("device", "NVIDIA driver", "absent", "; ".join(filter(None, (version, driver.problem))))


def _gpu(gpu: Gpu) -> Check:
    if gpu.compute_capability >= MIN_CAPABILITY:
        return Check("device", f"GPU {gpu.index}", "ok", str(gpu))
    detail = f"{gpu}: too old for TensorRT 10.5 and newer, which require compute capability {dotted(MIN_CAPABILITY)}"
    return Check("device", f"GPU {gpu.index}", "note", detail, f'{pip()} "tensorrt<10.5"')


def _auto_device(driver: Driver) -> Check:
    chosen, reason = _devices.choose("auto", factory.cuda_problem), ""
    if chosen == "cpu":
        try:
            _devices.choose("cuda", factory.cuda_problem)
        except DeviceError as error:
            reason = f" ({driver.problem or error})"
    return Check("device", 'device="auto"', "note" if driver.gpus and reason else "ok", chosen + reason)


def _cuda(driver: Driver) -> Check:
    """Import the bindings, and start CUDA if there is a GPU."""
    name, remedy = "CUDA (cuda.bindings)", _add("cuda")
    version = _version("cuda-bindings") or _version(CUDA_PYTHON)
    try:
        cuda.bindings()
        if driver.gpus:
            cuda.call("starting CUDA", cuda.bindings().cuInit, 0)
    except ScrfdError as error:
        return _missing(name, f"{version}: {error}" if version else "not installed", driver, remedy)
    return Check("engines", name, "ok", version or "found")


def _nvrtc(driver: Driver) -> Check:
    name = "NVRTC (cuda.core)"
    version = _version(CUDA_CORE)
    major = (driver.cuda_version or (13, 0))[0]
    package = "nvidia-cuda-nvrtc" if major >= 13 else f"nvidia-cuda-nvrtc-cu{major}"
    if version is None:
        return _missing(name, "not installed", driver, f"{_add('cuda')} {package}")
    try:
        release = kernels.nvrtc_release()
    except MissingDependencyError:
        detail = "NVRTC, which compiles the kernels for the GPU, is not found"
        return _missing(name, detail, driver, f"{pip()} {package}")
    return Check("engines", name, "ok", f"{dotted(release)}, cuda-core {version}")


def _usable_flavour(flavour: Flavour, driver: Driver) -> Check:
    package = flavour.name.replace("_", "-")
    releases = [release for release in CUDA_RELEASES if _version(f"{package}-cu{release}-libs")]
    if driver.gpus and driver.cuda_version and releases and min(releases) > driver.cuda_version[0]:
        limit = dotted(driver.cuda_version)
        detail = f"{flavour.version} is for CUDA {min(releases)}, but the driver supports CUDA up to {limit}"
        return Check("engines", flavour.name, "problem", detail, flavours.remedy(name=flavour.name, pip=pip()))
    return Check("engines", flavour.name, "ok", f"{flavour.version}, {FLAVOURS[flavour.name][0]}")


def _missing_flavour(name: FlavourName, reason: str, driver: Driver, *, needed: bool) -> Check:
    """Report a flavour that is broken, or not installed and either ``needed`` to build engines or optional."""
    if not reason.startswith(flavours.NOT_INSTALLED):
        return _missing(name, reason, driver, flavours.remedy(name=name, pip=f"{pip()} --force-reinstall"))
    detail, remedy = f"{reason}; {FLAVOURS[name][0]}", flavours.remedy(name=name, pip=pip())
    return _missing(name, detail, driver, remedy) if needed else Check("engines", name, "absent", detail, remedy)


def _missing(name: str, detail: str, driver: Driver, remedy: str) -> Check:
    """Report what engines need: a problem on a machine with a GPU, else optional."""
    if driver.gpus:
        return Check("engines", name, "problem", detail, remedy)
    return Check("engines", name, "absent", detail + GPU_ONLY, remedy)


def _model() -> Check:
    try:
        found = models.find(DEFAULT_MODEL)
    except ScrfdError as error:
        return Check("model", DEFAULT_MODEL, "problem", str(error))
    if found:
        return Check("model", DEFAULT_MODEL, "ok", f"{found.path} ({found.source})")
    packages = models.get(DEFAULT_MODEL).packages
    remedy = _add("cpu") if packages else f"scrfd-trt models --fetch {DEFAULT_MODEL}"
    detail = f"not on this machine; the first detection downloads it into {models.home()}"
    return Check("model", DEFAULT_MODEL, "problem", detail, remedy)


def _detection() -> Check:
    """Detect a face on the CPU, where no engine has to be built, unless the model would have to be downloaded."""
    problem = ""
    try:
        if models.find(DEFAULT_MODEL) is None:
            problem = "not tested: the model is missing"
        else:
            image = samples.load("portrait").image
            with SCRFDDetector.from_pretrained(DEFAULT_MODEL, device="cpu") as detector:
                found, description = len(detector.detect(image)), detector.description
                sizes = " and ".join(f"{width}×{height}" for width, height in detector.scales)
    except ScrfdError as error:
        problem = str(error)
    if problem:
        missing = any(each.extra == "cpu" and not _installed(each.name) for each in _requirements())
        remedy = _add("cpu") if missing else ""
        return Check("model", "detection", "problem", problem, remedy, needed=True)
    if found != 1:
        detail = f"detected {found} faces in a test image with one face; {description}"
        return Check("model", "detection", "problem", detail, needed=True)
    runtime = description.partition("; ")[0].removeprefix("cpu: ")
    return Check("model", "detection", "ok", f"detected the test face with {runtime} ({sizes})", needed=True)
