"""What an overlay is, a base for overlays with options, and several overlays as one."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._crops import check_image
from scrfd_trt._detections import Detections
from scrfd_trt._options import OptionsModel
from scrfd_trt.errors import DetectionsError, ImageError, OptionError, OverlayError, ScrfdError


@runtime_checkable
class Overlay(Protocol):
    """Anything that draws detections over an image: a function, or an object that can be called.

    Notes
    -----
    An overlay returns a new image and leaves the one handed in as it was. ``isinstance(x, Overlay)`` only tells that
    ``x`` can be called.
    """

    def __call__(self, image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
        """Draw over a copy of the image.

        Parameters
        ----------
        image
            ``(H, W, 3)`` uint8; it may be read-only or a strided view.
        detections
            The faces found in that image.

        Returns
        -------
        numpy.ndarray
            ``(H, W, 3)`` uint8, contiguous, a new array.
        """
        ...


class OverlayModel(OptionsModel):
    """Base of overlays whose options are the fields of a frozen pydantic model.

    A subclass declares its options with ``Field(default, description=…)``, from which the command line makes its help,
    and implements :meth:`draw`. Checking and copying the image are done here.

    Attributes
    ----------
    needs_landmarks : bool
        Of the class: whether faces without landmarks are refused.
    without_landmarks : str
        Of the class: what it does where a face has none, for help texts. Empty where landmarks make no difference.

    Raises
    ------
    OptionError
        If an option is unknown or out of its range.
    """

    needs_landmarks: ClassVar[bool] = False
    without_landmarks: ClassVar[str] = ""

    def __call__(
        self, image: NDArray[np.uint8], detections: Detections, *, out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Draw over a copy of the image, or into ``out``; see :meth:`Overlay.__call__`.

        Parameters
        ----------
        image
            ``(H, W, 3)`` uint8.
        detections
            The faces found in that image; ``supervision.Detections`` will do.
        out
            An array to draw into and return, ``(H, W, 3)`` uint8, contiguous and writable. The image itself is drawn on
            in place; any other array gets a copy of it first. None makes a new array.

        Raises
        ------
        ImageError
            If the image is no ``(H, W, 3)`` uint8 array of at least one pixel, or ``out`` cannot take it.
        DetectionsError
            If the detections belong to an image of another size, or have no landmarks where the overlay needs them.
        """
        detections = as_detections(detections, image)
        canvas = fresh_canvas(image, detections, out)
        if self.needs_landmarks and detections.landmarks is None and len(detections):
            raise DetectionsError(
                f"{type(self).__name__} needs landmarks, which these faces do not have: use a network whose name ends "
                "in _bnkps"
            )
        self.draw(canvas, detections)
        return canvas

    def reach_boxes(self, detections: Detections) -> NDArray[np.float64] | None:
        """Tell how far the drawing goes, for checks, and for programs that redraw only what changed.

        Parameters
        ----------
        detections
            The faces that would be drawn.

        Returns
        -------
        numpy.ndarray or None
            ``(M, 4)`` boxes x1, y1, x2, y2 in pixels: pixels that none of them touches stay as they are. None where
            any pixel may change.
        """
        del detections
        return None

    @abstractmethod
    def draw(self, canvas: NDArray[np.uint8], detections: Detections) -> None:
        """Draw into the canvas.

        Parameters
        ----------
        canvas
            ``(H, W, 3)`` uint8, contiguous and writable: a copy of the caller's image.
        detections
            The faces found in that image.
        """


class Compose:
    """Several overlays as one, run in the order given.

    Parameters
    ----------
    *overlays
        Each draws over what the one before it returned. With none, the image is only copied.

    Attributes
    ----------
    overlays : tuple of Overlay
        In their order.

    Raises
    ------
    OptionError
        If one of them cannot be called.
    """

    __slots__ = ("overlays",)

    overlays: tuple[Overlay, ...]

    def __init__(self, *overlays: Overlay) -> None:
        for overlay in overlays:
            if not isinstance(overlay, Overlay):
                raise OptionError(
                    f"Compose takes overlays, which are called with an image and detections, not {overlay!r}: "
                    "overlays.create() makes one by name"
                )
        self.overlays = overlays

    def __call__(
        self, image: NDArray[np.uint8], detections: Detections, *, out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Run all overlays; see :meth:`Overlay.__call__`, and :meth:`OverlayModel.__call__` for ``out``.

        Raises
        ------
        OverlayError
            If one fails, or returns no image of the same size.
        """
        detections = as_detections(detections, image)
        canvas = fresh_canvas(image, detections, out)
        for overlay in self.overlays:
            _drawn(overlay, canvas, detections)
        return canvas

    def reach_boxes(self, detections: Detections) -> NDArray[np.float64] | None:
        """Return the boxes of all overlays together; see :meth:`OverlayModel.reach_boxes`."""
        asked = [getattr(overlay, "reach_boxes", None) for overlay in self.overlays]
        boxes = [None if ask is None else ask(detections) for ask in asked]
        known = [each for each in boxes if each is not None]
        return np.concatenate([np.empty((0, 4)), *known]) if len(known) == len(boxes) else None

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.overlays))})"


def draw_into(overlay: Overlay, image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
    """Draw on an image itself, without a copy where the overlay can; return it."""
    ours = isinstance(overlay, Compose) or (
        isinstance(overlay, OverlayModel) and type(overlay).__call__ is OverlayModel.__call__
    )
    if ours and image.flags.c_contiguous and image.flags.writeable:
        overlay(image, detections, out=image)  # type: ignore[call-arg]  # both of ours take it
    else:
        image[...] = _checked(overlay, image, overlay(image, detections))
    return image


def _drawn(overlay: Overlay, canvas: NDArray[np.uint8], detections: Detections) -> None:
    try:
        draw_into(overlay, canvas, detections)
    except ScrfdError:
        raise
    except Exception as error:  # other people's code draws here, and may raise anything
        reason = " ".join(str(error).split()) or "no reason given"
        raise OverlayError(f"the overlay {overlay!r} failed: {type(error).__name__}: {reason}") from error


def _checked(overlay: Overlay, image: NDArray[np.uint8], out: object) -> NDArray[np.uint8]:
    if not isinstance(out, np.ndarray) or out.shape != image.shape or out.dtype != np.uint8:
        raise OverlayError(f"the overlay {overlay!r} must return an image of the same shape and type, but did not")
    return out


def as_detections(detections: Any, image: NDArray[np.uint8]) -> Detections:
    """Read ``supervision.Detections`` of an image; those of scrfd_trt are handed back as they are.

    Raises
    ------
    DetectionsError
        If it is neither.
    """
    if isinstance(detections, Detections):
        return detections
    if not (hasattr(detections, "xyxy") and hasattr(detections, "confidence") and isinstance(image, np.ndarray)):
        raise DetectionsError(
            f"overlays draw Detections of scrfd_trt or of supervision, not {type(detections).__name__}: "
            "SCRFDDetector.detect() gives some"
        )
    return Detections.from_supervision(detections, (image.shape[1], image.shape[0]))


def fresh_canvas(
    image: NDArray[np.uint8], detections: Detections, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Check an image and copy it.

    Parameters
    ----------
    image
        ``(H, W, 3)`` uint8; it may be read-only or a strided view.
    detections
        The faces found in it.
    out
        Where the copy goes, or the image itself, which is then not copied; None makes a new array.

    Returns
    -------
    numpy.ndarray
        ``(H, W, 3)`` uint8, contiguous and writable; ``out``, or an array that shares nothing with ``image``.

    Raises
    ------
    ImageError
        If the image is no ``(H, W, 3)`` uint8 array of at least one pixel, or ``out`` is none of its size, or cannot be
        written to, or is not contiguous.
    DetectionsError
        If the detections belong to an image of another size: their boxes would miss the faces.
    """
    check_image(image, detections.image_size)
    if out is None:
        return np.array(image, np.uint8, order="C")
    if not isinstance(out, np.ndarray) or out.shape != image.shape or out.dtype != np.uint8:
        got = f"{out.shape} {out.dtype}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ImageError(f"out must be an array of {image.shape} uint8 as the image is, not {got}")
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise ImageError("out must be contiguous and writable: make it with numpy.empty_like(image, order='C')")
    if out is not image:
        np.copyto(out, image)
    return out
