"""Detections, in memory and in files: values of other types or out of range, changed bytes, and all that uses them."""

from __future__ import annotations

import json
import tempfile
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mutations import File, changed_json, edge_numbers, json_values, mutated
from worker import attempt

import overlays
from scrfd_trt import Detections
from scrfd_trt.video import FacesReader, FacesWriter

SECONDS = 10
MEBIBYTES = 256
KINDS = ["f2", "f4", "f8", "i1", "i8", "u8", "?", "c8", "U2", "M8[s]"]
POINTS = [[3.0, 4.0], [7.0, 4.0], [5.0, 6.0], [4.0, 8.0], [6.0, 8.0]]
FACE = {"box": [1.0, 2.0, 30.0, 40.0], "score": 0.9, "landmarks": POINTS}
FILE = {
    "image_size": [64, 48],
    "landmarks": True,
    "track_ids": [1, 2],
    "pts_seconds": 0.5,
    "faces": [FACE, FACE | {"score": 0.5}],
}


def numbers() -> st.SearchStrategy[Any]:
    """Return finite numbers of detections, and others."""
    return st.one_of(st.floats(-100, 200, width=32), st.sampled_from([1e30, -3e38, 3e38]), edge_numbers())


def column(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """Return an array that mostly has this shape."""
    shapes = st.one_of(st.just(shape), arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    kinds = st.one_of(st.just("f4"), st.sampled_from(KINDS))
    plain = st.tuples(kinds, shapes).flatmap(lambda pair: arrays.arrays(pair[0], pair[1]))
    count = int(np.prod(shape))
    return st.one_of(
        st.lists(numbers(), min_size=count, max_size=count).map(lambda values: _reshaped(values, shape)),
        plain,
        json_values(),
    )


def _reshaped(values: list[Any], shape: tuple[int, ...]) -> Any:
    return np.array(values, object).reshape(shape).tolist()


@st.composite
def columns(draw: st.DrawFn) -> tuple[str, Any]:
    """Return the arguments of the constructor."""
    count = draw(st.integers(0, 4))
    boxes = np.sort(draw(arrays.arrays("f4", (count, 2, 2), elements=st.floats(-50, 150, width=32))), axis=1)
    given: dict[str, Any] = {
        "boxes": boxes.reshape(count, 4),
        "scores": draw(arrays.arrays("f4", count, elements=st.floats(0, 1, width=32))),
        "landmarks": draw(arrays.arrays("f4", (count, 5, 2), elements=st.floats(-(2.0**127), 2.0**127, width=32))),
        "image_size": (64, 48),
    }
    shapes = {"boxes": (count, 4), "scores": (count,), "landmarks": (count, 5, 2), "track_ids": (count,)}
    for name in draw(st.lists(st.sampled_from(sorted(shapes)), max_size=2)):
        given[name] = draw(column(shapes[name]))
    for name in draw(st.lists(st.sampled_from(["image_size", "pts_seconds"]), max_size=1)):
        given[name] = draw(st.one_of(json_values(), st.tuples(edge_numbers(), edge_numbers()), edge_numbers()))
    return "columns", given


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, Any]:
    """Return JSON of detections, with other values or changed characters."""
    text = json.dumps(changed_json(draw, FILE))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.text(max_size=4)) + text[at + draw(st.integers(0, 4)) :]
    return "json", text


@lru_cache
def samples() -> list[File]:
    """Return a detections file of three frames."""
    header = {"format": "scrfd_trt.faces", "version": 1, "video": "a.mp4", "size": [64, 48], "rate": 10.0}
    face = FACE | {"track": 1, "from": "detected"}
    frames = [{"frame": number, "pts_seconds": number / 10, "faces": [face] * number} for number in range(3)]
    lines = "".join(json.dumps(line) + "\n" for line in (header, *frames))
    return [File("a.faces.jsonl", lines.encode())]


@st.composite
def files(draw: st.DrawFn) -> File:
    """Return the sample with some values replaced."""
    name, content = samples()[0]
    lines = changed_json(draw, [json.loads(line) for line in content.splitlines()])
    ends = draw(st.sampled_from(["\n", "\r\n", "\n\n", " \n"]))
    return File(name, "".join(json.dumps(line) + ends for line in lines).encode())


def cases() -> st.SearchStrategy[tuple[str, Any]]:
    """Return the way to make detections, and its argument."""
    rows = st.fixed_dictionaries({"box": json_values(), "score": numbers(), "landmarks": json_values()})
    in_files = st.tuples(st.just("file"), st.one_of(mutated(samples()), files()))
    return st.one_of(columns(), texts(), st.tuples(st.just("row"), rows), in_files, in_files)


def check(case: tuple[str, Any]) -> None:
    """Make detections, and use them."""
    way, given = case
    if way == "file":
        check_file(given)
    elif way == "row":
        Detections.from_rows([given], (64, 48))
    else:
        check_detections(way, given)


def check_detections(way: str, given: Any) -> None:
    """Make detections, and call all methods."""
    found = Detections.from_json(given) if way == "json" else Detections(**given)
    _check_columns(found)
    again = Detections.from_json(found.to_json())
    assert again == found
    assert np.array_equal(found[::-1].scores, found.scores[::-1])  # rows keep their order
    assert len(found.to_csv(image="a\n,b").splitlines()) >= 1 + len(found)
    assert len(found.to_coco()) == len(found)
    _check_columns(found[::2])
    _check_columns(found[found.scores > 0.5])
    width, height = found.image_size
    if width * height <= 10**6:
        image = np.zeros((height, width, 3), np.uint8)
        for margin in (0.0, -0.4, 1e308):
            assert all(crop.size <= image.size for crop in found.crop(image, margin))
        attempt(found.align, image)


def _check_columns(found: Detections) -> None:
    count = len(found)
    assert found.boxes.shape == (count, 4)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert np.isfinite(found.boxes).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert found.landmarks is None or found.landmarks.shape == (count, 5, 2)
    assert found.track_ids is None or (found.track_ids.shape == (count,) and (found.track_ids >= 0).all())
    assert all(isinstance(side, int) and side > 0 for side in found.image_size)


def check_file(case: File) -> None:
    """Read a file to its end, draw its faces, write them, and read them again."""
    with tempfile.TemporaryDirectory() as folder:
        path, copy = Path(folder) / case.name, Path(folder) / "copy.faces.jsonl"
        path.write_bytes(case.content)
        with FacesReader(path) as reader:
            frames = list(reader)
            size = reader.header.size
        image = np.zeros((48, 64, 3), np.uint8)
        for frame in frames:
            faces = frame.detections((64, 48))
            for overlay in overlays_drawn():
                overlay(image, faces)
        info: Any = SimpleNamespace(name="a.mp4", size=size, rate=10)
        with FacesWriter(copy, info) as writer:
            for frame in frames:
                writer.write(frame)
        with FacesReader(copy) as reader:
            again = list(reader)
        assert [len(frame) for frame in again] == [len(frame) for frame in frames]
        for before, after in zip(frames, again, strict=True):
            for one, other in zip(before, after, strict=True):
                assert one.track == other.track
                assert np.allclose(one.box, other.box, rtol=1e-6, atol=0.01)


@lru_cache
def overlays_drawn() -> list[overlays.Overlay]:
    """Return overlays of several kinds."""
    return [overlays.create(name) for name in ("solid", "pixelate", "landmarks")]
