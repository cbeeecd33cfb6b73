"""Arguments that make no sense: every public function of the library raises ScrfdError, with one line."""

from __future__ import annotations

import asyncio
import os
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import scrfd_trt
from scrfd_trt import BackendError, Detection, Detections, ImageError, OptionError, SCRFDDetector, ScrfdError
from scrfd_trt import models as zoo
from scrfd_trt.backends import OnnxBackend, RecordedBackend

HUGE = 10**5000  # Python does not print it


class Failing:
    """An object whose array protocols fail with errors of their own."""

    ndim, shape = "many", (-1, "x")

    def __array__(self, *_, **__):
        raise LookupError("no array")

    def __dlpack_device__(self):
        raise RuntimeError("the library\nhas ended")

    def __dlpack__(self, **_):
        raise KeyError("no capsule")

    def __repr__(self):
        raise ZeroDivisionError


class Lying(np.ndarray):
    """An array that says that it is an image of float64."""

    dtype = np.dtype(np.float64)
    strides = (1 << 62, 3, 1)


class NoGpu:
    """An object that fails when it is asked whether it is on a GPU."""

    @property
    def __cuda_array_interface__(self):
        raise RuntimeError("requires grad")


VALUES = {
    "none": None,
    "true": True,
    "negative": -1,
    "zero": 0,
    "64 bits": 2**64,
    "huge": HUGE,
    "negative huge": -HUGE,
    "float": 0.5,
    "nan": float("nan"),
    "infinity": float("inf"),
    "large float": 1e308,
    "complex": 1j,
    "decimal": Decimal("NaN"),
    "fraction": Fraction(HUGE),
    "text": "x",
    "line feed": "a\nb",
    "long": "x" * 5000,
    "null": "a\0b",
    "surrogate": "\ud800",
    "bytes": b"\xff\0",
    "list": [1, [2]],
    "dict": {1: 2},
    "set": {1},
    "object": object(),
    "class": Failing,
    "failing": Failing(),
    "no gpu": NoGpu(),
    "empty array": np.empty(0),
    "objects": np.array([None, "x"], object),
    "structured": np.zeros((4, 4), [("a", np.uint8)]),
    "times": np.zeros((4, 4, 3), "datetime64[s]"),
    "complex image": np.zeros((4, 4, 3), complex),
    "five axes": np.zeros((1, 1, 1, 1, 1), np.uint8),
    "nan image": np.full((4, 4, 3), np.nan),
    "large image": np.full((4, 4, 3), 1e300),
    "integers": np.zeros((4, 4, 3), np.int64),
}


@pytest.fixture(params=list(VALUES), ids=list(VALUES))
def value(request):
    return VALUES[request.param]


@pytest.fixture(scope="module")
def detector(root):
    recording = root / "tests" / "data" / "recorded" / "500m_fp16.npz"
    with SCRFDDetector.from_backend(RecordedBackend(recording)) as opened:
        yield opened


def refused(call, *arguments, also=(), **options):
    """Call a function; it may succeed, or raise ScrfdError with one line."""
    try:
        result = call(*arguments, **options)
        return list(result) if hasattr(result, "__next__") else result
    except ScrfdError as error:
        found = error
    except also as error:
        return error
    assert "\n" not in str(found)
    assert len(str(found)) < 6000
    return found


def test_images(detector, value):
    image = np.zeros((8, 8, 3), np.uint8)
    for call in (detector.detect, lambda image: asyncio.run(detector.detect_async(image))):
        assert isinstance(refused(call, value), ScrfdError)
    for call in (detector.detect_batch, detector.submit, detector.stream, detector.detect_on_gpu):
        refused(call, value)
        assert isinstance(refused(call, [image, value]), ScrfdError)


def test_options_of_calls(detector, value):
    image = np.zeros((8, 8, 3), np.uint8)
    for name in ("threshold", "max_faces"):
        refused(detector.detect, image, **{name: value})
        refused(detector.submit, [], **{name: value})
    for name in ("batch", "in_flight", "threshold", "max_faces"):
        refused(detector.stream, [], **{name: value})


def test_options_of_detectors(value):
    for name in ("threshold", "iou", "scales", "max_faces", "color", "max_batch", "other"):
        refused(scrfd_trt.DetectorOptions, **{name: value})


def test_shapes_of_page_locked_memory(detector, value):
    refused(detector.pinned, value)
    for shape in ((value,), (4, value), (value, value, 3)):
        found = refused(detector.pinned, shape)
        assert isinstance(found, (OptionError, BackendError)), found
    for shape in ((2**62, 4), (2**40,), (1,) * 100, (2**31, 2**31, 3)):
        assert isinstance(refused(detector.pinned, shape), ScrfdError)


def test_constructors(value, tmp_path):
    paths = (TypeError,) if not isinstance(value, (str, os.PathLike)) else ()  # of pathlib
    for device in ("cpu", value):
        refused(SCRFDDetector.from_onnx, tmp_path / "none.onnx", device=device)
        refused(SCRFDDetector.from_engine, tmp_path / "none.plan", device=device)
    assert isinstance(refused(SCRFDDetector.from_onnx, value, device="cpu", also=paths), (ScrfdError, TypeError))
    refused(SCRFDDetector.from_engine, value, also=paths)
    refused(SCRFDDetector.from_pretrained, value, device="cpu")
    assert isinstance(refused(SCRFDDetector.from_backend, value), OptionError)
    refused(OnnxBackend, value, also=paths)
    refused(RecordedBackend, value, also=paths)
    refused(scrfd_trt.inspect_engine, value, also=paths)
    refused(scrfd_trt.build_engine, value, tmp_path / "out.plan", also=paths)
    refused(scrfd_trt.BuildOptions, sizes=value, batch=value)
    refused(scrfd_trt.samples.load, value)


@pytest.mark.parametrize("call", [zoo.get, zoo.find, zoo.status])
def test_models(value, call):
    assert isinstance(refused(call, value), ScrfdError)


def test_fetching_models(value):
    assert isinstance(refused(zoo.fetch, value, download=False), ScrfdError)
    refused(zoo.fetch, "10g", download=False, retries=value)


def test_unknown_home_folder(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for home in ("~nobody-with-this-name/x", "relative"):
        monkeypatch.setenv(zoo.HOME_VARIABLE, home)
        for call in (zoo.home, lambda: zoo.fetch("10g", download=False)):
            assert isinstance(refused(call), ScrfdError)


def test_columns(value):
    box, score, points = [[0, 0, 1, 1]], [0.5], [[[0, 0]] * 5]
    for columns in ((value, score), (box, value), (box, score, value), ([value], score), (box, [value])):
        refused(Detections, *columns, image_size=(8, 8))
    refused(Detections, box, score, points, image_size=(8, 8), track_ids=value, pts_seconds=value)
    refused(Detections, box, score, points, image_size=(8, 8), track_ids=[value])
    refused(Detections, box, score, image_size=value)
    refused(Detections, box, score, image_size=(value, value))
    refused(Detections.from_rows, value, (8, 8))
    refused(Detections.from_rows, [value], (8, 8))
    refused(Detections.from_json, value)
    refused(Detections.from_supervision, value, (8, 8))
    refused(Detection, box=value, score=value, landmarks=value)
    refused(Detection, box=(0, 0, value, value), score=0.5)


def test_methods_of_detections(value):
    found = Detections([[0, 0, 4, 4]], [0.5], [[[0, 0], [3, 0], [1, 1], [0, 3], [3, 3]]], image_size=(8, 8))
    image = np.zeros((8, 8, 3), np.uint8)
    for call in (found.crop, found.align):
        assert isinstance(refused(call, value), ScrfdError)
        refused(call, image, value)
    refused(lambda: found[value], also=IndexError)
    refused(lambda: found[[value]], also=IndexError)


def test_arrays_that_lie_are_read_as_what_they_are(detector):
    image = np.full((8, 8, 3), 7, np.uint8).view(Lying)
    assert detector._pipeline.prepare_image(image).dtype == np.uint8
    assert detector._pipeline.prepare_image(image[:, ::-1]).strides == (24, 3, 1)


@pytest.mark.parametrize("error", [LookupError("a\nb"), MemoryError(), RuntimeError()])
def test_errors_of_foreign_arrays(detector, error):
    class Foreign:
        def __dlpack_device__(self):
            raise error

    with pytest.raises(ImageError, match="does not say where its memory is"):
        detector.detect(Foreign())
