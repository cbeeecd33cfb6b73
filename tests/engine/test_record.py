"""Engine records: the JSON files beside engines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scrfd_trt._engine import plan as record
from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._files import write_files
from scrfd_trt._tensors import ShapeRange, TensorSpec
from scrfd_trt.errors import ModelFormatError, ModelNotFoundError

ONE = (1, 3, 640, 640)
RECORD = record.EngineRecord(
    plan=record.FileHash(name="face.plan", sha256="0" * 64),
    onnx=record.FileHash(name="face.onnx", sha256="1" * 64),
    flavour="tensorrt",
    version="8.6.0",
    gpu=record.GpuInfo(name="NVIDIA H100", compute_capability=(9, 0)),
    options=BuildOptions(sizes=(128, (640, 320)), timing_cache=Path("x")),
    input=TensorSpec("input.1", (None, 3, 640, 640)),
    outputs=(TensorSpec("score_8", (None, None, 1), "float16"),),
    ranges=(ShapeRange(ONE, ONE, ONE),),
    notes=("batch freed",),
    made="2026-11-23T12:00:00+00:00",
    seconds=90.5,
    scrfd_trt="0.1.0",
)


def test_record_round_trip(tmp_path: Path) -> None:
    plan = tmp_path / "face.plan"
    assert record.record_path(plan) == tmp_path / "face.plan.json"
    write_files({plan: b"plan", record.record_path(plan): RECORD.model_dump_json().encode()})
    assert record.read_record(plan) == RECORD
    assert json.loads(record.record_path(plan).read_text())["gpu"]["compute_capability"] == [9, 0]


def test_unknown_fields_are_ignored(tmp_path: Path) -> None:
    fields = {**json.loads(RECORD.model_dump_json()), "colour": "blue"}
    (tmp_path / "face.plan.json").write_text(json.dumps(fields))
    assert record.read_record(tmp_path / "face.plan") == RECORD


def test_missing_record(tmp_path: Path) -> None:
    assert record.read_record(tmp_path / "face.plan") is None


@pytest.mark.parametrize("text", ["", "{}", "[1", '{"plan": 3}', "\0"])
def test_damaged_record_is_reported_on_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "face.plan.json").write_text(text)
    with pytest.raises(ModelFormatError, match=r"face\.plan\.json is not a valid engine record") as caught:
        record.read_record(tmp_path / "face.plan")
    assert "\n" not in str(caught.value)


def test_hash_file(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"abc")
    found = record.hash_file(tmp_path / "a.onnx")
    assert found.name == "a.onnx"
    assert found.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(ModelNotFoundError, match=r"b\.onnx: there is no such file"):
        record.hash_file(tmp_path / "b.onnx")


@pytest.mark.parametrize("sides", [[1, 3], [1, 3, 640, -1], []])
def test_profile_with_ends_that_do_not_match_is_rejected(tmp_path: Path, sides: list[int]) -> None:
    fields = json.loads(RECORD.model_dump_json())
    fields["ranges"][0]["max"] = sides
    (tmp_path / "face.plan.json").write_text(json.dumps(fields))
    with pytest.raises(ModelFormatError, match="not a valid engine record"):
        record.read_record(tmp_path / "face.plan")
