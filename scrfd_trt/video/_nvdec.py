"""Decode videos with NVDEC; their frames stay on the GPU, where detector and thumbnails read them."""

from __future__ import annotations

import ctypes
import re
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cuda import kernels
from scrfd_trt._cuda.device import Device
from scrfd_trt._cuda.driver import call
from scrfd_trt._cuda.memory import free, pinned_memory, view
from scrfd_trt._cuda.stream import DEFAULT_STREAM, create_event, create_stream, wait_for_default_stream
from scrfd_trt._image_arrays import Matrix, YUVImage
from scrfd_trt._tracking.scene_cuts import THUMBNAIL_SHAPE, Thumbnail
from scrfd_trt.errors import VideoError
from scrfd_trt.video import _colors, _pyav

PIXEL_TYPES = {"nv12": ("|u1", 1), "p010le": ("<u2", 2)}
"""Formats of frames on the GPU that are read there, with their element type and its bytes."""
YUVJ_CODECS = ("h264", "hevc", "mjpeg")
"""Codecs for which FFmpeg names full range in the format."""
MATRICES: dict[int, Matrix] = {_colors.BT709: "bt709", 7: "bt709", _colors.BT2020: "bt2020"}
"""Matrices by their numbers in ITU-T H.273; all others are BT.601, or nearly."""
MIN_SIZE = (64, 36)  # pixels; smaller frames have fewer chroma samples than a thumbnail
THUMBNAIL_BYTES = 4 * int(np.prod(THUMBNAIL_SHAPE))
CHUNK = 64  # thumbnails for which memory is reserved at a time


def accelerator(device: str) -> Any:
    """Return an ``av.codec.hwaccel.HWAccel`` for a GPU ``cuda:n``; None for other devices.

    Raises VideoError if this PyAV cannot leave frames on the GPU.
    """
    found = re.fullmatch(r"cuda:(\d+)", device)
    if found is None:
        return None
    av = _pyav.load()
    try:
        from av.codec.hwaccel import HWAccel  # noqa: PLC0415 - optional

        return HWAccel("cuda", device=found[1], allow_software_fallback=False, is_hw_owned=True)
    except (ImportError, TypeError, ValueError) as error:
        raise VideoError(f"PyAV {av.__version__} does not decode on a GPU; version 18 does") from error


def is_on_gpu(picture: Any) -> bool:
    """Return whether an ``av.VideoFrame`` is in GPU memory."""
    return bool(picture.format.name == "cuda")


def check_first(picture: Any) -> None:
    """Raise VideoError if frames like this one are not read on the GPU."""
    if not is_on_gpu(picture):
        raise VideoError("NVDEC does not support its codec")
    name = picture.sw_format.name
    if name not in PIXEL_TYPES:
        raise VideoError(f"frames on the GPU in {name} are not supported")
    if picture.width < MIN_SIZE[0] or picture.height < MIN_SIZE[1]:
        raise VideoError(f"frames below {MIN_SIZE[0]}×{MIN_SIZE[1]} pixels are not worth it")


def planar_name(picture: Any, codec: str) -> str:
    """Return the format that the CPU's decoder has for a frame on the GPU."""
    name = _colors.planar_format("", _colors.bit_depth(picture))
    is_full = _colors.tagged_range(picture) == _colors.FULL and codec in YUVJ_CODECS
    return "yuvj420p" if name == "yuv420p" and is_full else name


class Plane:
    """A plane of a frame as an array on the GPU, which keeps the frame; ``order`` is a stream to wait for."""

    def __init__(self, picture: Any, plane: Any, shape: tuple[int, ...], order: int | None) -> None:
        kind, item = PIXEL_TYPES[picture.sw_format.name]
        self.picture = picture
        self.__cuda_array_interface__ = {
            "shape": shape,
            "strides": (plane.line_size, *((2 * item, item) if len(shape) == 3 else (item,))),
            "typestr": kind,
            "data": (plane.buffer_ptr, False),
            "stream": order,
            "version": 3,
        }


def yuv_image(picture: Any) -> YUVImage:
    """Return a frame on the GPU as an image that a detector reads in place.

    FFmpeg copies what NVDEC decodes in the default stream; who reads the first plane waits for it.
    """
    width, height = picture.width, picture.height
    matrix, color_range = _colors.conversion_tags(picture)
    y, uv = picture.planes
    return YUVImage(
        Plane(picture, y, (height, width), DEFAULT_STREAM),
        Plane(picture, uv, ((height + 1) // 2, (width + 1) // 2, 2), None),
        MATRICES.get(matrix, "bt601"),
        color_range == _colors.FULL,
    )


class PendingThumbnail:
    """A thumbnail that the GPU writes to ``array``, in page-locked memory."""

    def __init__(self, kept: Any, array: NDArray[np.float32], event: Any, maker: Thumbnailer) -> None:
        self._kept = kept  # what the GPU reads
        self._array, self._event, self._maker = array, event, maker

    def result(self) -> Thumbnail:
        """Wait for the thumbnail and return it; call it once."""
        found = self._maker.finish(self._array, self._event)
        self._kept = None
        return found


def finished(thumbnail: Thumbnail | PendingThumbnail) -> Thumbnail:
    """Return a thumbnail, after the GPU has made it."""
    return thumbnail.result() if isinstance(thumbnail, PendingThumbnail) else thumbnail


class Thumbnailer:
    """Shrinks frames on one GPU, as :func:`scrfd_trt.video._first_pass.make_thumbnail` does, in a stream of its own."""

    def __init__(self, device: str) -> None:
        self._device = Device(int(device.partition(":")[2]))
        self._kernels = kernels.load(self._device)
        self._free: list[NDArray[np.float32]] = []
        with ExitStack() as stack:
            self._stream = stack.enter_context(closing(create_stream(self._device)))
            self._owned = stack.pop_all()

    def start(self, image: YUVImage) -> PendingThumbnail:
        """Begin to shrink a frame."""
        y, uv = (plane.__cuda_array_interface__ for plane in (image.y, image.uv))
        height, width = y["shape"]
        with self._device.current():
            if not self._free:
                self._reserve()
            array = self._free.pop()
            wait_for_default_stream(self._device, self._stream)
            arguments = [
                *(ctypes.c_void_p(plane["data"][0]) for plane in (y, uv)),
                *(ctypes.c_longlong(plane["strides"][0]) for plane in (y, uv)),
                *(ctypes.c_int(value) for value in (width, height, y["typestr"] == "<u2")),
                ctypes.c_void_p(array.ctypes.data),
            ]
            planes, down, across = THUMBNAIL_SHAPE
            launch = self._kernels.prepare("thumbnail", (down, planes, 1), (across, 1, 1), arguments)
            launch.start(self._stream)
            event = create_event(self._device)
            call("recording a CUDA event", self._stream.record, event)
        return PendingThumbnail((image, launch), array, event, self)

    def finish(self, array: NDArray[np.float32], event: Any) -> Thumbnail:
        """Wait for a thumbnail, and return a copy; its memory is used again."""
        with self._device.current():
            call("waiting for a thumbnail", event.sync)
        found = array.copy()
        self._free.append(array)
        return found

    def _reserve(self) -> None:
        memory = pinned_memory(CHUNK * THUMBNAIL_BYTES, self._device, self._stream)
        self._owned.callback(free, memory)
        self._free.extend(view(memory, (CHUNK, *THUMBNAIL_SHAPE), np.float32))

    def close(self) -> None:
        """Free everything after the work in progress; no thumbnail may be read afterwards."""
        self._free = []
        with self._device.current():
            self._owned.close()
