"""A plan as it lies on disk, with the record of how it was made beside it."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from scrfd_trt.engine.files import EngineRecord, read_record, record_path
from scrfd_trt.engine.plan import REBUILD, PlanHeader, read_header
from scrfd_trt.errors import ModelFormatError, ModelNotFoundError

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
