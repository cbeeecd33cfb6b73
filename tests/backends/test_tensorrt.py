from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from scrfd_trt import (
    BackendError,
    DeviceError,
    OptionError,
    SCRFDDetector,
)
from scrfd_trt.backends import Backend
from scrfd_trt.backends.tensorrt import TensorRTBackend
from scrfd_trt.cuda import Device, Stream
from scrfd_trt.tensors import ShapeRange

RNG = np.random.default_rng(0)


def blob(images, side=64):
    return RNG.uniform(-1, 1, (images, 3, side, side)).astype(np.float32)


def same(found, wanted, **tolerance):
    return len(found) == len(wanted) and all(
        a.shape == b.shape and np.allclose(a, b, **tolerance) for a, b in zip(found, wanted, strict=True)
    )


def test_a_run(gpu, fakes, expected):
    with TensorRTBackend(fakes.plan()) as backend:
        assert isinstance(backend, Backend)
        assert backend.input.shape == (None, 3, 64, 64)
        assert backend.ranges == (ShapeRange((1, 3, 64, 64), (2, 3, 64, 64), (4, 3, 64, 64)),)
        assert backend.description == "tensorrt 8.6.0 on Fake H100 (cuda:0, compute capability 9.0)"
        given = blob(2)
        found = backend.run(given)
        assert [output.dtype for output in found] == [np.float32] * 9
        assert same(found, expected(given))
    assert gpu.leaks == {}


def test_outputs_are_the_callers_own_and_the_input_is_free_again(gpu, fakes, expected):
    with TensorRTBackend(fakes.plan()) as backend:
        given = blob(3)
        wanted = expected(given.copy())
        found = backend.run(given)
        given[:] = 7
        backend.run(blob(3))
        assert same(found, wanted)
        assert all(output.flags.writeable for output in found)
    assert same(found, wanted)


@pytest.mark.parametrize("images", [1, 2, 4, 5, 9, 33])
def test_every_batch(gpu, fakes, expected, images):
    with TensorRTBackend(fakes.plan(profiles=fakes.ranges((1, 2, 4), (1, 1, 1)))) as backend:
        given = blob(images)
        assert same(backend.run(given), expected(given))
    runs = [(0, (4, 3, 64, 64))] * (images // 4)
    if images % 4:
        runs.append((1 if images % 4 == 1 else 0, (images % 4, 3, 64, 64)))
    assert gpu.runs == runs
    assert gpu.leaks == {}


def test_a_static_batch_is_filled_up(gpu, fakes, expected):
    tensors = [[name, mode, [4, *shape[1:]], dtype] for name, mode, shape, dtype in fakes.SPECS]
    with TensorRTBackend(fakes.plan(tensors=tensors, profiles=fakes.ranges((4, 4, 4)))) as backend:
        assert backend.input.shape == (4, 3, 64, 64)
        backend.run(np.full((4, 3, 64, 64), 9, np.float32))
        given = blob(6)
        assert same(backend.run(given), expected(given))
    assert [shape[0] for _, shape in gpu.runs] == [4, 4, 4]


def test_half_precision(gpu, fakes, expected):
    tensors = [[name, mode, shape, "HALF"] for name, mode, shape, _ in fakes.SPECS]
    with TensorRTBackend(fakes.plan(tensors=tensors)) as backend:
        given = blob(3)
        found = backend.run(given)
        assert {output.dtype.name for output in found} == {"float16"}
        assert same(found, expected(given), atol=0.01)


def test_a_flat_network_takes_one_image(gpu, fakes, expected):
    tensors = [["x", "INPUT", [1, 3, 64, 64], "FLOAT"]]
    tensors += [[name, mode, shape[1:], dtype] for name, mode, shape, dtype in fakes.SPECS[1:]]
    with TensorRTBackend(fakes.plan(tensors=tensors, profiles=fakes.ranges((1, 1, 1)), flat=True)) as backend:
        given = blob(1)
        assert same(backend.run(given), [output[0] for output in expected(given)])
        with pytest.raises(BackendError, match="one image at a time, not 2"):
            backend.run(blob(2))
    assert len(gpu.runs) == 1


def test_memory_grows_on_demand_and_is_not_taken_again(gpu, fakes):
    with TensorRTBackend(fakes.plan(profiles=fakes.ranges((1, 2, 8)))) as backend:
        assert (len(gpu.memory), len(gpu.pinned)) == (1, 0)
        taken = []
        for images in (1, 4, 2, 4, 8, 1):
            backend.run(blob(images))
            taken.append((gpu.calls.count("cuMemAlloc"), gpu.calls.count("cuMemHostAlloc")))
            assert (len(gpu.memory), len(gpu.pinned)) == (3, 2)
        assert taken == [(3, 2), (5, 4), (5, 4), (5, 4), (7, 6), (7, 6)]
    assert gpu.leaks == {}


def test_one_context_a_profile_made_when_needed(gpu, fakes):
    with TensorRTBackend(fakes.plan(profiles=fakes.ranges((1, 2, 4), (1, 1, 1)))) as backend:
        assert gpu.contexts == 0
        for images, contexts in [(1, 1), (1, 1), (3, 2), (1, 2), (4, 2)]:
            backend.run(blob(images))
            assert gpu.contexts == contexts
    assert gpu.leaks == {}


@pytest.mark.parametrize("version", [(8, 6, 0, 12), (10, 16, 1, 11), (11, 4, 0, 106)])
def test_contexts_share_their_memory(gpu, fakes, expected, monkeypatch, version):
    fakes.use(monkeypatch, fakes.flavour(gpu, "tensorrt", ".".join(map(str, version))))
    with TensorRTBackend(fakes.plan(version=version, profiles=fakes.ranges((1, 2, 4), (1, 1, 1)))) as backend:
        assert len(gpu.memory) == 1
        for images in (1, 3, 1):
            given = blob(images)
            assert same(backend.run(given), expected(given))
        assert gpu.contexts == 2
        assert [len(block) for block in gpu.memory.values()].count(fakes.SCRATCH) == 1
    assert gpu.leaks == {}


def test_an_engine_behind_a_lean_runtime_keeps_its_own_memory(gpu, fakes, expected, monkeypatch, tmp_path):
    (tmp_path / "lean.so").touch()
    fakes.use(monkeypatch, fakes.flavour(gpu, "tensorrt_dispatch", "10.16.1.11"))
    with TensorRTBackend(fakes.plan(), lean_runtime=tmp_path / "lean.so") as backend:
        given = blob(2)
        assert same(backend.run(given), expected(given))
        assert len(gpu.memory) == 2
    assert gpu.leaks == {}


def test_two_sizes(gpu, fakes):
    tensors = [["x", "INPUT", [-1, 3, -1, -1], "FLOAT"]]
    tensors += [
        [f"{kind}_{s}", "OUTPUT", [-1, -1, width], "FLOAT"] for kind, width in fakes.WIDTHS.items() for s in (8, 16, 32)
    ]
    profiles = fakes.ranges((1, 2, 4), side=64) + fakes.ranges((1, 2, 4), side=128)
    with (
        TensorRTBackend(fakes.plan(tensors=tensors, profiles=profiles)) as backend,
        pytest.raises(BackendError, match=r"cannot take an input of 1×3×96×96; it takes: 1…4×3×64×64, 1…4×3×128×128"),
    ):
        backend.run(blob(1, side=96))
    assert gpu.leaks == {}


def test_faces_come_out_of_the_detector(gpu, fakes):
    image = np.zeros((64, 64, 3), np.uint8)
    image[16:24, 32:40] = 255
    with SCRFDDetector.from_backend(TensorRTBackend(fakes.plan()), device="cuda:0") as detector:
        assert detector.scales == ((64, 64),)
        found = detector.detect_batch([image] * 6)
        assert [len(faces) for faces in found] == [len(found[0])] * 6
        assert len(found[0]) > 0
        assert "tensorrt 8.6.0 on Fake H100" in detector.description
    assert gpu.leaks == {}


class TestStreams:
    def test_an_own_stream_is_made_and_destroyed(self, gpu, fakes):
        with TensorRTBackend(fakes.plan()) as backend:
            backend.run(blob(1))
        assert gpu.calls.count("cuStreamCreate") == gpu.calls.count("cuStreamDestroy") == 1

    def test_a_lent_stream_keeps_its_order_and_stays(self, gpu, fakes, expected):
        with Stream.create(Device(0)) as lent:
            done = []
            gpu.streams[lent.handle].append(lambda: done.append("the lender's work"))
            with TensorRTBackend(fakes.plan(), stream=lent) as backend:
                given = blob(2)
                assert same(backend.run(given), expected(given))
                assert done == ["the lender's work"]
                assert gpu.streams[lent.handle] == []
            assert gpu.calls.count("cuStreamCreate") == 1
            assert "cuStreamDestroy" not in gpu.calls
            with TensorRTBackend(fakes.plan(), stream=lent.handle) as backend:
                assert same(backend.run(given), expected(given))
        assert gpu.leaks == {}

    @pytest.mark.parametrize(("stream", "error"), [(0x77, DeviceError), ("a stream", OptionError)])
    def test_a_wrong_one(self, gpu, fakes, stream, error):
        with pytest.raises(error):
            TensorRTBackend(fakes.plan(), stream=stream)
        gc.collect()
        assert gpu.leaks == {}


def test_threads_get_what_one_thread_gets(gpu, fakes, expected):
    blobs = [blob(1 + n % 5) for n in range(8)]
    wanted = [expected(each) for each in blobs]
    wrong = []
    with TensorRTBackend(fakes.plan(profiles=fakes.ranges((1, 2, 4), (1, 1, 1)))) as backend:

        def work(start):
            wrong.extend(n for n in range(start, start + 40) if not same(backend.run(blobs[n % 8]), wanted[n % 8]))

        threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert gpu.leaks == {}


def test_each_call_makes_its_gpu_current_and_puts_it_back(gpu, fakes):
    with TensorRTBackend(fakes.plan(), device=1) as backend:
        first, second = Device(0), Device(1)
        with first.current():
            backend.run(blob(1))
            assert gpu.current == [first.context]
        assert gpu.current == []
        assert second.index == 1
        assert "cuda:1" in backend.description
