"""A custom overlay with validated options, combined with a built-in one.

python examples/custom_overlay.py photo.jpg spotlight.png

A distribution registers it in the entry-point group ``scrfd_trt.overlays``. It is then available by name:
``overlays.create("spotlight", darkness=0.8)`` and ``scrfd-trt overlay --overlay spotlight:darkness=0.8``.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

import overlays
from scrfd_trt import Detections, SCRFDDetector


class Spotlight(overlays.OverlayModel):
    """Darken everything but the faces."""

    darkness: float = Field(0.7, ge=0.0, le=1.0, description="Darkness of the rest; 0 leaves it unchanged.")
    reach: float = Field(1.6, gt=0.0, description="Size of the light relative to the face.")

    def draw(self, canvas: NDArray[np.uint8], detections: Detections) -> None:
        """Draw on the canvas."""
        light = np.zeros(canvas.shape[:2], np.uint8)
        for face in detections:
            axes = (self.reach * face.width, self.reach * face.height)
            cv2.ellipse(light, (face.center, axes, 0.0), 255, cv2.FILLED, cv2.LINE_AA)
        keep = 1.0 - self.darkness * (1.0 - light[..., None] / 255.0)
        canvas[:] = np.rint(canvas * keep)


def main(photo: str, target: str) -> None:
    """Write ``photo`` to ``target``, darkened except for its faces, which are marked."""
    image = cv2.imread(photo)
    with SCRFDDetector() as detector:
        faces = detector.detect(image)
    show = overlays.Compose(Spotlight(darkness=0.75), overlays.create("landmarks"))
    cv2.imwrite(target, show(image, faces))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
