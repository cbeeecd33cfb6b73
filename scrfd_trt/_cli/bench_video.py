"""Measure ``anonymize`` on a video: each of its parts alone, each pass, and the whole."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import overlays
from scrfd_trt._cli import console
from scrfd_trt._cli.bench_report import save_plot
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._files import temporary_folder
from scrfd_trt._tracking.tracker import Tracker
from scrfd_trt.video import TrackingOptions, detect_video, overlay_video, render_video
from scrfd_trt.video._animation_writer import open_writer
from scrfd_trt.video._detections_file import FACES_SUFFIX
from scrfd_trt.video._encoders import EncodeOptions
from scrfd_trt.video._first_pass import detect_frames, frame_device, link_faces
from scrfd_trt.video._reader import Frame
from scrfd_trt.video._sources import open_source

PARTS = {
    "decode": "read and decode the file",
    "detect": "stream() of frames in memory",
    "track": "find scene cuts, link detections",
    "draw": "blur faces, convert what they cover",
    "encode": "encode and write frames in memory",
}
WHOLES = {
    "first pass": "decode, detect and track",
    "second pass": "decode, draw and encode",
    "anonymize": "both passes",
}
HELD_BYTES = 2**30  # memory of the frames on which parts are measured alone
NEAR = 30  # frames read ahead to find scene cuts


@dataclass(frozen=True)
class VideoFigures:
    """Median milliseconds per frame of each of PARTS and WHOLES."""

    milliseconds: dict[str, float]
    size: tuple[int, int]
    frames: int
    held: int  # frames on which detect, track, draw and encode are measured
    faces: float  # per frame
    description: str

    @property
    def ratios(self) -> dict[str, float]:
        """Times of the wholes as multiples of those of their parts."""
        each = self.milliseconds
        return {
            "first pass / slowest part": each["first pass"] / max(each["decode"], each["detect"], each["track"]),
            "second pass / slowest part": each["second pass"] / max(each["decode"], each["draw"], each["encode"]),
            "anonymize / sum of decode, detect and encode": each["anonymize"]
            / (each["decode"] + each["detect"] + each["encode"]),
        }


class VideoBench:
    """Holds frames of a clip, and runs each part on them."""

    def __init__(self, clip: Path, detector: SCRFDDetector, folder: Path) -> None:
        self.clip, self.detector = clip, detector
        self.tracking = TrackingOptions(threshold=TrackingOptions().threshold)  # whatever the detector's
        self._device = frame_device(detector)
        self._faces = folder / f"clip{FACES_SUFFIX}"
        self._target = folder / "out.mp4"
        self._blur = overlays.create("blur")
        self._encode = EncodeOptions()
        self._pictures: list[Any] = []
        with open_source(clip, device=self._device) as reader:
            self.info = reader.info
            count = max(2, HELD_BYTES // (self.info.size[0] * self.info.size[1] * 6))
            self.frames: list[Frame] = list(islice(reader, count))
        with open_source(clip, device=self._device) as reader:
            found = detect_frames(reader, detector, self.tracking, keep=False)
            with closing(found):  # type: ignore[type-var]
                self._results = list(islice(found, len(self.frames)))
        self.faces = [faces for _, faces in link_faces(self._results, self._tracker(), NEAR)]

    def _tracker(self) -> Tracker:
        return Tracker(self.tracking, self.info.rate)

    def decode(self) -> int:
        with open_source(self.clip, device=self._device) as reader:
            return sum(1 for _ in reader)

    def detect(self) -> int:
        images: Iterable[Any] = [frame.yuv if frame.is_on_gpu else frame.image for frame in self.frames]
        return sum(1 for _ in self.detector.stream(images, threshold=self.tracking.detection_threshold))

    def track(self) -> int:
        return sum(1 for _ in link_faces(self._results, self._tracker(), NEAR))

    def draw(self) -> int:
        with self._writer() as writer:
            self._pictures = [
                writer.prepare_drawn(frame, self._blur, faces.detections(self.info.size))
                if len(faces)
                else writer.prepare(frame)
                for frame, faces in zip(self.frames, self.faces, strict=True)
            ]
            writer.discard()
        return len(self.frames)

    def encode(self) -> int:
        with self._writer() as writer:
            for frame, picture in zip(self.frames, self._pictures, strict=True):
                writer.encode(frame, picture)
        self._pictures = []
        return len(self.frames)

    def _writer(self) -> Any:
        with open_source(self.clip, device=self._device) as reader:
            return open_writer(self._target, reader, self._encode, overwrite=True)

    def first_pass(self) -> int:
        return detect_video(self.clip, self._faces, self.detector, tracking=self.tracking, overwrite=True).frames

    def second_pass(self) -> int:
        return render_video(
            self.clip, self._target, self._faces, self._blur, overwrite=True, device=self._device
        ).frames

    def anonymize(self) -> int:
        return overlay_video(
            self.clip, self._target, self.detector, self._blur, tracking=self.tracking, overwrite=True
        ).frames


def measure_video(clip: Path, detector: SCRFDDetector, rounds: int) -> VideoFigures:
    """Measure parts and wholes in turns, so that other processes slow all equally; the first round is a warm-up."""
    with ExitStack() as stack:
        bench = VideoBench(clip, detector, stack.enter_context(temporary_folder(None)))
        runs: dict[str, Callable[[], int]] = {
            name: getattr(bench, name.replace(" ", "_")) for name in (*PARTS, *WHOLES)
        }
        times: dict[str, list[float]] = {name: [] for name in runs}
        frames = 0
        for turn in range(rounds + 1):
            for name, run in runs.items():
                start = time.perf_counter()
                count = run()
                if turn:
                    times[name].append((time.perf_counter() - start) * 1000.0 / count)
                frames = max(frames, count)
        return VideoFigures(
            {name: statistics.median(each) for name, each in times.items()},
            bench.info.size,
            frames,
            len(bench.frames),
            statistics.mean(len(faces) for faces in bench.faces),
            detector.description,
        )


def as_dict(figures: VideoFigures, clip: str) -> dict[str, Any]:
    """Return the measurements for JSON, times in milliseconds per frame."""
    about = {"video": clip, "size": list(figures.size), "frames": figures.frames, "faces_per_frame": figures.faces}
    return about | {
        "runs_on": figures.description,
        "milliseconds_per_frame": figures.milliseconds,
        "ratios": figures.ratios,
    }


def show(figures: VideoFigures, clip: str) -> None:
    """Print a heading, the table of parts and wholes, and the ratios."""
    width, height = figures.size
    faces = f"{figures.faces:.1f} faces a frame"
    heading = f"{console.printable(clip)}: {width}×{height}, {console.count(figures.frames, 'frame')}, {faces}"
    console.print_line(heading, style="bold")
    console.print_line(figures.description + "\n", style="dim")
    table = console.table("part", ">ms a frame", ">frames/s")
    table.add_column("meaning")
    for name, meaning in (PARTS | WHOLES).items():
        if name == next(iter(WHOLES)):
            table.add_section()
        each = figures.milliseconds[name]
        table.add_row(name, f"{each:.3f}", f"{1000.0 / each:,.0f}", meaning)
    console.show(table)
    ratios = "".join(f"{name}: {ratio:.2f}\n" for name, ratio in figures.ratios.items())
    console.write(f"\n{ratios}")


def plot(figures: VideoFigures, path: Path, title: str) -> None:
    """Write a PNG with a bar for each part and whole; raise OutputError if that fails."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional, and slow to import

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    names = list(figures.milliseconds)
    colors = ["#76b900"] * len(PARTS) + ["#9aa5b1"] * len(WHOLES)
    bars = axes.barh(names, [figures.milliseconds[name] for name in names], color=colors)
    axes.bar_label(bars, [f"{1000.0 / value:,.0f} frames/s" for value in figures.milliseconds.values()], padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlabel("milliseconds per frame; parts alone (green), passes and whole (grey)")
    figure.suptitle(title, fontsize=8)
    save_plot(figure, path)
