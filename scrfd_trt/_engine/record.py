"""The record of an engine: a JSON file beside it that states how it was built."""

from __future__ import annotations

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path

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
