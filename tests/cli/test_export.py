"""``scrfd-trt export triton``, whose Python model runs in a stand-in for Triton that the real client talks to."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from scrfd_trt import SCRFDDetector, samples
from scrfd_trt.backends import OnnxBackend

pytestmark = pytest.mark.slow
grpc_client = pytest.importorskip("tritonclient.grpc")
NUMPY = {"TYPE_FP32": np.float32, "TYPE_FP16": np.float16, "TYPE_INT32": np.int32, "TYPE_STRING": np.object_}
Run = Callable[..., Any]


class Tensor:
    def __init__(self, name: str, array: Any) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> Any:
        return self.array


class Response:
    def __init__(self, output_tensors: Any = (), error: Any = None) -> None:
        self.tensors, self.problem = {each.name: each for each in output_tensors}, error

    def has_error(self) -> bool:
        return self.problem is not None

    def error(self) -> Any:
        return self.problem


class TritonError(SimpleNamespace):
    INVALID_ARG, INTERNAL = "invalid", "internal"

    def __init__(self, text: str, code: str) -> None:
        super().__init__(message=lambda: text, code=code)


class StandIn:
    """Loads a model repository, and checks inputs and outputs against its configuration, as Triton does."""

    def __init__(self, folder: Path) -> None:
        self.configs = {path.parent.name: parsed(path) for path in folder.glob("*/config.pbtxt")}
        self.network = OnnxBackend(folder / "scrfd_network" / "1" / "model.onnx")
        self.runs: list[tuple[int, ...]] = []
        self.broken = False
        utils: Any = ModuleType("triton_python_backend_utils")
        utils.Tensor, utils.InferenceResponse, utils.TritonError = Tensor, Response, TritonError
        utils.InferenceRequest = lambda **request: SimpleNamespace(exec=lambda: self._run(**request))
        utils.PreferredMemory, utils.TRITONSERVER_MEMORY_CPU = lambda kind, device: kind, 0
        utils.get_input_tensor_by_name = utils.get_output_tensor_by_name = lambda whole, name: whole.tensors[name]
        sys.modules["triton_python_backend_utils"] = utils
        spec = importlib.util.spec_from_file_location("triton_model", folder / "scrfd" / "1" / "model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.model = module.TritonPythonModel()
        args = {"model_repository": str(folder / "scrfd"), "model_version": "1", "model_name": "scrfd"}
        self.model.initialize(args)

    def _run(self, model_name: str, requested_output_names: Any, inputs: Any, preferred_memory: int) -> Response:
        if self.broken:
            return Response(error=TritonError("the GPU is gone", "internal"))
        self.check(model_name, "input", inputs)
        (blob,) = inputs
        self.runs.append(blob.array.shape)
        names = [tensor.name for tensor in self.network.outputs]
        found = list(map(Tensor, names, self.network.run(blob.array)))
        self.check(model_name, "output", found)
        return Response([each for each in found if each.name in requested_output_names])

    def check(self, model: str, role: str, tensors: Any) -> None:
        config = self.configs[model]
        declared = {each.name: each for each in getattr(config, role)}
        assert {each.name for each in tensors} == declared.keys()
        for each in tensors:
            about, shape = declared[each.name], each.array.shape
            dims = [-1, *about.dims] if config.max_batch_size else list(about.dims)
            assert shape[0] <= (config.max_batch_size or 1)
            assert len(dims) == len(shape)
            assert all(want in {-1, side} for want, side in zip(dims, shape, strict=True)), (each.name, dims, shape)
            assert each.array.dtype == NUMPY[data_type(about)]

    def ask(self, *requests: list[bytes]) -> list[Response]:
        arrays = [np.array(images, object).reshape(-1, 1) for images in requests]
        asked = [SimpleNamespace(tensors={"image": Tensor("image", array)}) for array in arrays]
        for each in asked:
            self.check("scrfd", "input", each.tensors.values())
        responses = self.model.execute(asked)
        for each in responses:
            if not each.has_error():
                self.check("scrfd", "output", each.tensors.values())
        return list(responses)


def parsed(path: Path) -> Any:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


def data_type(tensor: Any) -> str:
    from tritonclient.grpc import model_config_pb2

    return str(model_config_pb2.DataType.Name(tensor.data_type))


@pytest.fixture
def repository(run: Run, tmp_path: Path, network_500m: Path) -> Path:
    code, _, err = run("export", "triton", tmp_path / "models", "--model", network_500m, "--threshold", "0.4")
    assert code == 0
    assert "tritonserver --model-repository" in err
    return tmp_path / "models"


@pytest.fixture
def triton(repository: Path) -> Iterator[StandIn]:
    stand_in = StandIn(repository)
    yield stand_in
    stand_in.model.finalize()
    sys.modules.pop("triton_python_backend_utils")


def jpeg(name: str = "group", size: tuple[int, int] | None = None) -> bytes:
    image = samples.load(name).image
    return cv2.imencode(".jpg", image if size is None else cv2.resize(image, size))[1].tobytes()


def test_finds_the_faces_of_detect(triton: StandIn, network_500m: Path) -> None:
    pictures = [jpeg(), jpeg(size=(333, 500)), jpeg(size=(640, 120))]
    with SCRFDDetector.from_onnx(network_500m, device="cpu", threshold=0.4) as detector:
        expected = list(map(detector.detect, pictures))
    both, one = triton.ask(pictures[:2], pictures[2:])
    faces = [(both, 0), (both, 1), (one, 0)]
    assert len(expected[0]) == 6
    for want, (response, row) in zip(expected, faces, strict=True):
        assert response.tensors["count"].array[row, 0] == len(want)
        assert tuple(response.tensors["image_size"].array[row]) == want.image_size
        for name in ("boxes", "scores", "landmarks"):
            found = response.tensors[name].array[row]
            np.testing.assert_allclose(found[: len(want)], getattr(want, name), rtol=1e-5, atol=1e-3)
            assert not found[len(want) :].any()
    assert max(shape[0] for shape in triton.runs) > 1  # images of several requests share runs


def test_an_image_that_fails_is_an_error_of_its_request(triton: StandIn) -> None:
    good, bad, empty = triton.ask([jpeg()], [jpeg(), b"no image"], [b"/etc/passwd"])
    assert good.tensors["count"].array[0, 0] == 6
    for each in (bad, empty):
        assert each.error().code == TritonError.INVALID_ARG
        assert re.search("image", each.error().message())
    triton.broken = True
    assert [each.error().message() for each in triton.ask([jpeg()], [jpeg()])] == [
        "the model scrfd_network of Triton failed: the GPU is gone"
    ] * 2


def test_the_example_asks_over_grpc(triton: StandIn, tmp_path: Path, root: Path, monkeypatch: Any, capsys: Any) -> None:
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc
    from tritonclient.utils import deserialize_bytes_tensor

    class Service(service_pb2_grpc.GRPCInferenceServiceServicer):
        def ModelInfer(self, request: Any, context: Any) -> Any:
            assert (request.model_name, request.inputs[0].datatype) == ("scrfd", "BYTES")
            (found,) = triton.ask(list(deserialize_bytes_tensor(request.raw_input_contents[0])))
            answer = service_pb2.ModelInferResponse(model_name="scrfd", model_version="1")
            for name, tensor in found.tensors.items():
                kind = {"f": "FP32", "i": "INT32"}[tensor.array.dtype.kind]
                answer.outputs.add(name=name, datatype=kind, shape=tensor.array.shape)
                answer.raw_output_contents.append(tensor.array.tobytes())
            return answer

    server = grpc.server(futures.ThreadPoolExecutor(1))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    path = tmp_path / "group.jpg"
    path.write_bytes(jpeg())
    monkeypatch.setattr(sys, "argv", ["", f"127.0.0.1:{port}", str(path), str(path)])
    runpy.run_path(str(root / "examples" / "triton_client.py"), run_name="__main__")
    server.stop(None).wait()
    printed = capsys.readouterr().out
    assert printed.count(f"{path}: 6 faces") == 2
    assert printed.count("\n") == 14


def test_engines_name_all_profiles(run: Run, gpu: Any, fakes: ModuleType, tmp_path: Path) -> None:
    plan = tmp_path / "face.plan"
    plan.write_bytes(fakes.plan(profiles=fakes.ranges((1, 2, 4), (1, 1, 1))))
    (before := tmp_path / "models/scrfd_network/1/model.onnx").parent.mkdir(parents=True)
    before.touch()
    assert run("export", "triton", tmp_path / "models", "--model", plan, "--overwrite").code == 0
    assert not before.exists()
    network, faces = (parsed(tmp_path / "models" / name / "config.pbtxt") for name in ("scrfd_network", "scrfd"))
    assert network.platform == "tensorrt_plan"
    assert list(network.instance_group[0].profile) == ["0", "1"]
    assert network.max_batch_size == faces.max_batch_size == 4
    assert list(network.dynamic_batching.preferred_batch_size) == [2]
    assert list(network.input[0].dims) == [3, 64, 64]
    assert (tmp_path / "models/scrfd_network/1/model.plan").read_bytes() == plan.read_bytes()
    about = json.loads((tmp_path / "models/scrfd/1/detector.json").read_text())
    assert about["network"]["ranges"][1]["max"] == [1, 3, 64, 64]


def test_refusals(run: Run, gpu: Any, fakes: ModuleType, tmp_path: Path, repository: Path) -> None:
    again = run("export", "triton", repository)
    assert "already exists" in again.error
    plan = tmp_path / "face.plan"
    plan.write_bytes(fakes.plan(profiles=fakes.ranges((2, 2, 4))))
    assert "--batch 1,8,32" in run("export", "triton", tmp_path / "other", "--model", plan).error
    plan.write_bytes(fakes.plan(magic=b"vtrt"))
    assert "Triton runs engines of TensorRT" in run("export", "triton", tmp_path / "other", "--model", plan).error
    assert not (tmp_path / "other").exists()
