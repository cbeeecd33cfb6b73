from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from engine_backend import EngineBackend

from scrfd_trt import BackendError, ClosedError, DeviceError, ImageError, OptionError, SCRFDDetector, YUVImage, _devices
from scrfd_trt._cuda import driver, interop
from scrfd_trt._engine.plan import read_plan
from scrfd_trt._engine.runtime import opener
from scrfd_trt._options import DetectorOptions
from scrfd_trt._pipelines import HostPipeline
from scrfd_trt._pipelines.cuda import CudaPipeline, program, slot_memory

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
SIZES = [(64, 64), (30, 90), (200, 64), (64, 200), (1, 1), (33, 65), (128, 96)]


def image(width, height):
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


def cuda(plan, *, stream=None, **options):
    return CudaPipeline(opener(read_plan(plan), 0), DetectorOptions(**options), stream=stream)


def host(plan, **options):
    return HostPipeline(EngineBackend(plan), DetectorOptions(**options))


@pytest.fixture
def pair(gpu, fakes):
    """Open both pipelines for one engine, with a plan and options."""
    opened = []

    def both(plan=None, **options):
        pipelines = [make(plan or fakes.plan(), **options) for make in (cuda, host)]
        opened.extend(pipelines)
        return pipelines

    yield both
    for pipeline in opened:
        pipeline.close()
    assert gpu.leaks == {}


def test_faces_equal_those_of_the_host_pipeline_to_the_bit(pair):
    one, other = pair(max_batch=4)
    total = 0
    for size in SIZES:
        picture = image(*size)
        for threshold in (0.2, 0.6, 0.9):
            found, expected = (each.detect([picture], threshold, None) for each in (one, other))
            assert found == expected
            total += len(expected[0])
    assert total > 100


def test_captured_and_uncaptured_runs_agree_to_the_bit(gpu, pair):
    one, other = pair()
    pictures = [image(60, 50) for _ in range(3)]
    before = [one.detect([picture], 0.5, None)[0] for picture in pictures[:1]]
    assert gpu.calls.count("cuGraphLaunch") == 0
    after = [one.detect([picture], 0.5, None)[0] for picture in pictures]
    assert gpu.calls.count("cuGraphLaunch") == 3
    assert before == after[:1]
    assert after == other.detect(pictures, 0.5, None)


def test_all_kinds_of_host_images(pair):
    one, other = pair()
    picture = image(70, 50)
    padded = np.zeros((50, 90, 3), np.uint8)
    padded[:, :70] = picture
    pinned = one.pinned((50, 70, 3))
    pinned[:] = picture
    (expected,) = other.detect([picture], 0.5, None)
    for form in (picture, padded[:, :70], pinned, np.ascontiguousarray(picture[:, ::-1])[:, ::-1]):
        assert one.detect([one.prepare_image(form)], 0.5, None) == [expected]
    gray = picture[..., 0]
    assert one.detect([one.prepare_image(gray)], 0.5, None) == other.detect([other.prepare_image(gray)], 0.5, None)


@pytest.mark.parametrize("color", ["rgb", "nv12"])
def test_other_color_orders(pair, color):
    one, other = pair(color=color, max_batch=2)
    pictures = [image(64, 48), image(30, 90), image(200, 22)]
    if color == "nv12":
        pictures = [RNG.integers(0, 256, (each.shape[0] * 3 // 2, each.shape[1]), np.uint8) for each in pictures]
    found, expected = (
        each.detect([each.prepare_image(picture) for picture in pictures], 0.5, None) for each in (one, other)
    )
    assert found == expected
    assert [faces.image_size for faces in found] == [(64, 48), (30, 90), (200, 22)]


def test_batches_are_split_and_each_size_has_a_program(gpu, fakes, pair):
    plan = fakes.plan(profiles=fakes.ranges((1, 1, 1), (2, 4, 4)))
    one, other = pair(plan, max_batch=4)
    pictures = [image(*SIZES[number % len(SIZES)]) for number in range(11)]
    assert one.detect(pictures, 0.5, None) == other.detect(pictures, 0.5, None)
    gpu.runs.clear()
    one.detect(pictures[:9], 0.5, None)
    assert one.detect([], 0.5, None) == []
    assert {shape[0] for _, shape in gpu.runs} <= {1, 4}


def test_fixed_batch_is_padded(fakes, pair):
    tensors = [["x", "INPUT", [4, 3, 64, 64], "FLOAT"]]
    tensors += [[name, mode, [4, *shape[1:]], dtype] for name, mode, shape, dtype in fakes.SPECS[1:]]
    one, other = pair(fakes.plan(tensors=tensors, profiles=fakes.ranges((4, 4, 4))), max_batch=8)
    pictures = [image(64, 64) for _ in range(6)]
    assert one.detect(pictures, 0.5, None) == other.detect(pictures, 0.5, None)


def test_float16_inputs_and_outputs(fakes, pair):
    tensors = [[name, mode, shape, "HALF"] for name, mode, shape, _ in fakes.SPECS]
    one, other = pair(fakes.plan(tensors=tensors))
    for size in SIZES:
        picture = image(*size)
        assert one.detect([picture], 0.3, None) == other.detect([picture], 0.3, None)


def test_flat_model_runs_one_image_at_a_time(fakes, pair):
    tensors = [["x", "INPUT", [1, 3, 64, 64], "FLOAT"]]
    tensors += [[name, mode, shape[1:], dtype] for name, mode, shape, dtype in fakes.SPECS[1:]]
    one, other = pair(fakes.plan(tensors=tensors, profiles=fakes.ranges((1, 1, 1)), flat=True))
    pictures = [image(64, 64) for _ in range(3)]
    assert one.detect(pictures, 0.5, None) == other.detect(pictures, 0.5, None)


def test_two_passes_share_one_graph(gpu, fakes, pair):
    one, other = pair(fakes.two_sizes(), scales=(32, 64))
    pictures = [image(*size) for size in SIZES]
    expected = other.detect(pictures[:4], 0.5, None)
    for _ in range(2):
        assert one.detect(pictures[:4], 0.5, None) == expected
    gpu.calls.clear()
    one.detect(pictures[4:5], 0.5, None)
    one.detect(pictures[4:5], 0.5, None)
    assert gpu.calls.count("cuGraphLaunch") == 1


def test_max_faces_keeps_the_best(pair):
    one, _ = pair()
    picture = image(64, 64)
    every = one.detect([picture], 0.1, None)[0]
    assert len(every) > 5
    assert one.detect([picture], 0.1, 5) == [every[:5]]


def test_too_many_candidates_are_decoded_on_the_host(pair, fakes, caplog):
    caplog.set_level("INFO", "scrfd_trt")
    plan = fakes.plan(profiles=fakes.ranges((1, 2, 4), side=512), tensors=fakes.specs(512))
    one, other = pair(plan)
    bright = np.full((512, 512, 3), 255, np.uint8)
    pictures = [image(64, 64), bright]
    found, expected = (each.detect(pictures, 0.9, None) for each in (one, other))
    assert found == expected
    assert "the CPU decodes them" in caplog.text
    with pytest.raises(BackendError, match=r"10752 rows are above the threshold 0\.9"):
        one.detect_on_gpu([bright], 0.9, None)


def test_memory_of_results_outlives_copies_into_it(gpu, pair, fakes, monkeypatch):
    one, _ = pair(fakes.plan(profiles=fakes.ranges((1, 2, 4), side=512), tensors=fakes.specs(512)))
    pending, bindings = [], driver.bindings()
    free = bindings.cuMemFree

    def freed(address):
        pending.append(any(gpu.streams.values()))
        for stream in gpu.streams:  # as CUDA does
            bindings.cuStreamSynchronize(stream)
        return free(address)

    monkeypatch.setattr(bindings, "cuMemFree", freed)
    with pytest.raises(BackendError, match="above the threshold"):
        one.detect_on_gpu([image(64, 64), np.full((512, 512, 3), 255, np.uint8)], 0.9, None)
    assert pending == [False]


def test_later_calls_do_not_change_results(pair):
    one, _ = pair()
    first = one.detect([image(64, 64)], 0.3, None)[0]
    kept = first.boxes.copy(), first.scores.copy(), first.landmarks.copy()
    one.detect([image(64, 64)], 0.3, None)
    assert all(np.array_equal(a, b) for a, b in zip(kept, (first.boxes, first.scores, first.landmarks), strict=True))
    assert first.boxes.flags.owndata
    assert first.boxes.flags.c_contiguous


@pytest.mark.parametrize("lend", [0, 0x44])
def test_stream_of_the_caller(gpu, fakes, lend):
    gpu.streams.setdefault(lend, [])
    pipeline = cuda(fakes.plan(), stream=lend)
    expected = SCRFDDetector.from_backend(EngineBackend(fakes.plan()))
    picture = image(64, 64)
    for _ in range(2):
        assert pipeline.detect([picture], 0.5, None) == [expected.detect(picture)]
    pipeline.close()
    expected.close()
    assert lend in gpu.streams
    gpu.streams.pop(lend)
    assert gpu.leaks == {}


def test_threads_get_the_same_faces_as_one_thread(gpu, pair):
    one, other = pair(max_batch=2)
    pictures = [image(40 + 7 * n, 90 - 5 * n) for n in range(8)]
    expected = [other.detect([picture], 0.5, None)[0] for picture in pictures]
    wrong: list[int] = []

    def work(start):
        numbers = range(start, start + 12)
        wrong.extend(n for n in numbers if one.detect([pictures[n % 8]], 0.5, None)[0] != expected[n % 8])

    threads = [threading.Thread(target=work, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_older_engine_is_opened_again_for_each_context(gpu, fakes, pair):
    one, _ = pair(max_batch=4)
    one.detect([image(64, 64)], 0.5, None)
    assert gpu.engines == 2  # of the host pipeline and of this one
    one.detect([image(64, 64)] * 3, 0.5, None)
    assert gpu.engines == 3


def test_newer_engine_shares_its_profiles(gpu, fakes, monkeypatch):
    fakes.use(monkeypatch, fakes.flavour(gpu, "tensorrt", "10.16.1.11"))
    pipeline = cuda(fakes.plan(version=(10, 16, 1, 11)), max_batch=4)
    for images in (1, 2, 3, 4):
        pipeline.detect([image(64, 64)] * images, 0.5, None)
    assert (gpu.engines, gpu.contexts) == (1, 4)
    pipeline.close()
    assert gpu.leaks == {}


def test_number_of_programs_is_limited(gpu, fakes):
    pipeline = cuda(fakes.plan(profiles=fakes.ranges((1, 8, 16))), max_batch=16)
    for images in (*range(1, 13), *range(1, 13)):
        assert len(pipeline.detect([image(8, 8)] * images, 0.99, None)) == images
    assert gpu.contexts == len(gpu.graphs) == program.PROGRAMS
    pipeline.close()
    assert gpu.leaks == {}


@pytest.mark.parametrize("call", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate"])
def test_failed_capture_runs_step_by_step_and_is_logged_once(gpu, pair, caplog, call):
    one, other = pair()
    gpu.fail(call)
    pictures = [image(60, 50) for _ in range(4)]
    assert [one.detect([picture], 0.5, None)[0] for picture in pictures] == other.detect(pictures, 0.5, None)
    assert caplog.text.count("cannot be captured as a CUDA graph") == 1
    assert gpu.calls.count("cuGraphLaunch") == 0


def test_model_that_rejects_capture(gpu, pair, caplog):
    one, other = pair()
    gpu.fail("execute_async_v3", after=1)
    picture = image(60, 50)
    expected = None
    with FineAgain(gpu, "execute_async_v3"):
        found = one.detect([picture], 0.5, None)
    expected = other.detect([picture], 0.5, None)
    assert found == expected
    assert one.detect([picture], 0.5, None) == expected
    assert "cannot be captured" in caplog.text


class FineAgain:
    """Reset a call that is made to fail."""

    def __init__(self, gpu, name):
        self.gpu, self.name = gpu, name

    def __enter__(self):
        return self

    def __exit__(self, *error):
        del self.gpu.failing[self.name]


def test_no_run_is_possible_after_a_gpu_failure(gpu, fakes):
    pipeline = cuda(fakes.plan())
    pipeline.detect([image(64, 64)], 0.5, None)
    gpu.fail("cuGraphLaunch")
    with pytest.raises(BackendError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        pipeline.detect([image(64, 64)], 0.5, None)
    del gpu.failing["cuGraphLaunch"]
    with pytest.raises(BackendError, match="an earlier run failed"):
        pipeline.detect([image(64, 64)], 0.5, None)
    pipeline.close()
    assert gpu.leaks == {}


def test_detector_survives_too_little_memory_for_an_image(gpu, fakes):
    pipeline = cuda(fakes.plan())
    pipeline.detect([image(64, 64)], 0.5, None)
    gpu.fail("cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY")
    with pytest.raises(BackendError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        pipeline.detect([image(640, 640)], 0.5, None)
    del gpu.failing["cuMemAlloc"]
    assert len(pipeline.detect([image(640, 640)], 0.5, None)) == 1
    pipeline.close()
    assert gpu.leaks == {}


@pytest.mark.parametrize(
    "call", ["cuMemAlloc", "cuMemHostAlloc", "cuStreamCreate", "create_execution_context", "cuLibraryLoadData"]
)
@pytest.mark.parametrize("after", [0, 1, 2])
def test_failed_opening_frees_everything(gpu, fakes, call, after):
    gpu.fail(call, after=after)
    try:
        pipeline = cuda(fakes.plan())
        try:
            pipeline.detect([image(64, 64)], 0.5, None)
        finally:
            gpu.failing.clear()
            pipeline.close()
    except BackendError:
        gpu.failing.clear()
    assert gpu.leaks == {}


def test_submit_and_close(gpu, fakes):
    pipeline = cuda(fakes.plan())
    pictures = [image(64, 64) for _ in range(6)]
    futures = [pipeline.submit([picture], 0.5, None) for picture in pictures]
    assert [future.result()[0] for future in futures] == pipeline.detect(pictures, 0.5, None)
    pipeline.close()
    pipeline.close()
    for call in (pipeline.submit, pipeline.detect):
        with pytest.raises(ClosedError):
            call(pictures, 0.5, None)
    assert gpu.leaks == {}


def test_invalid_values_of_the_model_raise(fakes, pair):
    one, other = pair(fakes.plan(tensors=fakes.specs(64, invalid=True)))
    for pipeline in (one, other):
        with pytest.raises(BackendError, match="the model returned invalid values"):
            pipeline.detect([image(64, 64)], 0.5, None)


@pytest.mark.usefixtures("seen")
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_errors_of_images_are_returned_in_their_places(gpu, fakes, batch):
    white, good = np.full((64, 64, 3), 255, np.uint8), image(64, 64)
    wrong = OnGpu(good.astype(np.float32), dtype="<f4")
    wrong.dtype = None  # so that only the run sees that it cannot be read
    grid = OnGpu(np.zeros((2, 2, 2, 2), np.uint8))
    grid.shape = None
    images = [wrong, good, white, OnGpu(good), wrong, wrong, wrong, "text", good]
    with detector(fakes.plan(tensors=fakes.specs(invalid="white")), max_batch=batch) as opened:
        expected = opened.detect(good)
        for found in (opened.detect_batch(images, on_error="return"), list(opened.stream(images, on_error="return"))):
            assert "".join(type(each).__name__[0] for each in found) == "IDBDIIIID"  # ImageError, Detections, …
            assert all(each == expected for each in found if not isinstance(each, Exception))
        stream = opened.stream([good, white, good])
        assert next(stream) == expected
        with pytest.raises(BackendError, match="invalid values"):
            next(stream)
        for call in (opened.detect_batch, opened.detect_on_gpu, lambda images: opened.submit(images).result()):
            with pytest.raises((ImageError, BackendError)):
                call([good, white, wrong])
            with pytest.raises(ImageError, match="element type float32"):
                call([wrong, grid, good])
        gpu.fail("cuStreamSynchronize")
        with pytest.raises(BackendError, match="waiting for the GPU"):
            opened.detect_batch([wrong, good], on_error="return")
        with pytest.raises(BackendError, match="an earlier run failed"):
            opened.detect_batch([good], on_error="return")
        gpu.failing.clear()
    assert gpu.leaks == {}


def test_wrong_options(gpu, fakes):
    with pytest.raises(OptionError, match="this engine cannot run at 128×128"):
        cuda(fakes.plan(), scales=128)
    assert gpu.leaks == {}


class OnGpu:
    """An array of another library with ``__cuda_array_interface__``."""

    def __init__(self, array, stream=None, dtype="|u1"):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": dtype,
            "data": (array.ctypes.data, False),
            "strides": array.strides,
            "version": 3,
            "stream": stream,
        }


@pytest.fixture
def seen(monkeypatch):
    """Views that cuda.core would return for arrays on the GPU, which are in host memory here."""

    def view(image, stream):
        array = image.array
        elements = tuple(step // array.itemsize for step in array.strides)
        strides = None if array.flags.c_contiguous else elements
        return SimpleNamespace(
            device_id=image.device,
            dtype=array.dtype,
            ptr=array.ctypes.data,
            shape=array.shape,
            strides=strides,
            readonly=False,
        )

    monkeypatch.setattr(interop, "_view", view)
    monkeypatch.setattr(OnGpu, "device", 0, raising=False)


@pytest.mark.usefixtures("seen")
def test_images_on_the_gpu_are_read_in_place(pair):
    one, other = pair(max_batch=4)
    picture = image(70, 50)
    expected = other.detect([picture], 0.5, None)
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1)).transpose(1, 2, 0)
    alpha = np.concatenate([picture, picture[..., :1]], axis=2)
    # If there is a stream to wait for, cuda.core reads the array.
    layouts = (picture, planes, planes.transpose(2, 0, 1), alpha, alpha[..., :3])
    for array, stream in itertools.product(layouts, (None, 1)):
        form = one.prepare_image(OnGpu(array, stream))
        assert one.detect([form], 0.5, None) == expected
        assert one.submit([form], 0.5, None).result() == expected
        mixed = [form, picture, one.prepare_image(OnGpu(picture[:30]))]
        assert one.detect(mixed, 0.5, None) == [*expected * 2, *other.detect([picture[:30]], 0.5, None)]
        assert one.start(mixed[:2], 0.5, None).result() == expected * 2
    gray = np.ascontiguousarray(picture[..., 0])
    assert one.detect([OnGpu(gray)], 0.5, None) == other.detect([other.prepare_image(gray)], 0.5, None)


@pytest.mark.usefixtures("seen")
@pytest.mark.parametrize("color", ["bgr", "rgb", "nv12"])
def test_detectors_take_files_and_tensors(pair, color):
    picture = image(70, 50)
    file = cv2.imencode(".png", picture)[1].tobytes()
    options = DetectorOptions(color=color, max_batch=2)
    one, other = (SCRFDDetector._of(each, options, device="cuda") for each in pair(color=color, max_batch=2))
    plain = SCRFDDetector._of(pair(max_batch=2)[1], DetectorOptions(max_batch=2), device="cpu")
    expected = plain.detect(picture)
    assert one.detect_batch([file] * 3) == other.detect_batch([file] * 3) == [expected] * 3
    turned = [each._looking(None, (90,)).detect(file, threshold=0.9) for each in (one, other)]
    assert len(turned[0]) == len(turned[1])  # weak faces are looked at again in the pixels of the file
    if color != "nv12":
        tensor = OnGpu(np.ascontiguousarray(picture[..., :: -1 if color == "rgb" else 1].transpose(2, 0, 1)))
        assert list(one.stream([tensor, file, tensor])) == [expected] * 3
        with pytest.raises(ImageError, match="OnGpu is on a GPU, but this detector runs on the CPU"):
            other(tensor)


@pytest.mark.parametrize("color", ["bgr", "rgb", "nv12"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.usefixtures("seen")
def test_two_planes_are_read_where_they_are(pair, color, dtype):
    one, other = pair(max_batch=4, color=color)
    y = RNG.integers(0, np.iinfo(dtype).max, (50, 90), dtype)[:, 3:73]
    uv = RNG.integers(0, np.iinfo(dtype).max, (25, 40, 2), dtype)[:, :35]
    name = {np.uint8: "|u1", np.uint16: "<u2"}[dtype]
    frame = YUVImage(y, uv, "bt709", full_range=dtype is np.uint16)
    expected = other.detect([other.prepare_image(frame)], 0.3, None)
    assert expected[0]
    plain = RNG.integers(0, 256, (48, 64) if color == "nv12" else (50, 64, 3), np.uint8)
    for stream in (None, 1, 7):  # cuda.core waits for other streams than the default one
        on_gpu = replace(frame, y=OnGpu(y, stream, name), uv=OnGpu(uv[..., :], stream, name))
        images = [one.prepare_image(each) for each in (frame, plain, on_gpu)]
        found = one.detect(images, 0.3, None)
        assert [found[0], found[2]] == expected * 2
        assert found[1:2] == other.detect([other.prepare_image(plain)], 0.3, None)
        assert one.submit(images, 0.3, None).result() == found
        assert one.start(images, 0.3, None).result() == found


def test_planes_that_do_not_fit(pair):
    one, other = pair()
    y, uv = np.zeros((4, 4), np.uint8), np.zeros((2, 2, 2), np.uint8)
    with pytest.raises(ImageError, match="on a GPU, but this detector runs on the CPU"):
        other.prepare_image(YUVImage(OnGpu(y), OnGpu(uv)))
    with pytest.raises(ImageError, match="one plane of the YUVImage is on the GPU"):
        one.prepare_image(YUVImage(OnGpu(y), uv))
    with pytest.raises(ImageError, match=r"not \(4, 4\) and \(4, 4\)"):
        one.prepare_image(YUVImage(OnGpu(y), OnGpu(y)))
    with pytest.raises(ImageError, match="types uint8 and uint16"):
        one.prepare_image(YUVImage(OnGpu(y), OnGpu(uv.astype(np.uint16))))
    bare = SimpleNamespace(__cuda_array_interface__=OnGpu(y).__cuda_array_interface__)
    with pytest.raises(ImageError, match=r"not \(4, 4\) and \(4, 4\)"):
        one.detect([one.prepare_image(YUVImage(bare, bare))], 0.5, None)


def test_lists_and_stream_zero_are_accepted(pair):
    one, other = pair()
    picture = image(70, 50)
    array = OnGpu(picture)
    about = array.__cuda_array_interface__
    about |= {"shape": [50, 70, 3], "strides": [210, 3, 1], "stream": 0}  # as the planes of PyNvVideoCodec's frames
    assert one.detect([array], 0.5, None) == other.detect([picture], 0.5, None)
    tidy = interop._tidied(about).__cuda_array_interface__
    assert (tidy["shape"], tidy["strides"], tidy["data"]) == ((50, 70, 3), (210, 3, 1), about["data"])


@pytest.mark.usefixtures("seen")
def test_cancelled_futures_free_everything(gpu, fakes):
    with detector(fakes.plan()) as opened:
        futures = [opened.submit([OnGpu(image(64, 64))]) for _ in range(12)]
        cancelled = [future.cancel() for future in futures]
        assert all(done or len(future.result()) == 1 for future, done in zip(futures, cancelled, strict=True))
    assert gpu.leaks == {}


@pytest.mark.usefixtures("seen")
def test_image_on_another_gpu(pair, gpu, monkeypatch):
    one, _ = pair()
    monkeypatch.setattr(OnGpu, "device", 1)
    gpu.lying_on = 1
    with pytest.raises(DeviceError, match="the image is on cuda:1, and the detector runs on cuda:0"):
        one.detect([OnGpu(image(64, 64))], 0.5, None)
    assert len(one.detect([image(64, 64)], 0.5, None)) == 1


class Named:
    """How PyTorch shows an element type, which NumPy does not know."""

    def __repr__(self):
        return "torch.uint8"


@pytest.mark.usefixtures("seen")
@pytest.mark.parametrize("dtype", ["|u1", "uint8", "u1", np.uint8, np.dtype(np.uint8), Named()])
def test_element_types_are_known_however_they_are_spelled(pair, dtype):
    one, other = pair(max_batch=4, color="nv12")
    frame = RNG.integers(0, 256, (48, 64, 1), np.uint8)
    array = OnGpu(frame)
    array.dtype = dtype
    expected = other.detect([other.prepare_image(frame[..., 0])], 0.5, None)
    assert one.detect([one.prepare_image(array)], 0.5, None) == expected
    assert one.detect([one.prepare_image(frame)], 0.5, None) == expected
    planes = [OnGpu(frame[:32]), OnGpu(frame[32:].reshape(16, 32, 2))]
    for plane in planes:
        plane.dtype = dtype
    assert one.detect([one.prepare_image(YUVImage(*planes))], 0.5, None) == expected


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((3, 50, 3), "uint8", r"may be \(C, H, W\) or \(H, W, C\)"),
        ((50, 70, 2), "uint8", r"\(H, W, 3\), \(H, W, 4\) or \(H, W\) is required"),
        ((2, 50, 70, 3), "uint8", "is required"),
        ((0, 70, 3), "uint8", "is required"),
        ((50, 70, 3), "float32", "element type float32; it must be uint8 from 0 to 255"),
    ],
)
def test_invalid_image_on_the_gpu(pair, shape, dtype, message):
    one, _ = pair()
    with pytest.raises(ImageError, match=message):
        one.prepare_image(OnGpu(np.zeros(shape, dtype)))


def test_host_pipeline_rejects_images_on_the_gpu(pair):
    _, other = pair()
    with pytest.raises(ImageError, match="is on a GPU, but this detector runs on the CPU"):
        other.prepare_image(OnGpu(image(64, 64)))


def test_nv12_is_converted_as_by_opencv():
    frame = RNG.integers(0, 256, (90, 64), np.uint8)
    from scrfd_trt._image_arrays import from_nv12

    assert np.array_equal(from_nv12(frame), cv2.cvtColor(frame, cv2.COLOR_YUV2BGR_NV12))
    for wrong in (frame[:89], frame[:, :63], frame.astype(np.float32), frame[None]):
        with pytest.raises(ImageError, match="NV12"):
            from_nv12(wrong)


def detector(plan, **options):
    return SCRFDDetector._of(cuda(plan, **options), DetectorOptions(**options), device="cuda")


def watched(opened):
    """The number of started runs after each start."""
    pipeline, counts = opened._pipeline, []
    start = pipeline.start

    def started(*arguments):
        run = start(*arguments)
        counts.append(len(pipeline._pool._runs))
        return run

    pipeline.start = started
    return counts


@pytest.mark.parametrize("in_flight", [1, 2, 3, 7])
def test_in_flight_limits_the_runs(gpu, fakes, in_flight):
    pictures = [image(*SIZES[number % len(SIZES)]) for number in range(30)]
    with detector(fakes.plan(), max_batch=2) as opened:
        expected = opened.detect_batch(pictures)
        under_way = watched(opened)
        assert list(opened.stream(pictures, in_flight=in_flight)) == expected
        assert under_way == [min(number, in_flight, 3) for number in range(1, 16)]  # others are done, and wait
        gpu.is_idle = True  # finished results are yielded before the next start
        under_way.clear()
        assert list(opened.stream(pictures, in_flight=in_flight)) == expected
        assert set(under_way) == {1}
    assert gpu.leaks == {}


def test_warmup_makes_and_captures_all_that_later_runs_use(gpu, fakes):
    made = ("cuGraphInstantiate", "cuMemHostAlloc", "cuMemAlloc", "cuStreamCreate")
    with detector(fakes.plan(), max_batch=2) as opened:
        assert opened.warmup((64, 64, 3)) is opened
        assert opened._pipeline._pool._count == 3
        before = [gpu.calls.count(name) for name in made]
        assert before[0] == 6  # for one and for two images
        opened.detect(image(64, 64))
        list(opened.stream([image(64, 64)] * 12))
        assert [gpu.calls.count(name) for name in made] == before
    assert gpu.leaks == {}


def test_close_does_not_wait_for_an_unfinished_stream(gpu, fakes):
    opened = detector(fakes.plan(), max_batch=2)
    counts = watched(opened)
    under_way = opened.stream([image(64, 64) for _ in range(20)], in_flight=3)
    next(under_way)
    assert counts == [1, 2, 3]
    assert len(opened._pipeline._pool._runs) == 2
    opened.close()
    assert gpu.leaks == {}
    with pytest.raises(ClosedError):
        list(under_way)


def test_detect_while_the_images_of_a_stream_are_read(gpu, fakes):
    pictures = [image(64, 64) for _ in range(12)]
    with detector(fakes.plan(), max_batch=1) as opened:
        expected = [opened.detect(picture) for picture in pictures]
        under_way = watched(opened)

        def images():
            for picture, faces in zip(pictures, expected, strict=True):
                assert opened.detect(picture) == faces
                yield picture

        assert list(opened.stream(images(), in_flight=5)) == expected
        assert max(under_way) == opened._pipeline._pool._count == 3
    assert gpu.leaks == {}


def test_engine_of_batch_one_uses_no_more_slots_than_in_flight(gpu, fakes):
    with detector(fakes.plan(profiles=fakes.ranges((1, 1, 1)))) as opened:
        under_way = watched(opened)
        assert len(list(opened.stream([image(64, 64)] * 30, in_flight=3))) == 30
        assert max(under_way) == opened._pipeline._pool._count == 3


def test_page_locked_images_are_kept_until_they_are_copied(gpu, fakes):
    with detector(fakes.plan(), max_batch=2) as opened:
        picture = image(64, 64)
        expected = opened.detect(picture)

        def images():
            for _ in range(12):
                frame = opened.pinned(picture.shape)
                frame[:] = picture
                yield frame

        assert list(opened.stream(images())) == [expected] * 12
    assert gpu.leaks == {}


@pytest.mark.parametrize("helpers", [1, 3, 7])
def test_threads_copy_any_mix_of_images(pair, fakes, monkeypatch, helpers):
    monkeypatch.setattr(slot_memory, "HELPER_BYTES", 4000)
    monkeypatch.setattr(slot_memory, "MAX_HELPERS", helpers)
    monkeypatch.setattr(_devices, "usable_cores", lambda: 99)
    one, other = pair(fakes.plan(profiles=fakes.ranges((1, 8, 16))), max_batch=16)
    pinned = one.pinned((30, 41, 3))
    pinned[:] = image(41, 30)
    plain = [image(*size) for size in [(64, 64), (33, 65), (1, 1), (128, 96), (64, 64)]]
    odd = YUVImage(RNG.integers(0, 256, (33, 65), np.uint8), RNG.integers(0, 256, (17, 33, 2), np.uint8))
    mixes = [plain, [*plain[:3], pinned, *plain[3:]], [pinned, plain[3][:, 3:40], *plain], [odd, *plain, odd, pinned]]
    for mix in mixes:
        expected = other.detect([other.prepare_image(each) for each in mix], 0.3, None)
        assert one.detect(mix, 0.3, None) == expected
        runs = [one.start(mix, 0.3, None) for _ in range(3)]
        assert [run.result() for run in runs] == [expected] * 3


def test_errors_of_copying_threads_are_raised_with_the_results(gpu, fakes, monkeypatch):
    monkeypatch.setattr(slot_memory, "HELPER_BYTES", 4000)
    pictures = [image(64, 64) for _ in range(4)]
    with detector(fakes.plan(), max_batch=4) as opened:
        expected = opened.detect_batch(pictures)
        assert list(opened.stream(pictures * 3)) == expected * 3
        results = opened.stream(pictures * 3)
        next(results)
        del results  # its runs are waited for
        gpu.fail("cuMemcpyAsync")
        run = opened._pipeline.start(pictures, 0.5, None)
        with pytest.raises(BackendError, match="copying an image to the GPU"):
            run.result()
        assert run.done()
        gpu.failing.clear()
        with pytest.raises(BackendError, match="an earlier run failed"):
            opened._pipeline.start(pictures, 0.5, None)
    assert gpu.leaks == {}


def test_batches_do_not_wait_for_busy_threads(gpu, fakes, monkeypatch):
    monkeypatch.setattr(slot_memory, "HELPER_BYTES", 4000)
    pictures, go_on = [image(64, 64) for _ in range(4)], threading.Event()
    with detector(fakes.plan(), max_batch=4) as opened:
        expected = opened.detect_batch(pictures)
        helpers = opened._pipeline._resources.helpers
        busy = [helpers.submit(go_on.wait, 30) for _ in range(helpers.count)]
        assert opened.detect_batch(pictures) == expected
        assert not any(each.done() for each in busy)
        go_on.set()


def test_threads_copy_until_the_detector_is_closed(gpu, fakes, monkeypatch):
    monkeypatch.setattr(slot_memory, "HELPER_BYTES", 4000)
    go_on, stage = threading.Event(), slot_memory.Upload._stage_all

    def late(upload, images):
        assert go_on.wait(30)
        stage(upload, images)

    monkeypatch.setattr(slot_memory.Upload, "_stage_all", late)
    opened = detector(fakes.plan(), max_batch=4)
    run = opened._pipeline.start([image(64, 64)] * 4, 0.5, None)
    assert not run.done()
    threading.Timer(0.1, go_on.set).start()
    opened.close()
    with pytest.raises(ClosedError):
        run.result()
    assert gpu.leaks == {}


@pytest.fixture
def large_runs(monkeypatch):
    """Let 16 images of the small model be a large run."""
    monkeypatch.setattr(program, "LARGE_RUN", 16 * 64 * 64)


@pytest.mark.usefixtures("large_runs")
@pytest.mark.parametrize("count", [16, 40])
def test_streams_of_large_batches(gpu, fakes, count):
    plan = fakes.plan(profiles=fakes.ranges((1, 8, 16)))
    pictures = [image(*SIZES[number % len(SIZES)]) for number in range(count)]
    with detector(plan, max_batch=16) as opened:
        expected = opened.detect_batch(pictures)
        for in_flight in (1, 2, 3):
            for _ in range(3):  # the first runs are step by step, and captured afterwards
                assert list(opened.stream(pictures, in_flight=in_flight)) == expected


@pytest.mark.usefixtures("large_runs")
@pytest.mark.parametrize(("batch", "take_turns"), [(16, True), (8, False)])
def test_large_runs_wait_for_each_other_s_inference(gpu, fakes, batch, take_turns):
    pictures = [image(64, 64)] * batch
    with detector(fakes.plan(profiles=fakes.ranges((1, 8, 16))), max_batch=16) as opened:

        def start_three():
            return [opened._pipeline.start(pictures, 0.5, None) for _ in range(3)]

        expected, *_ = [run.result() for run in start_three()]  # step by step, and captured afterwards
        gpu.graph_launches.clear()
        first, second, third = start_three()
        assert third.result() == expected
        left = [len(gpu.streams[stream]) for stream in gpu.graph_launches]
        assert len(set(gpu.graph_launches)) == len(left) == 3
        assert left[2] == 0
        # Of the earlier runs, everything but the faces is done, or nothing is.
        assert [steps == 1 for steps in left[:2]] == [take_turns] * 2
        assert [first.result(), second.result()] == [expected] * 2
    assert gpu.leaks == {}


@pytest.mark.usefixtures("large_runs")
def test_letterbox_does_not_wait_for_the_previous_inference(gpu, fakes):
    pictures = [image(64, 64)] * 16
    with detector(fakes.plan(profiles=fakes.ranges((1, 8, 16))), max_batch=16) as opened:

        def start_two():
            return [opened._pipeline.start(pictures, 0.5, None) for _ in range(2)]

        expected, _ = [run.result() for run in start_two()]
        gpu.graph_launches.clear()
        runs = start_two()
        earlier, later = (gpu.streams[stream] for stream in gpu.graph_launches)
        waiting, steps = len(earlier), 0
        while len(earlier) == waiting:
            later.pop(0)()
            steps += 1
        assert steps == len(["images", "parameters", "letterbox", "what waits for the turn"])
        assert [run.result() for run in runs] == [expected] * 2


def test_large_runs_are_defined_by_pixels(gpu, fakes, monkeypatch):
    monkeypatch.setattr(program, "LARGE_RUN", 4 * 64 * 64)
    with detector(fakes.plan(), max_batch=4) as opened:
        for count in (3, 4):
            for _ in range(2):
                opened.detect_batch([image(30, 20)] * count)
            assert ("cuEventRecordWithFlags" in gpu.calls) == (count == 4)


def test_runs_beyond_the_slots_keep_their_results_until_they_are_read(gpu, fakes):
    pictures = [image(64, 64) for _ in range(6)]
    with detector(fakes.plan(), max_batch=1) as opened:
        expected = [[opened.detect(picture)] for picture in pictures]
        runs = [opened._pipeline.start([picture], 0.5, None) for picture in pictures]
        assert opened._pipeline._pool._count == 3
        assert [run.result() for run in reversed(runs)] == expected[::-1]
        gpu.fail("cuStreamSynchronize", times=1)
        runs = [opened._pipeline.start([picture], 0.5, None) for picture in pictures[:3]]
        with pytest.raises(BackendError, match="an earlier run failed"):
            opened.detect(pictures[3])
        with pytest.raises(BackendError):
            runs[0].result()  # its own error
        closed = opened._pipeline
    for run in runs[1:]:
        with pytest.raises(ClosedError):
            run.result()
    assert closed._pool._count == 0
    assert gpu.leaks == {}


def test_garbage_collector_may_end_a_stream_during_setup(gpu, fakes):
    with detector(fakes.plan(), max_batch=4) as opened, opened._pipeline._resources.setup_lock:
        under_way = opened.stream([image(64, 64)] * 8, batch=1, in_flight=2)
        next(under_way)
        under_way.close()  # its runs end, and are captured
    assert gpu.leaks == {}


def test_error_of_an_image_is_raised_after_the_results_before_it(gpu, fakes):
    with detector(fakes.plan(), max_batch=2) as opened:
        good = image(64, 64)
        found = opened.stream([good] * 5 + [OnGpu(image(64, 64).astype(np.float32), dtype="<f4")])
        assert [next(found) for _ in range(5)] == [opened.detect(good)] * 5
        with pytest.raises(ImageError, match="image 5: the image on the GPU has element type float32"):
            next(found)
    assert gpu.leaks == {}


def test_side_that_is_not_a_multiple_of_four(fakes, pair):
    tensors = [["x", "INPUT", [-1, 3, 66, 66], "FLOAT"]]
    for name in fakes.WIDTHS:
        for stride in (8, 16, 32):
            rows = 2 * (-(-66 // stride)) ** 2
            tensors.append([f"{name}_{stride}", "OUTPUT", [-1, rows, fakes.WIDTHS[name]], "FLOAT"])
    one, other = pair(fakes.plan(tensors=tensors, profiles=fakes.ranges((1, 2, 4), side=66)))
    for size in SIZES:
        picture = image(*size)
        assert one.detect([picture], 0.3, None) == other.detect([picture], 0.3, None)


def test_max_faces_above_the_limit_of_the_record(pair):
    one, other = pair()
    picture = image(64, 64)
    assert one.detect([picture], 0.5, 2**40) == other.detect([picture], 0.5, 2**40)
