"""Annotators of supervision as overlays, and overlays as annotators."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from overlays._base import Overlay, as_detections, draw_in_place, prepare, size_of
from overlays._geometry import Image
from scrfd_trt._detections import Detections
from scrfd_trt._option_names import explained_options
from scrfd_trt.errors import MissingDependencyError, OptionError, OverlayError, one_line, shown


def from_supervision(annotator: Any, **options: Any) -> Overlay:
    """Return an overlay that draws with an annotator of supervision.

    Parameters
    ----------
    annotator
        An object with ``annotate(scene, detections)``, such as ``supervision.BoxCornerAnnotator()``, or with
        ``annotate(scene, key_points)``, such as ``supervision.VertexAnnotator()``, which gets the landmarks. Faces have
        class 0; landmarks are in ``data["landmarks"]``, track ids in ``tracker_id``.
    **options
        Further arguments of ``annotate``. A function is first called with the :class:`scrfd_trt.Detections`:
        ``labels=lambda faces: [f"{score:.0%}" for score in faces.scores]``.

    Returns
    -------
    Overlay
        It raises ``OverlayError`` if the annotator or a function among the options fails, and
        ``MissingDependencyError`` if supervision is not installed.

    Raises
    ------
    OptionError
        If ``annotator`` is not an annotator.
    """
    return SupervisionOverlay(annotator, options)


@explained_options
def to_supervision(overlay: Overlay) -> SupervisionAnnotator:
    """Return an annotator that draws with an overlay, for programs that use supervision.

    The built-in overlays also accept ``supervision.Detections`` directly.

    Returns
    -------
    SupervisionAnnotator
        Its method ``annotate(scene, detections)`` draws on the scene, in place, and returns it. Landmarks are read from
        ``data["landmarks"]``, ``(N, 5, 2)``, and track ids from ``tracker_id``.

    Raises
    ------
    OptionError
        If ``overlay`` is not an overlay.
    """
    return SupervisionAnnotator(overlay)


class SupervisionOverlay:
    """An annotator as an overlay; see :func:`from_supervision`."""

    def __init__(self, annotator: Any, options: dict[str, Any]) -> None:
        self.annotator, self.options, self.parameter = annotator, options, _input_parameter(annotator)

    def __call__(self, image: Image, detections: Detections) -> Image:
        """Draw on a copy of the image."""
        canvas, detections = prepare(image, detections)
        drawn = _key_points(detections) if self.parameter == "key_points" else detections.to_supervision()
        if drawn is None:
            return canvas
        try:
            options = {name: value(detections) if callable(value) else value for name, value in self.options.items()}
            out = self.annotator.annotate(scene=canvas, **{self.parameter: drawn}, **options)
        except Exception as error:  # annotators may raise anything
            raise OverlayError(f"{self!r} failed: {type(error).__name__}: {one_line(error)}") from error
        return np.ascontiguousarray(out, np.uint8)

    def __repr__(self) -> str:
        return f"from_supervision({type(self.annotator).__name__})"


class SupervisionAnnotator:
    """An overlay as an annotator; see :func:`to_supervision`."""

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay

    def annotate(self, scene: Image, detections: Any) -> Image:
        """Draw ``supervision.Detections`` on the scene ``(H, W, 3)``, in place, and return it."""
        return draw_in_place(self.overlay, scene, as_detections(detections, size_of(scene)))

    def __repr__(self) -> str:
        return f"to_supervision({self.overlay!r})"


def _input_parameter(annotator: Any) -> str:
    """Return the name of the parameter that ``annotate`` draws."""
    if isinstance(annotator, type):
        raise OptionError(f"{annotator.__name__} is a class: write {annotator.__name__}(…)")
    annotate = getattr(annotator, "annotate", None)
    parameters = set(inspect.signature(annotate).parameters) if callable(annotate) else set()
    for name in ("detections", "key_points"):
        if {"scene", name} <= parameters:
            return name
    raise OptionError(
        f"an annotator needs a method annotate(scene, detections) or annotate(scene, key_points); {shown(annotator)} "
        "has neither"
    )


def _key_points(detections: Detections) -> Any:
    """Return the landmarks as ``supervision.KeyPoints``; None if there are none."""
    if detections.landmarks is None or not len(detections):
        return None
    try:
        import supervision  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        raise MissingDependencyError('key points require supervision: pip install "scrfd-trt[supervision]"') from error
    return supervision.KeyPoints(xy=detections.landmarks.copy(), class_id=np.zeros(len(detections), int))
