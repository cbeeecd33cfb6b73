"""One detector on two GPUs that exist in memory only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from scrfd_trt import (
    BackendError,
    ClosedError,
    DeviceError,
    ImageError,
    ImageNotFoundError,
    OptionError,
    SCRFDDetector,
    YUVImage,
    _devices,
)
from scrfd_trt._cuda import interop
from scrfd_trt._pipelines import factory
from scrfd_trt._pipelines.cuda import pool

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)


def images(count):
    return [RNG.integers(0, 256, (40 + 5 * (n % 7), 64, 3), np.uint8) for n in range(count)]


class OnGpu:
    """An array of another library on one of the GPUs."""

    def __init__(self, array, device):
        self.array, self.shape, self.dtype, self.device = array, array.shape, array.dtype, device

    def __dlpack_device__(self):
        return 2, self.device

    def __dlpack__(self, **_):
        raise AssertionError("cuda.core reads it")


@pytest.fixture
def read_on(monkeypatch):
    """The numbers of the GPUs that read arrays, in order."""
    read = []

    def view(image, stream):
        read.append(image.device)
        array = image.array
        return SimpleNamespace(
            device_id=image.device,
            dtype=array.dtype,
            ptr=array.ctypes.data,
            shape=array.shape,
            strides=None,
            readonly=False,
        )

    monkeypatch.setattr(interop, "_view", view)
    return read


@pytest.fixture
def plan(fakes, tmp_path):
    path = tmp_path / "faces.plan"
    path.write_bytes(fakes.plan())
    return path


@pytest.fixture
def opened(gpu, plan):
    with SCRFDDetector.from_engine(plan, device="cuda:all", max_batch=2) as detector:
        yield detector
    assert gpu.leaks == {}


@pytest.fixture
def wanted(gpu, plan):
    def detect(pictures):
        with SCRFDDetector.from_engine(plan, max_batch=1) as detector:
            return detector.detect_batch([getattr(picture, "array", picture) for picture in pictures])

    return detect


def test_videos_take_turns_on_the_gpus(opened):
    assert [opened._frame_device for _ in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]


def used(detector):
    return [pipeline._pool._count for pipeline in detector._pipeline._pipelines.values()]


def test_results_are_those_of_one_gpu_in_order(opened, wanted):
    pictures = images(13)
    expected = wanted(pictures)
    assert opened.device == "cuda:all"
    assert "2 × Fake H100" in opened.description
    assert [opened.detect(picture) for picture in pictures] == expected
    assert used(opened) == [1, 0]  # one after the other, one GPU does
    assert list(opened.stream(pictures)) == expected
    assert used(opened) == [3, 3]
    assert opened.detect_batch(pictures) == expected
    assert opened.submit(pictures).result() == expected
    assert [each.to_host() for each in opened.detect_on_gpu(pictures)] == expected
    assert opened.detect_batch([]) == opened.submit([]).result() == opened.detect_on_gpu([]) == []
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(opened.detect, pictures)) == expected
    pinned = opened.pinned(pictures[0].shape)
    pinned[:] = pictures[0]
    assert opened.detect(pinned) == expected[0]
    del pinned


def test_in_flight_is_that_of_each_gpu(opened):
    read = []
    results = opened.stream((read.append(1) or picture for picture in images(30)), in_flight=2, batch=1)
    next(results)
    assert len(read) == 4
    assert used(opened) == [2, 2]
    results.close()


def test_a_gpu_that_is_ahead_gets_no_more_than_its_share(opened, wanted, monkeypatch):
    pictures = images(30)
    # The first GPU is so slow that all runs of the second one end before.
    monkeypatch.setattr(pool.Run, "done", lambda run: run._device.index == 1)
    assert list(opened.stream(pictures, in_flight=3, batch=1)) == wanted(pictures)
    assert used(opened) == [3, 3]


def test_arrays_go_to_their_own_gpu(opened, wanted, read_on):
    pictures = images(8)
    expected = wanted(pictures)
    for devices in ([1] * 8, [0, 1] * 4, [1, None] * 4, [0] * 4 + [1] * 4):
        mixed = [p if n is None else OnGpu(p, n) for p, n in zip(pictures, devices, strict=True)]
        read_on.clear()
        assert opened.detect_batch(mixed) == expected
        assert list(opened.stream(mixed)) == expected
        assert opened.submit(mixed).result() == expected
        assert [each.to_host() for each in opened.detect_on_gpu(mixed)] == expected
        assert opened.detect_batch(mixed[:2]) == expected[:2]
        assert len(read_on) == 4 * sum(n is not None for n in devices) + sum(n is not None for n in devices[:2])
    planes = [RNG.integers(0, 256, (40, 64), np.uint8), np.zeros((20, 32, 2), np.uint8)]
    assert opened.detect(YUVImage(*(OnGpu(each, 1) for each in planes))) == opened.detect(YUVImage(*planes))


def test_errors_of_images_keep_their_places(opened, wanted, read_on):
    pictures = images(5)
    elsewhere, wrong = OnGpu(pictures[0], 7), OnGpu(pictures[0].astype(np.float32), 1)
    wrong.dtype = None
    mixed = [elsewhere, pictures[1], OnGpu(pictures[2], 1), wrong, "text"]
    found = opened.detect_batch(mixed, on_error="return")
    errors = [type(each) for each in found if isinstance(each, Exception)]
    assert errors == [DeviceError, ImageError, ImageNotFoundError]
    assert found[1:3] == wanted(pictures[1:3])
    with pytest.raises(DeviceError, match="on cuda:7"):
        opened.detect_batch(mixed[:2])


def test_a_gpu_that_fails_raises_and_ends_the_other_s_runs(gpu, opened, read_on):
    pictures = images(4)
    opened.detect_batch([OnGpu(picture, n % 2) for n, picture in enumerate(pictures)])
    gpu.fail("cuGraphLaunch", after=1, times=1)
    with pytest.raises(BackendError):
        list(opened.stream([OnGpu(picture, n % 2) for n, picture in enumerate(pictures)], on_error="return"))
    with pytest.raises(BackendError, match="an earlier run failed"):
        opened.detect_batch(pictures * 2)
    assert all(pipeline._pool.in_flight == 0 for pipeline in opened._pipeline._pipelines.values())


def test_close(gpu, plan):
    detector = SCRFDDetector.from_engine(plan, device="cuda:all", max_batch=1)
    results = detector.stream(images(8))
    next(results)
    future = detector.submit(images(4))
    detector.close()
    detector.close()
    for call in (lambda: next(results), lambda: detector.detect(images(1)[0]), lambda: detector.submit(images(1))):
        with pytest.raises(ClosedError):
            call()
    assert future.exception() is None or isinstance(future.exception(), ClosedError)
    assert gpu.leaks == {}


def test_failed_opening_closes_the_first(gpu, plan):
    SCRFDDetector.from_engine(plan).close()
    gpu.fail("cuStreamCreate", after=gpu.calls.count("cuStreamCreate"))
    with pytest.raises(BackendError, match="making a CUDA stream"):
        SCRFDDetector.from_engine(plan, device="cuda:all")
    gpu.failing.clear()
    with pytest.raises(OptionError, match="a CUDA stream belongs to one GPU"):
        SCRFDDetector.from_engine(plan, device="cuda:all", stream=0x77)
    assert gpu.leaks == {}


def test_equal_gpus_share_one_build(gpu, plan, network_500m, monkeypatch, tmp_path):
    monkeypatch.setenv("SCRFD_TRT_HOME", str(tmp_path))
    built = []

    def open_or_build(key, build, open_engine):
        if key.path not in built:
            built.append(key.path)
        return open_engine(plan)

    monkeypatch.setattr(factory, "open_or_build", open_or_build)
    monkeypatch.setattr(factory, "cuda_problem", lambda gpu: "")
    with SCRFDDetector.from_onnx(network_500m, device="cuda:all", scales=64) as detector:
        assert detector._pipeline.parallel == 2
    assert len(built) == 1


@pytest.mark.parametrize("count", [0, 1])
def test_machines_with_one_gpu_and_with_none(gpu, plan, monkeypatch, count):
    gpus = _devices.driver().gpus[:count]
    monkeypatch.setattr(_devices, "driver", lambda: _devices.Driver(None, gpus, "" if gpus else "no NVIDIA driver"))
    if not count:
        problem = r"'cuda:all' cannot be used: no NVIDIA driver; the choices here are: auto, cpu"
        with pytest.raises(DeviceError, match=problem):
            SCRFDDetector.from_engine(plan, device="cuda:all")
        with pytest.raises(DeviceError, match=problem):
            _devices.choose("cuda:all", str)
        return
    assert _devices.choose("cuda:all", lambda gpu: "") == "cuda:all"
    with pytest.raises(DeviceError, match="cannot be used: too old"):
        _devices.choose("cuda:all", lambda gpu: "too old")
    with SCRFDDetector.from_engine(plan, device="cuda:all") as detector:
        assert len(detector.detect_batch(images(9))) == 9
        assert "1 × Fake H100" in detector.description
