"""Measure overlays beside supervision's annotators and deface's own drawing, on the same faces in one run.

python docs/measure_overlays.py --deface path/to/python/with/deface --write

Each drawing goes over a copy of a drawn 1080p frame with 100 faces, on one core; the copy is counted. Rounds go
through all programs in turn, so that a busy moment of the machine hits none of them alone. deface is run in an
interpreter of its own, since it brings packages of its own; without ``--deface`` its rows are left out. ``--write``
puts the table into the page on overlays.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

import drawing
import overlays
from overlays import _masks
from scrfd_trt import Detections

PAGE = Path(__file__).parent / "overlays.md"
ROUNDS = 9
REPEATS = 3
LEAST, MOST = 32, 128

DEFACE = """
import json, sys, time, cv2, numpy as np
from deface.deface import anonymize_frame
cv2.setNumThreads(1)
frame, boxes = np.load(sys.argv[1]), np.load(sys.argv[2])
rows = np.column_stack([boxes, np.ones(len(boxes))])
print(json.dumps({"ready": cv2.__version__}), flush=True)
for line in sys.stdin:
    kind, repeats = json.loads(line)
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        anonymize_frame(rows, frame.copy(), 1.15, kind, True, False, None, 20)
        taken.append(time.perf_counter() - start)
    print(json.dumps(taken), flush=True)
"""

Measure = Callable[[int], list[float]]


def crowd(seed: int = 3) -> tuple[np.ndarray, Detections]:
    """Draw 100 faces of ``LEAST`` to ``MOST`` pixels into a 1080p frame, on a jittered grid."""
    rng = np.random.default_rng(seed)
    frame = drawing.scene((1920, 1080), 0).image
    found = []
    for number in range(100):
        height = float(np.exp(rng.uniform(np.log(LEAST), np.log(MOST))))
        center = (90 + number % 13 * 145 + rng.uniform(-8, 8), 75 + number // 13 * 133 + rng.uniform(-6, 6))
        look = drawing.Look.random(number)
        found.append(drawing.draw_face(frame, center, height, angle=float(rng.uniform(-15, 15)), look=look))
    return frame, Detections.from_rows(found, (1920, 1080))


def ours(overlay: overlays.Overlay, frame: np.ndarray, faces: Detections) -> Measure:
    """Measure an overlay; a new image is made each time."""
    return lambda repeats: timed(lambda: overlay(frame, faces), repeats)


def supervisions(name: str, frame: np.ndarray, faces: Detections) -> Measure:
    """Measure an annotator, with its own defaults."""
    import supervision  # noqa: PLC0415 - only where it is compared with

    annotator, there = getattr(supervision, name)(), faces.to_supervision()
    return lambda repeats: timed(lambda: annotator.annotate(frame.copy(), there), repeats)


def timed(call: Callable[[], object], repeats: int) -> list[float]:
    """Return the seconds of each of so many calls."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return taken


class Deface:
    """deface in an interpreter of its own, which waits for orders."""

    def __init__(self, python: Path, frame: np.ndarray, faces: Detections, folder: Path) -> None:
        np.save(folder / "frame.npy", frame)
        np.save(folder / "boxes.npy", faces.boxes)
        words = [str(python), "-c", DEFACE, str(folder / "frame.npy"), str(folder / "boxes.npy")]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def measure(self, kind: str) -> Measure:
        """Measure one of its ways to replace faces, with ellipses of the size that ours have."""

        def run(repeats: int) -> list[float]:
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps([kind, repeats]) + "\n")
            self.process.stdin.flush()
            return self._answer()

        return run

    def _answer(self) -> list[float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("deface could not be run; is it installed in that interpreter?")
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        self.process.communicate()


def candidates(frame: np.ndarray, faces: Detections, deface: Deface | None) -> dict[tuple[str, str], Measure]:
    """Collect what is measured, by what it does and whose it is."""
    bare = {"shape": "rectangle", "margin": 0.0, "feather": 0.0}
    found: dict[tuple[str, str], Measure] = {}
    for name, annotator, kind in (("blur", "BlurAnnotator", "blur"), ("pixelate", "PixelateAnnotator", "mosaic")):
        found[name, f"overlays, `{name}`"] = ours(overlays.create(name), frame, faces)
        found[name, f"overlays, `{name}`, the bare box"] = ours(overlays.create(name, **bare), frame, faces)
        found[name, f"supervision, `{annotator}`"] = supervisions(annotator, frame, faces)
        if deface:
            found[name, f"deface, `{kind}`"] = deface.measure(kind)
    found["solid", "overlays, `solid`"] = ours(overlays.create("solid", blending="srgb"), frame, faces)
    if deface:
        found["solid", "deface, `solid`, which is a rectangle"] = deface.measure("solid")
    found["skull", "overlays, `skull`"] = ours(overlays.create("skull"), frame, faces)
    found["skull", "overlays, `skull`, opacity 0.7 in linear light"] = ours(
        overlays.create("skull", opacity=0.7), frame, faces
    )
    found["emoji", "overlays, `emoji`"] = ours(overlays.create("emoji"), frame, faces)
    found["copy", "the copy alone"] = lambda repeats: timed(frame.copy, repeats)
    return found


def cold(frame: np.ndarray, faces: Detections) -> list[float]:
    """Measure a blur whose masks must all be made anew, as on the first frame."""
    blur, taken = overlays.create("blur"), []
    for _ in range(ROUNDS):
        _masks._upright_mask.cache_clear()
        taken += timed(lambda: blur(frame, faces), 1)
    return taken


def one_small_face() -> float:
    """Return the median microseconds that one face of 60 pixels takes in a 4K frame, drawn in place."""
    frame = np.full((2160, 3840, 3), 90, np.uint8)
    faces = Detections([(1900, 1000, 1948, 1060)], [0.9], image_size=(3840, 2160))
    blur = overlays.create("blur")
    return statistics.median(timed(lambda: blur(frame, faces, out=frame), 200)) * 1e6


def table(taken: dict[tuple[str, str], list[float]]) -> str:
    """Lay the figures out in Markdown."""
    lines = ["| what | whose | median, ms | fastest, ms |", "|---|---|---:|---:|"]
    for (what, whose), seconds in taken.items():
        lines.append(f"| {what} | {whose} | {statistics.median(seconds) * 1e3:.1f} | {min(seconds) * 1e3:.1f} |")
    return "\n".join(lines)


def versions(deface: Path | None) -> str:
    """Name what was measured."""
    from importlib.metadata import version  # noqa: PLC0415 - next to its one use

    named = f"OpenCV {cv2.__version__}, NumPy {np.__version__}, supervision {version('supervision')}"
    if deface:
        code = "from importlib.metadata import version; print(version('deface'))"
        run = subprocess.run([str(deface), "-c", code], check=True, capture_output=True, text=True)
        named += f", deface {run.stdout.strip()}"
    return f"{named}, Python {platform.python_version()}"


def main() -> None:
    """Measure, print the table, and write it where that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--deface", type=Path, help="an interpreter that has deface")
    parser.add_argument("--write", action="store_true", help="put the table into the page on overlays")
    words = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    frame, faces = crowd()
    with tempfile.TemporaryDirectory() as folder:
        deface = Deface(words.deface, frame, faces, Path(folder)) if words.deface else None
        measures = candidates(frame, faces, deface)
        taken: dict[tuple[str, str], list[float]] = {key: [] for key in measures}
        for number in range(ROUNDS + 1):
            for key, measure in measures.items():
                seconds = measure(REPEATS)
                taken[key] += seconds if number else []  # the first round warms up
        if deface:
            deface.close()
    first = statistics.median(cold(frame, faces)) * 1e3
    text = (
        f"{table(taken)}\n\n"
        f"With no mask kept from frames before, `blur` takes {first:.1f} ms. One face of 60 pixels in a 4K frame takes "
        f"`blur` {one_small_face():.0f} µs in place. {versions(words.deface)}."
    )
    print(text)
    if words.write:
        page = PAGE.read_text(encoding="utf-8")
        marked = re.sub(r"(?s)(<!-- speed -->\n).*?(\n<!-- /speed -->)", lambda m: m[1] + text + m[2], page)
        PAGE.write_text(marked, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
