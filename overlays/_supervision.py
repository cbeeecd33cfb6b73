"""Annotators of supervision as overlays, and overlays as annotators."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overlays._base import Overlay, as_detections, draw_into, fresh_canvas
from scrfd_trt._detections import Detections
from scrfd_trt.errors import MissingDependencyError, OptionError, OverlayError

Image = NDArray[np.uint8]


class FromSupervision:
    """An annotator of supervision as an overlay; see :func:`from_supervision`."""

    def __init__(self, annotator: Any, options: dict[str, Any]) -> None:
        self.annotator, self.options, self.takes = annotator, options, _taken(annotator)

    def __call__(self, image: Image, detections: Detections) -> Image:
        """Draw over a copy of the image; see :meth:`overlays.Overlay.__call__`.

        Raises
        ------
        MissingDependencyError
            If supervision is not installed.
        OverlayError
            If the annotator fails, as one does that needs track numbers where there are none, or a function among its
            options does.
        """
        detections = as_detections(detections, image)
        canvas = fresh_canvas(image, detections)
        there = _key_points(detections) if self.takes == "key_points" else detections.to_supervision()
        if there is None:  # no points to be drawn
            return canvas
        try:
            options = {name: value(detections) if callable(value) else value for name, value in self.options.items()}
            out = self.annotator.annotate(scene=canvas, **{self.takes: there}, **options)
        except Exception as error:  # other people's code draws here, and may raise anything
            reason = " ".join(str(error).split()) or "no reason given"
            raise OverlayError(f"{self!r} failed: {type(error).__name__}: {reason}") from error
        return np.ascontiguousarray(out, np.uint8)

    def __repr__(self) -> str:
        return f"from_supervision({type(self.annotator).__name__})"


class AsAnnotator:
    """An overlay with the one method of supervision's annotators; see :func:`to_supervision`."""

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay

    def annotate(self, scene: Image, detections: Any) -> Image:
        """Draw over the scene, in place, and return it, as supervision's annotators do.

        Parameters
        ----------
        scene
            ``(H, W, 3)`` uint8.
        detections
            ``supervision.Detections``; landmarks are taken from ``data["landmarks"]`` ``(N, 5, 2)``, and track numbers
            from ``tracker_id``.
        """
        return draw_into(self.overlay, scene, as_detections(detections, scene))

    def __repr__(self) -> str:
        return f"to_supervision({self.overlay!r})"


def _taken(annotator: Any) -> str:
    """Return what an annotator draws, by the name of its parameter."""
    annotate = getattr(annotator, "annotate", None)
    takes = set(inspect.signature(annotate).parameters) if callable(annotate) else set()
    for name in ("detections", "key_points"):
        if {"scene", name} <= takes:
            return name
    raise OptionError(
        f"an annotator of supervision has a method annotate(scene, detections) or annotate(scene, key_points), which "
        f"{annotator!r} has not"
    )


def _key_points(detections: Detections) -> Any:
    """Return the landmarks as ``supervision.KeyPoints``; None where there are none."""
    if detections.landmarks is None or not len(detections):
        return None
    try:
        import supervision  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        raise MissingDependencyError('key points need supervision: pip install "scrfd-trt[supervision]"') from error
    return supervision.KeyPoints(xy=detections.landmarks.copy(), class_id=np.zeros(len(detections), int))


def from_supervision(annotator: Any, **options: Any) -> Overlay:
    """Make an overlay of one of supervision's annotators.

    Parameters
    ----------
    annotator
        An object with ``annotate(scene, detections)``, ``supervision.BoxCornerAnnotator()`` say, or with
        ``annotate(scene, key_points)``, ``supervision.VertexAnnotator()`` say, which gets the landmarks. Faces are its
        class 0; landmarks stand in ``data["landmarks"]``, and track numbers in ``tracker_id``.
    **options
        What else is handed to ``annotate``. A function is called with the :class:`scrfd_trt.Detections` first:
        ``labels=lambda faces: [f"{score:.0%}" for score in faces.scores]``.

    Raises
    ------
    OptionError
        If it is no annotator.
    """
    return FromSupervision(annotator, options)


def to_supervision(overlay: Overlay) -> AsAnnotator:
    """Make an annotator of an overlay, for programs that draw with supervision.

    Parameters
    ----------
    overlay
        Any overlay. All of this project's also take ``supervision.Detections`` themselves.

    Raises
    ------
    OptionError
        If it is no overlay.
    """
    if not isinstance(overlay, Overlay):
        raise OptionError(f"to_supervision takes an overlay, not {overlay!r}: overlays.create() makes one by name")
    return AsAnnotator(overlay)
