from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from scrfd_trt import BackendError, Detections, MissingDependencyError, ModelFormatError, _devices, _letterbox
from scrfd_trt._cuda import driver, kernels
from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._pipelines import factory, verify_engine
from scrfd_trt._pipelines.verify_engine import differences
from scrfd_trt._tensors import TensorSpec

pytestmark = pytest.mark.slow

BOXES = np.array([[10, 10, 60, 70], [100, 20, 160, 90], [200, 200, 230, 240]], np.float32)
POINTS = np.random.default_rng(0).uniform(0, 200, (3, 5, 2)).astype(np.float32)


def faces(boxes=BOXES, scores=(0.9, 0.7, 0.52), points=POINTS):
    return Detections(boxes, scores, points, image_size=(300, 300))


def test_equal_faces_have_no_differences():
    assert differences(faces(), faces(), above=0.55) == []
    empty = Detections.empty((300, 300))
    assert differences(empty, empty, above=0.55) == []


def test_faces_near_the_threshold_may_come_and_go():
    assert differences(faces()[:2], faces(), above=0.55) == []
    assert differences(faces(), faces()[:2], above=0.55) == []


@pytest.mark.parametrize(
    ("found", "difference"),
    [
        (faces()[:1], "score 0.70: best overlap is 0.00"),
        (faces(BOXES + np.float32([0, 5, 0, 5])), "best overlap is 0.8"),
        (faces(scores=(0.9, 0.7, 0.6), boxes=BOXES + np.float32([[0], [0], [50]])), "no face is expected there"),
        (faces(points=POINTS + np.float32(3)), "a landmark is 4.2 pixels off"),
        (Detections.empty((300, 300)), "best overlap is 0.00"),
    ],
)
def test_differences(found, difference):
    assert difference in "; ".join(differences(found, faces(), above=0.55))


class FakeModel:
    """The fake model as an ONNX model of free size; its scores are ``lower`` than those of the engine."""

    ranges = ()
    description = "the original"

    def __init__(self, fakes, lower):
        self._network, self._lower = fakes.network, lower
        self.input = TensorSpec("x", (None, 3, None, None))
        self.outputs = tuple(TensorSpec(row[0], (None, None, row[2][2])) for row in fakes.specs(-1)[1:])
        self.inputs, self.is_open = [], True

    def run(self, blob):
        self.inputs.append(blob.shape)
        return [self._network(output.name, blob) - self._lower * ("score" in output.name) for output in self.outputs]

    def close(self):
        self.is_open = False


class TestNewEngines:
    @pytest.fixture
    def check(self, gpu, fakes, monkeypatch):
        """Check an engine against a model whose scores are ``lower``; return that model."""

        def run(plan, *, lower=0.0, device=0, **options):
            model, source = FakeModel(fakes, lower), Path("source.onnx")
            expected = source if options else b"the model"
            monkeypatch.setattr(verify_engine, "OnnxBackend", lambda content: model if content == expected else None)
            prepared = SimpleNamespace(model=b"the model")
            verify_engine.check_engine(plan, prepared, device, source, BuildOptions(**options))
            assert not model.inputs or not model.is_open
            return model

        yield run
        gc.collect()
        assert gpu.leaks == {}

    @pytest.mark.parametrize("device", [0, 1])
    def test_same_faces(self, gpu, fakes, check, monkeypatch, device):
        monkeypatch.setattr(_letterbox, "MIN_CUT", 0)  # even small inputs of models of free size would be cut
        monkeypatch.setattr(_letterbox, "MIN_PADDING", 0)
        monkeypatch.setattr(_letterbox, "SIDE_STEP", 8)
        model = check(fakes.two_sizes(), device=device)
        assert {shape[2:] for shape in model.inputs} == {(32, 32), (64, 64)}
        assert {shape for _, shape in gpu.runs} == {(count, 3, side, side) for count in (1, 2) for side in (32, 64)}

    def test_other_faces(self, fakes, check):
        with pytest.raises(
            ModelFormatError, match=r"does not find the faces that the ONNX model finds \(\d+ differences"
        ):
            check(fakes.plan(), lower=0.3)

    def test_int8_is_compared_with_the_source(self, fakes, check, caplog):
        check(fakes.plan(), precision="int8")
        with pytest.raises(ModelFormatError, match=r"INT8 changes the faces .* in the engine: of \d+ faces, \d+ are"):
            check(fakes.plan(), lower=0.05, precision="int8")

    def test_failed_run_reports_the_reason(self, gpu, fakes, check):
        gpu.fail("execute_async_v3")
        with pytest.raises(BackendError, match="running the model failed: Cuda Runtime"):
            check(fakes.plan())

    def test_engine_with_host_code_runs(self, gpu, fakes, check):
        check(fakes.plan(refuse="host code"))
        assert gpu.runs

    def test_engine_for_another_gpu_is_not_run(self, gpu, fakes, check, caplog):
        model = check(fakes.plan(), device=7)
        assert "the engine is not checked, since it cannot run here: cuda:7 cannot be used" in caplog.text
        assert (model.inputs, gpu.runs) == ([], [])


class TestPrerequisites:
    """Missing requirements of the check are reported before the build, which may take minutes."""

    @pytest.fixture
    def build(self, gpu, monkeypatch, tmp_path):
        built = []

        def build(*args, **arguments):
            built.append(arguments)
            return tmp_path / "face.plan"

        monkeypatch.setattr(factory, "write_engine", build)
        return lambda **options: (factory.build_engine("face.onnx", "face.plan", **options), built)[1]

    @pytest.fixture
    def no_nvrtc(self, gpu, monkeypatch):
        def compiled(capability, source=None, *, anew=False):
            raise MissingDependencyError(f"NVRTC is not found for {capability}")

        monkeypatch.setattr(kernels, "compiled", compiled)

    def test_new_engine_is_checked(self, build, monkeypatch):
        checked = []
        monkeypatch.setattr(factory, "check_engine", lambda *values: checked.append(values))
        (arguments,) = build(device=1)
        arguments["check"](b"plan", "prepared", arguments["flavour"])
        assert checked == [(b"plan", "prepared", 1, Path("face.onnx"), BuildOptions())]

    @pytest.mark.usefixtures("no_nvrtc")
    def test_without_nvrtc(self, build):
        with pytest.raises(MissingDependencyError, match=r"NVRTC is not found for \(9, 0\)"):
            build()

    def test_without_cuda_python(self, build, monkeypatch):
        def bindings():
            raise MissingDependencyError("running on an NVIDIA GPU needs cuda-python")

        monkeypatch.setattr(driver, "bindings", bindings)
        with pytest.raises(MissingDependencyError, match="needs cuda-python"):
            build()

    @pytest.mark.usefixtures("no_nvrtc")
    @pytest.mark.parametrize(
        ("capability", "built_for", "required"),
        [((8, 9), None, True), ((9, 0), None, False), ((9, 0), ("8.6",), False), ((9, 0), ("8.6", "9.0"), True)],
    )
    def test_rtx_engines_for_other_gpus_require_nothing(
        self, gpu, fakes, build, monkeypatch, capability, built_for, required
    ):
        fakes.use(monkeypatch, fakes.flavour(gpu, "tensorrt_rtx", "1.7.1.116"))
        own = _devices.Driver((13, 0), (_devices.Gpu(0, "A GPU", capability),))
        monkeypatch.setattr(_devices, "driver", lambda: own)
        options = BuildOptions(compute_capabilities=built_for)
        if required:
            with pytest.raises(MissingDependencyError, match="NVRTC"):
                build(options=options)
        else:
            assert len(build(options=options)) == 1

    @pytest.mark.usefixtures("no_nvrtc")
    def test_without_a_gpu(self, gpu, fakes, build, monkeypatch):
        fakes.use(monkeypatch, fakes.flavour(gpu, "tensorrt_rtx", "1.7.1.116"))
        monkeypatch.setattr(_devices, "driver", lambda: _devices.Driver(None, (), "no NVIDIA driver"))
        assert len(build()) == 1
