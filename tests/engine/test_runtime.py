from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from engine_backend import load_engine

from scrfd_trt import (
    BackendError,
    ClosedError,
    DeviceError,
    MissingDependencyError,
    ModelFormatError,
    ModelNotFoundError,
    OptionError,
    _devices,
)
from scrfd_trt._cuda.stream import create_stream
from scrfd_trt._tensors import ShapeRange, TensorSpec

LISTS = sorted((Path(__file__).parents[1] / "data" / "tensorrt").glob("*.json"))
USED = {
    "Runtime": {"deserialize_cuda_engine", "load_runtime", "engine_host_code_allowed"},
    "ICudaEngine": {
        "num_io_tensors",
        "get_tensor_name",
        "get_tensor_mode",
        "get_tensor_shape",
        "get_tensor_dtype",
        "get_tensor_profile_shape",
        "num_optimization_profiles",
        "create_execution_context",
    },
    "IExecutionContext": {
        "active_optimization_profile",
        "set_optimization_profile_async",
        "set_input_shape",
        "get_tensor_shape",
        "set_tensor_address",
        "execute_async_v3",
    },
}


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_used_names_exist_in_every_release(path):
    names = json.loads(path.read_text())
    for kind, wanted in USED.items():
        assert wanted - set(names["classes"][kind]) == set()
    assert {"device_memory_size", "device_memory_size_v2"} & set(names["classes"]["ICudaEngine"])
    assert {"Runtime", "ILogger", "TensorIOMode", "DataType"} - set(names["module"]) == set()


def test_tensors_and_profiles_are_read_from_the_engine(gpu, write):
    with load_engine(write()) as engine:
        assert engine.input == TensorSpec("x", (None, 3, 64, 64))
        assert engine.outputs[3] == TensorSpec("bbox_8", (None, 128, 4))
        assert engine.ranges == (ShapeRange((1, 3, 64, 64), (2, 3, 64, 64), (4, 3, 64, 64)),)
        assert str(engine.layout) == "batched head, strides 8, 16, 32, with landmarks"
        assert engine.memory == 5 * 2**20
        assert str(engine.flavour) == "tensorrt 8.6.0"
        assert gpu.engines == 1
    engine.close()
    assert gpu.leaks == {}
    with pytest.raises(ClosedError, match="closed"):
        _ = engine.engine


def test_plan_as_bytes(gpu, fakes):
    with load_engine(fakes.plan(), device=1) as engine:
        assert engine.device.index == 1
    with pytest.raises(ModelFormatError, match=r"^this plan is cut off"):
        load_engine(fakes.plan()[:100])
    assert gpu.leaks == {}


@pytest.mark.parametrize("source", ["missing.plan", b"no plan", bytes(100)])
def test_invalid_plans_never_reach_the_gpu(gpu, source):
    with pytest.raises((ModelNotFoundError, ModelFormatError)):
        load_engine(source)
    assert gpu.calls == []


def test_several_profiles_and_fp16(gpu, fakes, write):
    tensors = [[name, mode, shape, "HALF"] for name, mode, shape, _ in fakes.SPECS]
    profiles = fakes.ranges((1, 1, 1), (1, 8, 32)) + fakes.ranges((1, 4, 4), side=128)
    with load_engine(write(tensors=tensors, profiles=profiles)) as engine:
        assert [each.opt for each in engine.ranges] == [(1, 3, 64, 64), (8, 3, 64, 64), (4, 3, 128, 128)]
        assert engine.input.dtype == "float16"
        assert {tensor.dtype for tensor in engine.outputs} == {"float16"}


def test_static_engine(gpu, fakes, write):
    tensors = [[name, mode, [4, *shape[1:]], dtype] for name, mode, shape, dtype in fakes.SPECS]
    with load_engine(write(tensors=tensors, profiles=[[]])) as engine:
        assert engine.input.shape == (4, 3, 64, 64)
        assert engine.ranges == (ShapeRange(*[(4, 3, 64, 64)] * 3),)


def test_contexts_have_their_profiles(gpu, fakes, write):
    with (
        load_engine(write(profiles=fakes.ranges((1, 1, 1), (1, 2, 4)))) as engine,
        closing(create_stream(engine.device)) as stream,
    ):
        with engine.device.current():
            scratch = engine.new_scratch(stream)
            contexts = [engine.new_context(profile, stream, scratch) for profile in (1, 0)]
        assert [context.active_optimization_profile for context in contexts] == [1, 0]
        assert gpu.contexts == 2
        del contexts
        scratch.close()
    assert gpu.leaks == {}


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (
            {"tensors": [["x", "INPUT", [1, 10], "FLOAT"]]},
            r"one input \(B, 3, H, W\) is required, but the inputs are: x 1×10",
        ),
        (
            {"tensors": [["x", "INPUT", [-1, 3, 8, 8], "FLOAT"], ["y", "OUTPUT", [-1, 512], "FLOAT"]]},
            r"this is not a SCRFD model: .*its outputs are: y \?×512",
        ),
        (
            {"unusual": {"bbox_8": "CHW16"}},
            r"linear tensors in GPU memory are required, but bbox_8 has the format CHW16; build",
        ),
        ({"unusual": {"x": "HOST"}}, r"x is in host memory; build"),
    ],
)
def test_engine_of_another_model(gpu, write, about, message):
    path = write(**about)
    with pytest.raises(ModelFormatError, match=message) as caught:
        load_engine(path)
    assert str(caught.value).startswith(f"{path}: ")
    del caught
    assert gpu.leaks == {}


def test_tensors_that_are_not_floats(gpu, fakes, write):
    tensors = [[name, mode, shape, "INT8" if name == "score_8" else dtype] for name, mode, shape, dtype in fakes.SPECS]
    with pytest.raises(ModelFormatError, match=r"float32 or float16 is required, but there are: score_8 \?×128×1 int8"):
        load_engine(write(tensors=tensors))


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (
            "version tag does not match",
            r"tensorrt 8.6.0 cannot open it: .*\(version tag does not match failed.\); build it",
        ),
        ("raise", r"tensorrt 8.6.0 cannot open it: a bad plan; build it again with scrfd-trt build$"),
        ("host code", r"contains host code; set allow_host_code if you trust its origin$"),
    ],
)
def test_plan_that_tensorrt_refuses(gpu, write, refuse, message):
    path = write(refuse=refuse)
    with pytest.raises(BackendError, match=message) as caught:
        load_engine(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    del caught
    assert gpu.leaks == {}


def test_host_code_requires_permission(gpu, write):
    with load_engine(write(refuse="host code"), allow_host_code=True) as engine:
        assert engine.input.name == "x"


class TestLeanRuntime:
    @pytest.fixture(autouse=True)
    def _a_later_release_is_installed(self, gpu, fakes, monkeypatch):
        self.later = fakes.flavour(gpu, "tensorrt_dispatch", "10.16.1.11")
        fakes.use(monkeypatch, self.later)

    def test_is_loaded_for_an_older_plan(self, gpu, write, tmp_path):
        lean = tmp_path / "libnvinfer_lean.so.8"
        lean.touch()
        with load_engine(write(), lean_runtime=lean) as engine:
            assert engine.flavour is self.later
            assert engine.layout.kind == "batched"
            assert engine.memory is None
        assert self.later.module.lean == [str(lean)]
        assert gpu.leaks == {}

    def test_is_read_from_the_environment(self, write, tmp_path, monkeypatch):
        lean = tmp_path / "lean.so"
        lean.touch()
        monkeypatch.setenv("TRT_LEAN_RUNTIME", str(lean))
        load_engine(write()).close()
        assert self.later.module.lean == [str(lean)]

    def test_is_not_loaded_for_a_plan_of_the_same_release(self, gpu, fakes, write, tmp_path, monkeypatch):
        fakes.use(monkeypatch, own := fakes.flavour(gpu, "tensorrt", "10.16.1.11"))
        load_engine(write(version=(10, 16, 1, 11)), lean_runtime=tmp_path / "none").close()
        assert own.module.lean == []

    def test_is_required_for_an_older_plan(self, write):
        with pytest.raises(
            BackendError, match=r"face.plan: TensorRT 8.6.0 built it, and tensorrt_dispatch 10.16.1.11 runs"
        ):
            load_engine(write())

    def test_cannot_be_loaded(self, gpu, write, tmp_path):
        broken = tmp_path / "broken.so"
        broken.touch()
        with pytest.raises(
            BackendError, match=r"cannot load the lean runtime .*broken.so: Unable to load library: .*; set"
        ):
            load_engine(write(), lean_runtime=broken)
        assert gpu.leaks == {}

    def test_missing_file(self, write, tmp_path):
        with pytest.raises(OptionError, match="there is no such file"):
            load_engine(write(), lean_runtime=tmp_path / "missing.so")


def test_requested_flavour(gpu, fakes, write):
    asked = fakes.flavour(gpu, "tensorrt_lean", "8.6.0")
    with load_engine(write(), flavour=asked) as engine:
        assert engine.flavour is asked
    asked = fakes.flavour(gpu, "tensorrt_rtx", "1.7.1.116")
    with pytest.raises(MissingDependencyError, match=r"TensorRT 8.6.0, and tensorrt_rtx 1.7.1.116 cannot run it"):
        load_engine(write(), flavour=asked)


@pytest.mark.parametrize(
    "message",
    [("WARNING", "CUDA initialization failure with error: 35"), ("ERROR", "createInferRuntime: Error Code 6: API")],
)
def test_runtime_that_does_not_start_is_not_used(gpu, fakes, write, monkeypatch, message):
    old = fakes.flavour(gpu)
    old.module.runtime_says = (message,)
    fakes.use(monkeypatch, old)
    with pytest.raises(DeviceError, match=r"tensorrt 8.6.0 does not start: .*; is the NVIDIA driver new enough"):
        load_engine(write())
    assert gpu.leaks == {}


def test_other_warnings_are_ignored(gpu, fakes, write, monkeypatch):
    loud = fakes.flavour(gpu)
    loud.module.runtime_says = (("WARNING", "CUDA lazy loading is not enabled"), ("INFO", "hello"))
    fakes.use(monkeypatch, loud)
    load_engine(write()).close()


def test_plan_for_another_gpu(gpu, write, monkeypatch):
    own = _devices.Gpu(0, "Some T4", (7, 5))
    monkeypatch.setattr(_devices, "driver", lambda: _devices.Driver((13, 0), (own,)))
    monkeypatch.setattr("scrfd_trt._engine.plan.Plan.capabilities", ((9, 0),))
    with pytest.raises(
        BackendError, match=r"face.plan: it was built for compute capability 9.0, and this GPU is Some T4"
    ):
        load_engine(write())
    assert "cuInit" not in gpu.calls


def test_tensorrt_is_not_used_without_a_gpu(gpu, write, monkeypatch):
    monkeypatch.setattr(_devices, "driver", lambda: _devices.Driver(None, (), "no NVIDIA driver"))
    with pytest.raises(DeviceError, match=r"face.plan: cuda:0 cannot be used: no NVIDIA driver$"):
        load_engine(write())
    assert gpu.calls == []
