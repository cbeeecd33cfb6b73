"""Decode videos with NVDEC; their frames stay on the GPU, where detector and previews read them."""

from __future__ import annotations

import ctypes
import math
import struct
import threading
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cuda import kernels
from scrfd_trt._cuda.driver import Device, RelaxedCapture, call
from scrfd_trt._cuda.memory import copy, free, pinned_memory, view
from scrfd_trt._cuda.stream import DEFAULT_STREAM, create_event, create_stream, wait_for_default_stream
from scrfd_trt._image_arrays import Matrix, YUVImage, from_yuv
from scrfd_trt._tracking.motion import GREY_SIDE, Preview, grey_size
from scrfd_trt._tracking.scene_cuts import THUMBNAIL_SHAPE
from scrfd_trt.errors import VideoError
from scrfd_trt.video import _colors, _pyav
from scrfd_trt.video._colors import Orientation

if TYPE_CHECKING:
    from cuda.core import Buffer

PIXEL_TYPES = {"nv12": ("|u1", 1), "p010le": ("<u2", 2)}
"""Formats of frames on the GPU that are read there, with their element type and its bytes."""
YUVJ_CODECS = ("h264", "hevc", "mjpeg")  # codecs for which FFmpeg names full range in the format
MATRICES: dict[int, Matrix] = {_colors.BT709: "bt709", 7: "bt709", _colors.BT2020: "bt2020"}
"""Matrices by their numbers in ITU-T H.273; all others are BT.601, or nearly."""
MIN_SIZE = (64, 36)  # pixels; smaller frames have fewer chroma samples than a thumbnail
PLANES = struct.Struct("<QQqqiiii")  # as the struct of this name in kernels.cu
THUMBNAIL_SIZE = math.prod(THUMBNAIL_SHAPE)
GREY_SIZE = GREY_SIDE * GREY_SIDE  # pixels at most
GROUP = 16  # frames that are shrunk at once


def _number(device: str) -> int:
    return int(device.partition(":")[2] or 0)


def accelerator(device: str) -> Any:
    """Return PyAV's accelerator for ``cuda:n``, for files opened in its :func:`context`; VideoError without one."""
    av = _pyav.load()
    try:
        from av.codec.hwaccel import HWAccel  # noqa: PLC0415 - optional

        return HWAccel(
            "cuda",
            device=str(_number(device)),
            allow_software_fallback=False,
            options={"primary_ctx": "0", "current_ctx": "1"},
            is_hw_owned=True,
        )
    except (ImportError, TypeError, ValueError) as error:
        raise VideoError(f"PyAV {av.__version__} does not decode on a GPU; version 18 does") from error


def context(device: str) -> AbstractContextManager[None]:
    """Return a block with a GPU's primary context, which FFmpeg refuses to take once another library has made it."""
    return nullcontext() if device == "cpu" else Device(_number(device)).current()


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
    if Orientation.from_side_data(_colors.side_data(picture)):
        raise VideoError("its frames have to be turned")


def planar_name(picture: Any, codec: str) -> str:
    """Return the format that the CPU's decoder has for a frame on the GPU."""
    name = _colors.planar_format("", _colors.bit_depth(picture))
    is_full = _colors.tagged_range(picture) == _colors.FULL and codec in YUVJ_CODECS
    return "yuvj420p" if name == "yuv420p" and is_full else name


class Plane:
    """A plane of a frame as an array on the GPU, which keeps the frame; ``order`` is a stream to wait for."""

    def __init__(self, picture: Any, plane: Any, shape: tuple[int, ...], order: int | None) -> None:
        kind, item = PIXEL_TYPES[picture.sw_format.name]
        self.picture, self.known_gpu = picture, plane.__dlpack_device__()[1]
        self.__cuda_array_interface__ = {
            "shape": shape,
            "strides": (plane.line_size, *((2 * item, item) if len(shape) == 3 else (item,))),
            "typestr": kind,
            "data": (plane.buffer_ptr, False),
            "stream": order,
            "version": 3,
        }


def yuv_image(picture: Any) -> YUVImage:
    """Return a frame on the GPU as an image; FFmpeg copies in the default stream, which the first plane waits for."""
    width, height = picture.width, picture.height
    matrix, color_range = _colors.conversion_tags(picture)
    y, uv = picture.planes
    return YUVImage(
        Plane(picture, y, (height, width), DEFAULT_STREAM),
        Plane(picture, uv, ((height + 1) // 2, (width + 1) // 2, 2), None),
        MATRICES.get(matrix, "bt601"),
        color_range == _colors.FULL,
    )


def region(image: YUVImage, left: int, top: int, right: int, bottom: int) -> NDArray[np.uint8]:
    """Return a part of a frame on the GPU as an image BGR; only its rows are copied. ``left`` and ``top`` are even."""
    parts = []
    with Device(image.y.known_gpu).current(), RelaxedCapture():
        for plane, share in ((image.y, 1), (image.uv, 2)):
            about = plane.__cuda_array_interface__
            height, pitch, item = about["shape"][0], about["strides"][0], np.dtype(about["typestr"])
            first, last = (min(-(-side // share), height) for side in (top, bottom))
            rows = np.empty((last - first, pitch), np.uint8)
            if rows.size:
                copy("copying a part of a frame", rows.ctypes.data, about["data"][0] + first * pitch, rows.nbytes)
            rows = rows.view(item)[:, : about["shape"][1] * share]
            parts.append(rows[:, left : -(-right // share) * share])
    y, uv = parts[0][:, : right - left], parts[1].reshape(len(parts[1]), parts[1].shape[1] // 2, 2)
    if not y.size:
        return np.zeros((0, 0, 3), np.uint8)
    return from_yuv(YUVImage(y, uv, image.matrix, image.full_range))


class _Group:
    """Previews that are made at once: records of frames and results in page-locked memory."""

    def __init__(self, memory: Buffer) -> None:
        self.records = view(memory, (GROUP, PLANES.size), np.uint8)
        results = view(memory, (memory.size // 4,), np.float32)[-GROUP * (THUMBNAIL_SIZE + GREY_SIZE) :]
        self.thumbnails = results[: GROUP * THUMBNAIL_SIZE].reshape(GROUP, *THUMBNAIL_SHAPE)
        self.greys = results[GROUP * THUMBNAIL_SIZE :]
        self.clear()

    def clear(self) -> None:
        self.kept: list[Any] = []  # what the GPU reads
        self.size = 0, 0  # of the grey pictures
        self.event: Any = None  # after the work, once it is started
        self.is_started = self.is_done = False
        self.count = self.read = 0


class PendingPreview(NamedTuple):
    """One of a group of previews."""

    maker: Previewer
    group: _Group
    place: int


def finished(preview: Preview | PendingPreview) -> Preview:
    """Return a preview, after the GPU has made it."""
    return preview.maker.finish(preview) if isinstance(preview, PendingPreview) else preview


class Previewer:
    """Shrinks frames on one GPU as ``make_preview`` does; several at once, to pass Python's lock around less often."""

    def __init__(self, device: str) -> None:
        self._device = Device(_number(device))
        self._kernels = kernels.load(self._device)
        self._free: list[_Group] = []
        self._open: _Group | None = None
        self._lock = threading.Lock()
        with ExitStack() as stack:
            self._stream = stack.enter_context(closing(create_stream(self._device)))
            self._owned = stack.pop_all()

    def start(self, image: YUVImage) -> PendingPreview:
        """Note a frame to shrink."""
        y, uv = (plane.__cuda_array_interface__ for plane in (image.y, image.uv))
        (height, width), is_wide = y["shape"], y["typestr"] == "<u2"
        addresses, rows = ((y["data"][0], uv["data"][0]), (y["strides"][0], uv["strides"][0]))
        size = grey_size(width, height)
        with self._lock:
            if self._open is not None and self._open.size != size:
                self._launch(self._open)
            group = self._open = self._open or (self._free.pop() if self._free else self._new_group())
            group.size = size
            place = len(group.kept)
            PLANES.pack_into(group.records.data, place * PLANES.size, *addresses, *rows, width, height, is_wide, 0)
            group.kept.append(image)
            if len(group.kept) == GROUP:
                self._launch(group)
        return PendingPreview(self, group, place)

    def finish(self, preview: PendingPreview) -> Preview:
        """Wait for a preview, and return it; call it once for each."""
        group = preview.group
        with self._lock:
            if not group.is_started:
                self._launch(group)
        if not group.is_done:
            with self._device.current():
                call("waiting for previews", group.event.sync)
            group.is_done = True
        width, height = group.size
        greys = group.greys[: GROUP * width * height].reshape(GROUP, height, width)
        found = Preview(group.thumbnails[preview.place].copy(), greys[preview.place].astype(np.uint8))
        group.read += 1
        if group.read == group.count:
            group.clear()
            self._free.append(group)
        return found

    def _launch(self, group: _Group) -> None:
        self._open, group.is_started, group.count = None, True, len(group.kept)
        results = ((group.thumbnails, THUMBNAIL_SHAPE), (group.greys, (1, *group.size[::-1])))
        with self._device.current():
            wait_for_default_stream(self._device, self._stream)
            for result, (planes, down, across) in results:
                arguments = [ctypes.c_void_p(array.ctypes.data) for array in (group.records, result)]
                launch = self._kernels.prepare("thumbnails", (down, planes, group.count), (across, 1, 1), arguments)
                launch.start(self._stream)
                group.kept.append(launch)
            group.event = create_event(self._device)
            call("recording a CUDA event", self._stream.record, group.event)

    def _new_group(self) -> _Group:
        with self._device.current():
            memory = pinned_memory(GROUP * (PLANES.size + 4 * (THUMBNAIL_SIZE + GREY_SIZE)), self._device, self._stream)
            self._owned.callback(free, memory)
        return _Group(memory)

    def close(self) -> None:
        """Free everything after the work in progress; no preview may be read afterwards."""
        self._free, self._open = [], None
        with self._device.current():
            self._owned.close()
