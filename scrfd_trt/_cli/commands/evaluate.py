"""``scrfd-trt evaluate``: measure average precision on labelled images, and compare two runs face by face."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, BinaryIO

import numpy as np
import typer
from numpy.typing import NDArray

from scrfd_trt import evaluation
from scrfd_trt._cli import console, options, outputs, results
from scrfd_trt._cli.batch import ModelFinder, Tally, detect_images, run_size
from scrfd_trt._cli.bench_report import check_plot
from scrfd_trt._cli.console import count
from scrfd_trt._cli.contact_sheet import Image, contact_sheet, face_tile
from scrfd_trt._cli.detector import open_detector, parse_rotations
from scrfd_trt._cli.folders import LeftOut
from scrfd_trt._cli.inputs import Source, find_inputs, is_regular_file, same_file_key
from scrfd_trt._cli.jobs import Job
from scrfd_trt._cli.option_rules import COMPARED, DETECTING, IMAGES, OUTPUT, check_options
from scrfd_trt._cli.option_table import altered, option
from scrfd_trt._files import temporary_folder
from scrfd_trt._image_files import ImageFrame, open_image
from scrfd_trt._jobs.decoders import decoding_processes
from scrfd_trt._jobs.profile import measured
from scrfd_trt.errors import OptionError, ScrfdError
from scrfd_trt.evaluation import Evaluation, GroundTruth

THRESHOLDS = (0.5, 0.3)
"""Of ``detect`` and ``anonymize``; the first one decides which faces two runs find."""
MAX_TILES = 48
"""Faces on the sheet that one of the runs alone finds, the largest ones."""
LETTERS = 20
"""Of a file's name below a tile."""

Runs = Mapping[str, Evaluation]
"""One run, or two that are compared, by their names."""


def _truth(runs: Runs) -> GroundTruth:
    return next(iter(runs.values())).truth


def _only(runs: Runs) -> list[NDArray[np.intp]]:
    """Return for each of two runs the counted faces that it alone finds, largest first."""
    first, second = (run.found(THRESHOLDS[0]) for run in runs.values())
    by_size = np.argsort(-_truth(runs).sides, kind="stable")
    return [by_size[alone[by_size]] for alone in (first & ~second, second & ~first)]


def as_dict(runs: Runs) -> dict[str, Any]:
    """Return all figures for JSON."""

    def at(run: Evaluation, threshold: float) -> dict[str, Any]:
        sizes = [each._asdict() for each in run.recall_by_size(threshold)]
        sizes = [each | {"high": each["high"] if each["high"] < np.inf else None} for each in sizes]
        figures = {"recall": run.recall(threshold), "precision": run.precision(threshold), "sizes": sizes}
        return {"threshold": threshold, **figures}

    truth = _truth(runs)
    return {
        "images": len(truth.names),
        "faces": int(truth.counted.sum()),
        "runs": [
            {"name": name, "ap": run.ap, "at": [at(run, each) for each in THRESHOLDS]} for name, run in runs.items()
        ],
    } | ({"only": [len(rows) for rows in _only(runs)]} if len(runs) > 1 else {})


def show(runs: Runs, labels: str) -> None:
    """Print a table of average precision, one of recall by size, and how many faces one run alone finds."""
    truth, faces = _truth(runs), int(_truth(runs).counted.sum())
    console.print_line(f"{labels}: {count(len(truth.names), 'image')}, {count(faces, 'face')}\n", style="bold")
    table = console.table("average precision", *(f">{name}" for name in runs), *[">difference"] * (len(runs) > 1))
    for row in zip(*(run.ap.items() for run in runs.values()), strict=True):
        values = [value for _, value in row]
        difference = (f"{values[0] - other:+.4f}" for other in values[1:])
        table.add_row(row[0][0], *(f"{value:.4f}" for value in values), *difference)
    console.show(table)
    console.write("\n")
    titles = (f">{name}\nat {threshold}" for name in runs for threshold in THRESHOLDS)
    columns = [(run, threshold) for run in runs.values() for threshold in THRESHOLDS]
    table = console.table("recall\nat a score", ">\nfaces", *titles)
    for classes in zip(*(run.recall_by_size(threshold) for run, threshold in columns), strict=True):
        low, high, total, _ = classes[0]
        size = f"{low:g} to {high:g} pixels" if high < np.inf else f"{low:g} pixels or more"
        table.add_row(size, f"{total:,}", *(f"{each.found / total:.1%}" for each in classes))
    table.add_section()
    table.add_row("all", f"{faces:,}", *(f"{run.recall(threshold):.1%}" for run, threshold in columns))
    table.add_row("precision", "", *(f"{run.precision(threshold):.1%}" for run, threshold in columns))
    console.show(table)
    if len(runs) > 1:
        first, second = map(len, _only(runs))
        both = int(columns[0][0].found(THRESHOLDS[0]).sum()) - first
        alone = ", ".join(f"only {name} {number:,}" for name, number in zip(runs, (first, second), strict=True))
        console.write(
            f"\nAt a score of {THRESHOLDS[0]}, both find {count(both, 'face')}, {alone}, "
            f"and neither {faces - both - first - second:,}.\n"
        )


def plot(runs: Runs, file: BinaryIO) -> None:
    """Write precision over recall as a PNG, a panel for each subset."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional, and slow to import

    names = list(next(iter(runs.values())).curves)
    figure = Figure(figsize=(1.2 + 4.2 * len(names), 4.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for (label, run), style in zip(runs.items(), ("-", "--"), strict=False):
            axes.plot(*run.curves[name], style, label=f"{label}: {run.ap[name]:.4f}")
        axes.set(title=name, xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left", frameon=False, fontsize=8, title="average precision", title_fontsize=8)
    figure.savefig(file, format="png", dpi=130)


def different_faces(runs: Runs, paths: Sequence[str]) -> tuple[list[tuple[Image | None, str, str]], int]:
    """Return tiles of the largest faces that one run alone finds, and their number; ``paths`` are of the images."""
    truth, only = _truth(runs), _only(runs)
    shown = [(name, row) for name, rows in zip(runs, only, strict=True) for row in rows[:MAX_TILES].tolist()]
    tiles: dict[int, Image] = {}
    for place in {int(truth.images[row]) for _, row in shown}:
        with suppress(ScrfdError):  # its tiles stay grey
            pixels = next(open_image(Path(paths[place]), damaged="keep").frames()).visible()
            here = [row for _, row in shown if truth.images[row] == place]
            tiles |= {row: face_tile(pixels, truth.boxes[row]) for row in here}
    found = [
        (
            tiles.get(row),
            f"only {name[:9]} {runs[name].scores[row]:.2f}",
            Path(paths[truth.images[row]]).name[-LETTERS:],
        )
        for name, row in shown
    ]
    return found, sum(map(len, only))


THRESHOLD = 0.02
"""As in InsightFace's own evaluation."""
HIGH = 0.1
"""Lowest score of predictions without those that average precision needs."""

LABELS_HELP = "WIDER FACE's ground_truth folder, a COCO .json, or YOLO's folder."
READ_HELP = "Read predictions (.jsonl, WIDER FACE's .txt) instead of detecting."
ImagesFolder = Annotated[
    Path, typer.Argument(metavar="IMAGES", help="Folder of the images; its subfolders are read, too.")
]
Labels = Annotated[Path, typer.Argument(metavar="LABELS", help=LABELS_HELP)]
File = Path | None


@dataclass(frozen=True)
class EvaluateArgs(options.LimitedDetectArgs):
    """Detection options, with a threshold for average precision."""

    threshold: Annotated[float, altered("threshold")] = THRESHOLD


@dataclass(frozen=True)
class FileArgs:
    """Files that are read beside the labels, and written."""

    output: Annotated[File, option("FILE", "Write the predictions to this file (.jsonl).", "--output", "-o")] = None
    detections: Annotated[File, option("FILE|DIR", READ_HELP, "--detections")] = None
    against: Annotated[File, option("FILE|DIR", "Compare with the predictions of another run.")] = None
    plot: Annotated[File, option("FILE", "Plot precision over recall (.png).")] = None
    sheet: Annotated[File, option("FILE", "Write pictures of faces that one run alone finds (.jpg, .png).")] = None
    save_wider: Annotated[File, option("DIR", "Write the predictions in WIDER FACE's text form.")] = None

    def facts(self) -> set[str]:
        """Return what options may apply to."""
        written = {OUTPUT} if self.output or self.plot or self.sheet or self.save_wider else set()
        return (
            {IMAGES} | written | ({COMPARED} if self.against else set()) | (set() if self.detections else {DETECTING})
        )

    def check(self, labels: Path, is_own: Callable[[Path], bool]) -> None:
        """Raise OptionError, before any work, if a file cannot be written; ``is_own`` are those to be replaced."""
        read = {same_file_key(path) for path in (labels, self.detections, self.against) if path is not None}
        for name, path in vars(self).items():
            if path is None or name in {"detections", "against"}:
                continue
            flag = f"--{name.replace('_', '-')} {path}"
            if same_file_key(path) in read:
                raise OptionError(f"{flag} is an input; name another one")
            if name == "save_wider":
                if not is_own(path) and any(path.glob("*")):
                    raise OptionError(f"{flag}: the folder is not empty; name another one, or add --overwrite")
                continue
            if name == "output" and path.suffix.lower() != ".jsonl":
                raise OptionError(f"{flag}: predictions are JSON lines; name a file that ends in .jsonl")
            if name == "plot":
                check_plot(path, overwrite=True)
            if name == "sheet":
                outputs.check_image_suffix(path)
            outputs.check_free(path, kind="text" if name == "output" else "image", overwrite=is_own(path))

    def write(self, runs: Runs, paths: Sequence[str], *, overwrite: bool) -> Iterator[object]:
        """Write the pictures and the text form; yield each path, or what is said about it."""
        if self.save_wider is not None:
            evaluation.write_wider_face(self.save_wider, next(iter(runs.values())).predictions)
            yield self.save_wider
        if self.plot is not None:
            with outputs.atomic_output(self.plot, kind="image", overwrite=overwrite) as file:
                plot(runs, file)
            yield self.plot
        if self.sheet is not None:
            tiles, faces = different_faces(runs, paths)
            if tiles:
                outputs.save_image([ImageFrame(contact_sheet(tiles))], self.sheet, overwrite=overwrite)
                yield f"{self.sheet}: {len(tiles)} of the {console.count(faces, 'face')} that one run alone finds"
            else:
                console.warning(f"{self.sheet} was not written: both runs find the same faces")


def evaluate(
    context: typer.Context,
    images: ImagesFolder,
    labels: Labels,
    *,
    files: FileArgs,
    category: Annotated[str | None, option("NAME|N", "Category of faces among several.", show_default="face")] = None,
    as_json: bool = False,
    model: options.ModelArgs,
    detection: EvaluateArgs,
    overwrite: bool = False,
    messages: options.JobMessageArgs,
    resume: bool = False,
    image: options.ImageArgs,
) -> None:
    """Measure the average precision of a model on labelled images.

    WIDER FACE has three: easy, medium and hard. Other sets have AP50 and AP,
    as COCO defines them. The recall by size of face is that at scores of 0.5
    and 0.3, the defaults of 'detect' and 'anonymize'.

    Exit codes: 0, success; 1, an image failed; 2, usage error; 130, stopped
    by Ctrl-C.

    For example:
      scrfd-trt evaluate WIDER_val/images ground_truth/ -o 500m.jsonl --resume
      scrfd-trt evaluate photos/ labels.json --against 500m.jsonl --sheet s.jpg
      scrfd-trt evaluate photos/ labels/ --model face.plan --plot curves.png
    """
    with console.logged(**vars(messages)):
        check_options(context, files.facts())
        work = Job(context, options.JobArgs(resume=resume), folder=None, rows=files.output)
        files.check(labels, lambda path: overwrite or (work.ledger is not None and work.ledger.is_own(path)))
        truth = evaluation.read_ground_truth(labels, images, category=category)
        paths = _paths(truth, images)
        if truth.unlabelled and not messages.quiet:
            without = console.count(truth.unlabelled, "image")
            console.warning(f"{labels} has no .txt file of {without}, which count as images without faces")
        if files.detections is None or files.sheet:
            _check_images(truth, images, paths)
        names = dict(zip(paths, truth.names, strict=True))
        other = None if files.against is None else _judge(truth, files.against, files.against, names)
        tally = Tally()
        with tally.reported(LeftOut(), strict=False, quiet=messages.quiet):
            rows = files.detections or work.rows or context.with_resource(temporary_folder()) / "predictions.jsonl"
            if files.detections is None:
                sources = find_inputs((), listed=paths, ledger=work.ledger)
                with work.recording():
                    left = work.left(sources)
                    tally.skipped = work.skipped
                    if left:
                        _detect(
                            left, rows, work, model, detection=detection, image=image, tally=tally, overwrite=overwrite
                        )
            named = files.detections or files.output or Path(model.model)
            runs = {_run_name(named): _judge(truth, rows, named, names)}
            if files.against is not None and other is not None:
                name = _run_name(files.against)
                runs[f"other {name}" if name in runs else name] = other
            if as_json:
                console.write_json(as_dict(runs))
            else:
                show(runs, console.printable(labels))
            for written in files.write(runs, paths, overwrite=overwrite or resume):
                if not messages.quiet:
                    console.plain(f"wrote {written}")


def _paths(truth: GroundTruth, images: Path) -> list[str]:
    """Return where the images are: below the folder by their path, or by their name if it is that of one image."""
    same = Counter(PurePosixPath(name).name for name in truth.names)
    paths = [images / name for name in truth.names]
    flat = [images / path.name if same[path.name] == 1 else path for path in paths]
    return [str(path if is_regular_file(path) else other) for path, other in zip(paths, flat, strict=True)]


def _check_images(truth: GroundTruth, images: Path, paths: Sequence[str]) -> None:
    if not any(is_regular_file(Path(path)) for path in paths):
        example = f", such as {truth.names[0]}" if truth.names else ""
        raise OptionError(f"{images} has none of the {console.count(len(paths), 'labelled image')}{example}")


def _detect(
    sources: Sequence[Source],
    rows: Path,
    work: Job,
    model: options.ModelArgs,
    *,
    detection: EvaluateArgs,
    image: options.ImageArgs,
    tally: Tally,
    overwrite: bool,
) -> None:
    """Write the faces of each image, as ``detect`` does."""
    reading = image.parse("keep")
    looks = {"min_face": detection.min_face, "rotations": parse_rotations(detection.rotations)}
    with (
        decoding_processes(sources, reading) as decoders,
        open_detector(**vars(model), **vars(detection), max_batch=run_size(image.batch, sources)) as detector,
        results.open_writer(
            "jsonl", rows, overwrite=overwrite, threshold=detection.threshold, looks=looks, ledger=work.ledger
        ) as writer,
        detect_images(
            sources,
            ModelFinder.of(detector, image.batch),
            tally,
            reading,
            bar=not console.is_quiet(),
            decoders=decoders,
            as_json=True,
        ) as outcomes,
    ):
        for source, outcome in outcomes:
            with measured("write"):
                writer.add_outcome(source.name, outcome)


def _judge(truth: GroundTruth, predictions: Path, named: Path, names: Mapping[str, str]) -> Evaluation:
    """Compare predictions with the labels; ``names`` are those of the images by their paths.

    Warns of what makes average precision lower than it should be.
    """
    read = {names.get(path, path): each for path, each in evaluation.read_predictions(predictions).items()}
    found = evaluation.evaluate(truth, read)
    if found.unknown:
        those = f"{console.count(len(found.unknown), 'image')}, such as {found.unknown[0]}"
        console.warning(f"{named} has predictions of {those}, without labels; they do not count")
    if missing := len(truth.names) - len(found.predictions):
        console.warning(
            f"{named} has no predictions of {console.count(missing, 'labelled image')}; their faces are missed"
        )
    lowest = min((float(each.scores.min()) for each in read.values() if len(each.scores)), default=0.0)
    if lowest > HIGH:
        console.warning(
            f"{named}: the lowest score is {lowest:.2f}, so average precision is lower than it should be; "
            f"detect with --threshold {THRESHOLD}"
        )
    return found


def _run_name(path: Path) -> str:
    """Return the name of a run."""
    return path.stem if path.suffix in {".jsonl", ".txt"} else path.name
