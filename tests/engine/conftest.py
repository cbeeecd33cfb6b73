from __future__ import annotations

import hashlib
import json

import pytest


@pytest.fixture
def record_of():
    """Write the record of a plan."""

    def write(path, **changes):
        tensors = {"name": "x", "shape": [None, 3, 64, 64], "dtype": "float32"}
        outputs = [
            {"name": f"{name}_{stride}", "shape": [None, 2 * (64 // stride) ** 2, width], "dtype": "float32"}
            for name, width in (("score", 1), ("bbox", 4), ("kps", 10))
            for stride in (8, 16, 32)
        ]
        about = {
            "plan": {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
            "onnx": {"name": "face.onnx", "sha256": "0" * 64},
            "flavour": "tensorrt",
            "version": "8.6.0",
            "gpu": {"name": "Fake H100", "compute_capability": [9, 0]},
            "options": {},
            "input": tensors,
            "outputs": outputs,
            "ranges": [{"min": [1, 3, 64, 64], "opt": [2, 3, 64, 64], "max": [4, 3, 64, 64]}],
            "notes": ["batch made free"],
            "made": "2026-11-23T12:00:00+00:00",
            "seconds": 1.5,
            "scrfd_trt": "0.1.0",
        }
        path.with_name(f"{path.name}.json").write_text(json.dumps({**about, **changes}))

    return write


@pytest.fixture
def write(fakes, tmp_path):
    """Write a plan of the fake TensorRT."""

    def write(**about):
        path = tmp_path / "face.plan"
        path.write_bytes(fakes.plan(**about))
        return path

    return write
