"""Show a webcam with overlays in a window; press q to quit.

python examples/webcam.py --overlay skull:opacity=0.8

``--camera`` takes a number, or a file or address that OpenCV opens as a video. The window requires ``opencv-python``;
scrfd-trt installs the headless variant. ``--save`` writes the last picture and opens no window.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

import overlays
from scrfd_trt import SCRFDDetector


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--overlay", action="append", help="as for scrfd-trt overlay (default: skull)")
    parser.add_argument("--camera", default="0", help="number, file or address")
    parser.add_argument("--save", type=Path, help="write the last picture to this file, without a window")
    arguments = parser.parse_args()
    overlay = overlays.Compose(*map(overlays.parse, arguments.overlay or ["skull"]))
    camera = cv2.VideoCapture(int(arguments.camera) if arguments.camera.isdigit() else arguments.camera)
    if not camera.isOpened():
        raise SystemExit(f"camera {arguments.camera} cannot be opened; try another number with --camera")
    frame = None
    # One scale is enough for faces of usual size, and faster.
    with SCRFDDetector(scales=640) as detector:
        while (read := camera.read())[0]:
            frame = read[1]
            overlay(frame, detector.detect(frame), out=frame)
            if arguments.save is None:
                cv2.imshow("scrfd_trt", frame)
                if cv2.waitKey(1) == ord("q"):
                    break
    camera.release()
    if arguments.save is not None and frame is not None:
        cv2.imwrite(str(arguments.save), frame)


if __name__ == "__main__":
    main()
