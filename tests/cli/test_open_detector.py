from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scrfd_trt import OptionError, SCRFDDetector
from scrfd_trt._cli import detector
from scrfd_trt._cli.detector import gpu_number, open_detector, parse_rotations
from scrfd_trt._engine.plan import is_engine_file, is_model_path

ONNX = b"\x08\x06\x12\x07pytorch"


@pytest.mark.parametrize("name", ["x.plan", "x.ENGINE", "x.trt", "x.onnx", "a/x", "./x"])
def test_model_path_or_name(name: str) -> None:
    assert is_model_path(name)
    assert not is_model_path("500m_bnkps")


@pytest.mark.parametrize(
    ("name", "kind", "engine"),
    [
        ("x.plan", "plan", True),
        ("x.onnx", "plan", True),
        ("x", "plan", True),
        ("x.plan", "zeros", True),
        ("x.trt", "empty", True),
        ("x.engine", "missing", True),
        ("x.plan", "onnx", False),
        ("x.onnx", "onnx", False),
        ("x.onnx", "zeros", False),
        ("x.onnx", "missing", False),
        ("x", "onnx", False),
    ],
)
def test_engine_file_is_recognised_by_content(
    tmp_path: Path, fakes: ModuleType, name: str, kind: str, engine: bool
) -> None:
    contents = {
        "plan": fakes.plan(),
        "rtx": fakes.plan(magic=b"vtrt"),
        "zeros": bytes(5000),
        "empty": b"",
        "onnx": ONNX,
    }
    path = tmp_path / name
    if kind in contents:
        path.write_bytes(contents[kind])
    assert is_engine_file(path) is engine


@pytest.mark.parametrize(("device", "number"), [("auto", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:3", 3)])
def test_gpu_number(device: str, number: int) -> None:
    assert gpu_number(device) == number


@pytest.mark.parametrize("device", ["cpu", "tpu"])
def test_invalid_gpu_is_refused(device: str) -> None:
    with pytest.raises(OptionError, match="the choices are: "):
        gpu_number(device)


def test_engine_is_opened_with_all_options(tmp_path: Path, fakes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    received: dict[str, Any] = {}
    monkeypatch.setattr(SCRFDDetector, "from_engine", lambda path, **options: received.update(options, path=path))
    path = tmp_path / "face"
    path.write_bytes(fakes.plan())
    open_detector(
        str(path),
        "cuda:1",
        threshold=0.3,
        iou=0.2,
        scale=["64"],
        min_face=20.0,
        rotations=["all"],
        max_faces=4,
        lean_runtime=Path("lean.so"),
        allow_host_code=True,
    )
    assert received == {
        "path": path,
        "device": "cuda:1",
        "threshold": 0.3,
        "iou": 0.2,
        "scales": ((64, 64),),
        "min_face": 20.0,
        "rotations": (90, 180, 270),
        "max_faces": 4,
        "lean_runtime": Path("lean.so"),
        "allow_host_code": True,
    }


@pytest.mark.parametrize(
    ("options", "flag"),
    [({"lean_runtime": Path("lean.so")}, "--lean-runtime"), ({"allow_host_code": True}, "--allow-host-code")],
)
@pytest.mark.parametrize("model", ["500m_bnkps", "x.onnx"])
def test_engine_options_are_refused_for_models(model: str, options: dict[str, Any], flag: str) -> None:
    with pytest.raises(OptionError, match=f"{flag} applies only to engines; {model} is not one"):
        open_detector(model, threshold=0.5, iou=0.4, **options)


def test_size_error_names_option() -> None:
    with pytest.raises(OptionError, match="--size '100': sides are multiples of 32"):
        detector.parse_scales(["640,100"], "--size")


@pytest.mark.parametrize(
    ("text", "message"),
    [("none,90", "none,90: none stands alone"), ("45", "'45': use none, all, or some of 90, 180 and 270")],
)
def test_invalid_rotations_are_refused(text: str, message: str) -> None:
    assert parse_rotations(["0"]) == parse_rotations(["none"]) == ()
    with pytest.raises(OptionError, match=f"^--rotations {message}"):
        parse_rotations([text])
