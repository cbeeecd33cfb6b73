"""Fixtures for builds: fake TensorRT modules with the names of each release, and models for them."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scrfd_trt import _devices
from scrfd_trt._engine.build import build_plan
from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._engine.onnx.rewrite import PreparedModel
from scrfd_trt._tensors import ShapeRange, TensorSpec

FakeTensorRT = runpy.run_path(str(Path(__file__).parents[2] / "data" / "tensorrt" / "fake.py"))["FakeTensorRT"]
OUTPUTS = ("score_8", "bbox_8", "kps_8")
ONE = (1, 3, 640, 640)

Put = Callable[[tuple[int, int] | None], None]


@pytest.fixture
def put_gpu(monkeypatch: pytest.MonkeyPatch) -> Put:
    """Simulate a GPU of some compute capability, or none."""

    def put(capability: tuple[int, int] | None) -> None:
        gpus = () if capability is None else (_devices.Gpu(0, "NVIDIA A GPU", capability),)
        driver = _devices.Driver((13, 0), gpus, "" if gpus else "no NVIDIA driver: it is not here")
        monkeypatch.setattr(_devices, "driver", lambda: driver)

    put((9, 0))
    return put


@pytest.fixture
def fake() -> Callable[[str], Any]:
    """Return a class of fake modules with a release's names."""
    return FakeTensorRT


@pytest.fixture
def prepared() -> Callable[..., PreparedModel]:
    """Return a model that the fake modules parse."""

    def make(precision: Any = "fp16", *, shape: tuple[int | None, ...] = (None, 3, 640, 640), **other: Any) -> Any:
        content = {
            "inputs": {"input.1": [-1 if side is None else side for side in shape]},
            "outputs": {name: [-1, 12800, 1] for name in OUTPUTS},
            "fp16": precision == "fp16",
            "errors": [],
            **other,
        }
        outputs = tuple(TensorSpec(name, (None, 12800, 1)) for name in OUTPUTS)
        ranges = (ShapeRange(ONE, ONE, ONE), ShapeRange(ONE, (8, 3, 640, 640), (32, 3, 640, 640)))
        return PreparedModel(
            json.dumps(content).encode(), precision, TensorSpec("input.1", shape), outputs, ranges, notes=()
        )

    return make


@pytest.fixture
def build(prepared: Callable[..., PreparedModel], put_gpu: Put) -> Callable[..., dict[str, Any]]:
    """Build with a fake release, and return what was configured."""

    def run(release: str, **options: Any) -> dict[str, Any]:
        checked = BuildOptions(**options)
        plan = build_plan(prepared(checked.precision), checked, flavour=FakeTensorRT(release).flavour)
        set_up: dict[str, Any] = json.loads(plan)
        return set_up

    return run
