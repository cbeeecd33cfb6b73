"""What an overlay is, a base for overlays with options, and several overlays as one."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.detections import Detections
from scrfd_trt.errors import DetectionsError, ImageError, OptionError
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
        """Run all overlays; see :meth:`Overlay.__call__`."""
        out = fresh_canvas(image, detections)
        for overlay in self.overlays:
            out = overlay(out, detections)
        return out

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.overlays))})"


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
    if not isinstance(image, np.ndarray):
        raise ImageError(f"an overlay needs an image as a numpy array (H, W, 3) of uint8, not {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(
            f"an overlay needs an image of shape (H, W, 3) and type uint8, not {image.shape} {image.dtype}: "
            "convert it with cv2.cvtColor or .astype first"
        )
    if image.size == 0:
        raise ImageError(f"an overlay needs an image of at least one pixel, not {image.shape}")
    size = (image.shape[1], image.shape[0])
    if detections.image_size != size:
        raise DetectionsError(
            f"these faces were found in an image of {detections.image_size[0]}×{detections.image_size[1]}, "
            f"this one is {size[0]}×{size[1]}: draw over the image that the detector saw"
        )
    return np.array(image, np.uint8, order="C")
