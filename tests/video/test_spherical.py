"""360° and stereoscopic videos: what says so is kept."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scrfd_trt.video import EncodeOptions, VideoReader, VideoWriter, detect_video, render_video
from scrfd_trt.video._spherical import Spherical, insert_boxes

pytest.importorskip("av")
Make = Callable[..., Path]
TURN = 1 << 16  # a degree
FORMS = {
    "sphere": Spherical(0, (30 * TURN, -5 * TURN, 2 * TURN)),
    "stereoscopic sphere": Spherical(0, stereo=1),
    "tile": Spherical(2, bounds=(1 << 30, 1 << 29, 1 << 28, 1 << 27)),
    "cube map": Spherical(1, padding=3, stereo=2),
    "flat stereoscopic": Spherical(None, stereo=2),
}


def rewrite(source: Path, target: Path, **options: Any) -> VideoWriter:
    with VideoReader(source) as reader, VideoWriter(target, reader, EncodeOptions(**options)) as writer:
        for frame in reader:
            writer.write(frame)
    return writer


def write_sphere(clip: Make, form: Spherical) -> Path:
    path = clip(frames=4)
    path.write_bytes(insert_boxes(path.read_bytes(), form.boxes()))
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_projection_is_kept(form: str, suffix: str, clip: Make) -> None:
    source = write_sphere(clip, FORMS[form])
    target = source.with_name(f"out{suffix}")
    assert rewrite(source, target).omitted == []
    with VideoReader(target) as reader:
        assert reader.info.spherical == FORMS[form]
        assert len(list(reader)) == 4
    if suffix in (".mp4", ".mov"):
        assert (b"sv3d" in target.read_bytes(), b"st3d" in target.read_bytes()) == (
            FORMS[form].projection is not None,
            FORMS[form].stereo > 0,
        )


@pytest.mark.parametrize(("codec", "suffix"), [("hevc", ".mp4"), ("av1", ".mp4"), ("mpeg4", ".mov"), ("hevc", ".mov")])
def test_projection_is_kept_with_each_codec(codec: str, suffix: str, clip: Make) -> None:
    source = write_sphere(clip, FORMS["sphere"])
    out, plain = source.with_name(f"out{suffix}"), source.with_name(f"plain{suffix}")
    rewrite(source, out, codec=codec)
    rewrite(clip("ordinary.mp4", frames=4), plain, codec=codec)
    with VideoReader(out) as reader, VideoReader(plain) as other:
        assert reader.info.spherical == FORMS["sphere"]
        assert (reader.info.codec, reader.info.rate) == (other.info.codec, other.info.rate)
        for one, two in zip(reader, other, strict=True):
            tolerance = 16 if codec == "av1" else 0  # SVT-AV1's threads do not always write the same
            np.testing.assert_allclose(one.image.astype(int), two.image.astype(int), rtol=0, atol=tolerance)


def test_containers_without_a_place_for_it_are_reported(clip: Make) -> None:
    source = write_sphere(clip, FORMS["sphere"])
    for suffix in (".ts", ".avi"):
        assert rewrite(source, source.with_name(f"out{suffix}")).omitted == ["360° projection"]


def test_projections_without_boxes_are_reported() -> None:
    side_data = {"SPHERICAL": struct.pack("=4i5I", 5, 0, 0, 0, 0, 0, 0, 0, 0)}
    found = Spherical.from_side_data(side_data)
    assert found == Spherical(5)
    assert not found.is_writable


def test_360_degree_videos_give_a_warning(clip: Make, caplog: pytest.LogCaptureFixture) -> None:
    class NoFaces:
        def stream(self, images: Any, **_: Any) -> Any:
            from scrfd_trt import Detections

            for image in images:
                yield Detections.empty(image_size=image.shape[1::-1])

    source = write_sphere(clip, FORMS["sphere"])
    faces = source.with_name("clip.faces.jsonl")
    detect_video(source, faces, NoFaces())
    with caplog.at_level("WARNING", "scrfd_trt"):
        render_video(source, source.with_name("out.mp4"), faces, lambda image, faces: image)
    assert [record.message.partition("; ")[0] for record in caplog.records] == [f"{source}: this is a 360° video"]
