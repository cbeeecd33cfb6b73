"""Draw overlays on images in GPU memory: what an overlay declares in kernels, everything else on the CPU.

Faces that touch no common pixel are drawn at once, others one after the other, as on the CPU.
"""

from __future__ import annotations

import atexit
import ctypes
import struct
import weakref
from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from overlays._base import Compose, Overlay, OverlayModel, as_detections, draw_guarded
from overlays._geometry import Image, Region
from overlays._records import BLUR, FACE, PATCH, GpuFaces, clip_boxes
from scrfd_trt import _forks
from scrfd_trt._cuda import kernels
from scrfd_trt._cuda.device import Device
from scrfd_trt._cuda.driver import call
from scrfd_trt._cuda.finalizers import close_when_dropped
from scrfd_trt._cuda.interop import DeviceImage, gpu_of
from scrfd_trt._cuda.memory import copy, free, gpu_memory, pinned_memory, view
from scrfd_trt._cuda.stream import borrow_stream, create_event, create_stream, synchronize
from scrfd_trt._detections import Detections
from scrfd_trt._image_arrays import LUMA_SHARES, YUVImage, check_yuv_planes, is_on_gpu
from scrfd_trt.errors import ImageError, OptionError, OverlayError

if TYPE_CHECKING:
    from cuda.core import Buffer, Stream

    _Pictures = dict[int, tuple[weakref.ref[Image], Buffer]]

KERNELS = kernels.Source(Path(__file__).with_name("_gpu.cu"), ("paint", "fetch", "average", "soften"))
TILE, THREADS = 32, 256  # as in _gpu.cu; threads per block
LANES = 32  # threads that average one cell
CELL = 16  # bytes
CANVAS = struct.Struct("<QqiiQqiiiiifffff")
BGR, NV12, P010 = range(3)
MIN_BYTES = 1 << 16
MAX_SLOTS = 8  # images that are drawn on at once


def draw_on_gpu(overlay: Overlay, image: Any, detections: Any, *, stream: Any = None) -> None:
    """Draw an overlay on an image in GPU memory, in place.

    :class:`Covering` with :meth:`Covering.fill_for`, and :class:`PictureOverlay`, are drawn by kernels. For others, the
    regions in ``used_boxes``, or else the whole image, are copied to the host, drawn on there, and copied back. The
    result is that of the overlay on the CPU within rounding; what is covered there is covered here.

    Parameters
    ----------
    overlay
        Any overlay, also :class:`Compose`.
    image
        ``(H, W, 3)`` uint8 in the overlay's channel order, or a :class:`scrfd_trt.YUVImage` (NV12 or P010). Its arrays
        have DLPack or ``__cuda_array_interface__``, any strides, and can be written to.
    detections
        The faces found in that image.
    stream
        CUDA stream, in whose order the image is drawn on; the image must live until that is done. Without one, the
        image is complete when the call returns.

    Raises
    ------
    ImageError
        If the image is not such an array, or is read-only.
    DetectionsError
        If the detections belong to an image of another size, or lack landmarks that the overlay needs.
    OverlayError
        If an overlay of another package fails.
    BackendError, DeviceError, MissingDependencyError
        If the GPU cannot be used.
    """
    if not callable(overlay):
        raise OptionError(f"draw_on_gpu requires an overlay, not {overlay!r}: overlays.create() makes one by name")
    painter = _painters.of(_device_of(_planes(image)[0]))
    with painter.device.current():
        used = painter.stream if stream is None else painter.borrow(stream)
        canvas = _Canvas.of(image, painter.device, used)
        found = as_detections(detections, canvas.size)
        if found.image_size != canvas.size:
            raise ImageError(
                f"the image has {canvas.size[0]}×{canvas.size[1]} pixels, but the detections belong to one of "
                f"{found.image_size[0]}×{found.image_size[1]}"
            )
        painter.draw(overlay, canvas, found, used)
        if stream is None:
            synchronize(used)


class _Canvas(NamedTuple):
    """An image in GPU memory as the kernels take it."""

    size: tuple[int, int]
    record: bytes

    @classmethod
    def of(cls, image: Any, device: Device, stream: Stream) -> _Canvas:
        arrays = [DeviceImage(plane, device, stream, is_plane=isinstance(image, YUVImage)) for plane in _planes(image)]
        for array, plane in zip(arrays, _planes(image), strict=True):
            if array.readonly or type(plane).__module__.partition(".")[0] in {"jax", "jaxlib"}:
                raise ImageError(f"the image of type {type(plane).__name__} is read-only: copy it to a CuPy array")
        planes = [(array.address, *array.strides[:2], *(*array.strides[2:], 0)[:1]) for array in arrays]
        shapes, types = [array.shape for array in arrays], [array.dtype for array in arrays]
        if isinstance(image, YUVImage):
            check_yuv_planes(shapes[0], shapes[1], types[0], types[1])
            levels = (0.0, 1.0, 1.0) if image.full_range else (16.0, 255.0 / 219.0, 255.0 / 224.0)
            layout, matrix = NV12 if types[0] == "uint8" else P010, image.matrix
        elif shapes[0][2:] != (3,) or 0 in shapes[0]:
            raise ImageError(f"an image on the GPU to draw on is (H, W, 3) uint8 or a YUVImage, not {shapes[0]}")
        else:
            levels, layout, matrix = (0.0, 1.0, 1.0), BGR, "bt601"
        size = (int(shapes[0][1]), int(shapes[0][0]))
        return cls(size, CANVAS.pack(*planes[0], *planes[-1], *size, layout, *levels, *LUMA_SHARES[matrix]))


class _Slot:
    """Memory for drawing one overlay on one image. It is free again when its event is done."""

    def __init__(self, device: Device) -> None:
        self._device, self.event = device, create_event(device)
        self._pinned: Buffer | None = None
        self._memory: Buffer | None = None
        self.launches: list[kernels.Launch] = []

    def reserve(self, sent: int, needed: int) -> tuple[NDArray[np.uint8], int]:
        """Return page-locked memory, and the address of memory on the GPU, of so many bytes."""
        if self._pinned is None or self._pinned.size < sent:
            self._pinned = pinned_memory(max(MIN_BYTES, sent + sent // 2), self._device)
        if self._memory is None or self._memory.size < needed:
            self._memory = gpu_memory(max(MIN_BYTES, needed + needed // 2), self._device)
        return view(self._pinned, (sent,), np.uint8), int(self._memory.handle)


class _Job:
    """The kernels that draw one overlay on one image."""

    def __init__(self, loaded: kernels.Kernels, canvas: _Canvas, slot: _Slot, stream: Stream) -> None:
        self._kernels, self._slot, self.stream = loaded, slot, stream
        self._canvas = (ctypes.c_char * CANVAS.size).from_buffer_copy(canvas.record)

    def reserve(self, sent: int, needed: int) -> None:
        self.pinned, self.base = self._slot.reserve(sent, needed)

    def send(self, records: NDArray[Any]) -> None:
        """Copy the records to the beginning of the memory on the GPU."""
        self.pinned[: records.nbytes] = records.view(np.uint8)
        copy("copying faces to the GPU", self.base, self.pinned.ctypes.data, records.nbytes, self.stream)

    def launch(
        self,
        name: str,
        part: Sequence[int],
        blocks: int,
        block: tuple[int, int, int] = (TILE // 2, TILE // 2, 1),
        cells: tuple[int, int] = (0, 0),
    ) -> None:
        """Start a kernel for some of the faces; ``cells`` are the addresses of the cells, and of as many more."""
        first, end = part
        faces = ctypes.c_void_p(self.base + first * FACE.itemsize)
        arguments = [faces, ctypes.c_int(end - first), *map(ctypes.c_void_p, cells), self._canvas]
        launch = self._kernels.prepare(name, (blocks, 1, 1), block, arguments)
        launch.start(self.stream)
        self._slot.launches.append(launch)


class _Painter:
    """Kernels, memory and pictures of one GPU, which must be current in all methods."""

    def __init__(self, index: int) -> None:
        self.device = Device(index)
        with self.device.current():
            self._kernels = kernels.load(self.device, KERNELS)
        self.stream = create_stream(self.device)
        self._lent: tuple[Any, Stream] = (None, self.stream)
        self._slots: deque[_Slot] = deque()
        self._pictures: _Pictures = {}
        self._canvases: dict[tuple[int, int], NDArray[np.uint64]] = {}

    def borrow(self, stream: Any) -> Stream:
        """Return the caller's stream, which is mostly the same from one image to the next."""
        owner, borrowed = self._lent
        if owner is not stream:
            borrowed = borrow_stream(stream, self.device)
            self._lent = stream, borrowed
        return borrowed

    def draw(self, overlay: Overlay, canvas: _Canvas, detections: Detections, stream: Stream) -> None:
        if isinstance(overlay, Compose):
            for each in overlay.overlays:
                self.draw(each, canvas, detections, stream)
            return
        faces = None
        if isinstance(overlay, OverlayModel) and type(overlay).__call__ is OverlayModel.__call__:
            overlay.check_landmarks(detections)
            faces = overlay.gpu_faces(detections)
        slot = self._take_slot()
        job = _Job(self._kernels, canvas, slot, stream)
        try:
            if faces is None:
                self._draw_on_host(overlay, canvas.size, detections, job)
            elif len(faces.records):
                self._draw_faces(faces, job)
        except BaseException:
            synchronize(stream)  # its work uses the slot's memory
            raise
        call("recording an event", stream.record, slot.event)
        self._slots.append(slot)

    def _take_slot(self) -> _Slot:
        """Return a slot that is free; if many are in use, wait for the oldest one."""
        try:
            slot = self._slots.popleft()
        except IndexError:
            return _Slot(self.device)
        if not slot.event.is_done:
            if len(self._slots) + 1 < MAX_SLOTS:
                self._slots.appendleft(slot)
                return _Slot(self.device)
            call("waiting for the GPU", slot.event.sync)
        slot.launches.clear()
        return slot

    def _draw_faces(self, faces: GpuFaces, job: _Job) -> None:
        records = faces.records
        if faces.pictures:
            used = {id(picture): picture for picture in faces.pictures}
            places = {key: self._picture_at(picture, job.stream) for key, picture in used.items()}
            records["pixels"] = [places[id(picture)] for picture in faces.pictures]
        order, bounds = _in_turns(records)
        records = records[order]
        tiles = _number_tiles(records, bounds)
        count = np.where(records["whole"][:, 2] > 0, records["grid"].prod(1, dtype=np.int64), 0)
        records["cells"] = np.cumsum(count) - count
        records["first_block"], blocks = _numbered(-(-count // (THREADS // LANES)), bounds)
        total, room = int(count.sum()), _aligned(records.nbytes)
        job.reserve(room, room + 2 * CELL * total)
        cells = (job.base + room, job.base + room + CELL * total)
        job.send(records)
        is_blur = bool(records["kind"][0] == BLUR)
        for *part, tile_count, block_count in zip(bounds, bounds[1:], tiles, blocks, strict=False):
            if total:
                job.launch("average", part, block_count, (LANES, THREADS // LANES, 1), cells)
            if is_blur:
                job.launch("soften", part, part[1] - part[0], (THREADS, 1, 1), cells)
            job.launch("paint", part, tile_count, cells=cells)

    def _draw_on_host(self, overlay: Overlay, size: tuple[int, int], detections: Detections, job: _Job) -> None:
        """Draw on the CPU: the pixels that the overlay uses are copied there, and those that change are copied back."""
        find_boxes = getattr(overlay, "used_boxes", None)
        boxes = None if find_boxes is None else find_boxes(detections)
        regions, _ = clip_boxes(np.array([[0.0, 0.0, *size]]) if boxes is None else np.asarray(boxes, np.float64), size)
        if not len(regions):
            return
        records, sides = np.zeros(len(regions), FACE), (regions[:, 2:] - regions[:, :2]).astype(np.int64)
        ends, room = np.cumsum(3 * sides.prod(1)), _aligned(records.nbytes)
        total, starts = int(ends[-1]), room + ends - 3 * sides.prod(1)
        job.reserve(room + 2 * total, room + 2 * total)
        records["region"], records["kind"], records["row"] = regions, PATCH, 3 * sides[:, 0]
        records["before"], records["pixels"] = job.base + starts, job.base + starts + total
        (tiles,) = _number_tiles(records, [0, len(records)])
        job.send(records)
        job.launch("fetch", (0, len(records)), tiles)
        address = job.pinned.ctypes.data + room
        copy("copying pixels from the GPU", address, job.base + room, total, job.stream)
        synchronize(job.stream)
        memory = self._canvases.pop(size, None)
        if memory is None:
            memory = np.zeros(-(-3 * size[0] * size[1] // 8), np.uint64)
        canvas = memory.view(np.uint8)[: 3 * size[0] * size[1]].reshape(size[1], size[0], 3)
        views = [canvas[Region(*region).slices] for region in regions.tolist()]
        for at, part in zip(starts.tolist(), views, strict=True):
            part[...] = job.pinned[at : at + part.size].reshape(part.shape)
        draw_guarded(overlay, canvas, detections)
        for at, part in zip((starts + total).tolist(), views, strict=True):
            job.pinned[at : at + part.size].reshape(part.shape)[...] = part
        for part in views:
            part[...] = 0
        if memory.any():
            raise OverlayError(f"overlay {overlay!r} changes pixels outside its used_boxes(): return all of them")
        self._canvases[size] = memory
        copy("copying pixels to the GPU", job.base + room + total, address + total, total, job.stream)
        job.launch("paint", (0, len(records)), tiles)

    def _picture_at(self, picture: Image, stream: Stream) -> int:
        """Return the address of a picture on the GPU, where it stays until the picture is dropped."""
        key = id(picture)
        owner, memory = self._pictures.get(key, (None, None))
        if memory is None or owner is None or owner() is not picture:
            memory = gpu_memory(picture.nbytes, self.device)
            pixels = np.ascontiguousarray(picture)
            copy("copying a picture to the GPU", int(memory.handle), pixels.ctypes.data, pixels.nbytes, stream)
            synchronize(stream)
            self._pictures[key] = weakref.ref(picture), memory
            close_when_dropped(picture, partial(_free_picture, self._pictures, key, int(memory.handle)))
        return int(memory.handle)

    def close(self) -> None:
        """Free all memory, once the work that uses it is done."""
        self._slots.clear()
        self._pictures.clear()
        self.stream.close()


def _free_picture(pictures: _Pictures, key: int, address: int) -> None:
    # The key of a dropped picture may have been given to another one.
    if key in pictures and int(pictures[key][1].handle) == address:
        free(pictures.pop(key)[1])


def _in_turns(records: NDArray[Any]) -> tuple[NDArray[np.int64], list[int]]:
    """Return an order of faces in turns, and where each turn begins and ends: faces that touch take turns."""
    region, whole = records["region"], records["whole"]
    has_cells = whole[:, 2:3] > 0
    low = np.where(has_cells, np.minimum(region[:, :2], whole[:, :2]), region[:, :2]) & ~1  # as chroma is
    high = np.where(has_cells, np.maximum(region[:, 2:], whole[:, :2] + whole[:, 2:]), region[:, 2:]) + 1 & ~1
    (left, top), (right, bottom) = np.ascontiguousarray(low.T), np.ascontiguousarray(high.T)
    touch = np.tri(len(records), k=-1, dtype=bool)
    for low_side, high_side in ((left, right), (top, bottom)):
        touch &= low_side[:, None] < high_side
        touch &= high_side[:, None] > low_side
    earlier, waiting = touch.astype(np.float32), np.ones(len(records), np.float32)
    turns, bounds = np.empty(len(records), np.int64), [0]
    while bounds[-1] < len(records):
        ready = np.flatnonzero(earlier @ waiting < waiting)  # waits for no other
        turns[ready], waiting[ready] = len(bounds), 0.0
        bounds.append(bounds[-1] + len(ready))
    return np.argsort(turns, kind="stable"), bounds


def _number_tiles(records: NDArray[Any], bounds: list[int]) -> list[int]:
    """Write where the tiles of each face begin within its turn; return how many each turn has."""
    start, end = records["region"][:, :2] & ~1, records["region"][:, 2:]
    across, down = (-(-(end - start) // TILE)).T
    records["tiles_across"] = across
    records["first_tile"], counts = _numbered(across * down, bounds)
    return counts


def _numbered(count: NDArray[Any], bounds: list[int]) -> tuple[NDArray[Any], list[int]]:
    """Return how many others come before those of each face within its turn, and how many each turn has."""
    first, starts = np.cumsum(count) - count, bounds[:-1]
    totals: list[int] = np.add.reduceat(count, starts).tolist()
    return first - first[starts].repeat(np.diff(bounds)), totals


def _aligned(size: int) -> int:
    return -(-size // CELL) * CELL


def _planes(image: Any) -> tuple[Any, ...]:
    return (image.y, image.uv) if isinstance(image, YUVImage) else (image,)


def _device_of(array: Any) -> int:
    """Return the number of the GPU that an array is on; raise ImageError if it is on none."""
    index = gpu_of(array) if is_on_gpu(array) else None
    if index is None or index < 0:
        raise ImageError(f"the image of type {type(array).__name__} is not in GPU memory: call the overlay with it")
    return index


class _Painters:
    """The painter of each GPU. A forked process makes its own, and fails like all that uses CUDA after a fork."""

    def __init__(self) -> None:
        self._lock, self._by_device = _forks.Lock(), dict[int, _Painter]()
        _forks.register(self)
        atexit.register(self.close)

    def of(self, index: int) -> _Painter:
        with self._lock:
            if index not in self._by_device:
                self._by_device[index] = _Painter(index)
            return self._by_device[index]

    def close(self) -> None:
        """Free what is on all GPUs."""
        with self._lock:
            while self._by_device:
                self._by_device.popitem()[1].close()

    def _after_fork(self) -> None:
        _forks.never_free(self._by_device)
        self._by_device = {}


_painters = _Painters()
