from __future__ import annotations

import asyncio
import threading
import weakref

import numpy as np
import pytest

from scrfd_trt import (
    BackendError,
    ClosedError,
    DeviceError,
    ImageError,
    ImageNotFoundError,
    ModelFormatError,
    ModelNotFoundError,
    OptionError,
    SCRFDDetector,
    samples,
)
from scrfd_trt._tensors import TensorSpec


@pytest.fixture(scope="module")
def detector(network_500m):
    with SCRFDDetector.from_onnx(network_500m, device="cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def people():
    return samples.load("group")


def covers(found, expected, min_iou=0.5):
    """Return whether each expected box has a detection with at least this intersection over union."""
    a, b = found.boxes[None], expected.boxes[:, None]
    side = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    inter = np.clip(side, 0, None).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (a, b)]
    return ((inter / (areas[0] + areas[1] - inter)).max(axis=1, initial=0) >= min_iou).all()


def test_drawn_faces_are_detected(detector, people):
    found = detector.detect(people.image)
    assert len(found) == len(people.faces)
    assert covers(found, people.faces)
    assert found.image_size == (people.image.shape[1], people.image.shape[0])
    assert detector.device == "cpu"
    assert detector.scales == ((128, 128), (640, 640))
    assert detector.description.endswith("; up to 128×128 + 640×640")


def test_face_that_fills_the_frame_is_detected_by_default(detector, network_500m):
    close = samples.load("portrait")
    found = detector.detect(close.image)
    assert len(found) == 1
    assert covers(found, close.faces)


def test_passes_at_the_same_time_give_the_same_faces(detector, people, monkeypatch):
    pipeline = detector._pipeline
    (expected,) = pipeline._outcomes([people.image], 0.5, None, pipeline._backend)  # one after the other
    monkeypatch.setattr(pipeline, "_cores", 2)
    assert all(detector.detect(people.image) == expected for _ in range(3))

    def fail(*_):
        raise BackendError("no thread")

    monkeypatch.setattr(pipeline._spread, "submit", fail)
    assert detector.detect(people.image) == expected


def test_batch_of_different_sizes_gives_the_same_faces_as_single_images(detector, people):
    pictures = [people.image, people.image[::2, ::2], people.image[100:400, 200:900], people.image[:1, :1]]
    expected = [detector.detect(picture) for picture in pictures]
    got = detector.detect_batch(pictures)
    assert [len(faces) for faces in got] == [len(faces) for faces in expected]
    for faces, alone in zip(got, expected, strict=True):
        assert np.allclose(faces.boxes, alone.boxes, atol=0.01)
        assert np.allclose(faces.scores, alone.scores, atol=1e-5)
    assert detector.detect_batch([]) == []
    assert [len(faces) for faces in detector.detect_batch(np.stack([people.image] * 2))] == [len(expected[0])] * 2


def test_options_of_one_call(detector, people):
    every = detector.detect(people.image)
    assert detector.detect(people.image, max_faces=2) == every[:2]
    assert len(detector.detect(people.image, threshold=0.99)) == 0
    assert len(detector.detect(people.image, threshold=0.05)) >= len(every)
    assert detector.detect(people.image) == every


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 2},
        {"threshold": float("nan")},
        {"threshold": "0.5"},
        {"max_faces": 0},
        {"max_faces": True},
        {"max_faces": 2.7},
        {"max_faces": float("inf")},
    ],
)
def test_invalid_options_of_one_call(detector, people, options):
    with pytest.raises(OptionError, match=next(iter(options))):
        detector.detect(people.image, **options)


def test_rgb(network_500m, people, detector):
    with SCRFDDetector.from_onnx(network_500m, device="cpu", color="rgb") as other:
        assert other.detect(people.image[:, :, ::-1]) == detector.detect(people.image)


@pytest.mark.parametrize("kind", ["grey", "alpha", "float", "mirrored", "read-only"])
def test_other_image_formats(detector, people, kind):
    scene = people.image
    image = {
        "grey": scene.mean(axis=2).astype(np.uint8),
        "alpha": np.dstack([scene, scene[:, :, 0]]),
        "float": scene / 255,
        "mirrored": scene[:, ::-1],
        "read-only": scene.copy(),
    }[kind]
    image.flags.writeable = False
    before = image.copy()
    assert len(detector.detect(image)) >= len(people.faces) - 1
    assert np.array_equal(image, before)


def test_invalid_images_are_rejected(detector):
    with pytest.raises(ImageError, match="no pixels"):
        detector.detect(np.zeros((0, 0, 3), np.uint8))
    with pytest.raises(ImageError, match=r"image 1: .*None"):
        detector.detect_batch([np.zeros((4, 4, 3), np.uint8), None])
    with pytest.raises(ImageError, match="several images, not None"):
        detector.detect_batch(None)
    with pytest.raises(ImageError, match="one array"):
        detector.detect_batch(np.zeros((4, 4, 3), np.uint8))


def test_smallest_and_narrowest_image(detector):
    assert len(detector.detect(np.zeros((1, 1, 3), np.uint8))) == 0
    assert len(detector.detect(np.zeros((1, 100_000, 3), np.uint8))) == 0


def test_threads_share_one_detector(detector, people):
    expected, found = detector.detect(people.image), []

    def work():
        found.extend(detector.detect(people.image) for _ in range(3))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 9
    for faces in found:
        assert np.allclose(faces.boxes, expected.boxes, atol=0.01)


def test_calls_after_close_raise_closed_error(network_500m, people):
    with SCRFDDetector.from_onnx(network_500m, device="cpu", scales=128) as detector:
        detector.detect(people.image)
    detector.close()
    with pytest.raises(ClosedError, match="closed"):
        detector.detect(people.image)
    with pytest.raises(ClosedError):
        detector.detect_batch([people.image])
    assert "closed" in repr(detector)


class Blind:
    """A backend whose boxes are infinite for white images, and which fails for a batch with a black one."""

    description = "blind"
    ranges = ()
    input = TensorSpec("x", (None, 3, 64, 64))
    outputs = tuple(
        TensorSpec(f"{n}_{s}", (None, None, w)) for n, w in (("score", 1), ("bbox", 4)) for s in (8, 16, 32)
    )

    def run(self, blob):
        if blob.max(axis=(1, 2, 3)).min() < -0.9:
            raise BackendError("out of order")
        brightest = blob.min(axis=(1, 2, 3))[:, None, None]
        rows = [np.ones((len(blob), 2 * (64 // stride) ** 2, 1), np.float32) for stride in (8, 16, 32)]
        return [part * np.float32(0.9) for part in rows] + [
            np.where(brightest > 0.99, np.inf, part.repeat(4, axis=2)).astype(np.float32) for part in rows
        ]

    def close(self):
        pass


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_errors_of_images_are_returned_in_their_places(batch):
    gray, white, own = np.full((64, 64, 3), 99, np.uint8), np.full((64, 64, 3), 255, np.uint8), ModelFormatError("mine")
    with SCRFDDetector.from_backend(Blind(), max_batch=batch) as detector:
        expected, bad = detector.detect(gray), np.full((64, 64, 3), 7.5)
        images = [bad, gray, "text", white, gray, own, white, bad]
        for found in (
            detector.detect_batch(images, on_error="return"),
            list(detector.stream(images, on_error="return")),
        ):
            assert [type(each) for each in found if each != expected] == [
                ImageError, ImageNotFoundError, BackendError, ModelFormatError, BackendError, ImageError,
            ]  # fmt: skip
            assert [each == expected for each in found] == [each is gray for each in images]
            assert found[5] is own
            assert str(found[0]).startswith("a float image must range from 0 to 1")
            assert "invalid values" in str(found[3])
            errors = [each for each in found if each != expected]
            assert all(
                each.__traceback__ is None for each in errors + [error.__cause__ for error in errors if error.__cause__]
            )
        assert detector.detect_batch([], on_error="return") == []
        results = detector.stream([gray, gray, white, gray], batch=batch)
        assert [next(results), next(results)] == [expected] * 2
        with pytest.raises(BackendError, match="invalid values"):
            next(results)
        for call in (detector.detect_batch, detector.stream):
            with pytest.raises(BackendError, match="out of order"):
                list(call([gray, white, gray * 0], on_error="return"))
            with pytest.raises(OptionError, match="on_error must be raise or return, not 'skip'"):
                call([gray], on_error="skip")
    with pytest.raises(ClosedError):
        detector.detect_batch([gray], on_error="return")


def test_images_that_fail_are_not_kept():
    class Odd(np.ndarray):
        pass

    def images():
        for _ in range(3):
            odd = np.full((8, 8, 3), 7.5).view(Odd)
            alive.append(weakref.ref(odd))
            yield odd

    alive = []
    with SCRFDDetector.from_backend(Blind(), max_batch=1) as detector:
        errors = list(detector.stream(images(), on_error="return"))
    assert [type(error) for error in errors] == [ImageError] * 3
    assert [ref() for ref in alive] == [None] * 3


def test_close_and_failed_opening_close_the_backend():
    class Backend:
        description, ranges = "fake", ()
        input = TensorSpec("x", (None, 3, None, None))
        outputs = tuple(
            TensorSpec(f"{n}_{s}", (None, None, w)) for n, w in (("score", 1), ("bbox", 4)) for s in (8, 16, 32)
        )
        closed = 0

        def run(self, blob):
            rows = [2 * (blob.shape[2] // stride) * (blob.shape[3] // stride) for stride in (8, 16, 32)]
            return [np.full((len(blob), count, width), 7.0, np.float32) for width in (1, 4) for count in rows]

        def close(self):
            self.closed += 1

    backend = Backend()
    with SCRFDDetector.from_backend(backend, scales=64) as opened, pytest.raises(BackendError, match="between 0 and 1"):
        opened.detect(np.zeros((64, 64, 3), np.uint8))
    assert backend.closed == 1
    for broken, options in ((Backend(), {"tresh": 1}), (Backend(), {})):
        broken.outputs = broken.outputs[:1] if not options else broken.outputs
        with pytest.raises((OptionError, ModelFormatError)):
            SCRFDDetector.from_backend(broken, **options)
        assert broken.closed == 1


def test_closing_during_detect_async_raises_closed_error(detector):
    """Not CancelledError, which asyncio takes for the cancellation of the task."""
    started, go_on = threading.Event(), threading.Event()

    class Slow:
        layout = detector.layout
        input, outputs = detector._pipeline._backend.input, detector._pipeline._backend.outputs
        ranges, description = (), "slow"

        def run(self, blob):
            started.set()
            assert go_on.wait(30)
            return detector._pipeline._backend.run(blob)

        def close(self):
            pass

    async def close_while_waiting(slow):
        tasks = [asyncio.ensure_future(slow.detect_async(np.zeros((64, 64, 3), np.uint8))) for _ in range(3)]
        await asyncio.to_thread(started.wait, 30)
        closing = asyncio.ensure_future(asyncio.to_thread(slow.close))
        while not slow._pipeline._worker._closed:
            await asyncio.sleep(0.001)
        go_on.set()
        await closing
        return await asyncio.gather(*tasks, return_exceptions=True)

    slow = SCRFDDetector.from_backend(Slow(), scales=64)
    done, *waiting = asyncio.run(close_while_waiting(slow))
    assert len(done) == 0
    assert [type(error) for error in waiting] == [ClosedError] * 2


def test_from_pretrained(network_500m, people, detector):
    with SCRFDDetector.from_pretrained(device="auto", threshold=0.6) as opened:
        assert opened.options.threshold == 0.6
        assert len(opened.detect(people.image)) == len(detector.detect(people.image, threshold=0.6))


def test_invalid_arguments_of_the_constructors(network_500m, tmp_path):
    with pytest.raises(ModelNotFoundError):
        SCRFDDetector.from_onnx(tmp_path / "missing.onnx", device="cpu")
    with pytest.raises(OptionError, match="500m_bnkps"):
        SCRFDDetector.from_pretrained("500m_bnkp")
    with pytest.raises(ModelNotFoundError):
        SCRFDDetector(tmp_path / "missing.onnx")
    with pytest.raises(ModelNotFoundError):
        SCRFDDetector("missing.plan", device="cuda")
    with SCRFDDetector(str(network_500m), device="cpu", threshold=0.6) as opened:
        assert opened.options.threshold == 0.6
    with pytest.raises(OptionError, match="did you mean '10g_bnkps'"):
        SCRFDDetector("buffalo_l")
    with SCRFDDetector("det_500m", device="cpu", threshold=0.6) as opened:
        assert opened.options.threshold == 0.6
    with pytest.raises(OptionError, match="choices are"):
        SCRFDDetector.from_onnx(network_500m, device="tpu")
    with pytest.raises(DeviceError, match="cannot be used"):
        SCRFDDetector.from_onnx(network_500m, device="cuda:99")
    with pytest.raises(OptionError, match="no option 'tresh'"):
        SCRFDDetector.from_pretrained(tresh=0.4)


def test_onnx_file_of_another_model(network_500m):
    pytest.importorskip("onnxruntime")
    other = network_500m.with_name("w600k_mbf.onnx")
    with pytest.raises(ModelFormatError, match=r"w600k_mbf\.onnx: this is not a SCRFD model") as caught:
        SCRFDDetector.from_onnx(other, device="cpu")
    assert "512" in str(caught.value)
