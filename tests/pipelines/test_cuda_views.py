"""Views of images on a GPU, against the host pipeline: windows, rotations, and how they share batches."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from engine_backend import EngineBackend

from scrfd_trt import BackendError, ImageError, SCRFDDetector, YUVImage
from scrfd_trt._engine.plan import read_plan
from scrfd_trt._engine.runtime import opener
from scrfd_trt._options import DetectorOptions
from scrfd_trt._passes import Look, plan_views
from scrfd_trt._pipelines import HostPipeline, base
from scrfd_trt._pipelines.cuda import CudaPipeline, views

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(3)
TURNS = (90, 180, 270)
SIZES = [(170, 110), (64, 64), (63, 221), (150, 97)]


def image(width, height):
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


class OnGpu:
    """An array of another library on the GPU, with ``__cuda_array_interface__``."""

    def __init__(self, array, gpu=None):
        if gpu:
            gpu.foreign.append((ctypes.c_ubyte * array.nbytes).from_buffer(array))
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, False),
            "strides": array.strides,
            "version": 3,
        }


@pytest.fixture(autouse=True)
def few_weak(monkeypatch):
    """In noise, the fake model finds weak faces everywhere."""
    monkeypatch.setattr(base, "WEAK", 0.87)


@pytest.fixture
def pair(gpu, fakes):
    """Open a detector on the GPU and one on the CPU for one engine."""
    opened = []

    def both(plan=None, **options):
        plan, options = plan or fakes.plan(), DetectorOptions(**options)
        pipelines = CudaPipeline(opener(read_plan(plan), 0), options), HostPipeline(EngineBackend(plan), options)
        opened.extend(SCRFDDetector._of(pipeline, options, device="cuda") for pipeline in pipelines)
        return opened

    yield both
    for detector in opened:
        detector.close()
    assert gpu.leaks == {}


def test_faces_equal_those_of_the_host_pipeline(fakes, pair):
    one, other = pair(fakes.two_sizes(), scales=(32, 64), min_face=14, rotations=(90, 180), max_batch=3)
    pictures = [image(*size) for size in ((80, 60), (15, 40), (64, 64), (9, 9))]
    expected = other.detect_batch(pictures, threshold=0.9)
    assert one.detect_batch(pictures, threshold=0.9) == expected
    assert list(one.stream(pictures, threshold=0.9)) == expected  # captured
    assert [one.detect(picture, threshold=0.9) for picture in pictures] == expected
    assert one.submit(pictures, threshold=0.9, max_faces=5).result() == [faces[:5] for faces in expected]
    assert sum(map(len, expected)) > 20


@pytest.mark.parametrize("rotations", [(), (270,)])
def test_images_in_gpu_memory_and_frames_of_two_planes(gpu, pair, rotations):
    one, other = pair(max_batch=4, min_face=10, rotations=rotations)
    planes = [RNG.integers(0, 256, sides, np.uint8) for sides in ((71, 103), (36, 52, 2))]
    deep = [RNG.integers(0, 2**16, sides, np.uint16) for sides in ((40, 120), (20, 60, 2))]
    frames = [image(103, 71), YUVImage(*planes), YUVImage(*deep, "bt2020", full_range=True)]
    on_gpu = [OnGpu(frames[0], gpu)]
    on_gpu += [replace(frame, y=OnGpu(frame.y, gpu), uv=OnGpu(frame.uv, gpu)) for frame in frames[1:]]
    expected = other.detect_batch(frames, threshold=0.9)
    assert one.detect_batch(frames, threshold=0.9) == expected
    assert one.detect_batch(on_gpu, threshold=0.9) == expected
    assert one.submit(on_gpu[1:] + on_gpu[:1], threshold=0.9).result() == expected[1:] + expected[:1]
    assert [faces.to_host() for faces in one.detect_on_gpu(on_gpu, threshold=0.9)] == expected


def test_images_share_batches_and_are_copied_once(gpu, fakes, pair):
    one, _ = pair(fakes.plan(profiles=fakes.ranges((1, 16, 32))), max_batch=4, min_face=10)
    pictures = [image(*size) for size in SIZES]
    number = sum(len(plan_views(size, one.scales, min_face=10)) for size in SIZES)
    assert number > 40
    for _ in range(2):  # each lane sees each batch
        one.detect_batch(pictures)
    gpu.runs.clear()
    gpu.calls.clear()
    one.detect_batch(pictures)
    sizes = [views.ROWS] * (number // views.ROWS) + [-(-(number % views.ROWS) // views.STEP) * views.STEP]
    assert gpu.calls.count("cuGraphLaunch") == len(sizes)
    assert gpu.calls.count("cuMemcpyAsync") == 1 + len(sizes)  # the images, and the parameters of each batch
    assert gpu.runs == []  # nothing runs step by step


def test_looks_beside_ordinary_images(pair):
    one, other = pair(max_batch=3)
    pictures = [image(*SIZES[number % 4]) for number in range(5)]
    looks = [Look(picture, None if number % 3 else 9, TURNS[: number % 4]) for number, picture in enumerate(pictures)]
    mixed = [
        look if number % 2 else picture for number, (look, picture) in enumerate(zip(looks, pictures, strict=True))
    ]
    for given in (mixed, looks[:2]):
        expected = other.detect_batch(given, threshold=0.9)
        assert one.detect_batch(given, threshold=0.9) == expected
        assert list(one.stream(given, threshold=0.9, batch=2)) == expected
        assert one.submit(given, threshold=0.9).result() == expected
        assert [faces.to_host() for faces in one.detect_on_gpu(given, threshold=0.9)] == expected
    assert one.detect_batch(pictures, threshold=0.9) == other.detect_batch(pictures, threshold=0.9)
    assert one._takes_looks


def test_image_that_cannot_be_read_is_left_out(pair):
    one, other = pair(max_batch=4, rotations=(180,))
    pictures = [image(64, 64), OnGpu(np.zeros((5, 4, 2), np.uint8)), image(70, 30)]
    del pictures[1].shape
    found = one.detect_batch(pictures, on_error="return")
    assert isinstance(found[1], ImageError)
    assert found[::2] == other.detect_batch(pictures[::2])
    with pytest.raises(ImageError):
        one.detect_on_gpu(pictures)


def test_more_faces_than_there_is_room_for_are_decoded_on_the_host(pair, monkeypatch, caplog):
    caplog.set_level("INFO", "scrfd_trt")
    monkeypatch.setattr(views, "ROOM", 8)
    one, other = pair(max_batch=2, min_face=10)
    pictures = [np.full((100, 150, 3), 255, np.uint8), image(90, 90)]
    pictures[0][:, 64:] = 0
    for threshold in (0.3, 0.95):
        assert one.detect_batch(pictures, threshold=threshold) == other.detect_batch(pictures, threshold=threshold)
    assert "the CPU decodes them" in caplog.text


def test_invalid_values_are_an_error_of_their_image(fakes, pair):
    one, _ = pair(fakes.plan(tensors=fakes.specs(invalid="white")), max_batch=2, rotations=(90,))
    found = one.detect_batch([np.full((64, 64, 3), 255, np.uint8), image(64, 64)], on_error="return")
    assert isinstance(found[0], BackendError)
    assert "invalid values" in str(found[0])
    assert len(found[1]) > 0


def test_failure_of_the_gpu_closes_it(gpu, fakes):
    options = DetectorOptions(min_face=10)
    pipeline = CudaPipeline(opener(read_plan(fakes.plan()), 0), options)
    pipeline.detect([image(100, 100)], 0.9, None)
    gpu.fail("cuGraphLaunch", after=1)
    with pytest.raises(BackendError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        pipeline.detect([image(100, 100)], 0.9, None)
    del gpu.failing["cuGraphLaunch"]
    with pytest.raises(BackendError, match="an earlier run failed"):
        pipeline.detect([image(100, 100)], 0.9, None)
    pipeline.close()
    assert gpu.leaks == {}


@pytest.mark.parametrize(("call", "after"), [("cuMemAlloc", 1), ("cuMemHostAlloc", 3), ("create_execution_context", 1)])
def test_detector_survives_too_little_memory_for_views(gpu, fakes, call, after):
    pipeline = CudaPipeline(opener(read_plan(fakes.plan()), 0), DetectorOptions())
    picture = image(100, 70)
    pipeline.detect([picture], 0.9, None)
    gpu.fail(call, "CUDA_ERROR_OUT_OF_MEMORY", after=after)
    with pytest.raises(BackendError, match=r"OUT_OF_MEMORY|out of memory"):
        pipeline.detect([Look(picture, 10)], 0.9, None)
    del gpu.failing[call]
    assert len(pipeline.detect([Look(picture, 10)], 0.9, None)) == 1
    pipeline.close()
    assert gpu.leaks == {}


def test_all_gpus(gpu, fakes, tmp_path, pair):
    path = tmp_path / "faces.plan"
    path.write_bytes(fakes.plan())
    pictures = [image(*SIZES[number % 4]) for number in range(6)]
    pictures[2] = Look(pictures[2])
    with SCRFDDetector.from_engine(path, device="cuda:all", max_batch=2, min_face=10) as spread:
        _, other = pair(max_batch=2, min_face=10)
        expected = other.detect_batch(pictures, threshold=0.9)
        assert spread.detect_batch(pictures, threshold=0.9) == expected
        assert list(spread.stream(pictures, threshold=0.9)) == expected


@pytest.mark.parametrize("color", ["nv12", "rgb"])
def test_second_look_at_weak_faces(gpu, monkeypatch, pair, color):
    def corner(image, _):  # an enlarged part of noise shows the fake model no face
        sheet = SimpleNamespace(image=image[:64, :64].copy())
        sheet.to_source = lambda found: replace(found, boxes=found.boxes + 1000)
        yield sheet

    monkeypatch.setattr(base, "find_weak", lambda _, every: every)
    monkeypatch.setattr(base, "sheets", corner)
    one, other = pair(max_batch=4, min_face=10, rotations=(270,), color=color)
    frame = image(104, 90)[:, :, 0].copy() if color == "nv12" else image(103, 71)
    expected = other.detect(frame, threshold=0.88)
    assert [one.detect(given, threshold=0.88) for given in (frame, OnGpu(frame, gpu))] == [expected] * 2
    assert one.detect_on_gpu([frame], threshold=0.88)[0].to_host() == expected
    assert expected.boxes.max() > 1000
