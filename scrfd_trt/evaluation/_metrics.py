"""Match predictions with labelled faces, and measure precision and recall.

Sources of the definitions: S. Yang et al., WIDER FACE: A Face Detection Benchmark (CVPR 2016), as the evaluation code
in common use has it; T.-Y. Lin et al., Microsoft COCO (ECCV 2014), as ``pycocotools`` has it; area under the envelope
of precision: M. Everingham et al., The Pascal Visual Object Classes Challenge (IJCV 2010), section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._formats import Columns
from scrfd_trt._nms import pairwise_iou
from scrfd_trt.errors import DetectionsError
from scrfd_trt.evaluation._ground_truth import GroundTruth

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

COCO_IOUS = np.linspace(0.5, 0.95, 10)
COCO_RECALLS = np.linspace(0.0, 1.0, 101)
WIDER_IOU, WIDER_THRESHOLDS = 0.5, 1.0 - np.arange(1, 1001) / 1000
NO_FACE, IGNORED = -1, -2
"""In the place of a face: a box that finds none, and one that neither finds one nor is wrong."""
ONE_PIXEL = np.array([0, 0, 1, 1])
SIZES = (0, 8, 16, 32, 64, 128, 256)
"""Where the size classes of :meth:`Evaluation.recall_by_size` begin, in pixels."""


class Curve(NamedTuple):
    """Precision over recall as the threshold falls, one column each of the same length."""

    recall: Floats
    precision: Floats


class SizeRecall(NamedTuple):
    """Faces whose longer side has ``low`` to ``high`` pixels (infinite for the last class), and those found."""

    low: float
    high: float
    faces: int
    found: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What predictions are worth, measured with labels.

    Attributes
    ----------
    truth
        The labels.
    ap
        Average precision, 0 to 1: ``easy``, ``medium`` and ``hard`` of WIDER FACE; of other sets ``AP50``, at an IoU of
        0.5, and ``AP``, the mean over IoUs from 0.5 to 0.95.
    curves
        By the names of ``ap``, but for ``AP``.
    scores
        ``(N,)`` score of the prediction that finds each labelled face, one for one, at an IoU of 0.5; −∞ if none does.
    false_scores
        ``(M,)`` scores of predictions that find no labelled face, or one that is found with a higher score.
    predictions
        By the name of their image in ``truth``; images that have none are missing.
    unknown
        Paths of predictions that belong to no image of the set.
    """

    truth: GroundTruth
    ap: dict[str, float]
    curves: dict[str, Curve]
    scores: Floats
    false_scores: Floats
    predictions: dict[str, Columns]
    unknown: tuple[str, ...]

    def found(self, threshold: float = 0.5) -> Mask:
        """Return whether each labelled face counts, and a prediction of at least this score finds it, ``(N,)``."""
        return np.asarray((self.scores >= threshold) & self.truth.counted)

    def recall(self, threshold: float = 0.5) -> float:
        """Return the share of the faces that are found."""
        return float(self.found(threshold).sum() / max(1, self.truth.counted.sum()))

    def precision(self, threshold: float = 0.5) -> float:
        """Return the share of the predictions of at least this score that find a face."""
        found = self.found(threshold).sum()
        return float(found / max(1, found + (self.false_scores >= threshold).sum()))

    def recall_by_size(self, threshold: float = 0.5, sizes: Sequence[float] = SIZES) -> list[SizeRecall]:
        """Return the faces of each size that has some; the classes begin at ``sizes``, in pixels, ascending."""
        classes = np.digitize(self.truth.sides, sizes) - 1
        here = [self.truth.counted & (classes == number) for number in range(len(sizes))]
        found, ends = self.found(threshold), (*sizes[1:], float("inf"))
        rows = zip(sizes, ends, here, strict=True)
        return [SizeRecall(low, end, int(each.sum()), int(found[each].sum())) for low, end, each in rows if each.any()]


def evaluate(truth: GroundTruth, predictions: Mapping[str, Columns]) -> Evaluation:
    """Compare predictions with labels.

    Parameters
    ----------
    truth
        The labels, from :func:`read_ground_truth`.
    predictions
        Detections by the path of their image, from a detector or from :func:`read_predictions`. The path may begin
        above the folder of the images and lack the suffix. Average precision requires a low threshold, such as 0.02.
        The faces of images without predictions are missed.

    Raises
    ------
    DetectionsError
        If no path is that of an image of the set, or two are of the same one.

    Notes
    -----
    WIDER FACE: each prediction belongs to the face that it overlaps most. It finds the face from an IoU of 0.5 on,
    where boxes have one pixel more in width and height. Predictions of faces that do not count in a subset, and of
    images without labelled faces, are left out. Scores are scaled to 0 to 1 over the whole set, and the area is that
    under the envelope of the precision at 1,000 thresholds.

    Other sets: predictions take faces in the order of their scores, each the free face that it overlaps most. The area
    is the mean of the envelope at 101 recalls. As many predictions as there are count, whereas COCO's own figure is of
    the first 100 of each image. Faces with ``iscrowd`` do not count.
    """
    found, unknown = _by_name(truth, predictions)
    is_coco = truth.protocol == "coco"
    ious, counted = COCO_IOUS if is_coco else COCO_IOUS[:1], truth.counted
    starts = np.searchsorted(truth.images, np.arange(len(truth.names) + 1))
    empty = np.empty((len(ious), 0), np.intp)
    parts = [(empty, np.empty(0), empty[0])]
    for place, name in enumerate(truth.names):
        if (each := found.get(name)) is None:
            continue
        start, end = starts[place : place + 2]
        order = np.argsort(-np.asarray(each.scores, np.float64), kind="stable")
        boxes, scores = np.asarray(each.boxes, np.float64)[order], np.asarray(each.scores, np.float64)[order]
        faces, ignored = truth.boxes[start:end], ~counted[start:end]
        rows = _match(_overlaps(boxes, faces, ignored & is_coco), ignored, ious)
        nearest = empty[0] if is_coco else _nearest(boxes, faces)
        rows[rows >= 0] += start
        nearest[nearest >= 0] += start
        parts.append((rows, scores, nearest))
    rows, scores, nearest = (np.concatenate(each, axis=-1) for each in zip(*parts, strict=True))
    best = np.full(len(counted), -np.inf)
    best[rows[0][rows[0] >= 0]] = scores[rows[0] >= 0]
    ap, curves = _coco(rows, scores, int(counted.sum())) if is_coco else _wider(nearest, scores, truth.subsets)
    return Evaluation(truth, ap, curves, best, scores[rows[0] == NO_FACE], found, tuple(unknown))


def _by_name(truth: GroundTruth, predictions: Mapping[str, Columns]) -> tuple[dict[str, Columns], list[str]]:
    """Return predictions by the name of their image, with which their path ends, and the paths of all others."""
    known = {str(PurePosixPath(name).with_suffix("")): name for name in truth.names}
    known |= {name: name for name in truth.names}
    found: dict[str, Columns] = {}
    unknown: list[str] = []
    for path, each in predictions.items():
        parts = path.replace("\\", "/").split("/")
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        image = next((known[text] for end in ends for text in (end, end.rpartition(".")[0]) if text in known), None)
        if image in found:
            raise DetectionsError(f"two predictions are of {image}, the second one of {path}; remove one")
        if image is None:
            unknown.append(path)
        else:
            found[image] = each
    if not found:
        example = f", such as {unknown[0]} of {truth.names[0]}" if unknown and truth.names else ""
        raise DetectionsError(f"no prediction is of an image of the set{example}")
    return found, unknown


def _overlaps(boxes: Floats, faces: Floats, crowds: Mask) -> Floats:
    """Return the IoU ``(P, N)``; of crowds, the share of a box that they cover."""
    iou = pairwise_iou(boxes, faces)
    if crowds.any():
        area, whole = ((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, faces))
        share = iou * (area[:, None] + whole) / np.maximum((1.0 + iou) * area[:, None], np.finfo(float).tiny)
        iou = np.where(crowds, share, iou)
    return iou


def _match(iou: Floats, ignored: Mask, thresholds: Floats) -> NDArray[np.intp]:
    """Return the face that each box takes at each IoU, ``(T, P)``: in their order, the free one it overlaps most.

    One that counts comes before one that is ignored, which several may take; of equal ones, the last.
    """
    taken = np.full((len(thresholds), len(iou)), NO_FACE)
    if not iou.size:
        return taken
    free, each = np.ones((len(thresholds), iou.shape[1]), bool), np.arange(len(thresholds))
    for row in np.flatnonzero(iou.max(axis=1) >= thresholds[0]):
        rank = np.where(free & (iou[row] >= thresholds[:, None]), iou[row] + 2.0 * ~ignored, -1.0)
        best = iou.shape[1] - 1 - rank[:, ::-1].argmax(axis=1)
        hit = rank[each, best] > 0.0
        taken[hit, row] = np.where(ignored[best], IGNORED, best)[hit]
        free[each[hit], best[hit]] = ignored[best[hit]]
    return taken


def _nearest(boxes: Floats, faces: Floats) -> NDArray[np.intp]:
    """Return the face that each box overlaps most if it is WIDER FACE's match; of an image without faces, nothing."""
    if not len(faces):
        return np.full(len(boxes), IGNORED)
    iou = pairwise_iou(boxes + ONE_PIXEL, faces + ONE_PIXEL)
    return np.where(iou.max(axis=1) >= WIDER_IOU, iou.argmax(axis=1), NO_FACE)


def _wider(
    nearest: NDArray[np.intp], scores: Floats, subsets: Mapping[str, Mask]
) -> tuple[dict[str, float], dict[str, Curve]]:
    low, high = (scores.min(), scores.max()) if len(scores) else (0.0, 0.0)
    scaled = (scores - low) / (high - low) if high > low else np.ones(len(scores))
    steps = np.searchsorted(-WIDER_THRESHOLDS, -scaled)
    by_score = np.argsort(-scores, kind="stable")
    first = np.zeros(len(scores), bool)
    first[by_score[np.unique(nearest[by_score], return_index=True)[1]]] = True
    ap, curves = {}, {}
    for name, counted in subsets.items():
        on_face = nearest >= 0
        counts = np.zeros(len(scores), bool)
        counts[on_face] = counted[nearest[on_face]]
        found, kept = counts & first, counts | (nearest == NO_FACE)
        hits, total = (np.bincount(steps[each], minlength=len(WIDER_THRESHOLDS)).cumsum() for each in (found, kept))
        curves[name] = curve = Curve(_ratio(hits, counted.sum()), _ratio(hits, total))
        ap[name] = float((np.diff(curve.recall, prepend=0.0) * _envelope(curve.precision)).sum())
    return ap, curves


def _coco(rows: NDArray[np.intp], scores: Floats, faces: int) -> tuple[dict[str, float], dict[str, Curve]]:
    order = np.argsort(-scores, kind="stable")
    ap, curves = [], []
    for taken in rows[:, order]:
        hits = (taken[taken != IGNORED] >= 0).cumsum()
        curve = Curve(_ratio(hits, faces), _ratio(hits, np.arange(1, len(hits) + 1)))
        envelope = np.append(_envelope(curve.precision), 0.0)
        ap.append(float(envelope[np.searchsorted(curve.recall, COCO_RECALLS)].mean()))
        curves.append(curve)
    return {"AP50": ap[0], "AP": float(np.mean(ap))}, {"AP50": curves[0]}


def _ratio(part: Any, whole: Any) -> Floats:
    """Return the quotient; 0 where there is nothing to divide by."""
    ratio: Floats = np.divide(part, whole, out=np.zeros(len(part)), where=np.asarray(whole) > 0)
    return ratio


def _envelope(precision: Floats) -> Floats:
    return np.flip(np.maximum.accumulate(np.flip(precision)))
