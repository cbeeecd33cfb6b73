"""What an overlay is, a base for overlays with options, and several overlays as one."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.crops import check_image
from scrfd_trt.detections import Detections
from scrfd_trt.errors import OptionError, OverlayError, ScrfdError
from scrfd_trt.options import OptionsModel


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

    Raises
    ------
    OptionError
        If an option is unknown or out of its range.
    """

    def __call__(self, image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
        """Draw over a copy of the image; see :meth:`Overlay.__call__`.

        Raises
        ------
        ImageError
            If the image is no ``(H, W, 3)`` uint8 array of at least one pixel.
        DetectionsError
            If the detections belong to an image of another size.
        """
        canvas = fresh_canvas(image, detections)
        self.draw(canvas, detections)
        return canvas

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

    def __call__(self, image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
        """Run all overlays; see :meth:`Overlay.__call__`.

        Raises
        ------
        OverlayError
            If one fails, or returns no image of the same size.
        """
        out = fresh_canvas(image, detections)
        for overlay in self.overlays:
            out = _drawn(overlay, out, detections)
        return out

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.overlays))})"


def _drawn(overlay: Overlay, image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
    try:
        out: object = overlay(image, detections)
    except ScrfdError:
        raise
    except Exception as error:  # other people's code draws here, and may raise anything
        reason = " ".join(str(error).split()) or "no reason given"
        raise OverlayError(f"the overlay {overlay!r} failed: {type(error).__name__}: {reason}") from error
    if not isinstance(out, np.ndarray) or out.shape != image.shape or out.dtype != np.uint8:
        raise OverlayError(f"the overlay {overlay!r} must return an image of the same shape and type, but did not")
    return out


def fresh_canvas(image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
    """Check an image and copy it.

    Parameters
    ----------
    image
        ``(H, W, 3)`` uint8; it may be read-only or a strided view.
    detections
        The faces found in it.

    Returns
    -------
    numpy.ndarray
        ``(H, W, 3)`` uint8, contiguous and writable, sharing nothing with ``image``.

    Raises
    ------
    ImageError
        If the image is no ``(H, W, 3)`` uint8 array of at least one pixel.
    DetectionsError
        If the detections belong to an image of another size: their boxes would miss the faces.
    """
    check_image(image, detections.image_size)
    return np.array(image, np.uint8, order="C")
