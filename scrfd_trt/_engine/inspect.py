"""Inspect an engine or model file: what it is, and whether it can be used on this machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from scrfd_trt._cuda.driver import find
from scrfd_trt._engine import flavours
from scrfd_trt._engine.loaded_engine import recognize_network
from scrfd_trt._engine.plan import (
    FAMILY_NAMES,
    ONNX_START,
    EngineRecord,
    Plan,
    PlanHeader,
    check_plan,
    dotted,
    peek,
    read_file,
    read_header,
    read_record,
    record_path,
)
from scrfd_trt._engine.runtime import check_gpu, find_runner, lean_runtime_path, open_plan
from scrfd_trt._option_names import explained_options
from scrfd_trt._tensors import ShapeRange, TensorSpec
from scrfd_trt.backends._onnxruntime import read_tensors
from scrfd_trt.errors import MissingDependencyError, ModelFormatError, ScrfdError

MIB = 2**20
FREE = "?"


class TensorReport(BaseModel):
    """One input or output; sides are None where free, dtype is NumPy's name."""

    model_config = ConfigDict(frozen=True)

    role: Literal["input", "output"]
    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        sides = "×".join(FREE if side is None else str(side) for side in self.shape) or "scalar"
        return f"{sides} {self.dtype}"


class EngineReport(BaseModel):
    """Result of :func:`scrfd_trt.inspect_engine`.

    Attributes
    ----------
    path
        As given.
    kind
        Kind of the file.
    size
        Bytes.
    sha256
        64 hexadecimal digits.
    flavour
        Python module that a plan is for: ``tensorrt`` (also its lean and dispatch runtimes) or ``tensorrt_rtx``.
    version
        Of the TensorRT that built it.
    compute_capabilities
        Of the GPUs that it was built for; empty if unknown.
    tensors
        Inputs and outputs, in the model's order; empty if unknown.
    tensors_from
        Source of the tensors: the package that opened the file, or the record beside it.
    profiles
        Optimization profiles.
    layout
        Head layout; None if not recognized.
    memory
        Bytes of GPU memory that a run needs in addition to weights, inputs and outputs; None if unknown.
    record
        How it was built, from the JSON file beside it.
    runs_on
        What runs it on this machine; None if nothing does.
    usable
        Whether it is a SCRFD model that this machine can run.
    reasons
        Why it is not usable, one line each.
    fields
        Arguments of :func:`scrfd_trt.inspect_engine` that the reasons recommend; not part of the JSON.
    warnings
        Problems that do not prevent its use, one line each.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    kind: Literal["onnx", "tensorrt plan", "tensorrt-rtx plan", "unknown"]
    size: int
    sha256: str
    flavour: str | None = None
    version: str | None = None
    compute_capabilities: tuple[str, ...] = ()
    tensors: tuple[TensorReport, ...] = ()
    tensors_from: str | None = None
    profiles: tuple[ShapeRange, ...] = ()
    layout: str | None = None
    memory: int | None = None
    record: dict[str, Any] | None = None
    runs_on: str | None = None
    usable: bool
    reasons: tuple[str, ...] = ()
    fields: tuple[str, ...] = Field((), exclude=True)
    warnings: tuple[str, ...] = ()

    def rows(self) -> list[tuple[str, str]]:
        """Return all known facts as pairs of a label and a text, for a table; labels of list items repeat."""
        memory = f"{_amount(self.memory)} beside weights, inputs and outputs" if self.memory is not None else None
        rows = [
            ("file", self.path),
            ("kind", self.kind),
            ("size", _amount(self.size)),
            ("sha256", self.sha256),
            ("built by", self.version and f"{self.flavour} {self.version}"),
            ("built for", self.compute_capabilities and f"compute capability {' '.join(self.compute_capabilities)}"),
            *((tensor.role, f"{tensor.name} {tensor}") for tensor in self.tensors),
            *((f"profile {number}", str(profile)) for number, profile in enumerate(self.profiles)),
            ("tensors read with", self.tensors_from),
            ("head layout", self.layout),
            ("GPU memory", memory),
            *self._record_rows(),
            ("runs on", self.runs_on),
            ("usable here", "yes" if self.usable else "no"),
            *(("because", reason) for reason in self.reasons),
            *(("but", warning) for warning in self.warnings),
        ]
        return [(label, text) for label, text in rows if text]

    def lines(self) -> list[str]:
        """Return :meth:`rows` as lines of text."""
        rows = self.rows()
        width = max(len(label) for label, _ in rows)
        return [f"{label:<{width}}  {text}" for label, text in rows]

    def _record_rows(self) -> list[tuple[str, str]]:
        if self.record is None:
            return []
        gpu = self.record["gpu"] or {"name": "no GPU"}
        return [
            ("made from", f"{self.record['onnx']['name']}, sha256 {self.record['onnx']['sha256'][:8]}…"),
            ("made on", f"{gpu['name']}, {self.record['made']}"),
            ("precision", self.record["options"]["precision"]),
            *(("note", note) for note in self.record["notes"]),
        ]


def _amount(size: int) -> str:
    return f"{size / MIB:.1f} MiB" if size >= MIB // 10 else f"{size} bytes"


Facts = dict[str, Any]  # fields of an EngineReport; ``reasons`` are errors


@explained_options
def inspect_engine(
    path: str | os.PathLike[str],
    *,
    device: int = 0,
    lean_runtime: str | os.PathLike[str] | None = None,
    allow_host_code: bool = False,
) -> EngineReport:
    """Report what an engine or model file is, and whether it can be used on this machine.

    Parameters
    ----------
    path
        A plan of TensorRT or TensorRT-RTX, or an ONNX model.
    device
        n in ``cuda:n``, the GPU that is to run a plan.
    lean_runtime
        File ``libnvinfer_lean.so.…`` of the release that built the plan, to run it with a newer TensorRT. None means
        the one in the environment variable ``TRT_LEAN_RUNTIME``, if set.
    allow_host_code
        Whether host code in the plan may run. Allow it only if you trust the plan's origin.

    Returns
    -------
    EngineReport
        Opens a plan if there is a GPU and a TensorRT for it; otherwise uses its header and the record beside it. A file
        that cannot be used is not an error: the report states why.

    Raises
    ------
    ModelNotFoundError
        If the file is missing.
    """
    file = Path(path)
    data = read_file(file)
    header = peek(data)
    if header is not None:
        running = {"lean_runtime": lean_runtime_path(lean_runtime), "allow_host_code": allow_host_code}
        facts = _plan(file, data, header, device, running)
    elif data.startswith(ONNX_START) or (data.strip(b"\0") and file.suffix.lower() == ".onnx"):
        facts = _onnx(file)
    else:
        facts = {"kind": "unknown", "reasons": [_error_of(read_header, data)]}
    errors = [error for error in facts.pop("reasons") if error is not None]
    facts |= {"path": str(path), "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    facts |= {
        "usable": not errors,
        "runs_on": None if errors else facts["runs_on"],
        "reasons": tuple(dict.fromkeys(map(str, errors))),
        "fields": tuple(dict.fromkeys(name for error in errors for name in error.fields)),
    }
    return EngineReport(**facts)


def _onnx(file: Path) -> Facts:
    try:
        inputs, outputs, reader = _read_onnx(file)
    except ModelFormatError as error:
        return {"kind": "unknown", "reasons": [error]}
    except ScrfdError as error:
        return {"kind": "onnx", "reasons": [error]}
    facts = _model(inputs, outputs, [])
    facts |= {"kind": "onnx", "tensors_from": reader}
    if find_spec("onnxruntime") is None:
        facts["reasons"].append(MissingDependencyError('running it needs ONNX Runtime: pip install "scrfd-trt[cpu]"'))
    else:
        facts["runs_on"] = "ONNX Runtime on the CPU"
    return facts


def _read_onnx(path: Path) -> tuple[Sequence[TensorSpec], Sequence[TensorSpec], str]:
    """Return inputs, outputs and the reader: onnx, or ONNX Runtime where onnx is not installed."""
    try:
        import onnx  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        try:
            inputs, outputs, version = read_tensors(path)
        except MissingDependencyError as error:
            raise MissingDependencyError(
                'reading ONNX models needs onnx or ONNX Runtime: pip install "scrfd-trt[cpu]"'
            ) from error
        return inputs, outputs, f"onnxruntime {version}"
    from scrfd_trt._engine.onnx.load import read_io  # noqa: PLC0415 - needs onnx

    return *read_io(path), f"onnx {onnx.__version__}"


def _plan(file: Path, data: bytes, header: PlanHeader, device: int, running: dict[str, Any]) -> Facts:
    record, warning = _record(file)
    plan = Plan(str(file), data, header, record)
    damage = _error_of(check_plan, file, data, record)
    obstacles = [damage] if damage else _obstacles(plan, device, running)
    facts: Facts = {
        "kind": f"{FAMILY_NAMES[header.family].lower()} plan",
        "flavour": header.family,
        "version": dotted(header.version),
        "compute_capabilities": tuple(map(dotted, plan.capabilities)),
        "record": None if record is None else record.model_dump(mode="json"),
        "warnings": (warning,) if warning else (),
    }
    model: Facts = {"reasons": []}
    if not any(obstacles):
        model = _opened(plan, device, running)
    if "tensors" not in model and record is not None and not damage:
        model = _model((record.input,), record.outputs, model["reasons"])
        model |= {"profiles": record.ranges, "tensors_from": record_path(file).name}
    return {**facts, **model, "reasons": obstacles + model["reasons"]}


def _record(file: Path) -> tuple[EngineRecord | None, str]:
    try:
        return read_record(file), ""
    except ModelFormatError as error:
        return None, str(error)


def _obstacles(plan: Plan, device: int, running: dict[str, Any]) -> list[ScrfdError | None]:
    """Return what prevents running a plan here, as far as is known without opening it."""
    no_gpu = _error_of(find, device)
    options = {**running, "version_compatible": plan.version_compatible}
    no_runner = _error_of(find_runner, plan.header, flavours.installed(), **options)
    if no_gpu:
        return [no_gpu, no_runner]
    wrong_gpu = _error_of(check_gpu, plan.capabilities, find(device), unlisted=plan.header.unlisted)
    return [no_runner, wrong_gpu]


def _opened(plan: Plan, device: int, running: dict[str, Any]) -> Facts:
    try:
        engine = open_plan(plan, device, flavours.installed(), **running)
    except ScrfdError as error:
        return {"reasons": [error]}
    with engine:
        facts = _model(engine.io.inputs, engine.outputs, list(map(ModelFormatError, engine.io.unusual)))
        facts |= {"profiles": engine.ranges, "memory": engine.memory}
        return facts | {"tensors_from": str(engine.flavour), "runs_on": f"{engine.flavour} on {engine.device.gpu}"}


def _model(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], reasons: list[ScrfdError]) -> Facts:
    tensors = [("input", each) for each in inputs] + [("output", each) for each in outputs]
    facts: Facts = {"tensors": [{"role": role, **asdict(each)} for role, each in tensors], "reasons": reasons}
    try:
        facts["layout"] = str(recognize_network(inputs, outputs))
    except ModelFormatError as error:
        facts["reasons"].append(error)
    return facts


def _error_of(check: Callable[..., object], *arguments: Any, **options: Any) -> ScrfdError | None:
    """Return the error that a check raises; None if it passes."""
    try:
        check(*arguments, **options)
    except ScrfdError as error:
        return error
    return None
