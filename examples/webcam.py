"""A webcam with overlays, live in a window; q ends it.

python examples/webcam.py --overlay skull:opacity=0.8

``--camera`` takes a number, or a file or address that OpenCV opens as a video. Windows need ``opencv-python``, since
the headless one, which scrfd-trt asks for, has none; ``--save`` writes the last picture without a window.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

import overlays
from scrfd_trt import SCRFDDetector


def main() -> None:
    """Draw over each picture of the camera until it ends, or somebody types q."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--overlay", action="append", help="as scrfd-trt overlay takes it; skull if left out")
    parser.add_argument("--camera", default="0", help="its number, or a file or address")
    parser.add_argument("--save", type=Path, help="show no window, and write the last picture here")
    words = parser.parse_args()
    draw = overlays.Compose(*map(overlays.parse, words.overlay or ["skull"]))
    camera = cv2.VideoCapture(int(words.camera) if words.camera.isdigit() else words.camera)
    if not camera.isOpened():
        raise SystemExit(f"the camera {words.camera} cannot be opened; try another number with --camera")
    frame = None
    # One pass is enough for faces of usual size, and quicker.
    with SCRFDDetector.from_pretrained(scales=640) as detector:
        while (read := camera.read())[0]:
            frame = read[1]
            draw(frame, detector.detect(frame), out=frame)
            if words.save is None:
                cv2.imshow("scrfd_trt", frame)
                if cv2.waitKey(1) == ord("q"):
                    break
    camera.release()
    if words.save is not None and frame is not None:
        cv2.imwrite(str(words.save), frame)


if __name__ == "__main__":
    main()
