"""Look at an engine or network file: what it is, and whether it can be used here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from scrfd_trt._cuda.device import find
from scrfd_trt._engine import flavours
from scrfd_trt._engine.loaded_engine import recognize_network
from scrfd_trt._engine.plan import (
    ONNX_START,
    TITLES,
    Plan,
    PlanHeader,
    check_whole,
    dotted,
    peek,
    read_file,
    read_header,
)
from scrfd_trt._engine.record import EngineRecord, read_record, record_path
from scrfd_trt._engine.runtime import Runner, check_gpu, find_runner, lean_runtime_of, open_plan
from scrfd_trt._tensors import ShapeRange, TensorSpec
from scrfd_trt.backends._onnxruntime import read_tensors
from scrfd_trt.errors import MissingDependencyError, ModelFormatError, ScrfdError

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
    min, opt, max
        ``(B, 3, H, W)``: the smallest, the one that it was tuned for, and the largest.
    """

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def __str__(self) -> str:
        if self.min == self.max:
            return _sides(self.opt)
        return f"{_sides(self.min)} to {_sides(self.max)}, tuned for {_sides(self.opt)}"


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
    return tuple(ProfileReport(min=each.min, opt=each.opt, max=each.max) for each in ranges)


def _sides(shape: Iterable[int | None]) -> str:
    return "×".join(FREE if side is None else str(side) for side in shape) or "scalar"


def _amount(size: int) -> str:
    return f"{size / MIB:.1f} MiB" if size >= MIB // 10 else f"{size} bytes"


def _known(label: str, text: str | bool | None, lead: str = "") -> list[tuple[str, str]]:
    return [(label, f"{lead}{text}")] if text else []


Facts = dict[str, Any]


@dataclass(frozen=True)
class Wish:
    """How a plan is to be run: arguments of :func:`inspect_engine`."""

    device: int
    lean_runtime: Path | None
    allow_host_code: bool


def inspect_engine(
    path: str | os.PathLike[str],
    *,
    device: int = 0,
    lean_runtime: str | os.PathLike[str] | None = None,
    allow_host_code: bool = False,
) -> EngineReport:
    """Find out what an engine or network file is, and whether it can be used here.

    Parameters
    ----------
    path
        A plan of TensorRT or TensorRT-RTX, or an ONNX network.
    device
        n in ``cuda:n``, the GPU that is to run a plan.
    lean_runtime, allow_host_code
        As for :func:`scrfd_trt._engine.runtime.load_engine`.

    Returns
    -------
    EngineReport
        A plan is opened where there is a GPU and a TensorRT for it. Without them, its header and the record beside it
        tell what they can.

    Raises
    ------
    ModelNotFoundError
        If there is no such file. A file that cannot be used is no error: the report says why.
    """
    file = Path(path)
    data = read_file(file)
    facts: Facts = {"path": str(path), "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    header = peek(data)
    if header is not None:
        more = _plan(file, data, header, Wish(device, lean_runtime_of(lean_runtime), allow_host_code))
    elif data.startswith(ONNX_START) or (data.strip(b"\0") and file.suffix.lower() == ".onnx"):
        more = _onnx(file)
    else:
        more = {"kind": "unknown", "reasons": [_error_of(lambda: read_header(data))]}
    obstacles = [obstacle for obstacle in more.pop("reasons") if obstacle is not None]
    reasons = tuple(dict.fromkeys(map(str, obstacles)))
    fields = tuple(dict.fromkeys(name for obstacle in obstacles for name in obstacle.fields))
    runs_on = None if reasons else more.pop("runs_on")
    return EngineReport(
        **{**facts, **more, "runs_on": runs_on, "usable": not reasons, "reasons": reasons, "fields": fields}
    )


def _onnx(file: Path) -> Facts:
    try:
        inputs, outputs, reader = _read_onnx(file)
    except ModelFormatError as error:
        return {"kind": "unknown", "reasons": [error]}
    except ScrfdError as error:
        return {"kind": "onnx", "reasons": [error]}
    facts = _network(inputs, outputs, [])
    facts |= {"kind": "onnx", "tensors_from": reader}
    if find_spec("onnxruntime") is None:
        facts["reasons"].append(MissingDependencyError('running it needs ONNX Runtime: pip install "scrfd-trt[cpu]"'))
    else:
        facts["runs_on"] = "ONNX Runtime on the processor"
    return facts


def _read_onnx(file: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], str]:
    """Return inputs, outputs and who read them: the onnx package or, where that is missing, ONNX Runtime."""
    if find_spec("onnx") is not None:
        import onnx  # noqa: PLC0415 - optional, and slow to import

        from scrfd_trt._engine.onnx.load import read_io  # noqa: PLC0415 - imports onnx

        return *read_io(file), f"onnx {onnx.__version__}"
    try:
        inputs, outputs, version = read_tensors(file)
    except MissingDependencyError as error:
        raise MissingDependencyError(
            'reading ONNX networks needs onnx or ONNX Runtime: pip install "scrfd-trt[cpu]"'
        ) from error
    return inputs, outputs, f"onnxruntime {version}"


def _plan(file: Path, data: bytes, header: PlanHeader, wish: Wish) -> Facts:
    record, problem = _record(file)
    plan = Plan(str(file), data, header, record)
    damage = _error_of(lambda: check_whole(file, data, record))
    obstacles = [damage] if damage else _obstacles(plan, wish)
    facts: Facts = {
        "kind": f"{TITLES[header.family].lower()} plan",
        "flavour": header.family,
        "version": dotted(header.version),
        "compute_capabilities": tuple(map(dotted, plan.capabilities)),
        "record": None if record is None else record.model_dump(mode="json"),
        "warnings": (problem,) if problem else (),
    }
    network: Facts = {"reasons": []}
    if not any(obstacles):
        network = _opened(plan, wish)
    if "tensors" not in network and record is not None and not damage:
        told = {"profiles": profile_reports(record.ranges), "tensors_from": record_path(file).name}
        network = _network((record.input,), record.outputs, network["reasons"]) | told
    return {**facts, **network, "reasons": obstacles + network["reasons"]}


def _record(file: Path) -> tuple[EngineRecord | None, str]:
    try:
        return read_record(file), ""
    except ModelFormatError as error:
        return None, str(error)


def _obstacles(plan: Plan, wish: Wish) -> list[ScrfdError | None]:
    """Tell what is against running a plan here, as far as that can be told without opening it."""
    no_gpu = _error_of(lambda: find(wish.device))
    return [
        no_gpu,
        _error_of(lambda: _runner(plan, wish)),
        None if no_gpu else _error_of(lambda: _check_gpu(plan, wish)),
    ]


def _runner(plan: Plan, wish: Wish) -> Runner:
    return find_runner(
        plan.header,
        flavours.installed(),
        lean_runtime=wish.lean_runtime,
        allow_host_code=wish.allow_host_code,
        version_compatible=plan.version_compatible,
    )


def _check_gpu(plan: Plan, wish: Wish) -> None:
    check_gpu(plan.capabilities, find(wish.device), unlisted=plan.header.unlisted)


def _opened(plan: Plan, wish: Wish) -> Facts:
    try:
        engine = open_plan(
            plan,
            wish.device,
            flavours.installed(),
            lean_runtime=wish.lean_runtime,
            allow_host_code=wish.allow_host_code,
        )
    except ScrfdError as error:
        return {"reasons": [error]}
    with engine:
        facts = _network(engine.outside.inputs, engine.outputs, list(map(ModelFormatError, engine.outside.unusual)))
        facts |= {"profiles": profile_reports(engine.ranges), "memory": engine.memory}
        return facts | {"tensors_from": str(engine.flavour), "runs_on": f"{engine.flavour} on {engine.device.gpu}"}


def _network(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], reasons: list[ScrfdError]) -> Facts:
    facts: Facts = {"tensors": tensor_reports(inputs, outputs), "reasons": reasons}
    try:
        facts["layout"] = str(recognize_network(inputs, outputs))
    except ModelFormatError as error:
        facts["reasons"].append(error)
    return facts


def _error_of(check: Callable[[], object]) -> ScrfdError | None:
    """Return what a check raises; None if it passes."""
    try:
        check()
    except ScrfdError as error:
        return error
    return None
