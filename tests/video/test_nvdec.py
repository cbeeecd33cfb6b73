"""Videos decoded by NVDEC: a decoder, a GPU and its memory that exist on the host only, with FFmpeg's own pixels."""

from __future__ import annotations

import ctypes
import gc
import logging
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from engine_backend import EngineBackend

import overlays
from overlays import _gpu as overlays_on_gpu
from scrfd_trt import Detections, SCRFDDetector, VideoError, YUVImage
from scrfd_trt.video import (
    EncodeOptions,
    TrackingOptions,
    VideoReader,
    VideoWriter,
    _colors,
    _nvdec,
    _pyav,
    _reader,
    find_faces,
)
from scrfd_trt.video._animation_writer import open_writer
from scrfd_trt.video._first_pass import detect_frames, frame_device, make_preview, one_opencv_thread

av = pytest.importorskip("av")
pytestmark = pytest.mark.slow


class Proxy:
    """Gives and takes all attributes of another object but its own."""

    def __init__(self, inner):
        object.__setattr__(self, "inner", inner)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __setattr__(self, name, value):
        setattr(self.inner, name, value)


class GpuPlane(Proxy):
    """A plane that PyAV has in GPU memory: an address, and no buffer."""

    def __dlpack_device__(self):
        return 2, 0

    def __buffer__(self, flags):
        raise TypeError("Hardware frame planes do not support the Python buffer protocol")


class GpuPicture(Proxy):
    """A frame as PyAV 18 leaves it on the GPU."""

    format = av.VideoFormat("cuda", 2, 2)
    sw_format = property(lambda self: self.inner.format)
    planes = property(lambda self: tuple(map(GpuPlane, self.inner.planes)))
    is_corrupt = False  # NVDEC conceals damage


@pytest.fixture
def nvdec(monkeypatch, gpu):
    """Let NVDEC decode what FFmpeg decodes, to frames of ``form``; counts what is opened."""
    state = SimpleNamespace(opened=0, form="nv12", streams=[])
    open_input, side_data, decode = _pyav.open_input, _colors.side_data, _pyav.decode

    def open_on_gpu(*args, hwaccel=None, **kwargs):
        container = open_input(*args, **kwargs)
        if hwaccel is not None:
            assert hwaccel.options == {"primary_ctx": "0", "current_ctx": "1"}
            assert len(gpu.current) == 1
            state.opened += 1
            state.streams += container.streams
        return container

    def decode_on_gpu(packet):
        pictures = decode(packet)
        if not any(packet.stream is stream for stream in state.streams):
            return pictures
        moved = [GpuPicture(picture.reformat(format=state.form, threads=1)) for picture in pictures]
        return [_colors.copy_tags(*pair) for pair in zip(moved, pictures, strict=True)]

    monkeypatch.setattr(_pyav, "open_input", open_on_gpu)
    monkeypatch.setattr(_pyav, "decode", decode_on_gpu)
    monkeypatch.setattr(_colors, "side_data", lambda picture: side_data(getattr(picture, "inner", picture)))
    return state


def noise(number, size):
    return np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)


def both(path, **options):
    """All frames of a video, from the CPU and from the GPU."""
    readers = [VideoReader(path, device=device, **options) for device in ("cpu", "cuda:0")]
    with closing(readers[0]), closing(readers[1]):
        assert [reader.device for reader in readers] == ["cpu", "cuda:0"]
        assert readers[0].info == readers[1].info
        return zip(*map(list, readers), strict=True)


def samples(picture, name):
    return _colors.planes(_colors.convert(picture, name))


@pytest.mark.parametrize("clip_options", [{}, {"colours": (9, 2, 1, 9)}])
def test_frames_on_the_gpu_are_those_of_the_cpu(clip, nvdec, clip_options):
    for one, other in both(clip(frames=5, **{"pixel_format": "yuv420p", "draw": noise, **clip_options})):
        assert (one.number, one.pts_seconds, one.picture.pts) == (other.number, other.pts_seconds, other.picture.pts)
        assert other.is_on_gpu
        name = one.picture.format.name
        for mine, theirs in zip(samples(one.picture, name), samples(other.picture, name), strict=True):
            assert np.array_equal(mine, theirs)
        assert np.array_equal(one.image, other.image)
    assert nvdec.opened == 1


def test_ten_bits(clip, nvdec):
    nvdec.form = "p010le"
    path = clip(frames=3, pixel_format="yuv420p10le", codec="libx265", colours=(9, 1, 16, 9), draw=noise)
    for one, other in both(path):
        for mine, theirs in zip(
            samples(one.picture, "yuv420p10le"), samples(other.picture, "yuv420p10le"), strict=True
        ):
            assert np.array_equal(mine, theirs)
        assert other.yuv.matrix == "bt2020"
        assert _colors.bit_depth(other.picture) == 10


@pytest.mark.parametrize("size", [(64, 36), (322, 182), (1920, 1080)])
@pytest.mark.parametrize("form", ["nv12", "p010le"])
def test_previews_are_those_of_the_host(gpu, size, form):
    planar = "yuv420p" if form == "nv12" else "yuv420p10le"
    host = av.VideoFrame.from_ndarray(noise(1, size), "bgr24").reformat(format=planar)
    with closing(_nvdec.Previewer("cuda:0")) as maker:
        pending = [maker.start(_nvdec.yuv_image(GpuPicture(host.reformat(format=form)))) for _ in range(19)]
        found = [_nvdec.finished(pending.pop(0)) for _ in range(19)]
    expected = make_preview(host)
    assert np.abs(found[0].thumbnail - expected.thumbnail).max() <= 1.01 * (1 if form == "nv12" else 0.25)
    assert np.abs(found[0].grey.astype(int) - expected.grey).max() <= 1
    assert all(np.array_equal(one, two) for other in found for one, two in zip(found[0], other, strict=True))
    assert gpu.launches == ["thumbnails"] * 4
    assert gpu.leaks == {}


def test_parts_of_frames_are_copied_down(clip, nvdec, monkeypatch):
    monkeypatch.setattr(_nvdec, "copy", lambda _, *how: ctypes.memmove(*how))  # these frames are in the host's memory
    for host, other in both(
        clip(frames=1, pixel_format="yuv420p", draw=lambda *_: np.full((90, 150, 3), 90, np.uint8), size=(150, 90))
    ):
        for box in ((0, 0, 150, 90), (20, 30, 61, 77), (100, 60, 400, 300)):
            left, top, right, bottom = box
            part = host.image[top:bottom, left:right]
            found = _nvdec.region(other.yuv, *box)
            assert found.shape == part.shape
            assert np.abs(found.astype(int) - part).max() <= 3
        assert _nvdec.region(other.yuv, 200, 120, 300, 300).size == 0


@pytest.mark.usefixtures("nvdec")
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p"])
def test_encoders_get_the_same_frames_from_the_gpu(clip, gpu, tmp_path, pixel_format):
    path, prepared = clip(frames=4, pixel_format="yuv420p", draw=noise), []
    for device in ("cpu", "cuda:0"):
        with (
            VideoReader(path, device=device) as reader,
            VideoWriter(tmp_path / f"{device[:3]}.mp4", reader, EncodeOptions(pixel_format=pixel_format)) as writer,
        ):
            for frame in reader:
                picture = writer.prepare(frame)
                prepared.append((picture.pts, picture.format.name, *(part.copy() for part in _colors.planes(picture))))
                writer.encode(frame, picture)
    for one, other in zip(prepared[:4], prepared[4:], strict=True):
        assert one[:2] == other[:2]
        assert all(np.array_equal(*pair) for pair in zip(one[2:], other[2:], strict=True))
    assert gpu.leaks == {}


@pytest.mark.parametrize("every", [1, 3])
def test_faces_are_found_where_the_frames_are(clip, nvdec, gpu, fakes, tmp_path, every):
    path = clip(frames=12, size=(96, 64), draw=lambda number, size: noise(number // 6, size), colours=(1, 2, 1, 1))
    plan = tmp_path / "x.plan"
    plan.write_bytes(fakes.plan())
    tracking = TrackingOptions(every=every)
    with SCRFDDetector.from_engine(plan) as detector, VideoReader(path, device="cuda:0") as reader:
        assert frame_device(detector) == "cuda:0"
        results = list(detect_frames(reader, detector, tracking))
    with SCRFDDetector.from_backend(EngineBackend(fakes.plan())) as host, VideoReader(path) as reader:
        assert frame_device(host) == "cpu"
        for (result, thumbnail), frame in zip(results, reader, strict=True):
            assert np.abs(thumbnail - make_preview(frame.picture).thumbnail).max() <= 1.01
            nv12 = frame.picture.reformat(format="nv12").to_ndarray()
            image = YUVImage(nv12[:64], nv12[64:].reshape(32, 48, 2), "bt709", True)
            expected = host.detect(image, threshold=tracking.detection_threshold)
            assert result.detections == (None if result.detections is None else expected)
    detected = [result.number for result, _ in results if result.detections is not None]
    assert detected == ([*range(12)] if every == 1 else [0, 1, 3, 6, 7, 9])
    assert gpu.leaks == {}


@pytest.mark.parametrize("form", ["nv12", "p010le"])
def test_overlays_are_drawn_where_the_frames_are(clip, nvdec, monkeypatch, tmp_path, form):
    nvdec.form = form
    monkeypatch.setattr(overlays_on_gpu, "_painters", painters := overlays_on_gpu._Painters())
    pixel_format, codec = ("yuv420p", "libx264") if form == "nv12" else ("yuv420p10le", "libx265")
    path = clip(frames=4, size=(160, 96), pixel_format=pixel_format, codec=codec)
    faces = Detections([[20.0, 10.0, 70.0, 70.0], [80.0, 40.0, 100.0, 70.0]], [0.9, 0.8], image_size=(160, 96))
    overlay = overlays.Compose(overlays.create("solid", fill="#28c85a"))
    pictures = []
    for device in ("cpu", "cuda:0"):
        with (
            VideoReader(path, device=device) as reader,
            open_writer(tmp_path / "x.mkv", reader, EncodeOptions()) as out,
        ):
            pictures.append([out.prepare_drawn(frame, overlay, faces) for frame in reader])
            out.discard()
    covered = (slice(25, 55), slice(35, 55))
    for one, other in zip(*pictures, strict=True):
        assert one.format.name == other.format.name == pixel_format
        for number, planes in enumerate(zip(_colors.planes(one), _colors.planes(other), strict=True)):
            mine, theirs = (plane.astype(int) >> (0 if form == "nv12" else 2) for plane in planes)
            step = 2 if number else 1
            inside = tuple(slice(side.start // step, side.stop // step) for side in covered)
            assert np.abs(mine[inside] - theirs[inside]).max() <= 2
            assert mine[inside].std() < 2
            assert np.array_equal(mine[:, 140 // step :], theirs[:, 140 // step :])
            assert (np.abs(mine - theirs) > 4).mean() < 0.05
    painters.close()


def test_first_pass_that_is_left_early_frees_everything(clip, nvdec, gpu, fakes, tmp_path):
    plan = tmp_path / "x.plan"
    plan.write_bytes(fakes.plan())
    with (
        SCRFDDetector.from_engine(plan) as detector,
        VideoReader(clip(frames=20), device="cuda:0") as reader,
        closing(find_faces(reader, detector, delay=0)) as found,
    ):
        next(found)
    gc.collect()
    assert gpu.leaks == {}


@pytest.mark.parametrize("damage", ["short", "broken"])
@pytest.mark.usefixtures("nvdec")
def test_damage_is_reported_as_on_the_cpu(clip, damage, monkeypatch):
    # Threads of FFmpeg that decode a frame each may return one before its damage is known.
    monkeypatch.setattr(_reader, "_use_threads", lambda stream, *_: setattr(stream, "thread_type", "SLICE"))
    path = clip(frames=20, options={"g": "5"}, name="clip.mkv", draw=noise)
    data = bytearray(path.read_bytes())
    if damage == "short":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
    path.write_bytes(data)
    messages, lost = [], []
    for device in ("cpu", "cuda:0"):
        with VideoReader(path, device=device, checked=True) as reader, pytest.raises(VideoError) as caught:
            list(reader)
        messages.append(str(caught.value))
        with VideoReader(path, device=device, checked=True, damaged="keep") as reader:
            assert reader.device == "cpu"
            assert len(list(reader)) > 5
            lost.append(reader.lost)
    assert messages[0] == messages[1]
    assert lost[0] == lost[1]
    assert lost[0] > 0 or damage == "short"


@pytest.mark.usefixtures("nvdec")
def test_damage_that_nvdec_conceals_is_found_on_the_cpu(clip, monkeypatch, tmp_path):
    path, good = clip(frames=40, options={"g": "5"}, name="clip.mkv", draw=noise), tmp_path / "good.mkv"
    good.write_bytes(data := path.read_bytes())
    with _pyav.open_input(good) as container:
        picture = [bytes(packet) for packet in container.demux(video=0)][20]
    path.write_bytes(data.replace(picture, bytes(8) + picture[8:]))
    open_input = _pyav.open_input

    def open_undamaged(source, hwaccel=None, **how):
        return open_input(source if hwaccel is None else good, hwaccel=hwaccel, **how)

    monkeypatch.setattr(_pyav, "open_input", open_undamaged)
    messages = []
    for device in ("cpu", "cuda:0"):
        with VideoReader(path, device=device, checked=True) as reader, pytest.raises(VideoError) as caught:
            list(reader)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    with VideoReader(path, device="cuda:0") as reader:
        assert len(list(reader)) == 40
    path.write_bytes(data)
    monkeypatch.setattr(VideoReader, "_check", lambda _: iter([39]))  # it has reason to read again, and finds nothing
    with VideoReader(path, device="cuda:0", checked=True) as reader:
        assert len(list(reader)) == 40


@pytest.mark.parametrize(
    ("form", "how", "reason"),
    [
        ("yuv444p", {}, "frames on the GPU in yuv444p are not supported"),
        ("nv12", {"size": (48, 32)}, "below 64×36 pixels"),
        ("nv12", {"rotation": 90}, "its frames have to be turned"),
    ],
)
def test_frames_that_the_kernels_do_not_read_are_decoded_on_the_cpu(clip, nvdec, caplog, form, how, reason):
    caplog.set_level(logging.INFO, "scrfd_trt")
    nvdec.form = form
    with VideoReader(clip(frames=4, **{"size": (64, 48), "pixel_format": "yuv420p", **how}), device="cuda:0") as reader:
        assert reader.device == "cpu"
        assert len(list(reader)) == 4
    (message,) = [record.getMessage() for record in caplog.records]
    assert reason in message
    assert "is decoded on the CPU, and not with NVDEC" in message


@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_without_nvdec_the_cpu_decodes(clip, caplog, codec):
    """FFmpeg's own answer on a machine without a driver, and for a codec that no GPU decodes."""
    if any(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("there is a GPU here")
    caplog.set_level(logging.INFO, "scrfd_trt")
    path = clip(frames=4, codec=codec, name="clip.mkv")
    with VideoReader(path, device="cuda:0") as reader:
        assert reader.device == "cpu"
        assert len(list(reader)) == 4
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"{path} is decoded on the CPU, and not with NVDEC: ")
    assert "\n" not in message


def test_pyav_that_downloads_every_frame(clip, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "scrfd_trt")
    monkeypatch.setattr("av.codec.hwaccel.HWAccel", lambda device_type, device=None: None)
    with VideoReader(clip(frames=2), device="cuda:0") as reader:
        assert reader.device == "cpu"
    assert "does not decode on a GPU; version 18 does" in caplog.text


@pytest.mark.usefixtures("nvdec")
@pytest.mark.parametrize("damaged", ["stop", "keep"])
def test_gpu_that_fails_later_is_one_line(clip, monkeypatch, damaged):
    decode, left = _pyav.decode, iter([True] * 6)

    def full(packet):
        if next(left, False):
            return decode(packet)
        raise av.error.MemoryError(12, "Cannot allocate memory")

    monkeypatch.setattr(_pyav, "decode", full)
    path = clip(frames=20, options={"bf": "0"})
    with (
        VideoReader(path, device="cuda:0", damaged=damaged) as reader,
        pytest.raises(VideoError, match="Cannot allocate") as caught,
    ):
        list(reader)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("nvdec", "gpu")
def test_captions_and_fields_are_encoded(clip, captioned):
    interlaced = clip("i.mp4", size=(64, 64), options={"flags": "+ildct+ilme", "x264-params": "tff=1"})
    for path, options in ((captioned, EncodeOptions()), (interlaced, EncodeOptions(pixel_format="yuv420p"))):
        with (
            VideoReader(path, device="cuda:0") as reader,
            VideoWriter(path.with_suffix(".mkv"), reader, options) as out,
        ):
            assert reader.device == "cuda:0"
            for frame in reader:
                picture = out.prepare(frame)
                assert picture.interlaced_frame == reader.info.interlaced
                out.encode(frame, picture)
        with VideoReader(out.path) as written:
            assert written.info.has_captions == reader.info.has_captions == (path != interlaced)
            assert written.info.interlaced == (path == interlaced)


def test_opencv_has_one_thread_until_the_last_video_on_a_gpu_ends():
    before = cv2.getNumThreads()
    with ExitStack() as videos:
        with one_opencv_thread():
            videos.enter_context(one_opencv_thread())
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before
