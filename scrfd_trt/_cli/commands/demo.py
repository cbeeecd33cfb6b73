"""``scrfd-trt demo``: detect faces in a drawn scene and apply overlays, without any input."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray

import overlays
from scrfd_trt import samples
from scrfd_trt._cli import console, options, outputs, results
from scrfd_trt._cli.bench_cpu import time_detect
from scrfd_trt._cli.detector import open_detector
from scrfd_trt._cli.inputs import exists, is_folder, is_regular_file
from scrfd_trt._cli.option_table import option
from scrfd_trt._detections import Detections
from scrfd_trt._image_files import ImageFrame
from scrfd_trt._image_files.write import encode
from scrfd_trt._jobs.images import ImageResult
from scrfd_trt.errors import OptionError

FOLDER = Path("scrfd-demo")
OVERLAYS = ("landmarks", "skull", "blur")
RUNS = 5
CAPTION = 44
"""Height in pixels of the captions in the contact sheet."""

Image = NDArray[np.uint8]

Output = Annotated[Path | None, option("DIR", "Folder for the images.", "--output", "-o", show_default=str(FOLDER))]


def demo(
    *,
    output: Output = None,
    model: str = options.DEFAULT_MODEL,
    device: str = "auto",
    overwrite: bool = False,
    verbose: bool = False,
) -> None:
    """Detect faces in a drawn scene and apply three overlays.

    Writes the images to the folder scrfd-demo. Existing files are replaced
    only with --overwrite. If scrfd-demo already contains other files,
    scrfd-demo-2 is used.

    For example:
      scrfd-trt demo
      scrfd-trt demo -o somewhere/ --overwrite
    """
    with console.logged(verbose=verbose):
        scene = samples.load("group").image
        with open_detector(model, device, threshold=options.THRESHOLD, iou=options.IOU) as detector:
            faces, seconds, _ = time_detect(detector, scene, RUNS)
            description = detector.description
        files = {name: encode(ImageFrame(image), ".png") for name, image in images(scene, faces).items()}
        folder = choose_folder(files, output, overwrite=overwrite)
        written = _write(files, folder, overwrite=overwrite)
        _report(ImageResult(folder / "scene.png", faces, seconds), description, list(files), written)


def images(scene: Image, faces: Detections) -> dict[str, Image]:
    """Return the demo's images by file name: the scene, one for each overlay, and a contact sheet."""
    drawn = {"scene": scene} | {name: overlays.create(name)(scene, faces) for name in OVERLAYS}
    return {f"{name}.png": image for name, image in drawn.items()} | {"contact-sheet.png": contact_sheet(drawn)}


def contact_sheet(images: dict[str, Image]) -> Image:
    """Return images of one size at half their size, two in a row, each with its name above."""
    tiles = [
        _tile(name, cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        for name, image in images.items()
    ]
    if len(tiles) % 2:
        tiles.append(np.full_like(tiles[0], 255))
    return np.vstack([np.hstack(tiles[start : start + 2]) for start in range(0, len(tiles), 2)])


def _tile(name: str, image: NDArray[np.generic]) -> Image:
    height, width = image.shape[:2]
    tile = np.full((height + CAPTION, width + 16, 3), 255, np.uint8)
    tile[CAPTION - 8 : CAPTION - 8 + height, 8 : 8 + width] = image
    cv2.putText(tile, name, (10, CAPTION - 18), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (60, 60, 60), 1, cv2.LINE_AA)
    return tile


def choose_folder(files: dict[str, bytes], folder: Path | None, *, overwrite: bool) -> Path:
    """Return the given folder, or the first of ``scrfd-demo``, ``scrfd-demo-2`` … without other files in the way."""
    if folder is None and not overwrite:
        candidates = (FOLDER if number == 1 else Path(f"{FOLDER}-{number}") for number in count(1))
        return next(candidate for candidate in candidates if not _conflict(files, candidate))
    folder = folder or FOLDER
    if not overwrite and (path := _conflict(files, folder)):
        raise OptionError(f"{path} already exists; name another folder, or add --overwrite to replace it")
    return folder


def _conflict(files: dict[str, bytes], folder: Path) -> Path | None:
    """Return the first path that exists with other content."""
    if exists(folder) and not is_folder(folder):
        return folder
    paths = {folder / name: data for name, data in files.items()}
    return next((path for path, data in paths.items() if exists(path) and not _has_content(path, data)), None)


def _has_content(path: Path, data: bytes) -> bool:
    try:
        return is_regular_file(path) and path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:  # an unreadable file is not one of the demo's
        return False


def _write(files: dict[str, bytes], folder: Path, *, overwrite: bool) -> int:
    """Write the missing files; return their number."""
    outputs.check_folder(folder)
    outputs.make_folder(folder)
    missing = {folder / name: data for name, data in files.items() if not _has_content(folder / name, data)}
    for path, data in missing.items():
        with outputs.atomic_output(path, kind="image", overwrite=overwrite) as file:
            file.write(data)
    return len(missing)


def _report(result: ImageResult, description: str, names: list[str], written: int) -> None:
    width, height = result.faces.image_size
    faces = console.count(len(result.faces), "face")
    milliseconds = f"{(result.seconds or 0.0) * 1000:.0f} ms"
    console.print_line(f"{faces} in a drawn scene of {width}×{height} pixels, {milliseconds}", style="bold")
    console.print_line(description, style="dim")
    if len(result.faces):
        console.write("\n")
        console.write(results.faces_table(result.faces))
    state = "written to" if written == len(names) else "already in" if not written else "now in"
    console.write(f"\nImages {state} {console.printable(Path(result.path).parent)}{os.sep}\n")
    for name in names:
        console.write(f"  {name}\n")
    console.write("\nNext: scrfd-trt overlay YOUR.jpg --overlay skull -o skull.jpg\n")
