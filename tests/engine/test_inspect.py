from __future__ import annotations

import json
import sys

import pytest
from pydantic import ValidationError

from scrfd_trt import ModelNotFoundError, _devices
from scrfd_trt._engine.inspect import EngineReport, inspect_engine
from scrfd_trt.errors import installable


@pytest.fixture
def plan(fakes, tmp_path):
    path = tmp_path / "face.plan"
    path.write_bytes(fakes.plan())
    return path


@pytest.fixture
def no_gpu(monkeypatch, fakes):
    monkeypatch.setattr(_devices, "driver", lambda: _devices.Driver(None, (), "no NVIDIA driver"))
    fakes.use(monkeypatch)
    monkeypatch.setattr("scrfd_trt._engine.flavours.problems", dict)


def test_plan_that_runs_here(gpu, plan, record_of):
    record_of(plan)
    report = inspect_engine(plan)
    assert report.usable
    assert report.reasons == ()
    assert (report.kind, report.flavour, report.version) == ("tensorrt plan", "tensorrt", "8.6.0.12")
    assert report.layout == "batched head, strides 8, 16, 32, with landmarks"
    assert report.tensors_from == "tensorrt 8.6.0"
    assert report.runs_on == "tensorrt 8.6.0 on Fake H100 (cuda:0, compute capability 9.0)"
    assert report.memory == 5 * 2**20
    assert [tensor.role for tensor in report.tensors] == ["input"] + ["output"] * 9
    assert str(report.tensors[0]) == "?×3×64×64 float32"
    assert [str(profile) for profile in report.profiles] == ["1×3×64×64 to 4×3×64×64, tuned for 2×3×64×64"]
    assert report.record["onnx"]["name"] == "face.onnx"
    assert gpu.leaks == {}


def test_report_is_frozen_and_has_rows(gpu, plan, record_of):
    record_of(plan)
    report = inspect_engine(plan)
    assert EngineReport.model_validate_json(report.model_dump_json()) == report
    with pytest.raises(ValidationError):
        report.usable = False
    rows = dict(report.rows())
    assert rows["usable here"] == "yes"
    assert rows["input"] == "x ?×3×64×64 float32"
    assert rows["GPU memory"] == "5.0 MiB beside weights, inputs and outputs"
    assert rows["note"] == "batch made free"
    assert len(report.sha256) == 64
    lines = report.lines()
    assert len(lines) == len(report.rows())
    assert len({line.index(text) for line, (_, text) in zip(lines, report.rows(), strict=True)}) == 1
    json.dumps(report.model_dump(mode="json"))


def test_engine_of_another_model(gpu, fakes, tmp_path):
    path = tmp_path / "other.plan"
    path.write_bytes(fakes.plan(tensors=[["x", "INPUT", [-1, 3, 8, 8], "FLOAT"], ["y", "OUTPUT", [-1, 512], "FLOAT"]]))
    report = inspect_engine(path)
    assert not report.usable
    assert report.layout is None
    assert [tensor.name for tensor in report.tensors] == ["x", "y"]
    assert report.runs_on is None
    assert len(report.reasons) == 1
    assert "this is not a SCRFD model" in report.reasons[0]
    assert "y ?×512" in report.reasons[0]
    assert gpu.leaks == {}


def test_tensorrt_refusal_is_a_reason(gpu, fakes, tmp_path):
    path = tmp_path / "face.plan"
    path.write_bytes(fakes.plan(refuse="the version does not match"))
    report = inspect_engine(path)
    assert not report.usable
    assert "the version does not match failed." in report.reasons[0]
    assert report.tensors == ()


def test_plan_of_older_release(gpu, fakes, plan, monkeypatch):
    fakes.use(monkeypatch, fakes.flavour(gpu, "tensorrt", "10.16.1.11"))
    report = inspect_engine(plan)
    assert not report.usable
    assert "only with the lean runtime of 8.6.0" in report.reasons[0]
    assert inspect_engine(plan, allow_host_code=True).usable


def test_record_is_used_without_gpu_and_tensorrt(no_gpu, plan, record_of):
    record_of(plan)
    report = inspect_engine(plan)
    assert not report.usable
    assert report.reasons == (
        "cuda:0 cannot be used: no NVIDIA driver",
        'it needs TensorRT 8.6.0, and none is installed: pip install "tensorrt==8.6.0.*"',
    )
    assert report.tensors_from == "face.plan.json"
    assert report.layout.startswith("batched head")
    assert report.compute_capabilities == ("9.0",)
    assert len(report.profiles) == 1


def test_record_of_another_model(no_gpu, plan, record_of):
    record_of(plan, outputs=[{"name": "y", "shape": [None, 512], "dtype": "float32"}])
    assert any("its outputs are: y ?×512" in reason for reason in inspect_engine(plan).reasons)


def test_invalid_record_is_a_warning(gpu, plan):
    plan.with_name("face.plan.json").write_text("[]")
    report = inspect_engine(plan)
    assert report.record is None
    assert "face.plan.json is not a valid engine record" in report.warnings[0]
    assert report.usable
    assert ("but", report.warnings[0]) in report.rows()
    assert report.layout.startswith("batched head")


def test_all_reasons_are_listed(gpu, fakes, tmp_path, record_of, monkeypatch):
    path = tmp_path / "face.plan"
    path.write_bytes(fakes.plan(version=(10, 3, 0, 26)))
    record_of(path, gpu={"name": "L4", "compute_capability": [8, 9]})
    report = inspect_engine(path)
    assert [reason.split(",")[0] for reason in report.reasons] == [
        "TensorRT 10.3.0 built it",
        "it was built for compute capability 8.9",
    ]
    assert "execute_async_v3" not in gpu.calls


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        (lambda data: data[:-100], "tensorrt plan", r"this plan is cut off"),
        (lambda data: data + b"1", "tensorrt plan", r"1 bytes follow its end"),
        (lambda data: data[:60] + b"?" + data[61:], "tensorrt plan", r"damaged or replaced after it was built"),
        (lambda data: bytes(len(data)), "unknown", r"all zeros"),
        (lambda data: b"", "unknown", r"empty"),
        (lambda data: b"hello", "unknown", r"this is not a TensorRT engine, or it is damaged"),
        (lambda data: data[:20], "unknown", r"cut off after 20 bytes"),
    ],
)
def test_broken_plans(no_gpu, plan, record_of, change, kind, reason):
    record_of(plan)
    plan.write_bytes(change(plan.read_bytes()))
    report = inspect_engine(plan)
    assert (report.kind, report.usable) == (kind, False)
    assert len(report.reasons) == 1
    assert reason.replace("\\", "") in report.reasons[0]
    assert report.tensors == ()


def test_missing_files(tmp_path):
    with pytest.raises(ModelNotFoundError, match="no such file"):
        inspect_engine(tmp_path / "missing.plan")


def test_real_plans(no_gpu, shared):
    for path in sorted((shared / "engines").glob("*.plan")):
        report = inspect_engine(path)
        assert (report.kind, report.version, report.compute_capabilities) == ("tensorrt plan", "8.6.0.12", ("9.0",))
        assert not report.usable
        assert "no NVIDIA driver" in report.reasons[0]


@pytest.mark.parametrize("reader", ["onnx", "onnxruntime"])
class TestOnnx:
    @pytest.fixture(autouse=True)
    def _reader(self, reader, monkeypatch):
        pytest.importorskip(reader)
        if reader != "onnx":
            monkeypatch.setitem(sys.modules, "onnx", None)

    def test_scrfd_model(self, reader, network_500m):
        report = inspect_engine(network_500m)
        assert (report.kind, report.usable, report.reasons) == ("onnx", True, ())
        assert report.tensors_from.startswith(reader + " ")
        assert report.tensors[0].shape == (None, 3, None, None)
        assert [tensor.name for tensor in report.tensors][1:3] == ["score_8", "score_16"]
        assert report.layout == "batched head, strides 8, 16, 32, with landmarks"
        assert report.runs_on == "ONNX Runtime on the CPU"

    def test_other_layouts(self, reader, models_2_5g):
        for kind, path in models_2_5g.items():
            report = inspect_engine(path)
            assert report.usable
            assert report.tensors[0].shape == (1, 3, 640, 640)
            assert report.layout.split()[0] == ("grid" if kind == "grid" else "batched")

    def test_another_model(self, reader, network_500m):
        report = inspect_engine(network_500m.with_name("w600k_mbf.onnx"))
        assert (report.kind, report.usable) == ("onnx", False)
        assert "this is not a SCRFD model" in report.reasons[0]

    def test_truncated_model(self, reader, network_500m, tmp_path):
        half = tmp_path / "half.onnx"
        half.write_bytes(network_500m.read_bytes()[:1_000_000])
        report = inspect_engine(half)
        assert (report.kind, report.usable) == ("unknown", False)
        assert "this is not an ONNX model, or it is damaged" in report.reasons[0]
        assert "\n" not in report.reasons[0]

    def test_text_file(self, reader, tmp_path):
        path = tmp_path / "notes.onnx"
        path.write_text("not a network")
        report = inspect_engine(path)
        assert (report.kind, report.usable) == ("unknown", False)


def test_onnx_without_a_reader(monkeypatch, tmp_path):
    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    path = tmp_path / "face.onnx"
    path.write_bytes(b"\x08\x06\x12\x07pytorch")
    report = inspect_engine(path)
    assert (report.kind, report.usable) == ("onnx", False)
    assert report.reasons == (
        installable('reading ONNX models needs onnx or ONNX Runtime: pip install "scrfd-trt[cpu]"'),
    )
