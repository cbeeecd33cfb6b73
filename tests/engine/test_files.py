"""Engines on disk, and the JSON beside each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scrfd_trt._files import write_files
from scrfd_trt.engine import files
from scrfd_trt.engine.options import BuildOptions
from scrfd_trt.errors import ModelFormatError, ModelNotFoundError
from scrfd_trt.tensors import ShapeRange, TensorSpec

ONE = (1, 3, 640, 640)
RECORD = files.EngineRecord(
    plan=files.FileMark(name="face.plan", sha256="0" * 64),
    onnx=files.FileMark(name="face.onnx", sha256="1" * 64),
    flavour="tensorrt",
    version="8.6.0",
    gpu=files.GpuMark(name="NVIDIA H100", compute_capability=(9, 0)),
    options=BuildOptions(sizes=(128, (640, 320)), timing_cache=Path("x")),
    input=TensorSpec("input.1", (None, 3, 640, 640)),
    outputs=(TensorSpec("score_8", (None, None, 1), "float16"),),
    ranges=(ShapeRange(ONE, ONE, ONE),),
    notes=("batch freed",),
    made="2026-11-23T12:00:00+00:00",
    seconds=90.5,
    scrfd_trt="0.1.0",
)


def test_a_record_reads_back_as_it_was_written(tmp_path: Path) -> None:
    plan = tmp_path / "face.plan"
    assert files.record_path(plan) == tmp_path / "face.plan.json"
    write_files({plan: b"plan", files.record_path(plan): RECORD.model_dump_json().encode()})
    assert files.read_record(plan) == RECORD
    assert json.loads(files.record_path(plan).read_text())["gpu"]["compute_capability"] == [9, 0]


def test_a_record_of_a_later_version_may_tell_more(tmp_path: Path) -> None:
    told = {**json.loads(RECORD.model_dump_json()), "colour": "blue"}
    (tmp_path / "face.plan.json").write_text(json.dumps(told))
    assert files.read_record(tmp_path / "face.plan") == RECORD


def test_no_record(tmp_path: Path) -> None:
    assert files.read_record(tmp_path / "face.plan") is None


@pytest.mark.parametrize("text", ["", "{}", "[1", '{"plan": 3}', "\0"])
def test_a_damaged_record_is_told_on_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "face.plan.json").write_text(text)
    with pytest.raises(ModelFormatError, match=r"face\.plan\.json does not say how an engine was made") as caught:
        files.read_record(tmp_path / "face.plan")
    assert "\n" not in str(caught.value)


def test_mark(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"abc")
    found = files.mark(tmp_path / "a.onnx")
    assert found.name == "a.onnx"
    assert found.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(ModelNotFoundError, match=r"b\.onnx: cannot be read"):
        files.mark(tmp_path / "b.onnx")
