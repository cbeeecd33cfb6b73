"""The pipeline on a GPU against the pipeline of the host, around the same engines.

``SCRFD_TRT_SCENES`` says on how many drawn scenes, and ``SCRFD_TRT_CALLS`` how many calls must leave memory as it was.
A thousand scenes, or a hundred thousand calls, take some minutes an engine: choose one by its file's name, with
``-k "drawn_scenes and 500m_dyn"`` or ``-k "many_calls and 500m_dyn"``.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from engine_backend import EngineBackend

import drawing
from scrfd_trt import ClosedError, SCRFDDetector
from scrfd_trt._cuda.driver import Device
from scrfd_trt._cuda.memory import copy
from scrfd_trt._cuda.stream import create_stream
from scrfd_trt._image_arrays import check_nv12
from scrfd_trt._letterbox import Letterbox, normalize_into
from scrfd_trt._pipelines.cuda import program

PHOTOGRAPHS = ("multiple_faces.jpg", "people.png", "worlds-largest-selfie.jpg")
SCENES = int(os.environ.get("SCRFD_TRT_SCENES", "20"))
CALLS = int(os.environ.get("SCRFD_TRT_CALLS", "600"))
RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def pair(plan, opened):
    """The two pipelines, and how far apart their boxes may be in pixels."""
    with (
        SCRFDDetector.from_engine(plan, max_batch=8) as cuda,
        SCRFDDetector.from_backend(EngineBackend(plan), max_batch=8) as host,
    ):
        yield cuda, host


def agree(found, wanted, limit=0.5):
    assert len(found) == len(wanted)
    assert found.image_size == wanted.image_size
    if len(wanted):
        assert np.abs(found.boxes - wanted.boxes).max() <= limit
        assert np.abs(found.scores - wanted.scores).max() <= 0.005
        assert np.abs(found.landmarks - wanted.landmarks).max() <= limit


def test_the_photographs(pair, shared):
    cuda, host = pair
    for path in sorted((shared / "images").iterdir()):
        image = cv2.imread(str(path))
        for threshold in (0.5, 0.3):
            agree(cuda.detect(image, threshold=threshold), host.detect(image, threshold=threshold))


def drawn(count):
    """Scenes of many sizes, drawn by other processes, as drawing takes longer than all that is tested."""
    rng = np.random.default_rng(11)  # whichever tests ran before
    about = [
        ((int(rng.integers(320, 1400)), int(rng.integers(240, 1000))), int(rng.integers(0, 4)), seed)
        for seed in range(count)
    ]
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        for start in range(0, count, 64):
            for scene in pool.map(drawing.scene, *zip(*about[start : start + 64], strict=True)):
                yield scene.image


def test_drawn_scenes(pair):
    cuda, host = pair
    worst = exact = 0
    for image in drawn(SCENES):
        found, wanted = cuda.detect(image), host.detect(image)
        agree(found, wanted)
        worst = max(worst, float(np.abs(found.boxes - wanted.boxes).max(initial=0.0)))
        exact += found == wanted
    print(f"\n{SCENES} scenes: {exact} equal to the bit, boxes at most {worst:.4f} pixels apart")


def test_the_letterbox_is_opencvs(pair):
    cuda, _ = pair
    pipeline = cuda._pipeline
    (width, height) = cuda.scales[-1]
    for size in [(640, 480), (1600, 898), (31, 700), (1, 1), (2000, 3), (640, 640), (1279, 961)]:
        image = RNG.integers(0, 256, (size[1], size[0], 3), np.uint8)
        cuda.detect(image)
        wanted = np.zeros((3, height, width), np.float32)
        normalize_into(wanted, image, Letterbox.fit(size, (width, height)))
        with pipeline.borrow_slot() as slot, pipeline.device.current():
            found = np.empty((3, height, width), slot._resources.engine.input.dtype)
            copy("copying the model input", found.ctypes.data, slot._arena.inputs_at[-1], found.nbytes)
        found = found.astype(np.float32)
        assert np.abs(found - wanted).max() * 128.0 <= 1.0


def test_captured_and_uncaptured_runs_agree_to_the_bit(plan, opened, shared, monkeypatch):
    images = [cv2.imread(str(shared / "images" / name)) for name in PHOTOGRAPHS]
    with SCRFDDetector.from_engine(plan) as detector:
        captured = [[detector.detect(image) for image in images] for _ in range(3)][-1]
        with detector._pipeline.borrow_slot() as slot:
            assert slot.program(1).is_captured
    monkeypatch.setattr(program.Program, "capture", lambda *_: None)
    with SCRFDDetector.from_engine(plan) as detector:
        assert [detector.detect(image) for image in images] == captured


def of_batches(detector, images):
    """The faces of batches that take all forms, each often enough to be captured where it can be."""
    found = []
    for count in (16, 8, 5, 3, 2):
        found += [detector.detect_batch(images[:count]) for _ in range(3)]
    return found + [list(detector.stream(images * 4, batch=batch)) for batch in (2, 8, 16)]


def test_captured_and_uncaptured_batches_agree_to_the_bit(plan, opened, monkeypatch):
    sizes = [(640, 480), (333, 222), (900, 700), (640, 640), (1280, 720), (500, 400)]
    images = [drawing.scene(size, 3, seed).image for seed, size in enumerate(sizes)]
    images += [np.ascontiguousarray(images[0][:300, :64]), images[0][100:117, 200:231]]
    images += [image[::-1] for image in images]
    with SCRFDDetector.from_engine(plan, max_batch=16) as detector:
        captured = of_batches(detector, images)
        most = detector._pipeline.max_batch
        with detector._pipeline.borrow_slot() as slot:
            assert slot.program(min(8, most)).is_captured
    monkeypatch.setattr(program.Program, "capture", lambda *_: None)
    with SCRFDDetector.from_engine(plan, max_batch=16) as detector:
        assert of_batches(detector, images) == captured
        with detector._pipeline.borrow_slot() as slot:
            assert not slot.program(min(8, most)).is_captured
    assert any(len(faces) for faces in captured[0])


def test_batches_of_all_sizes_and_shapes(pair):
    cuda, host = pair
    for count in (1, 2, 3, 5, 8, 11, 1, 3):
        sizes = [(int(RNG.integers(320, 900)), int(RNG.integers(240, 900))) for _ in range(count)]
        images = [drawing.scene(size, 3, seed).image for seed, size in enumerate(sizes)]
        for found, wanted in zip(cuda.detect_batch(images), host.detect_batch(images), strict=True):
            agree(found, wanted)


def test_pinned_arrays_and_strided_ones(pair):
    cuda, _ = pair
    image = drawing.scene((500, 400), 4).image
    wanted = cuda.detect(image)
    pinned = cuda.pinned(image.shape)
    pinned[:] = image
    wide = np.zeros((400, 700, 3), np.uint8)
    wide[:, 100:600] = image
    assert cuda.detect(pinned) == wanted
    assert cuda.detect(wide[:, 100:600]) == wanted
    assert cuda.detect(pinned[50:]) == cuda.detect(image[50:])


def test_work_of_a_stream_of_pytorch_is_waited_for(pair, torch):
    cuda, _ = pair
    image = drawing.scene((500, 400), 4).image
    wanted = cuda.detect(image)
    source, side = torch.from_numpy(image).cuda(), torch.cuda.Stream()
    for call in (cuda.detect, lambda array: cuda.submit([array]).result()[0]):
        target = torch.zeros_like(source)
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            torch.cuda._sleep(200_000_000)
            target.copy_(source, non_blocking=True)
            assert call(target) == wanted


def test_results_that_stay_on_the_gpu(pair):
    cuda, _ = pair
    image = drawing.scene((500, 400), 4).image
    pictures = [image, np.zeros((50, 50, 3), np.uint8)]
    wanted, _ = cuda.detect_batch(pictures)  # single images may have a profile of their own
    (found, nothing) = cuda.detect_on_gpu(pictures)
    assert found.to_host() == wanted
    assert (len(nothing), nothing.to_host().boxes.shape) == (0, (0, 4))


def test_pytorch_takes_results_that_stay_on_the_gpu(pair, torch):
    cuda, _ = pair
    pictures = [drawing.scene((500, 400), 4).image, np.zeros((50, 50, 3), np.uint8)]
    wanted, _ = cuda.detect_batch(pictures)
    (found, _) = cuda.detect_on_gpu(pictures)
    boxes, points = torch.from_dlpack(found.boxes), torch.from_dlpack(found.landmarks)
    del found
    assert boxes.is_cuda
    assert np.array_equal(boxes.cpu().numpy(), wanted.boxes)
    assert np.array_equal(points.cpu().numpy(), wanted.landmarks)


def test_nv12(plan, opened):
    scene = drawing.scene((640, 480), 4).image
    planes = cv2.cvtColor(scene, cv2.COLOR_BGR2YUV_I420)
    chroma = planes[480:].reshape(2, 240 * 320).T.reshape(240, 640)
    frame = check_nv12(np.ascontiguousarray(np.concatenate([planes[:480], chroma])))
    with (
        SCRFDDetector.from_engine(plan, color="nv12") as cuda,
        SCRFDDetector.from_backend(EngineBackend(plan), color="nv12") as host,
    ):
        wanted = host.detect(frame)
        assert len(wanted) > 0
        agree(cuda.detect(frame), wanted)


def test_more_candidates_than_the_gpu_holds(pair):
    cuda, host = pair
    image = drawing.scene((1280, 720), 6).image
    found, wanted = (each.detect(image, threshold=0.001) for each in (cuda, host))
    agree(found, wanted)


def test_eight_threads(pair):
    cuda, _ = pair
    images = [drawing.scene((300 + 60 * n, 500), 4, n).image for n in range(8)]
    wanted = [cuda.detect(image) for image in images]

    def work(start):
        return [cuda.detect(images[n % 8]) == wanted[n % 8] for n in range(start, start + 30)]

    with ThreadPoolExecutor(8) as pool:
        assert all(all(found) for found in pool.map(work, range(8)))


def test_eight_threads_with_large_batches_and_a_close_between(plan, opened):
    images = [drawing.scene((400 + 20 * n, 500), 4, n).image for n in range(16)]
    detector = SCRFDDetector.from_engine(plan, max_batch=16)
    wanted = detector.detect_batch(images)

    rounds = threading.Semaphore(0)

    def work(number):
        with suppress(ClosedError):
            while True:
                found = list(detector.stream(images * 3, in_flight=4)) if number % 2 else detector.detect_batch(images)
                assert found == wanted * (3 if number % 2 else 1)
                rounds.release()

    with ThreadPoolExecutor(8) as pool:
        working = [pool.submit(work, number) for number in range(8)]
        for _ in range(24):
            assert rounds.acquire(timeout=60)
        detector.close()
        for each in working:
            each.result(60)


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_streams_give_what_single_images_give(plan, opened, batch):
    images = [drawing.scene((320 + 30 * n, 400), 3, n).image for n in range(40)]
    pinned = None
    with SCRFDDetector.from_engine(plan, max_batch=batch) as detector:
        wanted = [faces for n in range(0, 40, batch) for faces in detector.detect_batch(images[n : n + batch])]
        for in_flight in (1, 2, 3):
            assert list(detector.stream(images, in_flight=in_flight)) == wanted
        pinned = [detector.pinned(image.shape) for image in images]
        for target, source in zip(pinned, images, strict=True):
            target[:] = source
        mixed = [one if n % 3 else other for n, (one, other) in enumerate(zip(images, pinned, strict=True))]
        assert list(detector.stream(mixed)) == wanted
        under_way = detector.stream(images)
        for number in range(20):
            assert next(under_way) == wanted[number]
            assert detector.detect_batch(images[:batch])[0] == wanted[0]
        under_way.close()


def test_a_lent_stream(plan, opened, shared):
    image = cv2.imread(str(shared / "images" / PHOTOGRAPHS[1]))
    with SCRFDDetector.from_engine(plan) as own, closing(create_stream(Device(0))) as stream:
        wanted = own.detect(image)
        for lent in (stream, int(stream.handle), 0):
            with SCRFDDetector.from_engine(plan, stream=lent) as detector:
                assert [detector.detect(image) for _ in range(3)] == [wanted] * 3


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free():
    with Device(0).current():
        return Device(0).memory()[0]


def test_many_calls_leave_memory_as_it_was(pair):
    cuda, _ = pair
    images = [RNG.integers(0, 256, (int(h), int(w), 3), np.uint8) for h, w in RNG.integers(16, 900, (24, 2))]
    threads = ThreadPoolExecutor(8)

    def some(count, rng):
        done = 0
        while done < count:
            size = int(rng.integers(1, 9))
            chosen = [images[n] for n in rng.integers(0, len(images), size)]
            if rng.random() < 0.05:
                list(threads.map(cuda.detect, chosen))
                done += size
            else:
                cuda.detect_batch(chosen)
                done += 1

    some(max(400, CALLS // 20), np.random.default_rng(1))
    largest = max(images, key=lambda image: image.size)
    for size in range(1, 9):  # each slot has seen each number of images, and the largest ones
        list(threads.map(cuda.detect_batch, [[largest] * size] * 24))
    before = free(), resident()
    some(CALLS, np.random.default_rng(2))
    after = free(), resident()
    threads.shutdown()
    print(f"\n{CALLS} calls: GPU {before[0] - after[0]} bytes, host {after[1] - before[1]} bytes more")
    assert before[0] - after[0] <= 4 * 2**20
    assert after[1] - before[1] <= 64 * 2**20


def test_close_waits_for_what_is_under_way(plan, opened):
    detector = SCRFDDetector.from_engine(plan)
    image = drawing.scene((500, 400), 4).image
    wanted = detector.detect(image)
    futures = [detector.submit([image]) for _ in range(6)]
    closer = threading.Thread(target=detector.close)
    closer.start()
    closer.join(30)
    assert not closer.is_alive()
    errors = [future.exception(30) for future in futures]
    assert all(isinstance(error, ClosedError) for error in errors if error is not None)
    assert all(future.result() == [wanted] for future, error in zip(futures, errors, strict=True) if error is None)
