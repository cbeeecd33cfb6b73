"""Compare scrfd_trt with InsightFace and deface, and write the tables of docs/comparison.md and README.md.

python docs/compare.py           # on drawn scenes and clips, whose faces are known
python docs/compare.py FOLDER    # on clips and photographs of your own; prints tables only

The first run installs InsightFace and deface into an environment of their own. Detectors run in blocks that alternate,
each block in a process of its own, because two sessions of ONNX Runtime in one process hinder each other. Programs that
hide faces run one after the other. Nothing else should run on the machine; CPU times suffer less from other load.

For clips without ``NAME.truth.json``, a slow search with all ``--models`` gives the faces.
``--run NAME='COMMAND {input} {output}'`` adds a program that hides faces, and ``--sizes`` prints open faces by size.
``--render`` writes the tables from the results of the last run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from drawing import clips
from drawing.clips import overlap
from drawing.covered import CLIPS, COLOR, PHOTOS, images, known, measure
from scrfd_trt import __version__, models, samples

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS / "comparison.json"
PEERS = ("insightface==2.1", "deface==1.5.0", "onnxruntime==1.32.0", "onnx==1.23.2", "opencv-python==5.0.0.93")
"""deface runs its network with ONNX Runtime if it is installed, otherwise with OpenCV, which is slower."""
DETECTORS = ("scrfd-trt", "insightface")
SETTINGS = {"640": "one pass at 640", "0": "defaults"}
BLOCKS, SECONDS = 7, 0.7
DRAWN = dict.fromkeys(
    ("static", "street", "handheld", "zoom", "fastzoom", "whip", "roll", "cut", "dissolve", "fade", "lying", "clutter"),
    4.0,
) | {"small1080": 2.0, "small4k": 0.4, "crowd4k": 0.4}
"""Clips and their seconds."""
BUSY = 0.1
"""README shows no times of the CPU if other programs took a larger share of the cores."""
PICTURES = ("phone12mp", "scene12mp")
OURS, ALIKE, DEFACE = "scrfd-trt", "scrfd-trt, deface's settings", "deface"
SETTINGS_OF_DEFACE = "--threshold 0.2 --scale {width}x{height} --rotations none --crf 25"
"""deface's threshold, size of the network's input, upright faces only, and x264 quality."""
Row = dict[str, Any]


def environment(folder: Path) -> Path:
    """Install the peers into an environment, unless they are there; return its folder of programs."""
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    done = folder / "installed.txt"
    if not done.exists() or done.read_text() != " ".join(PEERS):
        print(f"installing {', '.join(PEERS)} into {folder}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        if uv := shutil.which("uv"):
            subprocess.run([uv, "venv", "-q", "-p", sys.executable, str(folder)], check=True)
            subprocess.run([uv, "pip", "install", "-q", "-p", str(programs / "python"), *PEERS], check=True)
        else:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run([str(programs / "python"), "-m", "pip", "install", "-q", *PEERS], check=True)
        done.write_text(" ".join(PEERS))
    return programs


def detect(folder: Path, peers: Path, truths: dict[str, list[Any]], blocks: int, seconds: float) -> Iterator[Row]:
    """Time both detectors on images in blocks, and compare their boxes; ``truths`` has the known boxes by file name."""
    pythons = {"scrfd-trt": sys.executable, "insightface": str(peers / "python")}
    model, paths = str(models.fetch("500m_bnkps")), [str(folder / name) for name in truths]
    for size, settings in SETTINGS.items():
        found: dict[str, list[list[Row]]] = {name: [] for name in DETECTORS}
        for _ in range(blocks):
            for name in DETECTORS:
                script = str(DOCS / "compare_detect.py")
                command = [pythons[name], script, name, model, size, str(seconds), *paths]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[name].append([json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")])
        for number, (image, truth) in enumerate(truths.items()):
            by_name = {name: [block[number] for block in found[name]] for name in DETECTORS}
            boxes = {name: blocks_[0]["boxes"] for name, blocks_ in by_name.items()}
            yield {
                "image": Path(image).stem,
                "settings": settings,
                "known": len(truth),
                "rate": {name: 1 / statistics.median(b["wall"] for b in by_name[name]) for name in DETECTORS},
                "cpu": {name: 1000 * statistics.median(b["cpu"] for b in by_name[name]) for name in DETECTORS},
                "boxes": {name: len(boxes[name]) for name in DETECTORS},
                "found": {name: pairs(truth, boxes[name], 0.5) for name in DETECTORS},
                "agree": pairs(boxes["scrfd-trt"], boxes["insightface"], 0.95),
            }


def pairs(some: Sequence[Sequence[float]], others: Sequence[Sequence[float]], least: float) -> int:
    """Return the number of boxes with a partner of their own that overlaps them by ``least`` (IoU) or more."""
    free, count = list(others), 0
    for box in some:
        best = max(free, key=lambda other: overlap(box, other), default=None)
        if best is not None and overlap(box, best) >= least:
            free.remove(best)
            count += 1
    return count


def run(command: str, source: Path, target: Path, size: tuple[int, int]) -> tuple[float, float]:
    """Run a program on a file; return the seconds it takes, and those of all cores."""
    values = {"input": source, "output": target, "folder": target.parent, "width": size[0], "height": size[1]}
    arguments = [part.format(**values) for part in shlex.split(command)]
    target.unlink(missing_ok=True)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    after, taken = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    if done.returncode or not target.exists():
        raise SystemExit(f"{shlex.join(arguments)} writes no {target.name}: {done.stderr.strip()[-500:]}")
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def commands(peers: Path, more: Sequence[str]) -> dict[str, str]:
    """Return the command lines by name: covers of one colour, in the shape and size of each program's own."""
    cover = "solid:fill=#{2:02x}{1:02x}{0:02x},scale=1.6,margin=0".format(*COLOR)
    python = [sys.executable, "-m", "scrfd_trt", "anonymize"]
    ours = shlex.join([*python, "{input}", "-o", "{output}", "--quiet", "--device", "cpu", "--overlay", cover])
    deface = shlex.join([str(peers / "deface"), "{input}", "-o", "{output}", "--replacewith", "img"])
    named = {
        OURS: ours,
        ALIKE: f"{ours} {SETTINGS_OF_DEFACE}",
        DEFACE: f"{deface} --replaceimg '{{folder}}/ellipse.png'",
    }
    return named | {name: command for name, _, command in (text.partition("=") for text in more)}


def hide(sources: Sequence[Path], folder: Path, programs: dict[str, str], options: argparse.Namespace) -> Iterator[Row]:
    """Run programs on clips and photographs, and measure what they cover."""
    ellipse = np.zeros((256, 256, 4), np.uint8)  # what deface covers faces with: an ellipse, as its blur has
    cv2.ellipse(ellipse, (128, 128), (128, 128), 0, 0, 360, (*COLOR, 255), -1)
    cv2.imwrite(str(folder / "ellipse.png"), ellipse)
    for source in sources:
        truth, photo = known(source, options.models), source.suffix.lower() in PHOTOS
        height, width = next(images(source))[1].shape[:2]
        for name, command in programs.items():
            target = folder / f"{source.stem}_{re.sub(r'[^a-z]+', '-', name)}{source.suffix}"
            text = command.replace(" --crf 25", "") if photo else command
            taken, cores = run(text, source, target, (width, height))
            score, frames = measure(source, target, truth, options.sizes), len(truth.frames)
            print(f"{source.stem}, {name}: {score.open} of {score.faces} open, {taken:.1f} s", file=sys.stderr)
            row = {
                "clip": source.stem,
                "program": name,
                "photo": photo,
                "frames": frames,
                "width": width,
                "height": height,
            }
            yield row | score._asdict() | {"rate": frames / taken, "cpu": 1000.0 * cores / frames}
            if not options.keep:
                target.unlink()


def draw(folder: Path) -> list[Path]:
    """Draw the clips and photographs."""
    for name, seconds in DRAWN.items():
        clips.make(name, folder, seconds=seconds)
    for name in PICTURES:
        image, truth = clips.picture(name)
        cv2.imwrite(str(folder / f"{name}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 92])
        truth.save(folder / f"{name}.truth.json")
    return [folder / f"{name}.mp4" for name in DRAWN] + [folder / f"{name}.jpg" for name in PICTURES]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def each(values: Iterable[float | None], form: str) -> str:
    """Return values as ``1 / 2 / 3``."""
    return " / ".join("–" if value is None else format(value, form) for value in values)


def detect_table(rows: Sequence[Row]) -> str:
    """Return the table of the detectors."""
    head = ["image", "settings", "images/s", "CPU ms an image", "known faces found", "boxes", "the same boxes"]
    cells = [
        [
            row["image"],
            row["settings"],
            each(row["rate"].values(), ".1f"),
            each(row["cpu"].values(), ".1f"),
            f"{each(row['found'].values(), 'd')} of {row['known']}" if row["known"] else "–",
            each(row["boxes"].values(), "d"),
            str(row["agree"]),
        ]
        for row in rows
    ]
    return table(head, cells)


def names(rows: Sequence[Row]) -> list[str]:
    """Return the programs in their order."""
    return list(dict.fromkeys(row["program"] for row in rows))


def total(rows: Sequence[Row], program: str) -> Row:
    """Return the sums and means of a program over all videos; speed and size over those of 960×540 pixels."""
    some = [row for row in rows if row["program"] == program and not row["photo"]]
    plain = [row for row in some if row["width"] * row["height"] == 960 * 540] or some
    shaky = [row["jitter"] for row in some if row["jitter"] is not None]
    heard = {row["sound"] for row in some} - {""}
    return {
        **{key: sum(row[key] for row in some) for key in ("open", "faces", "leaks", "people", "flashes", "frames")},
        "false": sum(row["false"] * row["frames"] for row in some) / sum(row["frames"] for row in some),
        "jitter": statistics.mean(shaky) if shaky else None,
        "rate": sum(row["frames"] for row in plain) / sum(row["frames"] / row["rate"] for row in plain),
        "cpu": sum(row["cpu"] * row["frames"] for row in plain) / sum(row["frames"] for row in plain),
        "size": statistics.mean(row["size"] for row in plain),
        "sound": {frozenset({"yes"}): "kept", frozenset({"no"}): "dropped"}.get(frozenset(heard), "–"),
    }


def totals_table(rows: Sequence[Row]) -> str:
    """Return the table of all videos."""
    head = [
        "program",
        "open",
        "leaks",
        "flashes",
        "false, %",
        "jitter, %",
        "frames/s",
        "CPU ms a frame",
        "size",
        "sound",
    ]
    cells = []
    for name in names(rows):
        if not any(row["program"] == name and not row["photo"] for row in rows):
            continue
        sums = total(rows, name)
        cells.append(
            [
                name,
                f"{sums['open']:,} of {sums['faces']:,}",
                f"{sums['leaks']} of {sums['people']}",
                str(sums["flashes"]),
                f"{sums['false']:.2f}",
                each([sums["jitter"]], ".2f"),
                f"{sums['rate']:.1f}",
                f"{sums['cpu']:.0f}",
                f"{sums['size']:.2f}",
                sums["sound"],
            ]
        )
    return table(head, cells)


def clips_table(rows: Sequence[Row]) -> str:
    """Return the table of each clip and photograph."""
    head = ["clip", "faces", "open", "leaks", "flashes", "false, %", "CPU ms a frame"]
    forms = {"open": "d", "leaks": "d", "flashes": "d", "false": ".1f", "cpu": ".0f"}
    cells = []
    for clip in dict.fromkeys(row["clip"] for row in rows):
        some = [row for row in rows if row["clip"] == clip]
        columns = [each([row[key] for row in some], form) for key, form in forms.items()]
        cells.append([clip, f"{some[0]['faces']:,}", *columns])
    return table(head, cells)


def sizes_table(rows: Sequence[Row]) -> str:
    """Return the open frames of faces by size."""
    sizes = list(dict.fromkeys(size for row in rows for size in row["by_size"]))
    cells = [
        [row["clip"], row["program"], *(f"{part[0]} of {part[1]}" for part in row["by_size"].values())] for row in rows
    ]
    return table(["clip", "program", *(f"{size} px" for size in sizes)], cells)


def measured(results: Row) -> str:
    """Return README's table of figures, the better one of each pair in bold."""
    one = next(row for row in results["detect"] if row["image"] == "group" and row["settings"] == SETTINGS["640"])
    ours, deface, here = total(results["hide"], OURS), total(results["hide"], DEFACE), results["machine"]
    open_, false, cores = "{:,.0f} of " + f"{ours['faces']:,}", "{:.1f} %", f"{here['cores']} CPU cores"
    pairs_ = [
        ("faces left uncovered, counted in each frame of drawn clips", open_, ours["open"], deface["open"], "deface"),
        ("part of these clips that is covered where no face is", false, ours["false"], deface["false"], "deface"),
        ("`detect`, a photograph of 115 faces, H100", "{:.2f} ms", 0.67, 2.35, "InsightFace-REST"),
    ]
    if here["others"] <= BUSY:
        pairs_ += [
            (f"`anonymize`, 960×540, {cores}", "{:.1f} frames/s", ours["rate"], deface["rate"], "deface"),
            (f"`detect`, one pass at 640, {cores}", "{:.0f} images/s", *one["rate"].values(), "InsightFace"),
        ]
    cells = []
    for name, form, mine, theirs, peer in pairs_:
        best = (max if form.endswith("/s") else min)(mine, theirs)
        texts = [f"**{form.format(value)}**" if value == best else form.format(value) for value in (mine, theirs)]
        cells.append([name, texts[0], f"{texts[1]} ({peer})"])
    return table(["measured", "scrfd_trt", "peer"], cells)


def machine() -> Row:
    """Describe the machine and what is measured."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = re.search(r"model name\s*:\s*(.+)", text)
    return {
        "cpu": found[1] if found else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": [f"scrfd-trt=={__version__}", f"onnxruntime=={version('onnxruntime')}", *PEERS],
    }


def others() -> float:
    """Return the CPU seconds that other programs have taken since the machine started; 0 where that is not known."""
    if not Path("/proc/stat").exists():
        return 0.0
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    busy = sum(fields[:3] + fields[5:7]) / os.sysconf("SC_CLK_TCK")
    return float(busy - sum(one.ru_utime + one.ru_stime for one in spent))


def conditions(results: Row) -> str:
    """Return the sentences that say when, where and with what the tables were measured."""
    here = results["machine"]
    ours, peers = (dict(part.split("==") for part in some) for some in (here["versions"][:2], here["versions"][2:]))
    day, busy = date.fromisoformat(results["date"]), here["others"] > BUSY
    where = f"{here['cores']} cores{'' if busy else ' of an otherwise idle machine'} ({here['cpu']}, {here['system']})"
    note = (
        f" Other programs took {here['others']:.0%} of the cores, so all times are too long, and longest for programs "
        "whose threads wait busily, such as those of ONNX Runtime. What is found and covered does not depend on that."
    )
    return (
        f"Measured on {day.day} {day:%B %Y}, in {results['minutes']:.0f} minutes, on {where}: "
        f"scrfd_trt {ours['scrfd-trt']} with ONNX Runtime {ours['onnxruntime']}, and InsightFace "
        f"{peers['insightface']} and deface {peers['deface']} with ONNX Runtime {peers['onnxruntime']}."
        f"{note if busy else ''}"
    )


PARTS: dict[str, Callable[[Row], str]] = {
    "conditions": conditions,
    "detect": lambda results: detect_table(results["detect"]),
    "totals": lambda results: totals_table(results["hide"]),
    "clips": lambda results: clips_table(results["hide"]),
    "measured": measured,
}
MARKED = re.compile(r"(<!-- compare: (\w+) -->\n)(.*?)(<!-- /compare -->)", re.DOTALL)


def render(page: str, results: Row) -> str:
    """Return a page with its tables between ``<!-- compare: PART -->`` and ``<!-- /compare -->`` made anew."""
    return MARKED.sub(lambda found: f"{found[1]}{PARTS[found[2]](results)}\n{found[4]}", page)


def write() -> None:
    """Write the tables into README.md and the pages of docs."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    for path in [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]:
        page = path.read_text(encoding="utf-8")
        if (new := render(page, results)) != page:
            path.write_text(new, encoding="utf-8")


def parsed() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description="Compare scrfd_trt with InsightFace and deface.")
    parser.add_argument("folder", type=Path, nargs="?", help="clips and photographs; default: drawn ones")
    parser.add_argument("--peers", type=Path, default=DOCS.parent / ".peers", help="environment of the peers")
    parser.add_argument("--only", nargs="*", help="only these programs that hide faces; none with no name")
    parser.add_argument("--run", action="append", default=[], metavar="NAME=COMMAND", help="a further program")
    parser.add_argument("--models", nargs="*", default=["500m_bnkps"], help="models of the search for faces")
    parser.add_argument("--sizes", type=float, nargs="*", default=[], help="print open frames by these sizes of faces")
    parser.add_argument("--keep", type=Path, help="keep clips and outputs in this folder")
    parser.add_argument("--render", action="store_true", help="write the tables from the last results")
    return parser.parse_args()


def main() -> None:
    """Measure, print the tables, and write those of the drawn clips."""
    options = parsed()
    if options.render:
        write()
        return
    peers = environment(options.peers.resolve())
    results: Row = {"date": date.today().isoformat(), "machine": machine()}
    start, before = time.perf_counter(), others()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.folder:
            sources = [path for path in sorted(options.folder.iterdir()) if path.suffix.lower() in PHOTOS | CLIPS]
            photos: dict[str, list[Any]] = {
                str(path.resolve()): [] for path in sources if path.suffix.lower() in PHOTOS
            }
        else:
            sources, photos = draw(folder), {}
            for name in samples.names():
                scene = samples.load(name)
                cv2.imwrite(str(folder / f"{name}.png"), scene.image)
                photos[f"{name}.png"] = scene.faces.boxes.tolist()
        results["detect"] = list(detect(folder.resolve(), peers, photos, BLOCKS, SECONDS)) if photos else []
        programs = commands(peers, options.run)
        programs = {name: programs[name] for name in (programs if options.only is None else options.only)}
        results["hide"] = list(hide(sources, folder, programs, options)) if programs else []
    taken = time.perf_counter() - start
    results["minutes"] = round(taken / 60, 1)
    results["machine"]["others"] = round((others() - before) / taken / results["machine"]["cores"], 3)
    for part in (detect_table(results["detect"]), totals_table(results["hide"]), clips_table(results["hide"])):
        print(f"\n{part}")
    if options.sizes:
        print(f"\n{sizes_table(results['hide'])}")
    if not options.folder and options.only is None and not options.run:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        write()


if __name__ == "__main__":
    main()
