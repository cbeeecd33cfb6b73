"""Measure overlays, annotators of supervision and deface on the same faces, in one run.

python docs/measure_overlays.py --deface path/to/python/with/deface --write

Each draws on a copy of a drawn 1080p frame with 100 faces, on one core; the time includes the copy. Rounds alternate
between all programs, so that other load on the machine affects all of them. deface runs in its own interpreter, because
it has its own dependencies; without ``--deface`` its rows are omitted. ``--write`` writes the table into the page on
overlays.
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
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

import drawing
import overlays
from scrfd_trt import Detections

PAGE = Path(__file__).parent / "explanation" / "speed.md"
ROUNDS = 9
REPEATS = 3
MIN_HEIGHT, MAX_HEIGHT = 32, 128

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
"""Takes a number of repetitions and returns the seconds of each."""


def crowd(seed: int = 3) -> tuple[np.ndarray, Detections]:
    """Return a 1080p frame with 100 faces of ``MIN_HEIGHT`` to ``MAX_HEIGHT`` pixels on a jittered grid."""
    rng = np.random.default_rng(seed)
    frame = drawing.scene((1920, 1080), 0).image
    found = []
    for number in range(100):
        height = float(np.exp(rng.uniform(np.log(MIN_HEIGHT), np.log(MAX_HEIGHT))))
        center = (90 + number % 13 * 145 + rng.uniform(-8, 8), 75 + number // 13 * 133 + rng.uniform(-6, 6))
        look = drawing.Look.random(number)
        found.append(drawing.draw_face(frame, center, height, angle=float(rng.uniform(-15, 15)), look=look))
    return frame, Detections.from_rows(found, (1920, 1080))


def time_calls(call: Callable[[], object], repeats: int) -> list[float]:
    """Return the seconds of each call."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def overlay_measure(overlay: overlays.Overlay, frame: np.ndarray, faces: Detections) -> Measure:
    """Measure an overlay, which creates a new image each time."""
    return lambda repeats: time_calls(lambda: overlay(frame, faces), repeats)


def supervision_measure(name: str, frame: np.ndarray, faces: Detections) -> Measure:
    """Measure an annotator with its default options."""
    import supervision  # noqa: PLC0415 - optional

    annotator, detections = getattr(supervision, name)(), faces.to_supervision()
    return lambda repeats: time_calls(lambda: annotator.annotate(frame.copy(), detections), repeats)


class Deface:
    """deface in its own interpreter, which measures on request."""

    def __init__(self, python: Path, frame: np.ndarray, faces: Detections, folder: Path) -> None:
        np.save(folder / "frame.npy", frame)
        np.save(folder / "boxes.npy", faces.boxes)
        command = [str(python), "-c", DEFACE, str(folder / "frame.npy"), str(folder / "boxes.npy")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def measure(self, kind: str) -> Measure:
        """Measure one of its replacement methods, with ellipses of the same size as ours."""

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
            raise SystemExit("deface does not run: install it in the interpreter that --deface names")
        return json.loads(line)

    def close(self) -> None:
        """Stop the interpreter."""
        self.process.communicate()


def measures(frame: np.ndarray, faces: Detections, deface: Deface | None) -> dict[tuple[str, str], Measure]:
    """Return all measures by effect and program."""
    box_only = {"shape": "rectangle", "margin": 0.0, "feather": 0.0}

    def ours(name: str, **options: object) -> Measure:
        return overlay_measure(overlays.create(name, **options), frame, faces)

    found: dict[tuple[str, str], Measure] = {}
    for name, annotator, kind in (("blur", "BlurAnnotator", "blur"), ("pixelate", "PixelateAnnotator", "mosaic")):
        found[name, f"overlays, `{name}`"] = ours(name)
        found[name, f"overlays, `{name}`, box only"] = ours(name, **box_only)
        found[name, f"supervision, `{annotator}`"] = supervision_measure(annotator, frame, faces)
        if deface:
            found[name, f"deface, `{kind}`"] = deface.measure(kind)
    found["solid", "overlays, `solid`"] = ours("solid", blending="srgb")
    if deface:
        found["solid", "deface, `solid` (rectangle)"] = deface.measure("solid")
    found["skull", "overlays, `skull`"] = ours("skull")
    found["skull", "overlays, `skull`, opacity 0.7, linear"] = ours("skull", opacity=0.7)
    found["emoji", "overlays, `emoji`"] = ours("emoji")
    found["copy", "copy only"] = lambda repeats: time_calls(frame.copy, repeats)
    return found


def without_cached_masks(frame: np.ndarray, faces: Detections) -> list[float]:
    """Measure a blur on a first frame: masks are cached by size, so that faces of many other sizes evict them."""
    blur, solid, seconds = overlays.create("blur"), overlays.create("solid"), []
    boxes = [(0, 0, width, height) for width in range(1, 31) for height in range(1, 31)]
    others = Detections(boxes, np.linspace(0.9, 0.1, len(boxes)), image_size=(32, 32))
    for _ in range(ROUNDS):
        solid(np.zeros((32, 32, 3), np.uint8), others)
        seconds += time_calls(lambda: blur(frame, faces), 1)
    return seconds


def one_small_face() -> float:
    """Return the median microseconds for one face of 60 pixels in a 4K frame, drawn in place."""
    frame = np.full((2160, 3840, 3), 90, np.uint8)
    faces = Detections([(1900, 1000, 1948, 1060)], [0.9], image_size=(3840, 2160))
    blur = overlays.create("blur")
    return statistics.median(time_calls(lambda: blur(frame, faces, out=frame), 200)) * 1e6


def table(results: dict[tuple[str, str], list[float]]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| effect | program | median, ms | fastest, ms |", "|---|---|---:|---:|"]
    for (effect, program), seconds in results.items():
        lines.append(f"| {effect} | {program} | {statistics.median(seconds) * 1e3:.1f} | {min(seconds) * 1e3:.1f} |")
    return "\n".join(lines)


def versions(deface: Path | None) -> str:
    """Return the versions of everything measured."""
    found = f"OpenCV {cv2.__version__}, NumPy {np.__version__}, supervision {version('supervision')}"
    if deface:
        code = "from importlib.metadata import version; print(version('deface'))"
        run = subprocess.run([str(deface), "-c", code], check=True, capture_output=True, text=True)
        found += f", deface {run.stdout.strip()}"
    return f"{found}, Python {platform.python_version()}"


def main() -> None:
    """Measure, print the table, and write it if requested."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--deface", type=Path, help="Python interpreter with deface installed")
    parser.add_argument("--write", action="store_true", help="write the table into docs/explanation/speed.md")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    frame, faces = crowd()
    with tempfile.TemporaryDirectory() as folder:
        deface = Deface(arguments.deface, frame, faces, Path(folder)) if arguments.deface else None
        found = measures(frame, faces, deface)
        results: dict[tuple[str, str], list[float]] = {key: [] for key in found}
        for number in range(ROUNDS + 1):
            for key, measure in found.items():
                seconds = measure(REPEATS)
                results[key] += seconds if number else []  # the first round is a warm-up
        if deface:
            deface.close()
    first = statistics.median(without_cached_masks(frame, faces)) * 1e3
    text = (
        f"{table(results)}\n\n"
        f"Without cached masks, as on the first frame, `blur` takes {first:.1f} ms. In place, `blur` takes "
        f"{one_small_face():.0f} µs for one 60-pixel face in a 4K frame. {versions(arguments.deface)}."
    )
    print(text)
    if arguments.write:
        page = PAGE.read_text(encoding="utf-8")
        marked = re.sub(r"(?s)(<!-- speed -->\n).*?(\n<!-- /speed -->)", lambda m: m[1] + text + m[2], page)
        PAGE.write_text(marked, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
