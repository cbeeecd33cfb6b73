"""All calls of the fuzzer with a fixed list of arguments that make no sense: each raises ScrfdError, with one line."""

from __future__ import annotations

import sys
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scrfd_trt import Detection, Detections, ImageError, ScrfdError, models

pytest.importorskip("hypothesis")

sys.path.append(str(Path(__file__).parent))
from fuzz_calls import CALLS, FACES, detector
from worker import attempt

HUGE = 10**5000  # Python does not print it


class Failing:
    """An object whose array protocols fail with errors of their own."""

    ndim, shape = "many", (-1, "x")

    def __array__(self, *_: Any, **__: Any) -> None:
        raise LookupError("no array")

    def __dlpack_device__(self) -> None:
        raise RuntimeError("the library\nhas ended")

    def __dlpack__(self, **_: Any) -> None:
        raise KeyError("no capsule")

    def __repr__(self) -> str:
        raise ZeroDivisionError


class Lying(np.ndarray):
    """An array that says that it is an image of float64."""

    dtype = np.dtype(np.float64)
    strides = (1 << 62, 3, 1)


class NoGpu:
    """An object that fails when it is asked whether it is on a GPU."""

    @property
    def __cuda_array_interface__(self) -> None:
        raise RuntimeError("requires grad")


VALUES: list[Any] = [
    *(None, True, -1, 0, 2**64, HUGE, -HUGE, 0.5, float("nan"), float("inf"), 1e308, 1j),
    *(Decimal("NaN"), Fraction(HUGE)),
    *("x", "a\nb", "x" * 5000, "a\0b", "\ud800", b"\xff\0"),
    *([1, [2]], {1: 2}, {1}, object(), Failing, Failing(), NoGpu()),
    *(np.empty(0), np.array([None, "x"], object), np.zeros((4, 4), [("a", np.uint8)])),
    *(np.zeros((4, 4, 3), "datetime64[s]"), np.zeros((4, 4, 3), complex), np.zeros((1, 1, 1, 1, 1), np.uint8)),
    *(np.full((4, 4, 3), np.nan), np.full((4, 4, 3), 1e300), np.zeros((4, 4, 3), np.int64)),
]
REFUSED = (
    *("detect", "detect_async", "detect_batch of two", "submit", "stream", "detect_on_gpu", "backend", "find"),
    *("model", "fetch", "status", "crop image", "align image"),
)
"""Calls that accept none of the values."""


@pytest.mark.parametrize("name", sorted(CALLS))
def test_absurd_arguments(name: str) -> None:
    for value in VALUES:
        error = attempt(CALLS[name], value)
        assert error is None or len(str(error)) < 6000
        assert error is not None or name not in REFUSED, f"value {VALUES.index(value)} is accepted"


@pytest.mark.parametrize("shape", [(2**62, 4), (2**40,), (1,) * 100, (2**31, 2**31, 3)])
def test_absurd_shapes_of_page_locked_memory(shape: tuple[int, ...]) -> None:
    with pytest.raises(ScrfdError):
        detector().pinned(shape)


def test_columns() -> None:
    box, score, points = [[0, 0, 1, 1]], [0.5], [[[0, 0]] * 5]
    for value in VALUES:
        for columns in ((value, score), (box, value), (box, score, value), ([value], score), (box, [value])):
            attempt(lambda given: Detections(*given, image_size=(8, 8)), columns)
        more = {"track_ids": [value]}, {"track_ids": value, "pts_seconds": value}, {"image_size": (value, value)}
        for options in more:
            attempt(lambda given: Detections(box, score, points, **{"image_size": (8, 8), **given}), options)
        attempt(Detections.empty, value)
        attempt(Detections.from_rows, [value], (8, 8))
        attempt(Detections.from_json, value)
        for call in (FACES.plot, FACES.nms, FACES.inside, Detections.concat):
            attempt(call, value)
        attempt(lambda given: Detection(box=(0, 0, given, given), score=0.5, landmarks=given), value)


def test_rows_that_do_not_exist() -> None:
    for value in (*VALUES, *([value] for value in VALUES)):
        with suppress(IndexError):
            attempt(FACES.__getitem__, value)


def test_unknown_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for home in ("~nobody-with-this-name/x", "relative"):
        monkeypatch.setenv(models.HOME_VARIABLE, home)
        for call in (models.home, lambda: models.fetch("10g", download=False)):
            with pytest.raises(ScrfdError):
                call()


def test_arrays_that_lie_are_read_as_what_they_are() -> None:
    image = np.full((8, 8, 3), 7, np.uint8).view(Lying)
    assert detector()._pipeline.prepare_image(image).dtype == np.uint8
    assert detector()._pipeline.prepare_image(image[:, ::-1]).strides == (24, 3, 1)


@pytest.mark.parametrize("error", [LookupError("a\nb"), MemoryError(), RuntimeError()])
def test_errors_of_foreign_arrays(error: Exception) -> None:
    class Foreign:
        def __dlpack_device__(self) -> None:
            raise error

    with pytest.raises(ImageError, match="does not say where its memory is"):
        detector().detect(Foreign())
