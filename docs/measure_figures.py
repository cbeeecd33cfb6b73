"""Measure figures that the pages name and that no other script makes.

python docs/measure_figures.py folder verify second-look margins    # all without names; a few minutes on two idle cores

Each prints its figures in the words of its page. Times are CPU times of all cores, which other load changes less.
"""

from __future__ import annotations

import resource
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
from drawing import clips
from drawing.covered import COLOR, covered, measure
from scrfd_trt import SCRFDDetector, samples

COVER = "solid:fill=#{2:02x}{1:02x}{0:02x},scale=1.6,margin=0".format(*COLOR)
ROUNDS = 5


def anonymize(source: Path, target: Path, *options: str) -> float:
    """Run ``anonymize``, and return its CPU time in seconds."""
    command = [sys.executable, "-m", "scrfd_trt", "anonymize", str(source), "-o", str(target), "--overwrite", "--quiet"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, "--device", "cpu", "--overlay", COVER, *options], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def folder(place: Path) -> None:
    """docs/how-to/large-jobs.md: a folder of JPEGs beside the same images in memory."""
    scene = samples.load("group").image
    for number in range(60):
        cv2.imwrite(str(place / f"{number:03}.jpg"), np.roll(scene, 16 * number, axis=1))
    paths = sorted(place.glob("*.jpg"))
    arrays = [cv2.imread(str(path)) for path in paths]
    ways: dict[str, Callable[[], object]] = {}
    times: dict[str, list[tuple[float, float]]] = {}
    with SCRFDDetector("500m_bnkps", device="cpu") as detector:
        ways["files"] = lambda: list(detector.stream(str(place)))
        ways["detect"] = lambda: [detector.detect(array) for array in arrays]
        ways["stream"] = lambda: list(detector.stream(arrays))
        ways["decoding"] = lambda: [cv2.imread(str(path)) for path in paths]
        for _ in range(ROUNDS):
            for name, way in ways.items():
                cpu, start = time.process_time(), time.perf_counter()
                way()
                taken = (time.perf_counter() - start, time.process_time() - cpu)
                times.setdefault(name, []).append(taken)
    wall, cores = ({name: np.median([pair[i] for pair in pairs]) for name, pairs in times.items()} for i in (0, 1))
    print(f"folder: {wall['files'] / wall['detect']:.1f} times as long as detect(), ", end="")
    print(f"{wall['files'] / wall['stream']:.1f} as stream(); CPU time for an image: ", end="")
    print(f"{1000 * cores['files'] / len(paths):.0f} ms, decoding alone {1000 * cores['decoding'] / len(paths):.0f} ms")


def verify(place: Path) -> None:
    """docs/how-to/check-the-result.md: what ``--verify`` takes."""
    path, truth = clips.make("static", place, seconds=2.0, size=(640, 360))
    plain, checked = ([anonymize(path, place / "out.mp4", *more) for _ in range(3)] for more in ([], ["--verify"]))
    once, twice = (1000 * float(np.median(times)) / len(truth.frames) for times in (plain, checked))
    print(f"verify: {twice - once:.0f} ms of CPU time for a frame of 640×360, after {once:.0f} ms for everything else")


def second_look(place: Path) -> None:
    """docs/explanation/accuracy.md: false covers of photographs with and without the second look."""
    for name in ("phone12mp", "panorama"):
        image, truth = clips.picture(name)
        path, target = place / f"{name}.jpg", place / f"{name}_out.jpg"
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 92])
        shares, times = [], []
        for more in (["--keep-doubtful"], []):
            times.append(anonymize(path, target, *more))
            shares.append(measure(path, target, truth).false)
        text = (
            f"false covers fall from {shares[0]:.1f} to {shares[1]:.1f} %, CPU time {times[0]:.1f} and {times[1]:.1f} s"
        )
        print(f"second look, {name}: {text}")


def margins(_: Path) -> None:
    """docs/gallery.md: faces of drawn scenes with more than 5 % uncovered, by the shape and margin of the cover."""
    # A black cover on white shows what is covered.
    covers = {
        f"{shape}, {margin}": overlays.create("solid", shape=shape, **options)
        for shape in ("ellipse", "aligned", "rectangle")
        for margin, options in {"no margin": {"margin": 0.0}, "its own margin": {}}.items()
    }
    open_: dict[str, list[bool]] = {name: [] for name in covers}
    with SCRFDDetector("500m_bnkps", device="cpu") as detector:
        for seed in range(40):
            scene = drawing.scene(seed=seed)
            found = detector.detect(scene.image)
            for name, cover in covers.items():
                hidden = cover(np.full_like(scene.image, 255), found)[..., 0] < 128
                open_[name] += [covered(hidden.astype(np.uint8), box) < 0.95 for box in scene.faces.boxes.tolist()]
    for name, some in open_.items():
        print(f"margins, {name}: {100 * np.mean(some):.0f} % of {len(some)} faces")


FIGURES = {"folder": folder, "verify": verify, "second-look": second_look, "margins": margins}


def main() -> None:
    """Measure those that are named, or all."""
    for name in sys.argv[1:] or FIGURES:
        with tempfile.TemporaryDirectory() as temporary:
            FIGURES[name](Path(temporary))


if __name__ == "__main__":
    main()
