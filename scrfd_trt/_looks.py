"""The defaults of ``min_face`` and ``rotations`` with which front ends that hide faces search images and videos."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scrfd_trt import models
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._passes import FOUND_FROM, Size, View, plan_views

ROTATIONS = (90, 180, 270)
MIN_FACE = 16  # pixels of the smallest face that must be found, where the time is short or does not matter
SINGLE_LOOKS, FRAME_SHARE = 1.7, 0.4
"""On a CPU, the model may see so many times the pixels of a single look, and this share of a frame's pixels more.

Whole videos then take at most twice the time of a single look: the larger a frame, the longer is it encoded.
"""
GFLOPS = 0.5  # of the model for which the share is measured; for heavier ones, it is smaller


@dataclass(frozen=True)
class Looks:
    """The options of detection that a front end chooses for images, and for each video."""

    min_face: bool = False
    rotations: bool = False
    gflops: float = GFLOPS

    def for_images(self, detector: SCRFDDetector) -> SCRFDDetector:
        """Return the detector for images, with the same pipeline."""
        return self._applied(detector, MIN_FACE)

    def for_video(self, detector: SCRFDDetector, size: Size, *, live: bool = False) -> SCRFDDetector:
        """Return the detector for a video of this size, with the same pipeline."""
        on_gpu = detector.device != "cpu"
        return self._applied(detector, MIN_FACE if on_gpu else self._affordable(detector, size, live=live))

    def _applied(self, detector: SCRFDDetector, min_face: float) -> SCRFDDetector:
        if not (self.min_face or self.rotations):
            return detector
        own = detector.options
        return detector._looking(
            min_face if self.min_face else own.min_face, ROTATIONS if self.rotations else own.rotations
        )

    def _affordable(self, detector: SCRFDDetector, size: Size, *, live: bool) -> int:
        """Return the size of the smallest face that a CPU finds in time; for live video, that of a single look."""
        plan = partial(plan_views, size, detector.scales, cut=detector._pipeline.cuts_padding)
        single = plan()
        found = math.ceil(FOUND_FROM / max(min(view.box.scale) for view in single))
        limit = SINGLE_LOOKS * _pixels(single) + FRAME_SHARE * math.prod(size) * GFLOPS / self.gflops
        choices = range(MIN_FACE, 0 if live else found)
        return next((face for face in choices if _pixels(plan(min_face=face)) <= limit), max(found, MIN_FACE))


OWN_LOOKS = Looks()  # the detector's own options for all


def _pixels(views: Iterable[View]) -> int:
    return sum(math.prod(view.target) for view in views)


def gflops(model: str) -> float:
    """Return the work of a model for an input of 640×480 in billions; much for those that are not known."""
    known = (one.gflops for one in models.list_models() if model == one.name or Path(model).name in one.files)
    return next(known, 10.0)
