"""Which TensorRT is installed, and which of several is taken.

NVIDIA ships one API in four packages, here called flavours: ``tensorrt`` builds and runs engines, ``tensorrt_lean`` and
``tensorrt_dispatch`` only run version compatible ones, and ``tensorrt_rtx`` builds and runs engines of its own kind.
This is the only place that imports them, by name and when asked to, so that the rest can be imported without any.
"""

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
    """The classes that all releases from 8.6 on have; what only some have is asked for with ``hasattr``."""

    Builder: type[tensorrt.Builder]
    BuilderFlag: type[tensorrt.BuilderFlag]
    Dims: type[tensorrt.Dims]
    HardwareCompatibilityLevel: type[tensorrt.HardwareCompatibilityLevel]
    ILogger: type[tensorrt.ILogger]
    MemoryPoolType: type[tensorrt.MemoryPoolType]
    NetworkDefinitionCreationFlag: type[tensorrt.NetworkDefinitionCreationFlag]
    OnnxParser: type[tensorrt.OnnxParser]


def subclass(mixin: type[Any], base: type[Any]) -> type[Any]:
    """Join a class of this library with one of TensorRT's interfaces, which is known at run time only."""
    return type(mixin.__name__, (mixin, base), {})


FlavourName = Literal["tensorrt", "tensorrt_lean", "tensorrt_dispatch", "tensorrt_rtx"]
NAMES: tuple[FlavourName, ...] = get_args(FlavourName)
"""In the order in which they are preferred."""

OLDEST = (8, 6, 0)
JETPACK = Path("/etc/nv_tegra_release")
"""Where this is, TensorRT comes with the system, and the packages of the index do not fit."""

NOT_INSTALLED = "not installed"
BROKEN = "installed, but cannot be loaded"


@dataclass(frozen=True)
class Flavour:
    """One TensorRT that can be used.

    Attributes
    ----------
    name
        Of the Python module.
    version
        As the module tells it, ``10.16.1.11`` say.
    module
        The module itself. Releases differ in what it has: ask for each name with ``hasattr`` before using it, where
        not all releases from 8.6 to 11 have it.
    can_build
        Whether it has a builder.
    """

    name: FlavourName
    version: str
    module: ModuleType
    can_build: bool

    @property
    def release(self) -> tuple[int, int, int]:
        """Major, minor and patch."""
        return release_of(self.version)

    @property
    def is_rtx(self) -> bool:
        """Whether this is TensorRT-RTX, whose engines no other flavour runs."""
        return self.name == "tensorrt_rtx"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def release_of(version: str) -> tuple[int, int, int]:
    """Return the first three numbers of a version; 0 stands for those that it does not have."""
    numbers = [int(digits) for digits in re.findall(r"\d+", version)[:3]]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major, minor, patch


def installed() -> tuple[Flavour, ...]:
    """Return the flavours that can be imported here, in the order in which they are preferred."""
    found = (_load(name) for name in NAMES)
    return tuple(flavour for flavour in found if isinstance(flavour, Flavour))


def problems() -> dict[str, str]:
    """Tell of each other flavour, by name, why it cannot be used, on one line."""
    found = {name: _load(name) for name in NAMES}
    return {name: flavour for name, flavour in found.items() if isinstance(flavour, str)}


def choose(*, can_build: bool = False, name: str | None = None) -> Flavour:
    """Settle which flavour is used.

    Parameters
    ----------
    can_build
        Only one that has a builder will do.
    name
        Only this one will do. None takes the first that there is of ``tensorrt``, ``tensorrt_lean``,
        ``tensorrt_dispatch`` and ``tensorrt_rtx``; to build on a machine without a GPU, ``tensorrt_rtx`` goes first,
        since the others cannot.

    Raises
    ------
    OptionError
        If there is no flavour of that name, or it has no builder where one is needed.
    MissingDependencyError
        If none is installed that will do; the message tells what is there and what to install.
    DeviceError
        If one is installed and cannot be loaded; the message tells why.
    """
    if name is not None and name not in NAMES:
        raise OptionError(
            f"TensorRT flavour {name!r} is not known; the choices are: {', '.join(NAMES)}",
            fields=["flavour"],
            value=name,
            choices=NAMES,
        )
    wanted = [flavour for flavour in installed() if name in {None, flavour.name}]
    if can_build and not _devices.driver().gpus:
        wanted.sort(key=lambda flavour: not flavour.is_rtx)
    chosen = next((flavour for flavour in wanted if flavour.can_build or not can_build), None)
    if chosen is not None:
        return chosen
    if name is not None and wanted:
        raise OptionError(f"{wanted[0]} runs engines but cannot build any; the choices are: tensorrt, tensorrt_rtx")
    raise _none_will_do(can_build, name)


def _none_will_do(can_build: bool, name: str | None) -> DeviceError | MissingDependencyError:
    purpose = "builds engines" if can_build else "runs engines"
    there: dict[str, str] = {
        flavour.name: f"{flavour.version}, runs engines but has no builder" for flavour in installed()
    }
    states = {**problems(), **there}
    asked = {key: states[key] for key in NAMES if name in {None, key}}
    what = f"no TensorRT that {purpose} can be used" if name is None else f"{name} cannot be used"
    found = "; ".join(f"{key}: {state}" for key, state in asked.items())
    if any(state.startswith(BROKEN) for state in asked.values()):
        return DeviceError(f"{what} ({found}); mend that installation, or install anew: {remedy(can_build, name)}")
    return MissingDependencyError(f"{what} ({found}): {remedy(can_build, name)}")


def remedy(can_build: bool = False, name: str | None = None, pip: str = "pip install") -> str:
    """Tell the one command that installs a TensorRT that fits this machine.

    Parameters
    ----------
    can_build
        One that builds is wanted; without a GPU that is TensorRT-RTX.
    name
        The flavour that is wanted; None leaves the choice.
    pip
        The command that installs packages.
    """
    driver = _devices.driver()
    if JETPACK.exists() and name in {None, "tensorrt"}:
        return "sudo apt install python3-libnvinfer, and make the virtual environment with --system-site-packages"
    if name is None:
        name = "tensorrt_rtx" if can_build and not driver.gpus else "tensorrt"
    major = driver.cuda_version[0] if driver.cuda_version else 13
    command = f"{pip} {name.replace('_', '-')}-cu{min(max(major, 12), 13)}"
    if name == "tensorrt_rtx" and not driver.gpus:
        return f"{command}, which builds for RTX cards without a GPU; for other GPUs build on the machine that has one"
    return command


@cache
def _load(name: FlavourName) -> Flavour | str:
    """Import a flavour once a process; a string says why it cannot be used."""
    try:
        # A module that was put in by hand, by a test say, may have no spec: then this is a ValueError.
        if find_spec(name) is None:
            return NOT_INSTALLED
        module = importlib.import_module(name)
    # Beside a missing library (ImportError on Linux, OSError on Windows), the packages raise RuntimeError themselves.
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return f"{BROKEN}: {one_line(error)}"
    version = str(getattr(module, "__version__", ""))
    if not version or not hasattr(module, "Runtime"):
        where = getattr(module, "__file__", None) or ", ".join(getattr(module, "__path__", ["?"]))
        return f"{NOT_INSTALLED}; {where} is something else of that name"
    if release_of(version) < OLDEST and name != "tensorrt_rtx":
        return f"{version} is too old; 8.6 and newer will do"
    return Flavour(name, version, module, hasattr(module, "Builder") and hasattr(module, "OnnxParser"))
