"""Measure the time of anonymising a video, and of decoding, detection and encoding alone.

python docs/measure_video.py

The parts run in turns, so that other load on the machine affects all alike. The clip shows drawn people who walk
through a park, 640×360 at 30 frames per second.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
from rich.console import Console
from rich.table import Table

import drawing
import overlays
from scrfd_trt import SCRFDDetector
from scrfd_trt.video import EncodeOptions, VideoReader, VideoWriter, overlay_video

SIZE, RATE = (640, 360), 30


def draw_clip(path: Path, frames: int) -> None:
    """Write a clip of drawn people."""
    backdrop = drawing.BACKDROPS["park"](SIZE, 4)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "18"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            image = backdrop.copy()
            for actor in range(4):
                x = (90 + 150 * actor + (2 + actor) * number) % (SIZE[0] + 160) - 80
                drawing.draw_face(image, (x, 130 + 25 * actor), 50 + 8 * actor, look=actor)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        container.mux(stream.encode())


def decode(clip: Path) -> None:
    """Read all frames."""
    with VideoReader(clip) as reader:
        for _ in reader:
            pass


def detect(images: list, detector: SCRFDDetector) -> None:
    """Detect the faces of images in memory."""
    for _ in detector.stream(images):
        pass


def encode(clip: Path, frames: list, target: Path) -> None:
    """Encode frames in memory."""
    with VideoReader(clip) as reader, VideoWriter(target, reader, EncodeOptions(), overwrite=True) as writer:
        for frame in frames:
            writer.write(frame)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, SCRFDDetector.from_pretrained(device=arguments.device) as detector:
        clip, target = Path(folder, "clip.mp4"), Path(folder, "out.mp4")
        draw_clip(clip, arguments.frames)
        with VideoReader(clip) as reader:
            frames = list(reader)
        images = [frame.image for frame in frames]
        blur = overlays.create("blur")
        parts: dict[str, Callable[[], object]] = {
            "decoding alone": lambda: decode(clip),
            "detection alone": lambda: detect(images, detector),
            "encoding alone": lambda: encode(clip, frames, target),
            "the whole run": lambda: overlay_video(clip, target, detector, blur, overwrite=True),
        }
        seconds: dict[str, list[float]] = {name: [] for name in parts}
        for turn in range(arguments.rounds + 1):
            for name, run in parts.items():
                start = time.perf_counter()
                run()
                if turn:  # the first is a warm-up
                    seconds[name].append(time.perf_counter() - start)
    alone = [sum(times) for times in zip(*list(seconds.values())[:3], strict=True)]
    ratio = statistics.median(whole / sum_ for whole, sum_ in zip(seconds["the whole run"], alone, strict=True))
    table = Table("", "ms per frame", title=f"{arguments.frames} frames of {SIZE[0]}×{SIZE[1]}, {detector.description}")
    for name, times in seconds.items():
        table.add_row(name, f"{statistics.median(times) * 1000 / arguments.frames:.2f}")
    table.add_row("whole / sum of the three", f"{ratio:.2f}", style="bold")
    Console().print(table)


if __name__ == "__main__":
    main()
