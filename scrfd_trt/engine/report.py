"""What is known of an engine or network file, and whether it can be used here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from scrfd_trt.tensors import ShapeRange, TensorSpec

MIB = 2**20
FREE = "?"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class TensorReport(_Frozen):
    """One input or output.

    Attributes
    ----------
    role
        Which of both.
    name
        As the network calls it.
    shape
        Sides; None where one is free.
    dtype
        NumPy's name of the element type.
    """

    role: Literal["input", "output"]
    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{_sides(self.shape)} {self.dtype}"


class ProfileReport(_Frozen):
    """The input shapes that one optimization profile takes.

    Attributes
    ----------
    least, best, most
        ``(B, 3, H, W)``: the smallest, the one that it was tuned for, and the largest.
    """

    least: tuple[int, ...]
    best: tuple[int, ...]
    most: tuple[int, ...]

    def __str__(self) -> str:
        if self.least == self.most:
            return _sides(self.best)
        return f"{_sides(self.least)} to {_sides(self.most)}, tuned for {_sides(self.best)}"


class EngineReport(_Frozen):
    """What :func:`scrfd_trt.inspect_engine` found out about a file.

    Attributes
    ----------
    path
        As given.
    kind
        What it is.
    size
        Bytes.
    sha256
        64 hexadecimal digits.
    flavour
        The Python module that a plan is for: ``tensorrt`` (with the lean and dispatch runtimes) or ``tensorrt_rtx``.
    version
        Of the TensorRT that built it.
    compute_capabilities
        Of the GPUs that it was built for; empty if that is not known.
    tensors
        Inputs and outputs, in the network's own order; empty if they are not known.
    tensors_from
        Who told them: the package that opened the file, or the record beside it.
    profiles
        Optimization profiles.
    layout
        The head layout; None if none was recognised.
    memory
        Bytes that running it takes on the GPU, beside weights, inputs and outputs; None if that is not known.
    record
        How it was made, from the JSON beside it.
    runs_on
        What would run it here; None where nothing would.
    usable
        Whether it is a SCRFD network that this machine can run.
    reasons
        Why not, one line each.
    fields
        Arguments of :func:`scrfd_trt.inspect_engine` that the reasons advise; not part of the JSON.
    warnings
        What is wrong and does no harm, one line each.
    """

    path: str
    kind: Literal["onnx", "tensorrt plan", "tensorrt-rtx plan", "unknown"]
    size: int
    sha256: str
    flavour: str | None = None
    version: str | None = None
    compute_capabilities: tuple[str, ...] = ()
    tensors: tuple[TensorReport, ...] = ()
    tensors_from: str | None = None
    profiles: tuple[ProfileReport, ...] = ()
    layout: str | None = None
    memory: int | None = None
    record: dict[str, Any] | None = None
    runs_on: str | None = None
    usable: bool
    reasons: tuple[str, ...] = ()
    fields: tuple[str, ...] = Field((), exclude=True)
    warnings: tuple[str, ...] = ()

    def rows(self) -> list[tuple[str, str]]:
        """Return what is known as pairs of a label and a text, for a table; labels of list items may repeat."""
        rows = [
            ("file", self.path),
            ("kind", self.kind),
            ("size", _amount(self.size)),
            ("sha256", self.sha256),
        ]
        rows += _known("built by", self.version and f"{self.flavour} {self.version}")
        rows += _known("built for", " ".join(self.compute_capabilities), "compute capability ")
        rows += [(tensor.role, f"{tensor.name} {tensor}") for tensor in self.tensors]
        rows += [(f"profile {number}", str(profile)) for number, profile in enumerate(self.profiles)]
        rows += _known("tensors told by", self.tensors_from)
        rows += _known("head layout", self.layout)
        rows += _known(
            "GPU memory", self.memory is not None and f"{_amount(self.memory or 0)} beside weights, inputs and outputs"
        )
        rows += self._record_rows()
        rows += _known("runs on", self.runs_on)
        rows.append(("usable here", "yes" if self.usable else "no"))
        rows += [("because", reason) for reason in self.reasons]
        return rows + [("but", warning) for warning in self.warnings]

    def lines(self) -> list[str]:
        """Return :meth:`rows` as lines of text."""
        rows = self.rows()
        width = max(len(label) for label, _ in rows)
        return [f"{label:<{width}}  {text}" for label, text in rows]

    def _record_rows(self) -> list[tuple[str, str]]:
        if self.record is None:
            return []
        gpu = self.record["gpu"] or {"name": "no GPU"}
        rows = [
            ("made from", f"{self.record['onnx']['name']}, sha256 {self.record['onnx']['sha256'][:8]}…"),
            ("made on", f"{gpu['name']}, {self.record['made']}"),
            ("precision", self.record["options"]["precision"]),
        ]
        return rows + [("note", note) for note in self.record["notes"]]


def tensor_reports(inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> tuple[TensorReport, ...]:
    """Put a network's inputs and outputs into a report."""
    found = [TensorReport(role="input", name=each.name, shape=each.shape, dtype=each.dtype) for each in inputs]
    found += [TensorReport(role="output", name=each.name, shape=each.shape, dtype=each.dtype) for each in outputs]
    return tuple(found)


def profile_reports(ranges: Iterable[ShapeRange]) -> tuple[ProfileReport, ...]:
    """Put an engine's optimization profiles into a report."""
    return tuple(ProfileReport(least=each.least, best=each.best, most=each.most) for each in ranges)


def _sides(shape: Iterable[int | None]) -> str:
    return "×".join(FREE if side is None else str(side) for side in shape) or "scalar"


def _amount(size: int) -> str:
    return f"{size / MIB:.1f} MiB" if size >= MIB // 10 else f"{size} bytes"


def _known(label: str, text: str | bool | None, lead: str = "") -> list[tuple[str, str]]:
    return [(label, f"{lead}{text}")] if text else []
