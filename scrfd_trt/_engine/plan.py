"""Plans: TensorRT's serialized engines, their headers, and the records (JSON) beside them, of how they were built."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import struct
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._files import check_readable
from scrfd_trt._options import explain
from scrfd_trt._tensors import ShapeRange, TensorSpec
from scrfd_trt.errors import BackendError, ModelFormatError, ModelNotFoundError

RECIPE = 1
"""Version of the rewriting of models. Raise it with each change to the result: cached engines are then rebuilt."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class FileHash(_Part):
    """A file's name without its folder, and its SHA-256 in hexadecimal."""

    name: str
    sha256: str


class GpuInfo(_Part):
    """The GPU that an engine was built on."""

    name: str
    compute_capability: tuple[int, int]


class EngineRecord(_Part):
    """How an engine was built; input, outputs and notes are those of the rewritten model."""

    plan: FileHash
    onnx: FileHash
    flavour: str
    version: str
    gpu: GpuInfo | None  # None: not needed
    options: BuildOptions
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    ranges: tuple[ShapeRange, ...]  # one per optimization profile
    notes: tuple[str, ...]
    made: str  # UTC, ISO 8601
    seconds: float  # of TensorRT
    scrfd_trt: str  # version
    recipe: int = 0


def record_path(plan: Path) -> Path:
    """Return the path of an engine's record: ``face.plan.json`` beside ``face.plan``."""
    return plan.with_name(f"{plan.name}.json")


def read_record(plan: Path) -> EngineRecord | None:
    """Read an engine's record, not the engine; None if there is none. Raise ModelFormatError if it is invalid."""
    path = record_path(plan)
    if not os.path.lexists(path):
        return None
    try:
        text = read_file(path)
    except ModelNotFoundError as error:
        raise ModelFormatError(f"{error}; make it readable, or remove it") from error
    try:
        return EngineRecord.model_validate_json(text)
    except ValidationError as error:
        raise ModelFormatError(
            f"{path} is not a valid engine record ({explain(EngineRecord, error)}); remove it, or build again"
        ) from error


def read_file(path: Path) -> bytes:
    """Read a whole file; raise ModelNotFoundError if it is missing or cannot be read."""
    check_readable(path)
    try:
        return path.read_bytes()
    except MemoryError as error:
        raise BackendError(f"{path}: there is not enough memory to read it") from error
    except OSError as error:
        raise ModelNotFoundError(f"{path}: cannot be read: {error.strerror or error}") from error


def hash_file(path: Path) -> FileHash:
    """Hash a file; raise ModelNotFoundError if it cannot be read."""
    return FileHash(name=path.name, sha256=hashlib.sha256(read_file(path)).hexdigest())


def hash_model(path: Path) -> FileHash:
    """Hash a model with the files that hold its weights; raise ModelNotFoundError if one cannot be read."""
    own = hash_file(path)
    hashes = [own.sha256, *(hash_file(other).sha256 for other in _external_files(path))]
    if len(hashes) == 1:
        return own
    return FileHash(name=own.name, sha256=hashlib.sha256(" ".join(hashes).encode()).hexdigest())


def _external_files(path: Path) -> tuple[Path, ...]:
    if find_spec("onnx") is None:
        return ()
    from scrfd_trt._engine.onnx.load import external_files  # noqa: PLC0415 - onnx is optional, and slow to import

    return external_files(path)


log = logging.getLogger("scrfd_trt")

MAGIC: dict[bytes, Literal["tensorrt", "tensorrt_rtx"]] = {b"ftrt": "tensorrt", b"vtrt": "tensorrt_rtx"}
FAMILY_NAMES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
HEADER_SIZE = 32
RTX_CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
"""In the order of their bits; a later release may have more."""

GPU_OF_8_6 = re.compile(
    rb"(?:\x02\x80\x01\x00.){4}\xe5\x80\x01\x00\x07\x80\x01\x00\x00{4}\x12\x80\x01\x00\x10\x80\x01\x00"
    rb"\x07\x80\x01\x00(.{4})\x07\x80\x01\x00(.{4})",
    re.DOTALL,
)
"""Version and GPU of a plan of 8.6, each value after a tag; a plan that differs in any tag does not match."""

END = bytes(255 - byte for byte in b"ftrt")  # the last bytes of a plan, in the releases that were examined
ONNX_START = b"\x08"  # an ONNX file begins with its first field, the IR version, in the encoding of Protocol Buffers
ENGINE_SUFFIXES = (".plan", ".engine", ".trt")

REBUILD = "build it again with scrfd-trt build"


def is_engine_file(path: Path) -> bool:
    """Return whether a file is an engine: by its first bytes, or by its suffix if they are inconclusive or missing."""
    try:
        check_readable(path)
        with path.open("rb") as file:
            start = file.read(256)
    except (OSError, ModelNotFoundError):  # reported when the file is opened
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


@dataclass(frozen=True)
class PlanHeader:
    """The first bytes of a plan."""

    family: Literal["tensorrt", "tensorrt_rtx"]
    version: tuple[int, int, int, int]  # of the TensorRT that built it: major, minor, patch, build
    capabilities: tuple[tuple[int, int], ...] = ()  # that it was built for; empty if unknown
    unlisted: bool = False  # whether it also supports GPUs that only a later TensorRT-RTX knows by name

    @property
    def release(self) -> tuple[int, int, int]:
        return self.version[:3]

    def __str__(self) -> str:
        return f"{FAMILY_NAMES[self.family]} {dotted(self.release)}"


def dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def peek(plan: bytes) -> PlanHeader | None:
    """Read a plan's header from its first bytes; None if it is not a plan, or too short."""
    family = MAGIC.get(plan[:4])
    if family is None or len(plan) < HEADER_SIZE:
        return None
    major, minor, patch, build = plan[24:28]
    version = (major, minor, patch, build)
    if family == "tensorrt":
        found = GPU_OF_8_6.match(plan, 0x50) if (major, minor) == (8, 6) else None
        return PlanHeader(family, version, (struct.unpack("<II", found[1] + found[2]),) if found else ())
    bits = int.from_bytes(plan[HEADER_SIZE : HEADER_SIZE + 4], "little")
    listed = tuple(pair for bit, pair in enumerate(RTX_CAPABILITIES) if bits >> bit & 1)
    return PlanHeader(family, version, listed, bits >> len(RTX_CAPABILITIES) > 0)


def read_header(plan: bytes) -> PlanHeader:
    """Read the header of a complete plan; raise ModelFormatError, without the file's name, if it is not one."""
    header = peek(plan)
    if header is None:
        raise ModelFormatError(_describe_other(plan))
    (size,) = struct.unpack_from("<Q", plan, 16)
    if len(plan) < size:
        raise ModelFormatError(f"this plan is cut off: it has {len(plan)} of {size} bytes; copy it again, or {REBUILD}")
    if len(plan) > size:
        raise ModelFormatError(f"this plan is damaged: {len(plan) - size} bytes follow its end; {REBUILD}")
    if not plan.endswith(END) and (header.family == "tensorrt_rtx" or header.version[0] == 8):
        raise ModelFormatError(f"this plan is damaged: its end is invalid; copy it again, or {REBUILD}")
    return header


def _describe_other(content: bytes) -> str:
    if not content:
        return f"this plan is empty; {REBUILD}"
    if not content.strip(b"\0"):
        return f"this plan is damaged: it is all zeros; {REBUILD}"
    if content[:4] in MAGIC:
        return f"this plan is cut off after {len(content)} bytes; copy it again, or {REBUILD}"
    if content.startswith(ONNX_START):
        return "this looks like an ONNX model, not a plan; open it as a model, or build it with scrfd-trt build"
    return f"this is not a TensorRT engine, or it is damaged; {REBUILD}"


@dataclass(frozen=True)
class Plan:
    """A complete plan, with its record if there is one."""

    name: str  # its path, or "the plan"
    data: bytes
    header: PlanHeader
    record: EngineRecord | None = None

    @property
    def capabilities(self) -> tuple[tuple[int, int], ...]:
        """Compute capabilities that it was built for; empty if unknown or any."""
        if self.record is not None and self.record.options.hardware_compatible:
            return ()
        if self.header.capabilities or self.record is None or self.record.gpu is None:
            return self.header.capabilities
        return (self.record.gpu.compute_capability,)

    @property
    def version_compatible(self) -> bool | None:
        """Whether newer releases run it; None if unknown."""
        return None if self.record is None else self.record.options.version_compatible


def read_plan(source: str | os.PathLike[str] | bytes) -> Plan:
    """Read a plan from a path or from its bytes, and check it with its record."""
    if isinstance(source, bytes):
        return Plan("the plan", source, read_header(source))
    path = Path(source)
    data = read_file(path)
    try:
        record = read_record(path)
    except ModelFormatError as error:
        log.warning("%s: opened without its record, which cannot be used: %s", path, error)
        record = None
    try:
        return Plan(str(path), data, check_plan(path, data, record), record)
    except ModelFormatError as error:
        raise error.within(path) from error


def check_plan(path: Path, data: bytes, record: EngineRecord | None) -> PlanHeader:
    """Return a plan's header; raise ModelFormatError if it is incomplete or does not match its record."""
    header = read_header(data)
    if record is not None and hashlib.sha256(data).hexdigest() != record.plan.sha256:
        raise ModelFormatError(
            f"this plan was damaged or replaced after it was built: its hash differs from {record_path(path).name}; "
            f"{REBUILD}, or remove that record if the plan is right"
        )
    return header
