"""Compare what programs that hide faces cover in a folder of clips and photographs.

python docs/compare_anonymizers.py FOLDER --deface path/to/deface

Runs ``scrfd-trt anonymize`` and deface on each clip and photograph, with their defaults and covers of one colour in the
shape of their own, and prints a table. ``--run NAME='COMMAND {input} {output}'`` adds another command. What is covered
follows from the difference of input and output. The faces come from ``NAME.truth.json`` beside a clip, which
``python drawing/clips.py all FOLDER`` writes too, or from a slow search for small faces by all ``--models``, which is
kept in ``NAME.reference.json``.

| column | meaning |
|---|---|
| open | frames of faces, at least half of which is visible, with less than half of the face covered |
| leaks | people with an open frame |
| flashes | covers without a face, and covered or open spells of a face, of less than 0.2 s |
| false | share of the picture that is covered where no face is, in per cent |
| jitter | acceleration of a cover's middle against the face's, in per cent of the face's size |
| frames/s | frames a second, start of the program included |
| CPU ms | time of all cores for a frame, start included: other load on the machine changes it less |
| size | size of the output over the input's |
"""

from __future__ import annotations

import argparse
import itertools
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np

from drawing.clips import Face, Truth, overlap
from scrfd_trt import SCRFDDetector

PHOTOS = {".jpg", ".jpeg", ".png", ".webp"}
CLIPS = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"}
COLOR = (255, 0, 255)
CHANGED = 56
"""Levels by which a covered pixel differs from the input in one channel at least."""
BRIEF = 0.2
"""Seconds."""
SMALLEST = 12
"""Smallest face of the reference, in pixels."""
AROUND = 2.0
"""Covers may reach so far around a face, as a multiple of its box."""

Box = tuple[float, float, float, float]


class Score(NamedTuple):
    """What one program did to one clip."""

    faces: int
    open: int
    people: int
    leaks: int
    flashes: int
    false: float
    jitter: float
    rate: float
    cpu: float
    size: float
    sound: str
    by_size: dict[str, tuple[int, int]]


def images(path: Path) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the time and pixels of each frame."""
    if path.suffix.lower() in PHOTOS:
        yield 0.0, cv2.imread(str(path))
        return
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        first = None
        for frame in container.decode(video=0):
            first = frame.time if first is None else first
            yield frame.time - first, frame.to_ndarray(format="bgr24")


def pairs(source: Path, target: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each frame of the input with the output's frame that is shown at its time."""
    shown = images(target)
    now = next(shown)
    then = next(shown, None)
    for at, image in images(source):
        while then is not None and abs(then[0] - at) <= abs(now[0] - at):
            now, then = then, next(shown, None)
        yield image, now[1]


def changed(image: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Return the mask of covered pixels, 0 or 1."""
    if output.shape != image.shape:
        output = cv2.resize(output, image.shape[1::-1])
    mask = (cv2.absdiff(image, output).max(axis=2) > CHANGED).astype(np.uint8)
    # Compression changes single pixels; covered pixels that happen to have the cover's colour are holes.
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))


def covered(mask: np.ndarray, box: Sequence[float]) -> float:
    """Return the covered share of the ellipse in a box, as far as it is inside the picture."""
    x1, y1, x2, y2 = box
    left, top = max(0, int(x1)), max(0, int(y1))
    right, bottom = min(mask.shape[1], int(np.ceil(x2))), min(mask.shape[0], int(np.ceil(y2)))
    if right <= left or bottom <= top:
        return 1.0
    x = (np.arange(left, right) + 0.5 - (x1 + x2) / 2) / ((x2 - x1) / 2)
    y = (np.arange(top, bottom) + 0.5 - (y1 + y2) / 2) / ((y2 - y1) / 2)
    inside = x[None] ** 2 + y[:, None] ** 2 <= 1.0
    return float(mask[top:bottom, left:right][inside].mean()) if inside.any() else 1.0


def measure(source: Path, target: Path, truth: Truth, edges: Sequence[float]) -> Score:
    """Compare an input, the output of a program, and the faces."""
    states: dict[int, dict[int, bool]] = defaultdict(dict)
    offsets: dict[int, dict[int, np.ndarray]] = defaultdict(dict)
    by_size: dict[str, list[int]] = {f"{low:g}-{high:g}": [0, 0] for low, high in itertools.pairwise(edges)}
    false, strays = [], Strays(max(2, round(BRIEF * truth.rate)))
    for number, ((image, output), faces) in enumerate(zip(pairs(source, target), truth.frames, strict=False)):
        mask = changed(image, output)
        blobs = Blobs(mask)
        for face in faces:
            if face.shown < 0.5:
                continue
            hidden = covered(mask, face.box) >= 0.5
            states[face.track][number] = hidden
            tall = max(face.box[3] - face.box[1], face.box[2] - face.box[0])
            for low, high in itertools.pairwise(edges):
                if low <= tall < high:
                    by_size[f"{low:g}-{high:g}"][0] += not hidden
                    by_size[f"{low:g}-{high:g}"][1] += 1
            if (at := blobs.alone(face, faces)) is not None:
                offsets[face.track][number] = at
        rest = mask.copy()
        for face in faces:
            rest[grown(face.box, mask.shape)] = 0
        false.append(float(rest.mean()))
        strays.add(blobs.without(rest), number in truth.cuts)
    flashes = strays.brief() + sum(spells(by_frame, strays.limit) for by_frame in states.values())
    bends = [
        np.abs(by[n - 1] - 2 * by[n] + by[n + 1]).sum()
        for by in offsets.values()
        for n in by
        if n - 1 in by and n + 1 in by
    ]
    return Score(
        faces=sum(map(len, states.values())),
        open=sum(not hidden for by_frame in states.values() for hidden in by_frame.values()),
        people=len(states),
        leaks=sum(not all(by_frame.values()) for by_frame in states.values()),
        flashes=flashes,
        false=100.0 * float(np.mean(false)),
        jitter=100.0 * float(np.mean(bends)) if bends else float("nan"),
        rate=0.0,
        cpu=0.0,
        size=target.stat().st_size / source.stat().st_size,
        sound=sound(source, target),
        by_size={size: (part[0], part[1]) for size, part in by_size.items()},
    )


def grown(box: Sequence[float], shape: Sequence[int]) -> tuple[slice, slice]:
    """Return the rows and columns that a face's cover may reach."""
    x1, y1, x2, y2 = box
    dx, dy = (AROUND - 1) * (x2 - x1) / 2 + 3, (AROUND - 1) * (y2 - y1) / 2 + 3
    left, top, right, bottom = (max(0, int(v)) for v in (x1 - dx, y1 - dy, x2 + dx + 1, y2 + dy + 1))
    return slice(top, min(bottom, shape[0])), slice(left, min(right, shape[1]))


class Blobs:
    """The covers of a frame: connected parts of its mask."""

    def __init__(self, mask: np.ndarray) -> None:
        _, self.labels, self.stats, self.middles = cv2.connectedComponentsWithStats(mask)

    def alone(self, face: Face, faces: Sequence[Face]) -> np.ndarray | None:
        """Return the way from a face's middle to its cover's, in face sizes; None if the cover is of more than it."""
        x1, y1, x2, y2 = face.box
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        height, width = self.labels.shape
        if not (0 <= x < width and 0 <= y < height) or not (label := self.labels[int(y), int(x)]):
            return None
        left, top, wide, high = self.stats[label, :4]
        if left <= 0 or top <= 0 or left + wide >= width or top + high >= height:
            return None
        size = max(x2 - x1, y2 - y1)
        if wide > 2.2 * (x2 - x1) or high > 2.2 * (y2 - y1):
            return None
        for other in faces:
            box = other.box
            apart = box[2] < left or box[0] > left + wide or box[3] < top or box[1] > top + high
            if other is not face and not apart:
                return None
        middle = np.array([left + wide / 2, top + high / 2])
        return np.asarray((middle - (x, y)) / size)

    def without(self, rest: np.ndarray) -> list[list[float]]:
        """Return the boxes of covers that lie, for the most part, where no face is."""
        count = np.bincount(self.labels[rest > 0], minlength=len(self.stats))
        found = [n for n in range(1, len(self.stats)) if count[n] > 0.5 * self.stats[n, 4]]
        return [[x, y, x + w, y + h] for x, y, w, h in self.stats[found, :4].tolist()]


class Strays:
    """Covers without a face, followed from frame to frame."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: list[tuple[list[float], int]] = []
        self._lives: list[int] = []

    def add(self, boxes: list[list[float]], cut: bool) -> None:
        """Add the boxes of the next frame."""
        going = []
        before = [] if cut else list(self._open)
        if cut:
            self._lives += [self.limit for _ in self._open]
        for box in boxes:
            best = max(before, key=lambda old: overlap(old[0], box), default=None)
            if best is not None and overlap(best[0], box) > 0.1:
                before.remove(best)
                going.append((box, best[1] + 1))
            else:
                going.append((box, 1))
        self._lives += [life for _, life in before]
        self._open = going

    def brief(self) -> int:
        """Return the number of those that ended after a few frames."""
        return sum(life < self.limit for life in self._lives)


def spells(by_frame: dict[int, bool], limit: int) -> int:
    """Return the number of short spells between two changes between covered and open."""
    frames = sorted(by_frame)
    changes = [b for a, b in itertools.pairwise(frames) if b == a + 1 and by_frame[a] != by_frame[b]]
    return sum(b - a < limit for a, b in itertools.pairwise(changes))


def sound(source: Path, target: Path) -> str:
    """Return whether the sound is still there."""
    if source.suffix.lower() in PHOTOS:
        return ""
    with av.open(str(source)) as one, av.open(str(target)) as other:
        return "" if not one.streams.audio else "yes" if other.streams.audio else "no"


def reference(path: Path, models: Sequence[str]) -> Truth:
    """Search a clip with all models, down to small faces, and keep the result beside it."""
    kept = path.with_suffix(".reference.json")
    if kept.exists():
        return Truth.load(kept)
    detectors = [SCRFDDetector.from_onnx(model, device="cpu", min_face=SMALLEST) for model in models]
    found, times, size = [], [], (0, 0)
    for at, image in images(path):
        rows = [(face.box, face.score) for model in detectors for face in model.detect(image, threshold=0.3)]
        once: list[tuple[Box, float]] = []
        for box, score in sorted(rows, key=lambda row: -row[1]):
            if all(overlap(box, other) < 0.4 for other, _ in once):
                once.append((box, score))
        found.append(once)
        times.append(at)
        size = (image.shape[1], image.shape[0])
    rate = (len(times) - 1) / times[-1] if len(times) > 1 else 1.0
    truth = Truth(path.stem, size, rate, link(found), [])
    truth.save(kept)
    return truth


def link(found: Sequence[Sequence[tuple[Box, float]]]) -> list[list[Face]]:
    """Return faces numbered by overlap from frame to frame.

    A face below 0.5, or above it in fewer than three frames, counts neither as a face nor as none: its share is 0.2.
    """
    rows: list[list[tuple[int, Box, float]]] = []
    sure: Counter[int] = Counter()
    numbers = itertools.count(1)
    for faces in found:
        before, now = list(rows[-1]) if rows else [], []
        for box, score in faces:
            best = max(before, key=lambda old: overlap(old[1], box), default=None)
            if best is not None and overlap(best[1], box) > 0.3:
                before.remove(best)
            else:
                best = None
            now.append((best[0] if best else next(numbers), box, score))
            sure[now[-1][0]] += score >= 0.5
        rows.append(now)
    least = min(3, len(found))
    return [
        [Face(track, box, 1.0 if score >= 0.5 and sure[track] >= least else 0.2) for track, box, score in faces]
        for faces in rows
    ]


def run(command: str, source: Path, target: Path) -> tuple[float, float]:
    """Run a program; return the seconds it takes, and those of all cores."""
    arguments = [part.format(input=source, output=target, folder=target.parent) for part in shlex.split(command)]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)  # noqa: S603
    after, taken = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    if not target.exists():
        raise SystemExit(f"{shlex.join(arguments)} writes no {target.name}: {done.stderr.strip()[-500:]}")
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ellipse(path: Path) -> None:
    """Write the picture that deface covers faces with: an ellipse, as its blur has."""
    picture = np.zeros((256, 256, 4), np.uint8)
    cv2.ellipse(picture, (128, 128), (128, 128), 0, 0, 360, (*COLOR, 255), -1)
    cv2.imwrite(str(path), picture)


def commands(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the command lines by name."""
    color = "#{2:02x}{1:02x}{0:02x}".format(*COLOR)
    ours = shlex.join([sys.executable, "-m", "scrfd_trt", "anonymize", "{input}", "-o", "{output}", "--quiet"])
    model = ["--model", arguments.models[0]] if arguments.models else []
    found = {
        "scrfd-trt": shlex.join([*shlex.split(ours), *model, "--overlay", f"solid:fill={color},scale=1.6,margin=0"])
    }
    if deface := arguments.deface or shutil.which("deface"):
        cover = ["--replacewith", "img", "--replaceimg", "{folder}/ellipse.png"]
        found["deface"] = shlex.join([deface, "{input}", "-o", "{output}", *cover])
    for text in arguments.run:
        name, _, command = text.partition("=")
        found[name] = command
    return {name: found[name] for name in (arguments.only or found)}


HEAD = "| clip | program | open | leaks | flashes | false % | jitter % | frames/s | CPU ms | size | sound |"


def row(clip: str, program: str, score: Score) -> str:
    """Return a row of the table."""
    share = f"{score.open} of {score.faces} ({100 * score.open / max(score.faces, 1):.1f} %)"
    jitter = "" if np.isnan(score.jitter) else f"{score.jitter:.2f}"
    rate = f"{score.rate:.1f}" if score.rate >= 1 else f"{score.rate:.2f}"
    cells = [clip, program, share, f"{score.leaks} of {score.people}", str(score.flashes), f"{score.false:.2f}"]
    return "| " + " | ".join([*cells, jitter, rate, f"{score.cpu:.0f}", f"{score.size:.2f}", score.sound]) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Compare programs that hide faces.")
    parser.add_argument("folder", type=Path, help="clips and photographs, with or without NAME.truth.json")
    parser.add_argument("--names", nargs="*", help="only these, without suffix")
    parser.add_argument("--deface", help="path of deface, if it is not on PATH")
    parser.add_argument("--run", action="append", default=[], metavar="NAME=COMMAND", help="a further program")
    parser.add_argument("--only", nargs="*", help="only these programs")
    parser.add_argument(
        "--models", nargs="*", default=[], help="networks of the reference; the first is scrfd-trt's too"
    )
    parser.add_argument("--sizes", type=float, nargs="*", default=[], help="print open frames by these sizes of faces")
    parser.add_argument("--keep", type=Path, help="keep the outputs in this folder")
    arguments = parser.parse_args()
    sources = [path for path in sorted(arguments.folder.iterdir()) if path.suffix.lower() in PHOTOS | CLIPS]
    sources = [path for path in sources if not arguments.names or path.stem in arguments.names]
    print(f"{HEAD}\n|{'---|' * HEAD.count(' | ')}---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        ellipse(folder / "ellipse.png")
        for source in sources:
            known = source.with_suffix(".truth.json")
            models = arguments.models or ["500m_bnkps"]
            truth = Truth.load(known) if known.exists() else reference(source, models)
            for name, command in commands(arguments).items():
                target = folder / f"{source.stem}_{name}{source.suffix}"
                target.unlink(missing_ok=True)
                taken, cores = run(command, source, target)
                count = len(truth.frames)
                score = measure(source, target, truth, arguments.sizes)
                score = score._replace(rate=count / taken, cpu=1000.0 * cores / count)
                print(row(source.stem, name, score), flush=True)
                for size, (open_, faces) in score.by_size.items():
                    if faces:
                        print(f"  {size} px: {open_} of {faces} open ({100 * open_ / faces:.1f} %)", flush=True)


if __name__ == "__main__":
    main()
