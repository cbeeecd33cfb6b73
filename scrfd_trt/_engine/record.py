"""Engines on disk: each lies beside a JSON file that records how it was made."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._engine.onnx.prepare import files_beside
from scrfd_trt._options import explain
from scrfd_trt._tensors import ShapeRange, TensorSpec
from scrfd_trt.errors import ModelFormatError, ModelNotFoundError


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class FileMark(_Part):
    """What tells one file from another.

    Attributes
    ----------
    name
        Without its folder.
    sha256
        64 hexadecimal digits.
    """

    name: str
    sha256: str


class GpuMark(_Part):
    """The GPU that an engine was built on.

    Attributes
    ----------
    name
        As the driver calls it.
    compute_capability
        Major and minor.
    """

    name: str
    compute_capability: tuple[int, int]


class EngineRecord(_Part):
    """How an engine was made: what lies beside it as JSON.

    Attributes
    ----------
    plan
        The engine's own file.
    onnx
        The network that it was made from.
    flavour, version
        The TensorRT that made it.
    gpu
        The GPU that it was made on; None where none was needed.
    options
        As they were asked for.
    input, outputs
        Of the network as TensorRT was given it.
    ranges
        The input shapes that it takes, one an optimization profile.
    notes
        What was changed in the network.
    made
        When, in UTC, as ISO 8601 writes it.
    seconds
        What TensorRT took.
    scrfd_trt
        This library's version.
    recipe
        Which way of making networks ready it was.
    """

    plan: FileMark
    onnx: FileMark
    flavour: str
    version: str
    gpu: GpuMark | None
    options: BuildOptions
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    ranges: tuple[ShapeRange, ...]
    notes: tuple[str, ...]
    made: str
    seconds: float
    scrfd_trt: str
    recipe: int = 0


def record_path(plan: Path) -> Path:
    """Return where the record of an engine lies: ``face.plan.json`` beside ``face.plan``."""
    return plan.with_name(f"{plan.name}.json")


def read_record(plan: Path) -> EngineRecord | None:
    """Read how an engine was made.

    Parameters
    ----------
    plan
        The engine's file; it is not read itself, so compare ``record.plan.sha256`` with it where that matters.

    Returns
    -------
    EngineRecord or None
        None where there is no record.

    Raises
    ------
    ModelFormatError
        If what is there is no record.
    """
    path = record_path(plan)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelFormatError(
            f"cannot read {path}: {error.strerror or error}; make it readable, or remove it"
        ) from error
    try:
        return EngineRecord.model_validate_json(text)
    except ValidationError as error:
        raise ModelFormatError(
            f"{path} does not say how an engine was made; remove it, or build again ({explain(EngineRecord, error)})"
        ) from error


def mark(path: Path) -> FileMark:
    """Return a file's name and SHA-256.

    Raises
    ------
    ModelNotFoundError
        If it cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelNotFoundError(f"{path}: cannot be read: {error.strerror or error}") from error
    return FileMark(name=path.name, sha256=hashlib.sha256(data).hexdigest())


def mark_network(path: Path) -> FileMark:
    """Return a network's name and the SHA-256 of all that it is: the file, and the files that hold its weights.

    Raises
    ------
    ModelNotFoundError
        If one of them cannot be read.
    """
    own = mark(path)
    beside = files_beside(path)
    if not beside:
        return own
    hashes = [own.sha256, *(mark(other).sha256 for other in beside)]
    return FileMark(name=own.name, sha256=hashlib.sha256(" ".join(hashes).encode()).hexdigest())
