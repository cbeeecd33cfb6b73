"""``scrfd-trt demo``: the whole way on a drawn picture, with nothing to bring along."""

from __future__ import annotations

import os
import statistics
import time
from itertools import count
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

import overlays
from scrfd_trt import samples
from scrfd_trt._cli import console, options, outputs, results
from scrfd_trt._cli.detector import open_detector
from scrfd_trt._cli.images import Seen
from scrfd_trt._cli.images import count as counted
from scrfd_trt._cli.inputs import exists, is_folder, is_regular_file
from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt.errors import OptionError

FOLDER = Path("scrfd-demo")
DRAWN = ("landmarks", "skull", "blur")
RUNS = 5
CAPTION = 44
"""Height in pixels of the strip with a picture's name in the contact sheet."""

Image = NDArray[np.uint8]

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="Folder for the pictures.", show_default=str(FOLDER)),
]


def demo(
    *,
    output: Output = None,
    model: options.ModelName = options.DEFAULT_MODEL,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    verbose: options.Verbose = False,
) -> None:
    """Draw a scene with people, find their faces, and try each overlay on them.

    The pictures go into the folder scrfd-demo. Run again, it leaves files
    that are the same as they are; where others are in the way it takes
    scrfd-demo-2, and so on.

    For example:
      scrfd-trt demo
      scrfd-trt demo -o somewhere/ --overwrite
    """
    with console.logged(verbose=verbose):
        scene = samples.load("group").image
        with open_detector(model, device, threshold=options.THRESHOLD, iou=options.IOU) as detector:
            faces, seconds = _timed(detector, scene)
            description = detector.description
        files = {name: outputs.encode(image, Path(name)) for name, image in pictures(scene, faces).items()}
        folder = choose_folder(files, output, overwrite=overwrite)
        written = _write(files, folder, overwrite=overwrite)
        _report(folder, written, list(files), Seen(folder / "scene.png", faces, seconds), description)


def pictures(scene: Image, faces: Detections) -> dict[str, Image]:
    """Draw all pictures of the demo.

    Parameters
    ----------
    scene
        ``(H, W, 3)`` uint8 BGR.
    faces
        What was found in it.

    Returns
    -------
    dict
        Images by file name: the scene, one for each overlay, and a contact sheet of them all.
    """
    found = {"scene": scene} | {name: overlays.create(name)(scene, faces) for name in DRAWN}
    sheet = contact_sheet(found)
    return {f"{name}.png": image for name, image in found.items()} | {"contact-sheet.png": sheet}


def contact_sheet(images: dict[str, Image]) -> Image:
    """Put images of one size side by side, two in a row, at half their size, each with its name above it."""
    tiles = [
        _tile(name, cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        for name, image in images.items()
    ]
    if len(tiles) % 2:
        tiles.append(np.full_like(tiles[0], 255))
    rows = [np.hstack(tiles[start : start + 2]) for start in range(0, len(tiles), 2)]
    return np.vstack(rows)


def _tile(name: str, image: NDArray[np.generic]) -> Image:
    height, width = image.shape[:2]
    tile = np.full((height + CAPTION, width + 16, 3), 255, np.uint8)
    tile[CAPTION - 8 : CAPTION - 8 + height, 8 : 8 + width] = image
    cv2.putText(tile, name, (10, CAPTION - 18), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (60, 60, 60), 1, cv2.LINE_AA)
    return tile


def choose_folder(files: dict[str, bytes], wanted: Path | None, *, overwrite: bool) -> Path:
    """Find a folder where these files are in nobody's way.

    Parameters
    ----------
    files
        Contents by file name.
    wanted
        The folder that was asked for; or None for ``scrfd-demo``, or the first of ``scrfd-demo-2`` … that is free.
    overwrite
        Whether other files of these names may be replaced.

    Raises
    ------
    OptionError
        If there are other files of these names in the folder that was asked for.
    """
    if wanted is None and not overwrite:
        tries = (FOLDER if number == 1 else Path(f"{FOLDER}-{number}") for number in count(1))
        return next(folder for folder in tries if not _in_the_way(files, folder))
    folder = wanted or FOLDER
    if not overwrite and (old := _in_the_way(files, folder)):
        raise OptionError(f"{old} is there already, and is another file; name another folder, or add --overwrite")
    return folder


def _in_the_way(files: dict[str, bytes], folder: Path) -> Path | None:
    """Return the first path that is taken by something else."""
    if exists(folder) and not is_folder(folder):
        return folder
    paths = {folder / name: data for name, data in files.items()}
    return next((path for path, data in paths.items() if exists(path) and not _is(path, data)), None)


def _is(path: Path, data: bytes) -> bool:
    try:
        return is_regular_file(path) and path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:  # what may not be read is not ours
        return False


def _write(files: dict[str, bytes], folder: Path, *, overwrite: bool) -> int:
    """Write what is not there yet; return how many files that were."""
    outputs.check_folder(folder)
    outputs.make_folder(folder)
    todo = {folder / name: data for name, data in files.items() if not _is(folder / name, data)}
    for path, data in todo.items():
        with outputs.atomic_output(path, overwrite=overwrite) as file:
            file.write(data)
    return len(todo)


def _timed(detector: SCRFDDetector, image: Image) -> tuple[Detections, float]:
    """Find the faces, once to warm up and then a few times on the clock; return them and the median in seconds."""
    faces = detector.detect(image)
    taken = []
    for _ in range(RUNS):
        start = time.perf_counter()
        faces = detector.detect(image)
        taken.append(time.perf_counter() - start)
    return faces, statistics.median(taken)


def _report(folder: Path, written: int, names: list[str], seen: Seen, description: str) -> None:
    width, height = seen.faces.image_size
    head = (
        f"{counted(len(seen.faces), 'face')} in a drawn scene of {width}×{height} pixels, {seen.seconds * 1000:.0f} ms"
    )
    console.print_line(head, style="bold")
    console.print_line(description, style="dim")
    if len(seen.faces):
        console.write("\n")
        console.show(results.faces_table(seen))
    state = "written to" if written == len(names) else "already in" if not written else "now in"
    console.write(f"\nPictures {state} {console.printable(folder)}{os.sep}\n")
    for name in names:
        console.write(f"  {name}\n")
    console.write("\nNext: scrfd-trt overlay YOUR.jpg --overlay skull -o skull.jpg\n")
