"""Draw overlays on images in GPU memory: what an overlay declares in kernels, everything else on the CPU.

The pixels that overlays use are converted to a canvas in BGR, and those drawn on are converted back, as on the CPU.
Faces that touch no common pixel are drawn at once, others one after the other.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import itertools
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from overlays._base import Compose, Overlay, OverlayModel, as_detections, draw_in_place, guarded
from overlays._geometry import Image, Region
from overlays._records import BLUR, FACE, MOSAIC, PATCH, clip_boxes
from scrfd_trt import _forks
from scrfd_trt._cuda import kernels
from scrfd_trt._cuda.driver import Device, call
from scrfd_trt._cuda.interop import DeviceImage, gpu_of
from scrfd_trt._cuda.memory import copy, gpu_memory, pinned_memory, view
from scrfd_trt._cuda.stream import borrow_stream, create_event, create_stream, synchronize
from scrfd_trt._detections import Detections
from scrfd_trt._image_arrays import LUMA_SHARES, YUVImage, check_yuv_planes, is_on_gpu
from scrfd_trt._option_names import explained_options
from scrfd_trt.errors import ImageError, OverlayError

if TYPE_CHECKING:
    from cuda.core import Buffer, Stream

KERNELS = kernels.Source(Path(__file__).with_name("_gpu.cu"), ("fetch", "gather", "average", "paint", "store"))
TILE = 32  # as in _gpu.cu
CELL_THREADS = (32, 32, 1)  # those of a cell, and cells of a face at a time
CELL = 16  # bytes
CANVAS = struct.Struct("<QqiiQqii3i18f3i3Q")
PIXEL = 4  # bytes
BGR, NV12, P010 = range(3)
CELLS = (MOSAIC, BLUR)  # kinds of faces with cells
MIN_BYTES = 1 << 16
MAX_SLOTS = 8  # images that are drawn on at once
MAX_BYTES = 1 << 28  # of pictures on the GPU
MAX_GROUP = 2048  # faces among which those that touch are looked for


@explained_options
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
    fields: tuple[Any, ...]

    @classmethod
    def of(cls, image: Any, device: Device, stream: Stream) -> _Canvas:
        is_yuv, planes = isinstance(image, YUVImage), _planes(image)
        arrays = [DeviceImage(plane, device, stream, is_plane=is_yuv) for plane in planes]
        for array, plane in zip(arrays, planes, strict=True):
            if array.readonly or type(plane).__module__.partition(".")[0] in {"jax", "jaxlib"}:
                raise ImageError(f"the image of type {type(plane).__name__} is read-only: copy it to a CuPy array")
        layouts = [(array.address, *array.strides[:2], *(*array.strides[2:], 0)[:1]) for array in arrays]
        shape, levels, layout, matrix = arrays[0].shape, (0.0, 1.0, 1.0), BGR, "bt601"
        if is_yuv:
            check_yuv_planes(shape, arrays[1].shape, arrays[0].dtype, arrays[1].dtype)
            levels = levels if image.full_range else (16.0, 255.0 / 219.0, 255.0 / 224.0)
            layout, matrix = NV12 if arrays[0].dtype == "uint8" else P010, image.matrix
        elif shape[2:] != (3,) or 0 in shape:
            raise ImageError(f"an image on the GPU to draw on is (H, W, 3) uint8 or a YUVImage, not {shape}")
        size = (int(shape[1]), int(shape[0]))
        return cls(size, (*layouts[0], *layouts[-1], *size, layout, *_coefficients(*levels, *LUMA_SHARES[matrix])))


@functools.cache
def _coefficients(black: float, light: float, tint: float, red: float, blue: float) -> tuple[float, ...]:
    """Return the factors of :class:`_Canvas` from shares in luma, and 8-bit levels per level of luma and chroma."""
    shares = np.array([blue, 1.0 - blue - red, red])
    u, v = 2.0 * (1.0 - blue) * tint, 2.0 * (1.0 - red) * tint
    to_bgr = (black, light, u, -u * blue / shares[1], -v * red / shares[1], v)
    factors = np.stack([shares / light, ([1.0, 0.0, 0.0] - shares) / u, ([0.0, 0.0, 1.0] - shares) / v])
    return (*to_bgr, *np.column_stack([factors, [black, 128.0, 128.0]]).ravel().tolist())


class _Part(NamedTuple):
    """What one overlay draws: by kernels, or on the host, from patches of so many bytes in all."""

    overlay: Overlay
    records: NDArray[Any]
    bounds: list[int]  # where each turn begins and ends
    pictures: list[Buffer]  # kept until all is launched
    patches: int = 0


class _Slot:
    """Memory and launches that draw overlays on one image. They are free again when ``event`` is done."""

    def __init__(self, device: Device, loaded: kernels.Kernels) -> None:
        self._device, self._kernels, self.event = device, loaded, create_event(device)
        self._pinned = pinned_memory(MIN_BYTES, device)
        self._memory = gpu_memory(MIN_BYTES, device)
        self._black = np.empty(0, np.uint64)  # an image for drawing on the host
        self._launches: list[kernels.Launch] = []

    def draw(self, parts: list[_Part], canvas: _Canvas, detections: Detections, stream: Stream) -> None:
        """Draw all parts, in order."""
        self._stream, count = stream, sum(len(part.records) for part in parts)
        self._send(np.concatenate([part.records for part in parts]), parts, canvas)
        self._launch("fetch", 0, count)
        for part, first, end in _turns(parts):
            kind = part.records["kind"][0]
            if kind == PATCH:
                self._launch("gather", first, end)
                self._draw_on_host(part, detections)
            if kind in CELLS:
                self._launch("average", first, end)
            self._launch("paint", first, end)
        self._launch("store", 0, count)
        call("recording an event", stream.record, self.event)

    def _send(self, records: NDArray[Any], parts: list[_Part], canvas: _Canvas) -> None:
        """Reserve memory, and copy the records of all faces to the GPU."""
        low, high = _extent(records)
        kind, grid = records["kind"], records["grid"].prod(1, dtype=np.int64)
        cells, tiles = np.where(np.isin(kind, CELLS), grid, 0), -(-(high - low) // TILE)
        self._tiles = _starts(tiles.prod(1))
        records["tiles_across"], records["first_tile"] = tiles[:, 0], self._tiles[:-1]
        # Each turn has the memory for cells of the one before.
        starts, firsts = _starts(cells), [first for _, first, _ in _turns(parts)]
        records["cells"] = starts[:-1] - starts[firsts].repeat(np.diff([*firsts, len(records)]))
        size = CELL * int(np.add.reduceat(cells, firsts).max())
        (left, top), (right, bottom) = low.min(0).tolist(), high.max(0).tolist()
        room = _aligned(records.nbytes)
        sent = room + _aligned(max(part.patches for part in parts))
        needed = sent + 2 * size + PIXEL * (right - left) * (bottom - top)
        if self._pinned.size < sent:
            self._pinned = pinned_memory(sent + sent // 4, self._device)
        if self._memory.size < needed:
            self._memory = gpu_memory(needed + needed // 4, self._device)
        pinned, base = view(self._pinned, (sent,), np.uint8), int(self._memory.handle)
        self._patches, self._patches_at = pinned[room:], base + room
        records["pixels"][kind == PATCH] += self._patches_at
        fields = (*canvas.fields, left, top, right - left, base + sent + 2 * size, base + sent, base + sent + size)
        image = (ctypes.c_char * CANVAS.size).from_buffer_copy(CANVAS.pack(*fields))
        self._arguments, self._size = (ctypes.c_void_p(base), ctypes.c_int(len(records)), image), canvas.size
        self._launches.clear()
        pinned[: records.nbytes] = records.view(np.uint8)
        copy("copying faces to the GPU", base, pinned.ctypes.data, records.nbytes, self._stream)

    def _launch(self, name: str, first: int, end: int) -> None:
        """Start a kernel for some of the faces."""
        block, (faces, count, image) = CELL_THREADS, self._arguments
        if name != "average":
            block, first, end = (TILE // 2, TILE // 2, 1), int(self._tiles[first]), int(self._tiles[end])
        launch = self._kernels.prepare(name, (end - first, 1, 1), block, (faces, count, ctypes.c_int(first), image))
        launch.start(self._stream)
        self._launches.append(launch)

    def _draw_on_host(self, part: _Part, detections: Detections) -> None:
        """Draw on the CPU, on copies of the pixels in the part's patches, which are brought back."""
        address, (width, height) = self._patches.ctypes.data, self._size
        copy("copying pixels from the GPU", address, self._patches_at, part.patches, self._stream)
        synchronize(self._stream)
        if 8 * len(self._black) < 3 * width * height:
            self._black = np.zeros(-(-3 * width * height // 8), np.uint64)
        image = self._black.view(np.uint8)[: 3 * width * height].reshape(height, width, 3)
        regions = [image[Region(*region).slices] for region in part.records["region"].tolist()]
        patches = [
            self._patches[at : at + pixels.size].reshape(pixels.shape)
            for at, pixels in zip(part.records["pixels"].tolist(), regions, strict=True)
        ]
        for pixels, patch in zip(regions, patches, strict=True):
            pixels[...] = patch
        with guarded(part.overlay):
            draw_in_place(part.overlay, image, detections)
        for pixels, patch in zip(regions, patches, strict=True):
            patch[...] = pixels
        for pixels in regions:
            pixels[...] = 0
        if self._black.any():
            raise OverlayError(f"overlay {part.overlay!r} changes pixels outside its used_boxes(): return all of them")
        copy("copying pixels to the GPU", self._patches_at, address, part.patches, self._stream)


class _Painter:
    """Kernels, memory and pictures of one GPU, which must be current in all methods."""

    def __init__(self, index: int) -> None:
        self.device = Device(index)
        with self.device.current():
            self._kernels = kernels.load(self.device, KERNELS)
        self.stream = create_stream(self.device)
        self._lent: tuple[Any, Stream] = (None, self.stream)
        self._slots: deque[_Slot] = deque()
        self._pictures: dict[int, tuple[Image, Buffer]] = {}
        self._lock = _forks.Lock()

    def borrow(self, stream: Any) -> Stream:
        """Return the caller's stream, which is mostly the same from one image to the next."""
        owner, borrowed = self._lent
        if owner is not stream:
            borrowed = borrow_stream(stream, self.device)
            self._lent = stream, borrowed
        return borrowed

    def draw(self, overlay: Overlay, canvas: _Canvas, detections: Detections, stream: Stream) -> None:
        parts = [self._part(each, canvas.size, detections, stream) for each in _flattened(overlay)]
        parts = [part for part in parts if len(part.records)]
        if not parts:
            return
        slot = self._take_slot()
        try:
            slot.draw(parts, canvas, detections, stream)
        except BaseException:
            synchronize(stream)  # its work uses the slot's memory
            raise
        with self._lock:
            self._slots.append(slot)

    def _part(self, overlay: Overlay, size: tuple[int, int], detections: Detections, stream: Stream) -> _Part:
        faces, boxes = None, None
        with guarded(overlay):
            if isinstance(overlay, OverlayModel) and type(overlay).__call__ is OverlayModel.__call__:
                overlay.check_landmarks(detections)
                faces = overlay.gpu_faces(detections)
            if faces is None and (find_boxes := getattr(overlay, "used_boxes", None)) is not None:
                boxes = find_boxes(detections)
            if faces is None:
                boxes = np.array([[0.0, 0.0, *size]]) if boxes is None else np.asarray(boxes, np.float64)
                regions, _ = clip_boxes(boxes, size)
        if faces is None:
            records = np.zeros(len(regions), FACE)
            records["region"], records["kind"] = regions, PATCH
            width, height = (regions[:, 2:] - regions[:, :2]).T.astype(np.int64)
            starts = _starts(3 * width * height)
            records["row"], records["pixels"] = 3 * width, starts[:-1]
            return _Part(overlay, records, [0, len(records)], [], int(starts[-1]))
        records = faces.records
        pictures = [self._picture(picture, stream) for picture in faces.pictures]
        if pictures:
            records["pixels"] = np.array([int(each.handle) for each in pictures], np.uint64)[records["pixels"]]
        order, bounds = _in_turns(records)
        return _Part(overlay, records[order], bounds, pictures)

    def _take_slot(self) -> _Slot:
        """Return a slot that is free; if many are in use, wait for the oldest one."""
        with self._lock:
            is_full = len(self._slots) >= MAX_SLOTS
            slot = self._slots.popleft() if self._slots and (is_full or self._slots[0].event.is_done) else None
        if slot is None:
            return _Slot(self.device, self._kernels)
        call("waiting for the GPU", slot.event.sync)
        return slot

    def _picture(self, picture: Image, stream: Stream) -> Buffer:
        """Return a picture on the GPU, where the last ones stay."""
        key = id(picture)
        with self._lock:
            if key not in self._pictures:
                memory, pixels = gpu_memory(picture.nbytes, self.device), np.ascontiguousarray(picture)
                copy("copying a picture to the GPU", int(memory.handle), pixels.ctypes.data, pixels.nbytes, stream)
                synchronize(stream)
                self._pictures[key] = picture, memory
                while sum(each.nbytes for each, _ in self._pictures.values()) > max(MAX_BYTES, picture.nbytes):
                    del self._pictures[next(iter(self._pictures))]
            return self._pictures[key][1]

    def close(self) -> None:
        """Free all memory, once the work that uses it is done."""
        self._slots.clear()
        self._pictures.clear()
        self.stream.close()


def _turns(parts: list[_Part]) -> Iterator[tuple[_Part, int, int]]:
    """Yield where each turn begins and ends among the faces of all parts."""
    begin = 0
    for part in parts:
        for first, end in itertools.pairwise(part.bounds):
            yield part, begin + first, begin + end
        begin += part.bounds[-1]


def _flattened(overlay: Overlay) -> Iterator[Overlay]:
    if isinstance(overlay, Compose):
        for each in overlay.overlays:
            yield from _flattened(each)
    else:
        yield overlay


def _extent(records: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return where the pixels that faces use begin and end, ``(N, 2)`` each, in whole blocks of 2×2, as chroma is."""
    whole, region = records["whole"], records["region"]
    is_set = whole[:, 2:3] > 0
    low = np.where(is_set, whole[:, :2], region[:, :2])
    high = np.where(is_set, whole[:, :2] + whole[:, 2:], region[:, 2:])
    records["whole"] = np.concatenate([low, high - low], 1)
    return low & ~1, high + 1 & ~1


def _in_turns(records: NDArray[Any]) -> tuple[NDArray[np.int64], list[int]]:
    """Return an order of faces in turns, and where each turn begins and ends: faces that touch take turns."""
    turns = np.zeros(len(records), np.int64)
    for start in range(0, len(records), MAX_GROUP):
        group = slice(start, start + MAX_GROUP)
        turns[group] = _turns_of(records[group]) + turns.max() + (start > 0)
    return np.argsort(turns, kind="stable"), _starts(np.bincount(turns)).tolist()


def _turns_of(records: NDArray[Any]) -> NDArray[np.int64]:
    """Return the length of the longest chain of earlier faces that touch, for each face."""
    low, high = (np.ascontiguousarray(side.T) for side in _extent(records))
    touch = np.tri(len(records), k=-1, dtype=bool)
    for start, end in zip(low, high, strict=True):
        touch &= start[:, None] < end
        touch &= end[:, None] > start
    rows, earlier = np.divmod(np.flatnonzero(touch), len(records))  # much faster than nonzero()
    owners, firsts = np.unique(rows, return_index=True)
    turns, before = np.zeros(len(records), np.int64), np.full(len(records), -1)
    while len(owners) and (turns != before).any():
        before = turns.copy()
        turns[owners] = np.maximum.reduceat(turns[earlier], firsts) + 1
    return turns


def _starts(count: NDArray[Any]) -> NDArray[np.int64]:
    """Return how many come before each, and how many there are in all, ``(N + 1,)``."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(count, dtype=np.int64)])


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
