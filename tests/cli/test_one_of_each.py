"""``anonymize`` over a folder with one file of each kind that people have, with the real model."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, ImageSequence, features

from scrfd_trt import samples
from scrfd_trt._image_files.icc import essential

av = pytest.importorskip("av")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.slow

Pixels = NDArray[np.uint8]
FACES = samples.load("group-640x480").faces.boxes
FRAMES, RATE, SOUND_RATE = 5, 25, 48_000
SECRET = b"hidden-original-picture"
"""Stands for an unblurred picture in metadata: no output may contain it."""


def scene() -> Pixels:
    """Return the scene that all files show, ``(480, 640, 3)`` BGR."""
    return samples.load("group-640x480").image


def write_all(folder: Path) -> None:
    """Write all files."""
    for name, data in photographs().items():
        (folder / name).write_bytes(data)
    for name, make in VIDEOS.items():
        make(folder / name)


def _pil(pixels: Pixels) -> Image.Image:
    return Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker of cameras"
    exif[0x9286] = SECRET  # a user comment
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 0.0)})
    return exif


def photographs() -> dict[str, bytes]:
    """Return the content of each photograph and of each file that is none, by name."""
    picture = _pil(scene())
    turned = picture.transpose(Image.Transpose.ROTATE_90)  # as a camera stores what orientation 6 turns upright
    erased = picture.copy()
    alpha = Image.new("L", picture.size, 255)
    alpha.paste(0, (0, 0, picture.width, 40))
    erased.putalpha(alpha)
    animation = [picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"sRGB", b"P3  ")
    deep = cv2.imencode(".png", scene().astype(np.uint16) * 257)[1].tobytes()
    jpeg = _saved(picture, "JPEG", quality=95)
    files = {
        "turned.jpg": _saved(turned, "JPEG", quality=95, exif=_exif(6)),
        "erased.png": _saved(erased, "PNG"),
        "animated.webp": _saved(animation[0], "WEBP", save_all=True, append_images=animation[1:], duration=200),
        "pages.tif": _saved(animation[0], "TIFF", save_all=True, append_images=animation[1:]),
        "print.jpg": _saved(picture.convert("CMYK"), "JPEG", quality=95),
        "deep.png": deep,
        "wide.jpg": _saved(picture, "JPEG", quality=95, icc_profile=icc),
        "motion.jpg": jpeg + b"MotionPhoto_Data" + SECRET,
        "moving.gif": _saved(animation[0], "GIF", save_all=True, append_images=animation[1:], duration=200, loop=0),
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "notes.txt": b"bread, milk\n",
        "next.jxl": b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(64),
        "without-suffix": jpeg,
    }
    if "avif" in _formats():
        files["turned.avif"] = _saved(turned, "AVIF", quality=95, exif=_exif(6))
    if "heif" in _formats():
        files["phone.heic"] = _saved(turned, "HEIF", quality=95, exif=_exif(6).tobytes())
    return files


def _formats() -> set[str]:
    found = {"avif"} if "avif" in features.get_supported() else set()
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return found
    register_heif_opener()
    return found | {"heif"}


def _video(
    codec: str,
    sound: str | None,
    *,
    pixel_format: str = "yuv420p",
    steps: Callable[[int], int] = lambda number: number,
    options: dict[str, str] | None = None,
    container_format: str | None = None,
    colors: tuple[int, int, int] | None = None,
) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with av.open(str(path), "w", format=container_format) as container:
            stream = container.add_stream(codec, rate=RATE, options=options or {})
            stream.width, stream.height, stream.pix_fmt = 640, 480, pixel_format
            stream.codec_context.time_base = stream.time_base = Fraction(1, RATE)
            if colors is not None:
                context = stream.codec_context
                context.color_primaries, context.color_trc, context.colorspace = colors
            audio = container.add_stream(sound, rate=SOUND_RATE) if sound else None
            if audio is not None:
                audio.layout, audio.bit_rate = "stereo", 128_000
            for number in range(FRAMES):
                frame = av.VideoFrame.from_ndarray(scene(), format="bgr24").reformat(format=pixel_format)
                frame.pts, frame.time_base = steps(number), Fraction(1, RATE)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
            if audio is not None:
                for one in _sound(audio):
                    container.mux(audio.encode(one))
                container.mux(audio.encode())

    return make


def _sound(stream: Any) -> Iterator[Any]:
    context = stream.codec_context
    length, size = FRAMES * SOUND_RATE // RATE, context.frame_size or 1024
    tone = np.sin(np.arange(length) * 2 * np.pi * 440 / SOUND_RATE) * 8000
    for start in range(0, length, size):
        part = np.repeat(tone[start : start + size].astype(np.int16), 2).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(part, format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
        yield frame


HDR10 = (9, 16, 9)  # BT.2020 primaries, PQ, BT.2020 matrix
VIDEOS: dict[str, Callable[[Path], None]] = {
    "pcm.mov": _video("libx264", "pcm_s16le"),
    "studio.mxf": _video("mpeg2video", "pcm_s16le"),
    "windows.wmv": _video("wmv2", "wmav2", container_format="asf", options={"b": "4000000"}),
    "receiver.ts": _video("mpeg2video", "mp2", options={"b": "6000000"}),
    "varying.mp4": _video("libx264", "aac", steps=lambda number: number * (number + 1) // 2),
    "phone.mp4": _video(
        "libx265",
        "aac",
        pixel_format="yuv420p10le",
        colors=HDR10,
        options={"x265-params": "log-level=error", "preset": "ultrafast"},
    ),
}


def are_covered(image: Pixels, boxes: NDArray[np.float32] = FACES) -> bool:
    """Return whether the middle of each face is black."""
    parts = []
    for x1, y1, x2, y2 in boxes:
        width, height = (x2 - x1) / 4, (y2 - y1) / 4
        parts.append(image[int(y1 + height) : int(y2 - height), int(x1 + width) : int(x2 - width)])
    return all(part.size and part.max() < 48 for part in parts)


def pictures(path: Path) -> Iterator[Pixels]:
    with Image.open(path) as file:
        for frame in ImageSequence.Iterator(file):
            upright = ImageOps.exif_transpose(frame.copy())
            yield cv2.cvtColor(np.asarray(upright.convert("RGB")), cv2.COLOR_RGB2BGR)


def profile(path: Path) -> bytes | None:
    with Image.open(path) as file:
        return file.info.get("icc_profile")


def frames(path: Path) -> list[Pixels]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def streams(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        return [stream.codec_context.codec.canonical_name for stream in container.streams]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("each")
    write_all(path)
    return path


@pytest.fixture
def copies(folder: Path, tmp_path: Path, run: Callable[..., Any]) -> tuple[Path, Any]:
    """The folder of the copies, and what the command printed."""
    target = tmp_path / "hidden"
    return target, run("anonymize", folder, "-o", target, "--replace-with", "solid")


def test_every_face_is_covered_and_every_failure_is_named(copies: tuple[Path, Any], folder: Path) -> None:
    target, ran = copies
    assert ran.code == 1
    assert "cut.jpg: " in ran.err
    assert "next.jxl" in ran.err
    done = {path.stem for path in target.iterdir()}
    assert done == {path.stem for path in folder.iterdir()} - {"cut", "next", "notes"}
    for path in target.iterdir():
        if path.suffix in {".mp4", ".mov", ".ts"}:
            shown = frames(path)
            assert len(shown) == FRAMES, path
            assert all(map(are_covered, shown)), path
        else:
            first, *others = pictures(path)
            assert are_covered(first), path
            mirrored = FACES[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (640, 0, 640, 0)
            assert len(others) == (path.stem in {"animated", "moving", "pages"}), path
            assert all(are_covered(other, mirrored) for other in others), path
        assert SECRET not in path.read_bytes(), path
    assert profile(target / "wide.jpg") == essential(profile(folder / "wide.jpg") or b"") is not None
    assert profile(target / "print.jpg") is None
    erased = cv2.imread(str(target / "erased.png"), cv2.IMREAD_UNCHANGED)
    assert erased.shape[2] == 4
    assert not erased[:40].any()
    assert erased[40:, :, 3].min() == 255
    sound = {path.name: streams(path)[1] for path in target.iterdir() if path.suffix in {".mp4", ".mov", ".ts"}}
    assert sound == {
        "pcm.mov": "pcm_s16le",
        "studio.mp4": "aac",
        "windows.mp4": "aac",
        "receiver.ts": "mp2",
        "varying.mp4": "aac",
        "phone.mp4": "aac",
    }
    with av.open(str(target / "phone.mp4")) as phone:
        assert (phone.streams.video[0].codec_context.codec_tag, phone.streams.video[0].pix_fmt) == (
            "hvc1",
            "yuv420p10le",
        )
    assert "encoded: audio wmav2 as aac" in ran.err
    assert "16 bits per channel are reduced to 8" in ran.err
