"""Videos decoded by NVDEC: the pixels, faces and errors of the CPU's decoder."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
import street

from scrfd_trt import SCRFDDetector, VideoError
from scrfd_trt.video import VideoReader, _colors, _nvdec, find_faces
from scrfd_trt.video._first_pass import make_preview

av = pytest.importorskip("av")
CLIPS = {
    "h264": ("libx264", "yuv420p", (1, 1)),
    "hevc": ("libx265", "yuv420p", (1, 1)),
    "ten bits": ("libx265", "yuv420p10le", (9, 1)),
    "full range": ("libx264", "yuvj420p", (5, 2)),
    "lossless": ("ffv1", "yuv420p", (1, 1)),
}
"""Encoder, pixel format, and matrix and range as FFmpeg numbers them."""


def write(path, codec="libx264", pixel_format="yuv420p", colors=(1, 1), frames=30):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=street.RATE)
        (stream.width, stream.height), stream.pix_fmt = street.SIZE, pixel_format
        context = stream.codec_context
        context.colorspace, context.color_range = colors
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(street.draw(number), "bgr24")
            matrix, levels = colors
            frame = _colors.reformat(frame, format=pixel_format, dst_colorspace=matrix, dst_color_range=levels)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(params=[name for name in CLIPS if name != "lossless"])
def clip(request, tmp_path):
    path = write(tmp_path / "clip.mkv", *CLIPS[request.param])
    with VideoReader(path, device="cuda:0") as reader:
        assert reader.device == "cuda:0"
    return path


def test_pixels_previews_and_times_are_those_of_the_cpu(clip):
    with (
        VideoReader(clip) as host,
        VideoReader(clip, device="cuda:0") as reader,
        closing(_nvdec.Previewer("cuda:0")) as maker,
    ):
        assert host.info == reader.info
        for one, other in zip(host, reader, strict=True):
            name = one.picture.format.name
            moved = _colors.convert(other.picture, name)
            for mine, theirs in zip(_colors.planes(one.picture), _colors.planes(moved), strict=True):
                assert np.array_equal(mine, theirs)
            assert (one.number, one.pts_seconds) == (other.number, other.pts_seconds)
            if other.is_on_gpu:
                found = _nvdec.finished(maker.start(other.yuv))
                expected = make_preview(one.picture)
                assert np.abs(found.thumbnail - expected.thumbnail).max() <= 1.01
                assert np.abs(found.grey.astype(int) - expected.grey).max() <= 1


def test_tracks_are_those_of_the_cpu(clip, plan):
    with SCRFDDetector.from_engine(plan) as detector:
        found = []
        for device in ("cpu", "cuda:0"):
            with VideoReader(clip, device=device) as reader:
                found.append(list(find_faces(reader, detector)))
    assert sum(map(len, found[0])) > 30
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one.track_ids, other.track_ids)
        assert np.allclose(one.boxes, other.boxes, atol=1.5)


def test_nvdec_is_used_after_a_detector_is_opened(tmp_path, plan):
    """In a new process: FFmpeg's first use of a GPU decides how its primary context is made."""
    path = write(tmp_path / "clip.mkv", frames=3)
    code = (
        "import sys; from scrfd_trt import SCRFDDetector; from scrfd_trt.video import VideoReader\n"
        "with SCRFDDetector.from_engine(sys.argv[1]) as detector:\n"
        "    with VideoReader(sys.argv[2], device='cuda:0') as reader:\n"
        "        print(reader.device, len(list(detector.stream(frame.yuv for frame in reader))))"
    )
    done = subprocess.run([sys.executable, "-c", code, plan, path], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["cuda:0", "3"], done.stderr


def test_damage_within_a_picture_is_found(tmp_path):
    path = write(tmp_path / "clip.mkv")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000 : 7] = bytes(len(range(0, 3000, 7)))
    path.write_bytes(data)
    for device in ("cpu", "cuda:0"):
        with VideoReader(path, device=device, checked=True) as reader, pytest.raises(VideoError, match="damaged"):
            list(reader)


def test_video_that_is_cut_off(tmp_path):
    path = write(tmp_path / "clip.mkv")
    path.write_bytes(path.read_bytes()[:-20_000])
    messages = []
    for device in ("cpu", "cuda:0"):
        with VideoReader(path, device=device) as reader, pytest.raises(VideoError) as caught:
            list(reader)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_what_nvdec_cannot_decode_is_decoded_on_the_cpu(tmp_path):
    path = write(tmp_path / "clip.mkv", *CLIPS["lossless"], frames=3)
    with VideoReader(path, device="cuda:0") as reader:
        assert reader.device == "cpu"
        assert len(list(reader)) == 3
