from __future__ import annotations

import os
import re
import sys
import threading

import numpy as np
import pytest

from scrfd_trt import ClosedError, MissingDependencyError, ModelFormatError, ModelNotFoundError, _devices
from scrfd_trt.backends import OnnxBackend
from scrfd_trt.errors import installable


@pytest.fixture
def onnx_runtime():
    return pytest.importorskip("onnxruntime")


def write_model(path, inputs=(("images", [1, 3, 32, 32]),), dtype="FLOAT"):
    """Write a model that returns its inputs."""
    onnx = pytest.importorskip("onnx")
    kind = getattr(onnx.TensorProto, dtype)
    nodes = [onnx.helper.make_node("Identity", [name], [f"same_{name}"]) for name, _ in inputs]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs],
        [onnx.helper.make_tensor_value_info(f"same_{name}", kind, shape) for name, shape in inputs],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.usefixtures("onnx_runtime")
class TestFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(ModelNotFoundError, match=r"missing.*no such file"):
            OnnxBackend(tmp_path / "missing.onnx")

    @pytest.mark.parametrize("content", [b"", b"some text", b"\x00" * 1000])
    def test_invalid_file(self, content, tmp_path):
        path = tmp_path / "broken.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelFormatError, match=r"broken\.onnx") as caught:
            OnnxBackend(path)
        assert "\n" not in str(caught.value)

    def test_truncated_file(self, network_500m, tmp_path):
        path = tmp_path / "half.onnx"
        path.write_bytes(network_500m.read_bytes()[:1_000_000])
        with pytest.raises(ModelFormatError, match=r"half.onnx: this is not an ONNX model, or it is damaged"):
            OnnxBackend(path)

    @pytest.mark.parametrize("inputs", [[("x", [1, 10])], [("x", [1, 1, 32, 32])], [("a", [1, 3, 8, 8]), ("b", [1])]])
    def test_no_image_input(self, inputs, tmp_path):
        with pytest.raises(ModelFormatError, match="one input"):
            OnnxBackend(write_model(tmp_path / "other.onnx", inputs))

    def test_half_precision_input(self, tmp_path):
        backend = OnnxBackend(write_model(tmp_path / "half.onnx", dtype="FLOAT16"))
        assert backend.input.dtype == "float16"
        (output,) = backend.run(np.full((1, 3, 32, 32), 0.5, np.float32))
        assert output.dtype == np.float16
        assert (output == 0.5).all()


def test_missing_onnxruntime_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=re.escape(installable('pip install "scrfd-trt[cpu]"'))):
        OnnxBackend(tmp_path / "any.onnx")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_gpu_loads_cuda_first_and_prints_nothing(onnx_runtime, monkeypatch, tmp_path, capsys):
    """Without a GPU, ONNX Runtime falls back to the CPU; the backend raises instead."""
    write_model(tmp_path / "small.onnx")
    monkeypatch.setattr(onnx_runtime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnx_runtime, "preload_dlls", lambda: print("no cuDNN"), raising=False)
    with pytest.raises(MissingDependencyError, match=r"cannot use the GPU.*onnxruntime-gpu\[cuda,cudnn\]"):
        OnnxBackend(tmp_path / "small.onnx", gpu=0)
    captured = capsys.readouterr()
    assert (captured.out, "no cuDNN" in captured.err) == ("", True)


def test_free_sides_are_none(network_500m):
    backend = OnnxBackend(network_500m)
    assert backend.input.shape == (None, 3, None, None)
    assert [tensor.name for tensor in backend.outputs][:2] == ["score_8", "score_16"]
    assert backend.run(np.zeros((2, 3, 32, 64), np.float32))[0].shape == (2, 64, 1)


def test_failed_run_raises_one_line(network_500m):
    from scrfd_trt import BackendError

    backend = OnnxBackend(network_500m)
    with pytest.raises(BackendError, match=r"ONNX Runtime failed on an input of 1×4×32×32") as caught:
        backend.run(np.zeros((1, 4, 32, 32), np.float32))
    assert "\n" not in str(caught.value)


def test_threads_are_as_many_as_a_container_may_use(network_500m, monkeypatch):
    monkeypatch.setattr(_devices, "cores", lambda: 64)
    for usable, threads in ((64, 0), (3, 3)):
        monkeypatch.setattr(_devices, "usable_cores", lambda usable=usable: usable)
        backend = OnnxBackend(network_500m)
        assert backend._session.get_session_options().intra_op_num_threads == threads
        backend.close()


def test_concurrent_runs_and_close(network_500m):
    backend = OnnxBackend(network_500m, threads=1)
    rng = np.random.default_rng(0)
    blobs = [rng.uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32) for _ in range(4)]
    expected = [backend.run(blob) for blob in blobs]
    found: dict[int, list] = {}
    threads = [
        threading.Thread(target=lambda n=n: found.__setitem__(n, [backend.run(blobs[n]) for _ in range(5)]))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(4):
        for run in found[n]:
            assert all(np.array_equal(a, b) for a, b in zip(run, expected[n], strict=True))
    backend.close()
    backend.close()
    with pytest.raises(ClosedError):
        backend.run(blobs[0])


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("std::bad_alloc"), RuntimeError("Failed to allocate memory")]
)
def test_lack_of_memory_is_a_backend_error(network_500m, monkeypatch, onnx_runtime, error):
    from scrfd_trt import BackendError

    class Full:
        def __init__(self, *_, **__):
            raise error

        def run(self, *_):
            raise error

    backend = OnnxBackend(network_500m)
    backend._session = object.__new__(Full)
    with pytest.raises(BackendError, match="not enough memory; use smaller images"):
        backend.run(np.zeros((1, 3, 32, 32), np.float32))
    monkeypatch.setattr(onnx_runtime, "InferenceSession", Full)
    with pytest.raises(BackendError, match="not enough memory"):
        OnnxBackend(network_500m)


def test_failed_opening_prints_nothing(network_500m, tmp_path, capfd):
    path = tmp_path / "half.onnx"
    path.write_bytes(network_500m.read_bytes()[:1_000_000])
    with pytest.raises(ModelFormatError):
        OnnxBackend(path)
    assert capfd.readouterr().out == ""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="only where there are FIFOs")
def test_fifo_is_not_waited_for(onnx_runtime, tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelNotFoundError, match="not a file"):
        OnnxBackend(tmp_path / "pipe.onnx")
