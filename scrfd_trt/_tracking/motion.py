"""Estimate how the camera moved between two frames, from small grey pictures of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._tracking.scene_cuts import Thumbnail

Grey = NDArray[np.uint8]
Points = NDArray[np.float32]
Motion = NDArray[np.float64]
"""A similarity ``(2, 3)``: it maps points of the frame before to where they are in this one."""

GREY_SIDE = 160  # pixels of the longer side of a picture
MAX_POINTS, POINT_QUALITY, POINT_DISTANCE = 60, 0.01, 6
WINDOW, LEVELS = 11, 3  # side of the window that is searched for around a point, and levels above the picture itself
MAX_RESIDUAL, MIN_INLIERS, MIN_INLIER_SHARE = 1.0, 10, 0.3
"""Pixels by which a point may miss its place, and points that have to be there, with their share of all."""
MIN_LIKENESS = 0.4  # response of a phase correlation from which its shift is the motion: 0.6 in whips, 0.15 at cuts
STILL_CHANGE = 0.02  # mean change of a pixel, as a multiple of the contrast, up to which nothing is estimated
STILL, STILL_RESIDUALS, MIN_STILL_SHARE = 0.1, 2.0, 0.3
"""Pixels, or multiples of the median residual, within which a point is still, and their share if the camera is."""


class Preview(NamedTuple):
    """Small pictures of a frame: one to find scene cuts, one to find motion."""

    thumbnail: Thumbnail
    grey: Grey


def grey_size(width: int, height: int) -> tuple[int, int]:
    """Return width and height of the picture that stands for a frame."""
    scale = GREY_SIDE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def estimate_motion(before: Grey, after: Grey, size: tuple[int, int]) -> Motion | None:
    """Return the motion of the background between two frames of ``size`` pixels; None if it is still or unknown.

    Many points have to agree, so that neither people nor a cut make a motion. If many points are still, the camera is,
    whatever moves before it.
    """
    if before.shape != after.shape:
        return None
    contrast = float(cv2.meanStdDev(before)[1][0, 0])
    if cv2.norm(before, after, cv2.NORM_L1) <= STILL_CHANGE * contrast * before.size:
        return None
    points: Any = cv2.goodFeaturesToTrack(before, MAX_POINTS, POINT_QUALITY, POINT_DISTANCE)
    if points is None or len(points) < MIN_INLIERS:
        return None
    found = _follow(before, after, points, points)
    likeness = 0.0
    if found is None:
        # A whip pan takes points further than they are searched for.
        pictures = before.astype(np.float32), after.astype(np.float32)
        shift, likeness = cv2.phaseCorrelate(*pictures, cv2.createHanningWindow(before.shape[::-1], cv2.CV_32F))
        found = _follow(before, after, points, points + np.array(shift, np.float32))
    if found is not None:
        old, new, motion, residual = found
        still = max(STILL, STILL_RESIDUALS * residual)
        if np.count_nonzero(np.hypot(*(new - old).T) <= still) >= MIN_STILL_SHARE * len(old):
            return None
    elif likeness >= MIN_LIKENESS and max(map(abs, shift)) >= 1.0:
        motion = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])  # one frame is blurred, the other is not
    else:
        return None
    # Centres of pixels are at halves, and sides of pictures are rounded.
    motion[:, 2] = (motion[:, :2] @ [-0.5, -0.5] + motion[:, 2] + 0.5) * np.array(size) / before.shape[::-1]
    return motion


def _follow(before: Grey, after: Grey, points: Points, guess: Points) -> tuple[Points, Points, Motion, float] | None:
    """Return where points were and are, their motion and the median miss; None if too few of them agree."""
    moved, is_found, _ = cv2.calcOpticalFlowPyrLK(
        before,
        after,
        points,
        guess.copy(),
        winSize=(WINDOW, WINDOW),
        maxLevel=LEVELS,
        criteria=(3, 10, 0.03),
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    is_there = is_found[:, 0] > 0
    old, new = points[is_there, 0], moved[is_there, 0]
    if len(old) < MIN_INLIERS:
        return None
    motion, inliers = cv2.estimateAffinePartial2D(
        old, new, ransacReprojThreshold=MAX_RESIDUAL, maxIters=200, refineIters=3
    )
    if motion is None or inliers.sum() < max(MIN_INLIERS, MIN_INLIER_SHARE * len(old)):
        return None
    residuals = np.hypot(*(old @ motion[:, :2].T + motion[:, 2] - new).T)[inliers[:, 0] > 0]
    return old, new, motion, float(np.partition(residuals, len(residuals) // 2)[len(residuals) // 2])
