"""Print, plot and picture what predictions are worth: of one run, or of two, face by face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cli import console
from scrfd_trt._cli.console import count
from scrfd_trt._cli.contact_sheet import Image, face_tile
from scrfd_trt._image_files import open_image
from scrfd_trt.errors import ScrfdError
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
