"""Hide the faces of a video, and print the moments to review.

python examples/anonymize_video.py clip.mp4 hidden.mp4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import overlays
from scrfd_trt import SCRFDDetector
from scrfd_trt.video import TrackingOptions, overlay_video


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    overlay, tracking = overlays.create("pixelate"), TrackingOptions(threshold=0.2)
    with SCRFDDetector() as detector:
        summary = overlay_video(arguments.source, arguments.target, detector, overlay, tracking=tracking)
    print(f"{arguments.target}: {summary.frames} frames, {len(summary.tracks)} tracks")
    for moment in summary.moments_to_review(5):
        print(f"review {moment.start:.2f} s: track {moment.track} is {moment.doubt}")


if __name__ == "__main__":
    main()
