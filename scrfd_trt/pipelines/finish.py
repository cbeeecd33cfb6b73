"""The last step on the host: candidates of all passes to detections."""

from __future__ import annotations

from collections.abc import Sequence

from scrfd_trt.decode import Candidates, merge
from scrfd_trt.detections import Detections
from scrfd_trt.errors import BackendError, DetectionsError
from scrfd_trt.nms import nms


def finish(
    passes: Sequence[Candidates], iou: float, max_faces: int | None, image_size: tuple[int, int], description: str
) -> Detections:
    """Suppress all but the best candidate of each face.

    Parameters
    ----------
    passes
        Candidates of one image by pass, in source pixels.
    iou
        As for :func:`scrfd_trt.nms.nms`.
    max_faces
        Keep only so many, those with the highest scores; None keeps all.
    image_size
        Width and height of the image in pixels.
    description
        What ran the network, for messages.

    Raises
    ------
    BackendError
        If numbers are no faces: not finite, or scores beyond 1.
    """
    candidates = merge(passes)
    kept = candidates.take(nms(candidates.boxes, candidates.scores, iou)[:max_faces])
    try:
        return Detections(kept.boxes, kept.scores, kept.landmarks, image_size=image_size)
    except DetectionsError as error:
        raise BackendError(f"{description}: the network gave no faces but nonsense: {error}") from error
