"""Make the pictures of the README and these pages anew: ``python docs/make_pictures.py``."""

from __future__ import annotations

from pathlib import Path

import cv2

from scrfd_trt import SCRFDDetector, samples
from scrfd_trt.cli.demo import pictures

FOLDER = Path(__file__).parent / "images"
QUALITY = 88


def main() -> None:
    """Draw the scene, find its faces, and write the demo's contact sheet."""
    scene = samples.scene().image
    with SCRFDDetector.from_pretrained(device="cpu") as detector:
        sheet = pictures(scene, detector.detect(scene))["contact-sheet.png"]
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / "demo.jpg"
    if not cv2.imwrite(str(path), sheet, [cv2.IMWRITE_JPEG_QUALITY, QUALITY]):
        raise SystemExit(f"{path} cannot be written")
    print(f"{path.name}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
