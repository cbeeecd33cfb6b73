"""Find the faces of a photograph, print them, and save each one upright, ready for recognition.

python examples/detect_photo.py photo.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

from scrfd_trt import SCRFDDetector


def main(photo: Path) -> None:
    """Print the faces of ``photo``, and write ``photo_face1.png``, ``photo_face2.png``, … beside it."""
    with SCRFDDetector() as detector:
        faces = detector.detect(photo)
    print(f"{photo}: {len(faces)} face{'s' * (len(faces) != 1)}")
    for number, (face, crop) in enumerate(zip(faces, faces.align(), strict=True), start=1):
        x, y = face.center
        print(f"{number}: {face.score:.0%} sure, {face.width:.0f}×{face.height:.0f} pixels around {x:.0f}, {y:.0f}")
        cv2.imwrite(str(photo.with_name(f"{photo.stem}_face{number}.png")), crop)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
