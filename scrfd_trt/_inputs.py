"""Turn what callers hand in into images: files, their content, addresses, and objects of other libraries."""

from __future__ import annotations

import glob
import io
import logging
import mimetypes
import os
import stat
import sys
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._crops import explain_no_array
from scrfd_trt._devices import usable_cores
from scrfd_trt._files import user_path
from scrfd_trt._image_arrays import YUVImage, as_color, from_yuv, is_channels_first, is_on_gpu
from scrfd_trt._jobs.stages import ByteBudget, mapped
from scrfd_trt.errors import (
    ClosedError,
    ImageError,
    MissingDependencyError,
    ScrfdError,
    one_line,
    redact_password,
    without_frames,
)

logger = logging.getLogger("scrfd_trt")

ADDRESSES = ("https://", "http://")
OF_VIDEOS = "scrfd_trt.video.find_faces(VideoReader(path), detector) yields the faces of each frame"
MAX_FILE_BYTES = 1 << 28
"""Of a file that is downloaded: more than the largest images within the limits have when they are compressed."""
MAX_SECONDS = 120.0
MAX_AHEAD, MAX_BYTES_AHEAD, MAX_BATCH_BYTES = 64, 1 << 29, 1 << 28
"""Images, and bytes of their files and pixels, that are read before their turn; and bytes that end a batch."""
LONGEST_NAME = 200
_BYTES = (bytes, bytearray, memoryview)
_WANTED = "an array (H, W, 3) of uint8, a path, an address, the bytes of a file or a PIL image is required"


class Picture(NamedTuple):
    """A picture that knows its own colours."""

    size: int  # bytes of the file and the pixels
    decode: Callable[[], NDArray[np.uint8]]  # returns (H, W, 3) BGR, upright, over white
    source: str | None = None  # path or address


def open_picture(image: Any) -> Picture | None:
    """Open a file, an address, the content of a file, or an image of Pillow or PyAV; return None for anything else."""
    if isinstance(image, (np.ndarray, YUVImage)):
        return None
    if isinstance(image, (str, os.PathLike)):
        if not (text := os.fsdecode(image)):
            raise ImageError("the path of the image is empty")
        if isinstance(image, str) and text[:5] == "data:":
            raise ImageError("a data URL is not read: pass base64.b64decode(url.partition(',')[2])")
        if isinstance(image, str) and "://" in text[:16]:
            opened = _open_file(download(text), shown_address(text))
        else:
            path = user_path(text)
            opened = _open_file(path, _cut(str(path) if text[0] == "~" else text))
        return opened._replace(source=redact_password(text))
    if isinstance(image, _BYTES):
        return _open_file(bytes(image))
    if _is_of("PIL.Image", "Image", image):
        from scrfd_trt._image_files.pillow_codec import from_pillow  # noqa: PLC0415 - used for Pillow's images only

        return Picture(4 * image.width * image.height, lambda: from_pillow(image).visible())
    if _is_of("av", "VideoFrame", image):
        return Picture(3 * image.width * image.height, partial(_frame_pixels, image))
    refuse_video(image)
    read = _reader(image)
    return _open_file(_content(read)) if read else None


def refuse_video(image: Any) -> None:
    """Raise ImageError for an open video of OpenCV, PyAV or ours, and for a frame of ours."""
    if isinstance(image, cv2.VideoCapture) or _is_of("av.container", "InputContainer", image):
        raise ImageError(f"{type(image).__name__} is a video: {OF_VIDEOS}; or pass its frames")
    if _is_of("scrfd_trt.video._reader", "FrameReader", image):
        raise ImageError("this is a video: scrfd_trt.video.find_faces(reader, detector) yields the faces of each frame")
    if _is_of("scrfd_trt.video", "Frame", image):
        raise ImageError("this is a frame: pass its image")
    if _is_of("scrfd_trt.samples", "Scene", image):
        raise ImageError("this is a scene: pass its image")


def image_source(image: Any, color: str) -> tuple[Callable[[], Any], Literal["bgr", "rgb"]] | None:
    """Return a function that finds an image again, and the order of its channels, without keeping it in memory.

    It returns None once the image is gone, or the file has changed. Returns None if the image cannot be found again.
    """
    order: Literal["bgr", "rgb"] = "rgb" if color == "rgb" else "bgr"
    if isinstance(image, np.ndarray):
        return weakref.ref(image), order
    if isinstance(image, (str, os.PathLike)):
        path = os.path.abspath(user_path(os.fsdecode(image)))  # noqa: PTH100
        if (state := _file_state(path)) is None:  # an address
            return None
        return partial(_found_again, partial(_same_file, path, state), order), order
    with suppress(TypeError):  # of what has no weak references
        return None if _reader(image) else (partial(_found_again, weakref.ref(image), order), order)
    return None


def _same_file(path: str, state: tuple[int, ...]) -> Path | None:
    return Path(path) if _file_state(path) == state else None


def _file_state(path: str) -> tuple[int, ...] | None:
    """Return what changes if a file is replaced or written; None if it is no regular file, which can be read again."""
    with suppress(OSError, ValueError):
        found = os.stat(path)  # noqa: PTH116
        if stat.S_ISREG(found.st_mode):
            return found.st_ino, found.st_size, found.st_mtime_ns
    return None


def _found_again(find: Callable[[], Any], order: str) -> NDArray[np.uint8] | None:
    return None if (image := find()) is None else pixels_of(image, order)


def pixels_of(image: Any, order: str) -> NDArray[np.uint8]:
    """Return an image of any kind in host memory as ``(H, W, 3)``; arrays have this order of channels already."""
    if (picture := open_picture(image)) is not None:
        return in_order_of(picture.decode(), order)
    array = as_array(image, order)
    return from_yuv(array, order) if isinstance(array, YUVImage) else as_color(array)


def in_order_of(pixels: NDArray[np.uint8], color: str) -> NDArray[np.uint8]:
    """Return BGR pixels in the order of a detector."""
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8) if color == "rgb" else pixels


def is_file(image: Any) -> bool:
    """Return whether an image is a file, its address or its content, which another thread may open."""
    return isinstance(image, (str, os.PathLike, *_BYTES))


def is_encoded(image: Any) -> bool:
    """Return whether an image has to be decoded: whether :func:`open_picture` opens it."""
    if type(image) is np.ndarray:
        return False
    foreign = _is_of("PIL.Image", "Image", image) or _is_of("av", "VideoFrame", image)
    return foreign or is_file(image) or _reader(image) is not None


def _reader(image: Any) -> Callable[[], Any] | None:
    with suppress(Exception):  # of a foreign object
        read = image.read
        return read if callable(read) else None
    return None


def _is_of(module: str, name: str, image: Any) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(image, kind)


def _open_file(source: Path | bytes, name: str = "") -> Picture:
    from scrfd_trt._image_files import open_image  # noqa: PLC0415 - slow to import

    try:
        file = open_image(source, name=name)
    except ImageError as error:
        if not (what := _other_kind(source)):
            if not name and error.reason.startswith("not a supported image"):
                raise ImageError(f"the bytes are {error.reason}; pixels are passed as an array (H, W, 3)") from error
            raise
        raise ImageError(what, subject=name) from error
    if file.count > 1:
        what = "frames" if file.is_animation else "pages"
        logger.warning("%s has %d %s; only the first is used", name or "the image", file.count, what)
    return Picture(len(file.data) + 4 * file.size[0] * file.size[1], lambda: next(file.frames()).visible())


def _other_kind(path: Path | bytes) -> str:
    """Return what to do with a file that is no image, if it is something else."""
    if isinstance(path, bytes):
        is_page = path[:99].lstrip().lower().startswith((b"<!doctype html", b"<html"))
        return "this is a web page: pass the address or content of the image itself" if is_page else ""
    if os.path.isdir(path):  # noqa: PTH112 - unlike pathlib's, it raises no error
        return "this is a folder: call detect_batch(folder) or stream(folder), with the folder alone"
    exists = os.path.exists(path)  # noqa: PTH110
    if glob.has_magic(str(path)) and not exists:
        return "this is a glob: call detect_batch or stream for the files that match"
    if exists and (mimetypes.guess_type(path.name)[0] or "").startswith("video/"):
        return f"this is a video: {OF_VIDEOS}"
    return ""


def _content(read: Callable[[], Any]) -> bytes:
    try:
        content = read()
    except UnicodeDecodeError:  # of a file in text mode
        content = ""
    except Exception as error:  # of a foreign object
        raise ImageError(f"the file object cannot be read: {one_line(error)}") from error
    if not isinstance(content, _BYTES):
        kind = type(content).__name__
        raise ImageError(f"the file object returns {kind}: open it in binary mode, such as open(path, 'rb')")
    if not content:
        raise ImageError("the file object has no more bytes to read: call seek(0), or open it again")
    return bytes(content)


def _frame_pixels(picture: Any) -> NDArray[np.uint8]:
    from scrfd_trt.video import _colors  # noqa: PLC0415 - used for PyAV's frames only

    orientation = _colors.Orientation.from_side_data(_colors.side_data(picture))
    return np.ascontiguousarray(orientation.apply(_colors.to_bgr(picture)))


def as_array(image: Any, color: str) -> Any:
    """Return a tensor of another library as an array ``(H, W, C)``; one on a GPU stays as it is."""
    if isinstance(image, (np.ndarray, YUVImage)) or is_on_gpu(image):
        return image
    kind = type(image).__name__
    if not (hasattr(image, "__array__") or hasattr(image, "__dlpack__")):
        if image is None:
            raise ImageError(explain_no_array(image))
        if isinstance(image, list) and image and isinstance(image[0], list):
            raise ImageError("the image is of type list: pass numpy.array(image, numpy.uint8)")
        if isinstance(image, tuple) and [type(part) for part in image] == [bool, np.ndarray]:
            if image[1].ndim == 1:
                raise ImageError("cv2.imencode() returns whether it worked, and a file: pass the second as bytes(…)")
            raise ImageError("cv2.VideoCapture.read() returns whether there is a frame, and the frame: pass the second")
        several = isinstance(image, Iterable) and not isinstance(image, Mapping)
        what = "for several images, call detect_batch or stream" if several else _WANTED
        what += f"; {of_camera(image)}" if type(image) is int else ""
        raise ImageError(f"the image is of type {kind}: {what}")
    try:
        plain = image.detach() if hasattr(image, "detach") else image  # PyTorch's with gradients
        array = np.asarray(plain) if hasattr(plain, "__array__") else np.from_dlpack(plain)
    except Exception as error:  # of a foreign object
        raise ImageError(f"the image of type {kind} cannot be read: {one_line(error)}") from error
    return array.transpose(1, 2, 0) if color != "nv12" and is_channels_first(array.shape) else array


def each_of(images: Any, name: str) -> Iterator[Any]:
    """Return an iterator over several images: of a sequence, an array, a folder or a glob.

    Raises ImageError for a single image, and for a folder or pattern without files; ``name`` is the method's.
    """
    if isinstance(images, (str, os.PathLike)):
        return iter(_expanded(images))
    refuse_video(images)
    if type(images) is int:
        raise ImageError(f"a number is no image: {of_camera(images)}")
    dimensions, columns = getattr(images, "ndim", None), getattr(images, "columns", None)
    if isinstance(images, Mapping) or columns is not None:
        what = f"{type(images).__name__}: pass the images of one column, such as images['image']"
        raise ImageError(f"{name} requires several images, not {what}")
    objects = getattr(getattr(images, "dtype", None), "kind", "") in {"O", "U", "T"}
    if isinstance(dimensions, int) and dimensions < 4 and not (dimensions == 1 and objects):
        raise ImageError(f"{name} requires several images, not one array; for one image, call detect(image)")
    try:
        if isinstance(images, _BYTES) or _reader(images):
            raise TypeError  # noqa: TRY301 - bytes and files are sequences of what is no image
        each: Iterator[Any] = iter(images)
    except TypeError as error:
        what = "None" if images is None else f"{type(images).__name__}; for one image, call detect(image)"
        raise ImageError(f"{name} requires several images, not {what}") from error
    return each


def _expanded(path: str | os.PathLike[Any]) -> list[str]:
    """Return the images of a folder by their suffixes, the files that match a pattern, sorted, or the path itself."""
    from scrfd_trt._image_files.read import IMAGE_SUFFIXES  # noqa: PLC0415 - slow to import

    text = os.fspath(user_path(os.fsdecode(path)))
    try:
        if is_folder := os.path.isdir(text):  # noqa: PTH112 - unlike pathlib's, it raises no error
            entries = (each for each in os.scandir(text) if each.name[:1] != "." and each.is_file())
            found = sorted(each.path for each in entries if each.name.lower().endswith(IMAGE_SUFFIXES))
        elif os.path.exists(text) or not glob.has_magic(text) or "://" in text[:16]:  # noqa: PTH110
            return [text]
        else:
            names = glob.iglob(text, recursive=True)  # noqa: PTH207 - absolute ones, too
            found = sorted((name for name in names if not os.path.isdir(name)), key=Path)  # noqa: PTH112
    except (OSError, ValueError) as error:
        raise ImageError(f"the folder cannot be read: {one_line(error)}", subject=_cut(text)) from error
    if found:
        return found
    what = "the folder contains no images (.jpg, .png, …); subfolders are searched by a pattern such as **/*.jpg"
    raise ImageError(what if is_folder else "no file matches this pattern", subject=_cut(text))


def decoded_ahead(images: Iterator[Any], batch: int) -> Generator[Any, None, None]:
    """Yield images in order: of files, several at a time, a decoded Picture or the error; others as they are."""
    for image in images:
        if type(image) is not np.ndarray and is_file(image):
            yield from _decoded(chain([image], images), batch)
        else:
            yield image


def _decoded(images: Iterator[Any], batch: int) -> Iterator[Any]:
    cores, process = usable_cores(), os.getpid()
    budget = ByteBudget(MAX_BYTES_AHEAD)

    def decode(numbered: tuple[int, Any]) -> tuple[Any, int]:
        turn, image = numbered
        try:
            if not is_file(image) or (picture := open_picture(image)) is None:
                return image, 0
            budget.take(turn, picture.size)
            pixels = picture.decode()
            return picture._replace(decode=lambda: pixels), picture.size
        except (ScrfdError, MemoryError, cv2.error) as error:
            return without_frames(error), 0
        finally:
            budget.take(turn, 0)

    ahead = 2 * cores + min(batch, MAX_AHEAD)
    with mapped(decode, enumerate(images), workers=cores, ahead=ahead) as results, closing(budget):
        for image, size in results:
            budget.give(size)
            yield image
            if os.getpid() != process:
                raise ClosedError("this stream was started in the parent of this process; start it again")


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def of_camera(number: int) -> str:
    """Return how the frames of a camera are read."""
    shown = number if 0 <= number < 100 else 0  # str() refuses numbers of thousands of digits
    return f"a camera is read by scrfd_trt.video.open_source('camera:{shown}')"


def is_address(text: object) -> bool:
    """Return whether a string is the address of a file on a web server."""
    return isinstance(text, str) and text[:8].lower().startswith(ADDRESSES)


def shown_address(address: str) -> str:
    """Return how messages name an address: without user, password and query, shortened."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return _cut(address)
    return _cut(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def download(address: str, **limits: Any) -> bytes:
    """Return the file at an address; see :func:`download_to`."""
    content = io.BytesIO()
    download_to(content, address, **limits)
    return content.getvalue()


def download_to(
    file: BinaryIO,
    address: str,
    *,
    max_bytes: int = MAX_FILE_BYTES,
    max_seconds: float = MAX_SECONDS,
    resolve: Callable[[SplitResult], str] | None = None,
) -> None:
    """Write the file at an ``http`` or ``https`` address; raise ImageError where that fails or exceeds the limits.

    ``resolve`` returns the IP address to connect to, also for redirects, or raises ImageError.
    """
    name = shown_address(address)
    if not is_address(address):
        raise ImageError("an address must begin with https:// or http://", subject=name)
    try:
        from scrfd_trt import _http  # noqa: PLC0415 - imports requests, which is optional
    except ImportError as error:
        hint = 'reading a file from an address requires requests: pip install "scrfd-trt[download]"'
        raise MissingDependencyError(hint, subject=name) from error
    try:
        _http.copy_body(address, file, max_bytes, max_seconds, resolve)
    except ImageError as error:
        raise error.within(name) from error
