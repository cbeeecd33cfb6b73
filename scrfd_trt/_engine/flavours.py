"""The installed packages of TensorRT ("flavours"); only this module imports them, by name and when needed."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from scrfd_trt import _devices
from scrfd_trt.errors import DeviceError, MissingDependencyError, OptionError, one_line

if TYPE_CHECKING:
    import tensorrt


class Api(Protocol):
    """The classes that all releases from 8.6 have; check for others with ``hasattr``."""

    Builder: type[tensorrt.Builder]
    BuilderFlag: type[tensorrt.BuilderFlag]
    Dims: type[tensorrt.Dims]
    HardwareCompatibilityLevel: type[tensorrt.HardwareCompatibilityLevel]
    ILogger: type[tensorrt.ILogger]
    MemoryPoolType: type[tensorrt.MemoryPoolType]
    NetworkDefinitionCreationFlag: type[tensorrt.NetworkDefinitionCreationFlag]
    OnnxParser: type[tensorrt.OnnxParser]


def subclass(mixin: type[Any], base: type[Any]) -> type[Any]:
    """Combine a class with one of TensorRT's interfaces, which is known only at run time."""
    return type(mixin.__name__, (mixin, base), {})


FlavourName = Literal["tensorrt", "tensorrt_lean", "tensorrt_dispatch", "tensorrt_rtx"]
NAMES: tuple[FlavourName, ...] = get_args(FlavourName)  # in order of preference
OLDEST = (8, 6, 0)
JETPACK = Path("/etc/nv_tegra_release")
"""Where this file exists, TensorRT is part of the system, and the packages on PyPI do not fit."""

NOT_INSTALLED = "not installed"
BROKEN = "installed, but cannot be loaded"


@dataclass(frozen=True)
class Flavour:
    """An installed TensorRT and its version; use ``hasattr`` for what not all releases from 8.6 to 11 have."""

    name: FlavourName
    version: str
    module: ModuleType
    can_build: bool

    @property
    def release(self) -> tuple[int, int, int]:
        return release_of(self.version)

    @property
    def is_rtx(self) -> bool:
        """Whether this is TensorRT-RTX, whose engines no other flavour runs."""
        return self.name == "tensorrt_rtx"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def release_of(version: str) -> tuple[int, int, int]:
    """Return the first three numbers of a version, 0 for missing ones."""
    numbers = [int(digits) for digits in re.findall(r"\d+", version)[:3]]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major, minor, patch


def installed() -> tuple[Flavour, ...]:
    """Return the flavours that can be imported, in order of preference."""
    found = (_load(name) for name in NAMES)
    return tuple(flavour for flavour in found if isinstance(flavour, Flavour))


def problems() -> dict[str, str]:
    """Return by name why each of the other flavours cannot be used, on one line."""
    found = {name: _load(name) for name in NAMES}
    return {name: flavour for name, flavour in found.items() if isinstance(flavour, str)}


def choose(*, can_build: bool = False, name: str | None = None) -> Flavour:
    """Return the preferred flavour, or the one of this name; builds without a GPU prefer ``tensorrt_rtx``."""
    if name is not None and name not in NAMES:
        raise OptionError(
            f"unknown TensorRT flavour {name!r}; the choices are: {', '.join(NAMES)}",
            fields=["flavour"],
            value=name,
            choices=NAMES,
        )
    candidates = [flavour for flavour in installed() if name in {None, flavour.name}]
    if can_build and not _devices.driver().gpus:
        candidates.sort(key=lambda flavour: not flavour.is_rtx)
    chosen = next((flavour for flavour in candidates if flavour.can_build or not can_build), None)
    if chosen is not None:
        return chosen
    if name is not None and candidates:
        raise OptionError(f"{candidates[0]} runs engines but cannot build any; the choices are: tensorrt, tensorrt_rtx")
    raise _none_suitable(can_build, name)


def _none_suitable(can_build: bool, name: str | None) -> DeviceError | MissingDependencyError:
    runners = {str(item.name): f"{item.version}, runs engines but has no builder" for item in installed()}
    states = problems() | runners
    relevant = {key: states[key] for key in NAMES if name in {None, key}}
    if can_build and name is None and set(states.values()) == {NOT_INSTALLED}:
        return MissingDependencyError(
            "building an engine requires TensorRT, which is not installed. On the machine with the GPU: "
            f"{remedy(name='tensorrt')}. For RTX cards, without a GPU: {remedy(name='tensorrt_rtx')}"
        )
    purpose = "builds engines" if can_build else "runs engines"
    what = f"no TensorRT that {purpose} can be used" if name is None else f"{name} cannot be used"
    found = "; ".join(f"{key}: {state}" for key, state in relevant.items())
    command = remedy(can_build, name)
    if any(state.startswith(BROKEN) for state in relevant.values()):
        return DeviceError(f"{what} ({found}); repair that installation, or reinstall: {command}")
    return MissingDependencyError(f"{what} ({found}): {command}")


def remedy(can_build: bool = False, name: str | None = None, pip: str = "pip install") -> str:
    """Return the command that installs a flavour for this machine, TensorRT-RTX for builds without a GPU."""
    driver = _devices.driver()
    if JETPACK.exists() and name in {None, "tensorrt"}:
        return "sudo apt install python3-libnvinfer && python3 -m venv --system-site-packages .venv"
    if name is None:
        name = "tensorrt_rtx" if can_build and not driver.gpus else "tensorrt"
    major = driver.cuda_version[0] if driver.cuda_version else 13
    return f"{pip} {name.replace('_', '-')}-cu{min(max(major, 12), 13)}"


@cache
def _load(name: FlavourName) -> Flavour | str:
    """Import a flavour once per process; a string states why it cannot be used."""
    try:
        # For a module without a spec, such as a test's, find_spec raises ValueError.
        if find_spec(name) is None:
            return NOT_INSTALLED
        module = importlib.import_module(name)
    # A missing library is an ImportError on Linux and an OSError on Windows; the packages also raise RuntimeError.
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return f"{BROKEN}: {one_line(error)}"
    version = str(getattr(module, "__version__", ""))
    if not version or not hasattr(module, "Runtime"):
        where = getattr(module, "__file__", None) or ", ".join(getattr(module, "__path__", ["?"]))
        return f"{NOT_INSTALLED}; {where} is another package of that name"
    if release_of(version) < OLDEST and name != "tensorrt_rtx":
        return f"{version} is too old; 8.6 or newer is required"
    return Flavour(name, version, module, hasattr(module, "Builder") and hasattr(module, "OnnxParser"))
