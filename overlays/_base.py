"""The protocol of overlays, the base class of overlays with options, and the composition of overlays."""

from __future__ import annotations

import functools
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from overlays._geometry import Image
from overlays._records import GpuFaces
from scrfd_trt._crops import check_image, drawn_by, overlay_error
from scrfd_trt._detections import Detections
from scrfd_trt._option_names import Explained, check_type, explained_options
from scrfd_trt._options import OptionsModel
from scrfd_trt.errors import DetectionsError, ImageError, OptionError, OverlayError, ScrfdError


@runtime_checkable
class Overlay(Protocol):
    """Any callable that draws detections on a copy of an image: a function, or an object with ``__call__``.

    ``isinstance(x, Overlay)`` only checks that ``x`` is callable. An attribute ``covers = True`` declares that it hides
    faces, as for :class:`OverlayModel`.
    """

    def __call__(self, image: Image, detections: Detections) -> Image:
        """Draw on a copy of the image.

        Parameters
        ----------
        image
            ``(H, W, 3)`` uint8; may be read-only or a strided view.
        detections
            The faces found in that image.

        Returns
        -------
        numpy.ndarray
            ``(H, W, 3)`` uint8, contiguous, a new array.
        """
        del image, detections
        raise OverlayError(f"{type(self).__name__} has no __call__: define it, or derive from OverlayModel")


class OverlayModel(OptionsModel):
    """Base class of overlays whose options are the fields of a frozen pydantic model.

    A subclass declares its options with ``Field(default, description=…)``, from which help texts are generated, and
    implements :meth:`draw`. This class validates and copies the image.

    Attributes
    ----------
    needs_landmarks
        Whether faces without landmarks are rejected.
    without_landmarks
        For help texts: what is drawn for a face without landmarks. Empty if landmarks are not used.
    is_local
        Whether the pixels that it draws depend on no pixel outside :meth:`changed_boxes`.
    covers
        Whether it hides faces: with options that :meth:`privacy_warnings` does not name, no detail inside the ellipse
        within a face's box stays visible. ``scrfd-trt anonymize`` accepts such overlays only.

    Raises
    ------
    OptionError
        If an option is unknown or out of range.
    """

    needs_landmarks: ClassVar[bool] = False
    without_landmarks: ClassVar[str] = ""
    is_local: ClassVar[bool] = False
    covers: ClassVar[bool] = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "draw" in vars(cls):
            cls.draw = _for_call(cls.draw)  # type: ignore[method-assign]

    @explained_options
    def __call__(self, image: Image, detections: Detections, *, out: Image | None = None) -> Image:
        """Draw on a copy of the image, or into ``out``; see :meth:`Overlay.__call__`.

        Parameters
        ----------
        image, detections
            As for :meth:`Overlay.__call__`; ``supervision.Detections`` are accepted.
        out
            Contiguous, writable array to copy the image into, draw on and return; ``image`` itself to draw in place.

        Raises
        ------
        ImageError
            If the image is not a non-empty ``(H, W, 3)`` uint8 array, or ``out`` does not match it.
        DetectionsError
            If the detections belong to an image of another size, or lack landmarks that the overlay needs.
        OptionError
            If the faces are of an RGB image, and the option ``color`` is not set.
        """
        canvas, detections = prepare(image, detections, out)
        self.check_landmarks(detections)
        is_default = getattr(self, "color", "") == "bgr" and "color" not in self.model_fields_set
        if is_default and detections._source and detections._source[1] == "rgb":
            what = "these faces are of an RGB image: create the overlay with color='rgb', or 'bgr' if it draws on BGR"
            raise OptionError(what, fields=["color"])
        with _calling():
            drawn: Any = self.draw(canvas, detections)
        if isinstance(drawn, np.ndarray) and not np.may_share_memory(drawn, canvas):
            raise OverlayError(
                f"{type(self).__name__}.draw returns an array, which is not used: draw on the canvas, such as with "
                "canvas[:] = …, or write a function of image and detections that returns the new image"
            )
        return canvas

    if not TYPE_CHECKING:

        def __add__(self, other: object) -> Any:
            raise OptionError("overlays are joined by overlays.Compose(first, second)")

    def check_landmarks(self, detections: Detections) -> None:
        """Raise ``DetectionsError`` if the overlay needs landmarks and the faces have none."""
        if self.needs_landmarks and detections.landmarks is None and len(detections):
            raise DetectionsError(
                f"{type(self).__name__} needs landmarks, but these faces have none: use a model whose name ends in "
                "_bnkps"
            )

    def changed_boxes(self, detections: Detections) -> NDArray[np.float64] | None:
        """Return boxes that contain every pixel the overlay changes.

        Returns
        -------
        numpy.ndarray or None
            ``(M, 4)`` float64 x1, y1, x2, y2 in pixels; None if any pixel may change.
        """
        del detections
        return None

    def used_boxes(self, detections: Detections) -> NDArray[np.float64] | None:
        """Return boxes that contain every pixel the overlay reads or changes.

        Of the frames of a video, only these are then converted, and only these are copied to the CPU and back where the
        image is on a GPU and the overlay draws on the CPU. If a pixel outside changes, ``OverlayError`` is raised
        there.

        Returns
        -------
        numpy.ndarray or None
            As :meth:`changed_boxes`, which are returned if ``is_local`` is set; None if any pixel may be read.
        """
        return self.changed_boxes(detections) if self.is_local else None

    def gpu_faces(self, detections: Detections) -> GpuFaces | None:
        """Return what the overlay draws on the GPU; None if :meth:`draw` draws it on the CPU.

        :class:`Covering` and :class:`PictureOverlay` implement it.
        """
        del detections
        return None

    def _draw_on_gpu(self, image: Any, detections: Detections) -> None:
        """Draw on a frame of a video, a YUVImage in GPU memory, in place."""
        _draw_frame(self, image, detections)

    def _draws_as(self, base: type, *names: str) -> bool:
        """Whether drawing and these methods are those of a base class, so that what is on the GPU is the same."""
        inherited = ("draw", "changed_boxes", *names)
        return all(getattr(type(self), name) is getattr(base, name) for name in inherited)

    def privacy_warnings(self) -> list[str]:
        """Return why faces may stay recognisable under an overlay that covers, one sentence each."""
        return []

    @abstractmethod
    def draw(self, canvas: Image, detections: Detections) -> None:
        """Draw on the canvas, a contiguous and writable copy of the image; only calls of the overlay call it."""


_calls = threading.local()  # ``depth``: calls of overlays in progress on this thread


@contextmanager
def _calling() -> Iterator[None]:
    before = _calls.depth = getattr(_calls, "depth", 0)
    _calls.depth += 1
    try:
        yield
    finally:
        _calls.depth = before


def _for_call(draw: Callable[..., None]) -> Callable[..., None]:
    """Refuse other calls of ``draw``, which would change the caller's image and return nothing."""

    @functools.wraps(draw)
    def checked(self: OverlayModel, canvas: Image, detections: Detections) -> None:
        if not getattr(_calls, "depth", 0):
            raise OverlayError("draw(…) is the part that authors write: call the overlay itself, overlay(image, faces)")
        return draw(self, canvas, detections)

    return checked


@explained_options
class Compose(Explained):
    """Several overlays as one: each draws on the result of the previous one. Without any, the image is only copied.

    Raises
    ------
    OptionError
        If an argument is not callable.
    """

    __slots__ = ("overlays",)

    def __init__(self, *overlays: Overlay) -> None:
        for overlay in overlays:
            check_type("overlays", "Overlay", overlay)
        self.overlays = overlays

    @property
    def covers(self) -> bool:
        """Whether all overlays cover, and there is one: others may copy a face before it is covered."""
        return bool(self.overlays) and all(getattr(overlay, "covers", False) for overlay in self.overlays)

    def privacy_warnings(self) -> list[str]:
        """Return the warnings of all overlays; see :meth:`OverlayModel.privacy_warnings`."""
        methods = [getattr(overlay, "privacy_warnings", None) for overlay in self.overlays]
        return [warning for method in methods if method is not None for warning in method()]

    def __call__(self, image: Image, detections: Detections, *, out: Image | None = None) -> Image:
        """Apply all overlays; see :meth:`Overlay.__call__`, and :meth:`OverlayModel.__call__` for ``out``.

        Raises
        ------
        OverlayError
            If an overlay fails, or does not return an image of the same size.
        """
        canvas, detections = prepare(image, detections, out)
        for overlay in self.overlays:
            with guarded(overlay):
                draw_in_place(overlay, canvas, detections)
        return canvas

    def _draw_on_gpu(self, image: Any, detections: Detections) -> None:
        _draw_frame(self, image, detections)

    def changed_boxes(self, detections: Detections) -> NDArray[np.float64] | None:
        """Return the boxes of all overlays; see :meth:`OverlayModel.changed_boxes`."""
        return self._join("changed_boxes", detections)

    def used_boxes(self, detections: Detections) -> NDArray[np.float64] | None:
        """Return the boxes of all overlays; see :meth:`OverlayModel.used_boxes`."""
        return self._join("used_boxes", detections)

    def _join(self, name: str, detections: Detections) -> NDArray[np.float64] | None:
        methods = [getattr(overlay, name, None) for overlay in self.overlays]
        boxes = [None if method is None else method(detections) for method in methods]
        known = [each for each in boxes if each is not None]
        return np.concatenate([np.empty((0, 4)), *known]) if len(known) == len(boxes) else None

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.overlays))})"


def _draw_frame(overlay: Overlay, image: Any, detections: Detections) -> None:
    import_module("overlays._gpu").draw_on_gpu(overlay, image, detections)  # which imports this module


@contextmanager
def guarded(overlay: Overlay) -> Iterator[None]:
    """Raise ``OverlayError`` for whatever another package's overlay raises."""
    try:
        yield
    except ScrfdError:
        raise
    except Exception as error:  # third-party overlays may raise anything
        raise overlay_error(overlay, error) from error


def draw_in_place(overlay: Overlay, image: Image, detections: Detections) -> Image:
    """Draw on the image itself, without a copy where the overlay supports it; return the image."""
    takes_out = isinstance(overlay, Compose) or (
        isinstance(overlay, OverlayModel) and type(overlay).__call__ is OverlayModel.__call__
    )
    if takes_out and image.flags.c_contiguous and image.flags.writeable:
        overlay(image, detections, out=image)  # type: ignore[call-arg]  # both classes accept it
        return image
    image[...] = drawn_by(overlay, image, detections)
    return image


def as_detections(detections: Any, size: tuple[int, int] | None) -> Detections:
    """Return detections of scrfd_trt or supervision as those of scrfd_trt; raise ``DetectionsError`` for others.

    ``size`` is the image's width and height; None if it is no image.
    """
    if isinstance(detections, Detections):
        return detections
    if not (size and hasattr(detections, "xyxy") and hasattr(detections, "confidence")):
        hint = next((what for kinds, what in _WRONG_FACES if type(detections).__name__ in kinds), "")
        raise DetectionsError(
            f"overlays require Detections of scrfd_trt or of supervision, not {type(detections).__name__}: "
            + (hint or "SCRFDDetector.detect() returns them")
        )
    return Detections.from_supervision(detections, size)


_WRONG_FACES = (
    (
        ("list", "tuple", "generator"),
        "write faces[faces.scores > 0.5] for some of them",
    ),
    (("Detection",), "write faces[0:1] for the first"),
    (("FrameFaces",), "write detections(reader.info.size) of it"),
    (("ndarray",), "the image comes first, and then the faces"),
)
"""What callers pass as faces, and what to write."""


def size_of(image: Any) -> tuple[int, int] | None:
    """Return the width and height of an image; None for other objects."""
    return image.shape[1::-1] if isinstance(image, np.ndarray) else None


def prepare(image: Image, detections: Any, out: Image | None = None) -> tuple[Image, Detections]:
    """Validate an image and its detections; return a copy of the image, in ``out`` if given, and the detections.

    If ``out`` is the image itself, nothing is copied. For errors see :meth:`OverlayModel.__call__`.
    """
    found = as_detections(detections, size_of(image))
    check_image(image, found.image_size)
    if out is None:
        return np.array(image, np.uint8, order="C"), found
    if not _has_same_type(out, image):
        raise ImageError(f"out must be an array of {image.shape} uint8 like the image, not {_describe(out)}")
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise ImageError("out must be contiguous and writable: create it with numpy.empty_like(image, order='C')")
    if out is not image:
        np.copyto(out, image)
    return out, found


def _has_same_type(array: object, image: Image) -> bool:
    return isinstance(array, np.ndarray) and array.shape == image.shape and array.dtype == np.uint8


def _describe(value: object) -> str:
    return f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
