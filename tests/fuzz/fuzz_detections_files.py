"""Detections files: changed bytes, and lines of JSON whose values are of other types or out of range."""

from __future__ import annotations

import json
import tempfile
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from mutations import File, edge_numbers, mutated

import overlays
from scrfd_trt.video import FacesReader, FacesWriter

SECONDS = 10
MEBIBYTES = 128
POINTS = np.array([[3, 4], [7, 4], [5, 6], [4, 8], [6, 8]], float)


@lru_cache
def samples() -> list[File]:
    """Return a detections file of three frames."""
    header = {"format": "scrfd_trt.faces", "version": 1, "video": "a.mp4", "size": [64, 48], "rate": 10.0}
    face = {"track": 1, "box": [1.0, 2.0, 30.0, 40.0], "score": 0.9, "landmarks": POINTS.tolist(), "from": "detected"}
    frames = [{"frame": number, "pts_seconds": number / 10, "faces": [face] * number} for number in range(3)]
    lines = "".join(json.dumps(line) + "\n" for line in (header, *frames))
    return [File("a.faces.jsonl", lines.encode())]


def json_values() -> st.SearchStrategy[Any]:
    """Return JSON values, with numbers out of range."""
    leaves = st.one_of(st.none(), st.booleans(), edge_numbers(), st.text(max_size=8))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
        max_leaves=8,
    )


@st.composite
def other_values(draw: st.DrawFn) -> File:
    """Return the sample with some values replaced."""
    name, content = samples()[0]
    lines = [json.loads(line) for line in content.splitlines()]
    for _ in range(draw(st.integers(1, 3))):
        node, parent, key = lines[draw(st.integers(0, len(lines) - 1))], None, None
        while isinstance(node, (dict, list)) and node and (parent is None or draw(st.integers(0, 3))):
            parent, key = node, draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            node = parent[key]
        if parent is not None:
            parent[key] = draw(json_values())
        lines = json.loads(json.dumps(lines))  # the same face is in several frames
    ends = draw(st.sampled_from(["\n", "\r\n", "\n\n", " \n"]))
    return File(name, "".join(json.dumps(line) + ends for line in lines).encode())


def cases() -> st.SearchStrategy[File]:
    """Return detections files."""
    return st.one_of(mutated(samples()), other_values())


def check(case: File) -> None:
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
        assert [len(frame.faces) for frame in again] == [len(frame.faces) for frame in frames]
        for before, after in zip(frames, again, strict=True):
            for one, other in zip(before.faces, after.faces, strict=True):
                assert one.track == other.track
                assert np.allclose(one.box, other.box, rtol=1e-6, atol=0.01)


@lru_cache
def overlays_drawn() -> list[overlays.Overlay]:
    """Return overlays of several kinds."""
    return [overlays.create(name) for name in ("solid", "pixelate", "landmarks")]
