"""A plan as it lies on disk, with the record of how it was made beside it."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scrfd_trt._engine.record import EngineRecord, read_record, record_path
from scrfd_trt.errors import ModelFormatError, ModelNotFoundError

MAGIC: dict[bytes, Literal["tensorrt", "tensorrt_rtx"]] = {b"ftrt": "tensorrt", b"vtrt": "tensorrt_rtx"}
TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
SIZE_OF_HEADER = 32
RTX_CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
"""In the order of their bits; a later release may have more of them."""

GPU_OF_8_6 = re.compile(
    rb"(?:\x02\x80\x01\x00.){4}\xe5\x80\x01\x00\x07\x80\x01\x00\x00{4}\x12\x80\x01\x00\x10\x80\x01\x00"
    rb"\x07\x80\x01\x00(.{4})\x07\x80\x01\x00(.{4})",
    re.DOTALL,
)
"""Version and GPU of a plan of 8.6, each value behind a tag; what is not just so is not read."""

END = bytes(255 - byte for byte in b"ftrt")
"""The last bytes of a plan, in the releases that were looked at."""

ONNX_START = b"\x08"
"""An ONNX file begins with its first field, the version of its format, in Protocol Buffers' coding."""

ENGINE_SUFFIXES = (".plan", ".engine", ".trt")

REBUILD = "build it again with scrfd-trt build"


@dataclass(frozen=True)
class PlanHeader:
    """The first bytes of a plan.

    Attributes
    ----------
    family
        Which runtime it is for.
    version
        Of the TensorRT that built it: major, minor, patch, build.
    capabilities
        The compute capabilities that it was built for; empty where the header does not tell.
    unlisted
        Whether it was built for others too, which only a later release of TensorRT-RTX knows by name.
    """

    family: Literal["tensorrt", "tensorrt_rtx"]
    version: tuple[int, int, int, int]
    capabilities: tuple[tuple[int, int], ...] = ()
    unlisted: bool = False

    @property
    def release(self) -> tuple[int, int, int]:
        """Major, minor and patch."""
        return self.version[:3]

    def __str__(self) -> str:
        return f"{TITLES[self.family]} {dotted(self.release)}"


def dotted(numbers: tuple[int, ...]) -> str:
    """Write a version or a compute capability."""
    return ".".join(map(str, numbers))


def read_header(plan: bytes) -> PlanHeader:
    """Read a plan's header, and check that the plan is whole.

    Parameters
    ----------
    plan
        All of its bytes.

    Raises
    ------
    ModelFormatError
        If it is no plan, or not all of one; the message goes on from the file's name.
    """
    header = peek(plan)
    if header is None:
        raise ModelFormatError(_what_else(plan))
    (size,) = struct.unpack_from("<Q", plan, 16)
    if len(plan) < size:
        raise ModelFormatError(
            f"this plan is cut off: {len(plan)} of {size} bytes are there; copy it again, or {REBUILD}"
        )
    if len(plan) > size:
        raise ModelFormatError(f"this plan is damaged: {len(plan) - size} bytes follow its end; {REBUILD}")
    if not plan.endswith(END) and (header.family == "tensorrt_rtx" or header.version[0] == 8):
        raise ModelFormatError(f"this plan is damaged: it does not end as a plan does; copy it again, or {REBUILD}")
    return header


def peek(plan: bytes) -> PlanHeader | None:
    """Read a plan's header, though the rest may be cut off; None if it is no plan, or too little of one."""
    family = MAGIC.get(plan[:4])
    if family is None or len(plan) < SIZE_OF_HEADER:
        return None
    major, minor, patch, build = plan[24:28]
    version = (major, minor, patch, build)
    if family == "tensorrt":
        return PlanHeader(family, version, _capability_of_8_6(plan))
    return PlanHeader(family, version, *_rtx_capabilities(plan))


def is_engine_file(path: Path) -> bool:
    """Return whether a file is an engine: by its first bytes, or by its suffix if they do not tell or it is missing."""
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError:  # reported when the file is opened
        start = b""
    if peek(start) is not None:
        return True
    return path.suffix.lower() in ENGINE_SUFFIXES and not start.startswith(ONNX_START)


def is_model_path(model: str) -> bool:
    """Return whether a text is the path of a model or engine, and not the name of a model."""
    # Path.is_file raises for a path in a folder without permission.
    return (
        model.lower().endswith((".onnx", *ENGINE_SUFFIXES)) or Path(model).name != model or os.path.isfile(model)  # noqa: PTH113
    )


def _what_else(content: bytes) -> str:
    if not content:
        return f"this plan is empty; {REBUILD}"
    if not content.strip(b"\0"):
        return f"this plan is damaged: it is all zeros; {REBUILD}"
    if content[:4] in MAGIC:
        return f"this plan is cut off after {len(content)} bytes; copy it again, or {REBUILD}"
    if content.startswith(ONNX_START):
        return (
            "this looks like an ONNX network and is no plan; open it as one, or make a plan of it with scrfd-trt build"
        )
    return f"this is no plan of TensorRT, or a damaged one: it begins with {content[:4].hex(' ')}; {REBUILD}"


def _rtx_capabilities(plan: bytes) -> tuple[tuple[tuple[int, int], ...], bool]:
    bits = int.from_bytes(plan[SIZE_OF_HEADER : SIZE_OF_HEADER + 4], "little")
    listed = tuple(pair for bit, pair in enumerate(RTX_CAPABILITIES) if bits >> bit & 1)
    return listed, bits >> len(RTX_CAPABILITIES) > 0


def _capability_of_8_6(plan: bytes) -> tuple[tuple[int, int], ...]:
    found = GPU_OF_8_6.match(plan, 0x50) if plan[24:26] == bytes((8, 6)) else None
    return (struct.unpack("<II", found[1] + found[2]),) if found else ()


log = logging.getLogger("scrfd_trt")


@dataclass(frozen=True)
class Plan:
    """A plan that is whole, as far as that can be told without TensorRT.

    Attributes
    ----------
    name
        For messages: its path, or "the plan" where it came as bytes.
    data
        All of it.
    header
        What it begins with.
    record
        How it was made, where that is known.
    """

    name: str
    data: bytes
    header: PlanHeader
    record: EngineRecord | None = None

    @property
    def capabilities(self) -> tuple[tuple[int, int], ...]:
        """Compute capabilities that it was built for; empty if that is not known."""
        if self.record is not None and self.record.options.hardware_compatible:
            return ()
        if self.header.capabilities or self.record is None or self.record.gpu is None:
            return self.header.capabilities
        return (self.record.gpu.compute_capability,)

    @property
    def version_compatible(self) -> bool | None:
        """Whether newer releases run it too; None if that is not known."""
        return None if self.record is None else self.record.options.version_compatible


def read_plan(source: str | os.PathLike[str] | bytes) -> Plan:
    """Read a plan, and check that it is whole and is the one that its record tells of.

    Parameters
    ----------
    source
        Its path, or itself.

    Raises
    ------
    ModelNotFoundError
        If there is no such file.
    ModelFormatError
        If it is no plan, is damaged, or is another one than its record tells of.
    """
    if isinstance(source, bytes):
        return Plan("the plan", source, read_header(source))
    path = Path(source)
    data = read_file(path)
    record = _usable_record(path)
    try:
        return Plan(str(path), data, check_whole(path, data, record), record)
    except ModelFormatError as error:
        raise error.within(path) from error


def check_whole(path: Path, data: bytes, record: EngineRecord | None) -> PlanHeader:
    """Check that a plan is whole and is the one that its record tells of, and return its header.

    Parameters
    ----------
    path
        Where it lies.
    data
        All of it.
    record
        How it was made, where that is known.

    Raises
    ------
    ModelFormatError
        If it is not; the message goes on from the file's name.
    """
    header = read_header(data)
    if record is not None and hashlib.sha256(data).hexdigest() != record.plan.sha256:
        raise ModelFormatError(
            f"this plan was damaged or replaced after it was built: it is not the one that {record_path(path).name} "
            f"tells of; {REBUILD}, or remove that record if the plan is right"
        )
    return header


def read_file(path: Path) -> bytes:
    """Read a file whole.

    Raises
    ------
    ModelNotFoundError
        If it is not there or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"{path}: there is no such file") from error
    except OSError as error:
        raise ModelNotFoundError(f"{path}: cannot be read: {error.strerror or error}") from error


def _usable_record(path: Path) -> EngineRecord | None:
    try:
        return read_record(path)
    except ModelFormatError as error:
        log.warning("%s: opened without its record, which cannot be used: %s", path, error)
        return None
