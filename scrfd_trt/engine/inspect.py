"""Look at an engine or network file: what it is, and whether it can be used here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scrfd_trt.cuda.device import find
from scrfd_trt.engine import flavours
from scrfd_trt.engine.files import EngineRecord, read_record, record_path
from scrfd_trt.engine.onnx_outside import read_onnx
from scrfd_trt.engine.outside import recognize_network
from scrfd_trt.engine.plan import ONNX_START, TITLES, PlanHeader, dotted, peek, read_header
from scrfd_trt.engine.plan_file import Plan, check_whole, read_file
from scrfd_trt.engine.report import EngineReport, profile_reports, tensor_reports
from scrfd_trt.engine.runners import Runner, check_gpu, find_runner
from scrfd_trt.engine.runtime import lean_runtime_of, open_plan
from scrfd_trt.errors import MissingDependencyError, ModelFormatError, ScrfdError
from scrfd_trt.tensors import TensorSpec

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
        As for :func:`scrfd_trt.engine.runtime.load_engine`.

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
        outside = read_onnx(file)
    except ModelFormatError as error:
        return {"kind": "unknown", "reasons": [error]}
    except ScrfdError as error:
        return {"kind": "onnx", "reasons": [error]}
    facts = _network(outside.inputs, outside.outputs, [])
    facts |= {"kind": "onnx", "tensors_from": outside.reader}
    if find_spec("onnxruntime") is None:
        facts["reasons"].append(MissingDependencyError('running it needs ONNX Runtime: pip install "scrfd-trt[cpu]"'))
    else:
        facts["runs_on"] = "ONNX Runtime on the processor"
    return facts


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
