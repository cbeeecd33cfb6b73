"""Print, plot and picture what predictions are worth: of one run, or of two, face by face."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cli import console
from scrfd_trt._cli.console import count
from scrfd_trt._cli.contact_sheet import Image, face_tile
from scrfd_trt._image_files import open_image
from scrfd_trt.errors import ScrfdError
from scrfd_trt.evaluation import Evaluation

THRESHOLDS = (0.5, 0.3)
"""Of ``detect`` and ``anonymize``; the first one decides which faces two runs find."""
MAX_TILES = 48
"""Faces on the sheet that one of the runs alone finds, the largest ones."""
LETTERS = 20
"""Of a file's name below a tile."""


class Run(NamedTuple):
    """Predictions and what they are worth."""

    name: str
    found: Evaluation


def _only(runs: Sequence[Run]) -> list[NDArray[np.intp]]:
    """Return for each of two runs the counted faces that it alone finds, largest first."""
    first, second = (run.found.found(THRESHOLDS[0]) for run in runs)
    sides = runs[0].found.truth.sides
    return [
        rows[np.argsort(-sides[rows], kind="stable")]
        for rows in map(np.flatnonzero, (first & ~second, second & ~first))
    ]


def as_dict(runs: Sequence[Run]) -> dict[str, Any]:
    """Return all figures for JSON."""
    truth = runs[0].found.truth
    figures: dict[str, Any] = {"images": len(truth.names), "faces": int(truth.counted.sum()), "runs": []}
    for name, found in runs:
        at = [
            {
                "threshold": threshold,
                "recall": found.recall(threshold),
                "precision": found.precision(threshold),
                "sizes": [
                    each._asdict() | {"high": each.high if each.high < np.inf else None}
                    for each in found.recall_by_size(threshold)
                ],
            }
            for threshold in THRESHOLDS
        ]
        figures["runs"].append({"name": name, "ap": found.ap, "at": at})
    if len(runs) > 1:
        figures["only"] = [len(rows) for rows in _only(runs)]
    return figures


def show(runs: Sequence[Run], labels: str) -> None:
    """Print a table of average precision, one of recall by size, and how many faces one run alone finds."""
    truth = runs[0].found.truth
    images, faces = count(len(truth.names), "image"), count(int(truth.counted.sum()), "face")
    console.print_line(f"{labels}: {images}, {faces}\n", style="bold")
    table = console.table("average precision", *(f">{run.name}" for run in runs), *[">difference"] * (len(runs) > 1))
    for name in runs[0].found.ap:
        values = [run.found.ap[name] for run in runs]
        table.add_row(
            name, *(f"{value:.4f}" for value in values), *(f"{values[0] - other:+.4f}" for other in values[1:])
        )
    console.show(table)
    console.write("\n")
    columns = [(run.found, threshold) for run in runs for threshold in THRESHOLDS]
    titles = (f">{run.name}\nat {threshold}" for run in runs for threshold in THRESHOLDS)
    table = console.table("recall\nat a score", ">\nfaces", *titles)
    for classes in zip(*(found.recall_by_size(threshold) for found, threshold in columns), strict=True):
        size, shares = classes[0], (f"{each.found / each.faces:.1%}" for each in classes)
        end = (
            f"below {size.high:g}"
            if not size.low
            else f"{size.low:g} to {size.high:g}"
            if size.high < np.inf
            else f"from {size.low:g} on"
        )
        table.add_row(f"{end} pixels", f"{size.faces:,}", *shares)
    table.add_section()
    table.add_row("all", f"{int(truth.counted.sum()):,}", *(f"{found.recall(at):.1%}" for found, at in columns))
    table.add_row("precision", "", *(f"{found.precision(at):.1%}" for found, at in columns))
    console.show(table)
    if len(runs) > 1:
        first, second = map(len, _only(runs))
        both = int(runs[0].found.found(THRESHOLDS[0]).sum()) - first
        rest = int(truth.counted.sum()) - both - first - second
        console.write(
            f"\nAt a score of {THRESHOLDS[0]}, both find {count(both, 'face')}, only {runs[0].name} {first:,}, "
            f"only {runs[1].name} {second:,}, and neither {rest:,}.\n"
        )


def plot(runs: Sequence[Run], file: BinaryIO) -> None:
    """Write precision over recall as a PNG, a panel for each subset."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional, and slow to import

    names = list(runs[0].found.curves)
    figure = Figure(figsize=(1.2 + 4.2 * len(names), 4.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for run, style in zip(runs, ("-", "--"), strict=False):
            label = f"{run.name}: {run.found.ap[name]:.4f}"
            axes.plot(*run.found.curves[name], style, label=label)
        axes.set(title=name, xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left", frameon=False, fontsize=8, title="average precision", title_fontsize=8)
    figure.savefig(file, format="png", dpi=130)


def different_faces(runs: Sequence[Run], paths: Sequence[str]) -> tuple[list[tuple[Image | None, str, str]], int]:
    """Return tiles of the largest faces that one run alone finds, and their number; ``paths`` are of the images."""
    truth = runs[0].found.truth
    only = _only(runs)
    shown = [(run, row) for run, rows in zip(runs, only, strict=True) for row in rows[:MAX_TILES].tolist()]
    tiles: dict[int, Image] = {}
    for place in {int(truth.images[row]) for _, row in shown}:
        with suppress(ScrfdError):  # its tiles stay grey
            pixels = next(open_image(Path(paths[place]), damaged="keep").frames()).visible()
            here = [row for _, row in shown if truth.images[row] == place]
            tiles |= {row: face_tile(pixels, truth.boxes[row]) for row in here}
    texts = [
        (f"only {run.name[:9]} {run.found.scores[row]:.2f}", Path(paths[truth.images[row]]).name[-LETTERS:])
        for run, row in shown
    ]
    found = [(tiles.get(row), *text) for (_, row), text in zip(shown, texts, strict=True)]
    return found, sum(map(len, only))
