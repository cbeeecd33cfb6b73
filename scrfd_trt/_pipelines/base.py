"""The interface of the pipelines, and the step that they share: from the candidates of all passes to detections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._decode import Candidates, merge
from scrfd_trt._detections import Detections
from scrfd_trt._heads import HeadLayout
from scrfd_trt._passes import WEAK, Look, View, ViewTable, find_weak, keep, sheets
from scrfd_trt._pipelines.streaming import Pending
from scrfd_trt.errors import BackendError, DetectionsError, ScrfdError

SHEETS = 8  # sheets that are in memory at a time
Outcome = Detections | ScrfdError  # the result of one image: its detections, or an error that concerns no other image


class Pipeline(Protocol):
    """Images in, detections out. Several threads may call the methods at the same time."""

    @property
    def layout(self) -> HeadLayout: ...

    @property
    def scales(self) -> tuple[tuple[int, int], ...]:
        """Width and height in pixels of each pass over an image."""

    @property
    def cuts_padding(self) -> bool:
        """Whether the model runs without most of the padding, at sizes that ``scales`` limit."""

    @property
    def max_batch(self) -> int:
        """Maximum number of images per run of the model."""

    @property
    def parallel(self) -> int:
        """Number of devices that run batches at the same time."""

    @property
    def description(self) -> str:
        """What runs the model, a few words."""

    def prepare_image(self, image: Any) -> Any:
        """Return an image in a form that :meth:`detect` accepts; raise ImageError if that is not possible."""

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return an uninitialised array in the memory from which images are read fastest."""

    def detect(self, images: Sequence[Any], threshold: float, max_faces: int | None) -> list[Detections]:
        """Return the detections of each image, in arrays that later calls do not touch.

        ``images`` come from :meth:`prepare_image`. ``threshold`` is the minimum score, 0 to 1; ``max_faces`` limits the
        faces of an image to those with the highest scores, None keeps all.
        """

    def submit(self, images: Sequence[Any], threshold: float, max_faces: int | None) -> Future[list[Detections]]:
        """Run :meth:`detect` asynchronously; raise ClosedError after :meth:`close`.

        Images on the GPU are ordered behind the pending work of the library that made them before this returns. The
        images must not be changed until the future is done.
        """

    def start(self, images: Sequence[Any], threshold: float, max_faces: int | None) -> Pending[Outcome]:
        """Start to detect at most ``max_batch`` images, and return without waiting where possible.

        An error of one image is its result; the others have theirs. The caller must call ``result()`` of each, in any
        order and any thread, and must not change the images before.
        """

    def close(self) -> None:
        """Release all resources; a second call does nothing."""


def all_found(outcomes: Iterable[Outcome]) -> list[Detections]:
    """Return the detections of all images; raise the first error."""
    found: list[Detections] = []
    for outcome in outcomes:
        if isinstance(outcome, ScrfdError):
            try:
                raise outcome
            finally:  # its traceback keeps this frame alive
                del outcome, outcomes
        found.append(outcome)
    return found


def merge_passes(
    passes: Sequence[Candidates],
    iou: float,
    max_faces: int | None,
    image_size: tuple[int, int],
    description: str,
    *,
    views: Sequence[View] | None = None,
) -> Outcome:
    """Apply NMS to the candidates of all passes over one image, or of its ``views``; invalid values are an error."""
    candidates, aside = merge(passes), None
    if views is not None:
        numbers = np.repeat(np.arange(len(views)), [len(found) for found in passes])
        table = ViewTable(views, image_size)
        candidates = table.to_source(candidates, numbers)
        aside = table.gives_way(candidates.boxes, numbers)
    return validated(candidates.select(keep(candidates, aside, iou)[:max_faces]), image_size, description)


def least_score(looks: Iterable[Look], threshold: float) -> float:
    """Return the minimum score of candidates; it is lower than the threshold if some may be looked at again."""
    return min(threshold, max(WEAK, threshold / 3)) if any(look.rotations for look in looks) else threshold


def look_again(
    image: Callable[[], NDArray[np.uint8]],
    faces: Detections,
    all_faces: Outcome,
    detect: Callable[[list[Look]], list[Outcome]],
    limits: tuple[float, int | None],
) -> Outcome:
    """Return the faces of turned images, and weak ones of ``all_faces`` that ``detect`` confirms in sheets."""
    if isinstance(all_faces, ScrfdError):
        return faces
    weak = find_weak(_candidates(faces), _candidates(all_faces))
    parts = [_candidates(faces)]
    todo = sheets(image(), weak) if len(weak) else iter(())
    while group := list(islice(todo, SHEETS)):
        for sheet, found in zip(group, detect([Look(each.image) for each in group]), strict=True):
            if isinstance(found, ScrfdError):
                return found
            parts.append(sheet.to_source(_candidates(found)))
    candidates = merge(parts)
    aside = np.arange(len(candidates)) >= len(faces)
    kept = candidates.select(keep(candidates, aside, limits[0])[: limits[1]])
    return Detections(kept.boxes, kept.scores, kept.landmarks, image_size=faces.image_size)._by_score()


def _candidates(faces: Detections) -> Candidates:
    return Candidates(faces.boxes, faces.scores, faces.landmarks)


def validated(faces: Candidates, image_size: tuple[int, int], description: str) -> Outcome:
    """Return faces as detections, or an error; the parameters are those of :func:`merge_passes`."""
    try:
        return Detections(faces.boxes, faces.scores, faces.landmarks, image_size=image_size)._by_score()
    except DetectionsError as error:
        failure = BackendError(f"{description}: the model returned invalid values: {error}")
        failure.__cause__ = error
        return failure
