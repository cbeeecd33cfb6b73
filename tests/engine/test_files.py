"""Engines on disk, and the JSON beside each."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from scrfd_trt.engine import files
from scrfd_trt.engine.options import BuildOptions
from scrfd_trt.errors import ModelFormatError, ModelNotFoundError, OptionError, OutputError
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
    files.write_whole({plan: b"plan", files.record_path(plan): RECORD.model_dump_json().encode()})
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


def test_check_target(tmp_path: Path) -> None:
    files.check_target(tmp_path / "new.plan", overwrite=False)
    (tmp_path / "old.plan").touch()
    files.check_target(tmp_path / "old.plan", overwrite=True)
    with pytest.raises(OptionError, match="is there already; name another file, or set overwrite"):
        files.check_target(tmp_path / "old.plan", overwrite=False)
    with pytest.raises(OptionError, match="there is no folder"):
        files.check_target(tmp_path / "no" / "new.plan", overwrite=True)
    with pytest.raises(OptionError, match="a folder or device is there"):
        files.check_target(tmp_path.parent / tmp_path.name, overwrite=True)


def test_files_replace_each_other_whole(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("old")
    files.write_whole({first: b"1", second: b"2"})
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_files_have_the_permissions_that_new_files_have(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    files.write_whole({tmp_path / "a": b"1"})
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_what_cannot_be_written_leaves_all_as_it_was(tmp_path: Path) -> None:
    first = tmp_path / "a"
    first.write_text("old")
    with pytest.raises(OutputError, match="cannot write"):
        files.write_whole({first: b"1", tmp_path / "no" / "b": b"2"})
    assert first.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    first = tmp_path / "a"
    first.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        files.write_whole({first: b"1"})
    assert first.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
