"""Tests of both passes over animated images, which are written in their own format."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hidden_metadata import MARKER
from numpy.typing import NDArray
from PIL import Image

from scrfd_trt import Detections
from scrfd_trt._image_files import ImageFrame, Limits, open_image
from scrfd_trt._image_files.metadata import Metadata, read_metadata
from scrfd_trt._image_files.pillow_codec import pillow_has_avif
from scrfd_trt._image_files.read import frame_seconds
from scrfd_trt._image_files.write import write_image
from scrfd_trt.errors import ClosedError, OptionError, OutputError, VideoError
from scrfd_trt.video import EncodeOptions, VideoReader, detect_video, open_source, overlay_video
from scrfd_trt.video._animation_reader import AnimationReader, is_animation, limited
from scrfd_trt.video._animation_writer import AnimationWriter

pytest.importorskip("av")
SECONDS = (0.1, 0.25, 0.04, 0.06, 0.5, 0.1)
SIZE = (48, 32)
FACE = (12, 8, 36, 24)
"""Where the detector finds a face in every frame but the third."""
AVIF = pytest.param("avif", marks=pytest.mark.skipif(not pillow_has_avif(), reason="this Pillow has no AVIF"))
KINDS = ["gif", "png", "webp", AVIF]


class Middle:
    def stream(self, images: Iterable[Any], **_: Any) -> Iterator[Detections]:
        for number, _image in enumerate(images):
            boxes = np.array([] if number == 2 else [FACE], np.float32).reshape(-1, 4)
            yield Detections(boxes, [0.9] * len(boxes), None, image_size=SIZE)


def black(image: NDArray[np.uint8], faces: Detections) -> NDArray[np.uint8]:
    drawn = image.copy()
    for x1, y1, x2, y2 in faces.boxes.astype(int):
        drawn[y1:y2, x1:x2] = 0
    return drawn


def frames() -> list[ImageFrame]:
    found = []
    for number, seconds in enumerate(SECONDS):
        pixels = np.full((SIZE[1], SIZE[0], 3), (90, 150, 200), np.uint8)
        pixels[:4, 6 * number : 6 * number + 6] = (40, 60, 220)
        alpha = np.full((SIZE[1], SIZE[0]), 255, np.uint8)
        alpha[-6:, : 4 * number + 4] = 0
        found.append(ImageFrame(pixels, alpha, seconds))
    return found


def animated(path: Path, **options: Any) -> Path:
    file = io.BytesIO()
    write_image(file, iter(frames()), path.suffix, animation=True, count=len(SECONDS), **{"loops": 2, **options})
    path.write_bytes(file.getvalue())
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_animations_are_written_in_their_format(kind: str, tmp_path: Path) -> None:
    title = Metadata({"title": MARKER.decode()})
    source = animated(tmp_path / f"a.{kind}", metadata=title)
    output = tmp_path / f"b.{kind}"
    summary = overlay_video(source, output, Middle(), black)
    assert summary.frames == len(SECONDS)
    file = open_image(output)
    assert (file.count, file.is_animation, file.size) == (len(SECONDS), True, SIZE)
    assert file.loops == (0 if kind == "avif" else 2)
    for one, other in zip(file.frames(), frames(), strict=True):
        assert one.seconds == other.seconds
        assert one.alpha is not None
        assert other.alpha is not None
        np.testing.assert_allclose(one.alpha, other.alpha, atol=40 if kind == "avif" else 0)
        assert one.pixels[10:22, 14:34].max() <= (40 if kind in ("webp", "avif") else 0)  # the third frame, too
        np.testing.assert_allclose(one.pixels[5, 2:8], other.pixels[5, 2:8], atol=12)
    assert MARKER not in output.read_bytes()


def test_metadata_is_kept_on_request(tmp_path: Path) -> None:
    kept = Metadata({"title": "Street", "latitude": "48.00000000", "longitude": "2.00000000"})
    source = animated(tmp_path / "a.webp", metadata=kept)
    for location in False, True:
        with (
            open_source(source) as reader,
            AnimationWriter(
                tmp_path / f"{location}.webp", reader, keep_metadata=True, keep_location=location
            ) as writer,
        ):
            for frame in reader:
                writer.write(frame)
        found = read_metadata((tmp_path / f"{location}.webp").read_bytes(), "webp")
        assert found == kept.kept(descriptive=True, location=location)


@pytest.mark.parametrize("kind", KINDS)
def test_times_are_read(kind: str, tmp_path: Path) -> None:
    source = animated(tmp_path / f"a.{kind}")
    with open_source(source) as reader:
        assert isinstance(reader, AnimationReader)
        assert reader.info.frames == len(SECONDS)
        assert reader.info.duration == pytest.approx(sum(SECONDS))
        assert float(reader.info.rate) == pytest.approx(len(SECONDS) / sum(SECONDS), rel=1e-3)
        times = [frame.pts_seconds for frame in reader]
        assert times == pytest.approx(np.cumsum((0, *SECONDS))[:-1].tolist(), abs=0.001)
        assert frame_seconds(reader.file) == pytest.approx(SECONDS)


def test_frames_without_a_duration_have_increasing_times(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", SIZE, (number * 40, 0, 0)) for number in range(4)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    with open_source(tmp_path / "a.gif") as reader:
        assert [frame.pts_seconds for frame in reader] == pytest.approx([0, 0.1, 0.2, 0.3])
        assert reader.info.duration == pytest.approx(0.4)
    overlay_video(tmp_path / "a.gif", tmp_path / "b.gif", Middle(), black)
    assert frame_seconds(open_image(tmp_path / "b.gif")) == [0.0] * 4


def test_animations_become_videos_on_white(tmp_path: Path) -> None:
    source = animated(tmp_path / "a.gif")
    overlay_video(source, tmp_path / "b.mp4", Middle(), black)
    with VideoReader(tmp_path / "b.mp4") as video:
        found = list(video)
    assert [frame.pts_seconds for frame in found] == pytest.approx(np.cumsum((0, *SECONDS))[:-1].tolist(), abs=0.001)
    assert found[5].image[-4:, 2:8].min() > 240
    assert found[2].image[12:20, 16:32].max() < 20


def test_faces_of_animations_are_saved(tmp_path: Path) -> None:
    source = animated(tmp_path / "a.png")
    assert detect_video(source, tmp_path / "a.faces.jsonl", Middle()).frames == len(SECONDS)


def test_still_images_are_not_animations(tmp_path: Path) -> None:
    Image.new("RGB", SIZE).save(tmp_path / "a.png")
    with open_source(tmp_path / "a.png") as reader:
        assert isinstance(reader, VideoReader)


def test_videos_are_not_written_as_images(tmp_path: Path) -> None:
    source = animated(tmp_path / "a.gif")
    overlay_video(source, tmp_path / "a.mp4", Middle(), black)
    with pytest.raises(OptionError, match=r"videos are not written as \.gif"):
        overlay_video(tmp_path / "a.mp4", tmp_path / "b.gif", Middle(), black)


def test_a_size_that_does_not_fit_is_refused_before_detection(tmp_path: Path) -> None:
    pictures = [Image.new("L", (16_400, 2), number) for number in (10, 200)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])

    class Unused:
        def stream(self, *_: Any, **__: Any) -> Iterator[Detections]:
            raise AssertionError

    with pytest.raises(
        OutputError, match=r"b\.webp: 16400×2 pixels do not fit: \.webp files have at most 16383 a side"
    ):
        overlay_video(tmp_path / "a.gif", tmp_path / "b.webp", Unused(), black)


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    def fails(image: NDArray[np.uint8], faces: Detections) -> NDArray[np.uint8]:
        raise RuntimeError("no")

    source = animated(tmp_path / "a.webp")
    with pytest.raises(RuntimeError, match="no"):
        overlay_video(source, tmp_path / "b.webp", Middle(), fails)
    assert [path.name for path in tmp_path.iterdir()] == ["a.webp"]
    with pytest.raises(OptionError, match="is the input"):
        overlay_video(source, source, Middle(), black)


def test_a_cut_animation_is_an_error_unless_kept(tmp_path: Path) -> None:
    source = animated(tmp_path / "a.gif")
    data = source.read_bytes()
    source.write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(VideoError, match="cut off"):
        open_source(source)
    overlay_video(source, tmp_path / "b.gif", Middle(), black, damaged="keep")
    assert 2 <= open_image(tmp_path / "b.gif").count < len(SECONDS)


def test_closed_readers_and_writers_say_so(tmp_path: Path) -> None:
    source = animated(tmp_path / "a.webp")
    with open_source(source) as reader:
        assert isinstance(reader, AnimationReader)
        frame = next(reader.items())
        with (
            pytest.raises(OutputError, match="there is no frame to write"),
            AnimationWriter(tmp_path / "b.webp", reader),
        ):
            pass
        writer = AnimationWriter(tmp_path / "c.webp", reader, EncodeOptions(quality=5))
        writer.write(frame)
        writer.close()
        with pytest.raises(ClosedError):
            writer.write(frame)
    with pytest.raises(ClosedError):
        next(reader.items())


def test_limits_hold_for_animations(tmp_path: Path) -> None:
    path = animated(tmp_path / "a.gif")
    with limited(Limits(pixels=100, option="max_pixels")):
        assert not is_animation(path)
        with pytest.raises(VideoError, match=r"more than 0\.0001 million: make it smaller") as error:
            open_source(path)
        assert error.value.fields == ("max_pixels",)
    open_source(path).close()
