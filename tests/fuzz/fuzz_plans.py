"""Engines with their records, and recordings: changed bytes, and JSON with values of other types or out of range."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from mutations import EDGES, File, changed_json, mutated
from worker import attempt

from scrfd_trt import BuildOptions, DetectorOptions, SCRFDDetector, ScrfdError, inspect_engine
from scrfd_trt._devices import Gpu
from scrfd_trt._engine.cache import EngineKey
from scrfd_trt._engine.plan import END, is_engine_file, read_plan, read_record
from scrfd_trt._pipelines.host import HostPipeline
from scrfd_trt.backends import RecordedBackend
from scrfd_trt.models import home

SECONDS = 20
MEBIBYTES = 256
OUTPUTS = [
    {"name": f"{name}_{stride}", "shape": [None, 2 * (64 // stride) ** 2, width], "dtype": "float32"}
    for name, width in (("score", 1), ("bbox", 4), ("kps", 10))
    for stride in (8, 16, 32)
]
INPUT = {"name": "x", "shape": [None, 3, 64, 64], "dtype": "float32"}


class Case(NamedTuple):
    """An engine and its record, or a recording."""

    file: File
    record: File


@lru_cache
def plans() -> list[File]:
    """Return plans of both families: a header, then bytes that no TensorRT opens."""
    found = []
    for magic, version in ((b"ftrt", (8, 6, 0, 12)), (b"ftrt", (10, 13, 0, 35)), (b"vtrt", (1, 7, 1, 116))):
        body = bytes(range(200))
        head = struct.pack("<4sIQQ4s4x", magic, 0, 1, 32 + len(body) + len(END), bytes(version))
        found.append(File("face.plan", head + body + END))
    return found


def record_of(plan: bytes) -> dict[str, Any]:
    """Return the record of a plan."""
    return {
        "plan": {"name": "face.plan", "sha256": hashlib.sha256(plan).hexdigest()},
        "onnx": {"name": "face.onnx", "sha256": "0" * 64},
        "flavour": "tensorrt",
        "version": "8.6.0",
        "gpu": {"name": "NVIDIA H100", "compute_capability": [9, 0]},
        "options": json.loads(BuildOptions().model_dump_json()),
        "input": INPUT,
        "outputs": OUTPUTS,
        "ranges": [{"min": [1, 3, 64, 64], "opt": [2, 3, 64, 64], "max": [4, 3, 64, 64]}],
        "notes": ["batch made free"],
        "made": "2026-11-23T12:00:00+00:00",
        "seconds": 1.5,
        "scrfd_trt": "0.1.0",
        "recipe": 1,
    }


@lru_cache
def recordings() -> list[File]:
    """Return a recording of one run."""
    outputs = {f"run0_{index}": np.full((1, *each["shape"][1:]), 0.5, np.float16) for index, each in enumerate(OUTPUTS)}
    return [File("runs.npz", _npz(_about(), outputs))]


def _about() -> dict[str, Any]:
    fields = {"format": 1, "description": "a model", "input": INPUT, "outputs": OUTPUTS, "runs": [[1, 3, 64, 64]]}
    return fields | {"ranges": [{"min": [1, 3, 64, 64], "opt": [1, 3, 64, 64], "max": [2, 3, 64, 64]}]}


def _npz(about: dict[str, Any], arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)
    return file.getvalue()


@st.composite
def engines(draw: st.DrawFn) -> Case:
    """Return an engine and a record, which may match."""
    plan = draw(st.one_of(st.sampled_from(plans()), mutated(plans())))
    about = changed_json(draw, record_of(plan.content))
    record = File("face.plan.json", json.dumps(about).encode())
    return Case(plan, draw(st.one_of(st.just(record), mutated([record]))))


@st.composite
def recorded(draw: st.DrawFn) -> Case:
    """Return a recording, with changed bytes or changed content."""
    if draw(st.booleans()):
        return Case(draw(mutated(recordings())), File("", b""))
    sides = st.one_of(st.sampled_from(EDGES[:16]), st.integers(0, 300))
    kinds = st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.bool_, "U3", "datetime64[s]"])
    arrays = {}
    for index, each in enumerate(OUTPUTS):
        shape = tuple(each["shape"][1:])
        if draw(st.integers(0, 4)) == 0:
            shape = tuple(draw(st.lists(sides, max_size=4)))
        shape = shape if np.prod(shape, dtype=float) < 1e6 else (1,)
        arrays[f"run0_{index}"] = np.zeros((1, *shape), draw(kinds) if draw(st.integers(0, 9)) == 0 else np.float16)
    return Case(File("runs.npz", _npz(changed_json(draw, _about()), arrays)), File("", b""))


def cases() -> st.SearchStrategy[Case]:
    """Return engines and recordings."""
    return st.one_of(engines(), recorded())


def check(case: Case) -> None:
    """Open an engine as far as that is possible without a GPU, or play a recording."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in case:
            if name:
                (Path(folder) / name).write_bytes(content)
        path = Path(folder) / case.file.name
        for use in (_play,) if path.suffix == ".npz" else (_open, inspect_engine, is_engine_file, _compare_record):
            attempt(use, path)


def _open(path: Path) -> None:
    plan = read_plan(path)
    str(plan.header)
    assert isinstance(plan.capabilities, tuple)
    with SCRFDDetector.from_engine(path):
        pass


def _compare_record(path: Path) -> None:
    record = read_record(path)
    gpu = Gpu(0, "NVIDIA H100", (9, 0))
    flavour: Any = type("Flavour", (), {"name": "tensorrt", "version": "8.6.0"})()
    key = EngineKey(path.with_suffix(".onnx"), "0" * 64, flavour, gpu, BuildOptions())
    if record is not None:
        key.mismatch(record)
    assert key.path.is_relative_to(home())


def _play(path: Path) -> None:
    backend = RecordedBackend(path)
    image = np.zeros((64, 64, 3), np.uint8)
    pipeline = HostPipeline(backend, DetectorOptions(scales=(64,)))
    with suppress(ScrfdError):
        pipeline.detect([image], 0.3, None)
    pipeline.detect([image], 0.3, None)
