"""Show the faces of an image: drawn on it, in a window, in a file, in a notebook."""

from __future__ import annotations

import base64
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._crops import crop_box
from scrfd_trt._formats import Faces, count_faces
from scrfd_trt.errors import OutputError

Image = NDArray[np.uint8]
Order = Literal["bgr", "rgb"]
MAX_ROWS, SIDE, MARGIN = 20, 64, 0.2  # faces in a notebook; pixels of a crop, and what it shows around the box


def annotated(image: Image, faces: Any, order: Order) -> Image:
    """Return the image with boxes, scores and landmarks."""
    drawn: Image = import_module("overlays").create("landmarks", color=order)(image, faces)  # it imports Detections
    return drawn


def save(image: Image, path: Path, order: Order, *, overwrite: bool) -> None:
    """Write an image in the format of the suffix."""
    from scrfd_trt._files import atomic_file  # noqa: PLC0415 - these take long to import
    from scrfd_trt._image_files.frames import ImageFrame  # noqa: PLC0415
    from scrfd_trt._image_files.write import write_image  # noqa: PLC0415

    with atomic_file(path, overwrite=overwrite) as file:
        try:
            write_image(file, [ImageFrame(_bgr(image, order))], path.suffix)
        except OutputError as error:
            raise error.within(f"cannot write {path}") from error


def show(image: Image, order: Order) -> None:
    """Show an image in the notebook, or with the system's program for pictures."""
    pixels = _bgr(image, order)
    notebook = sys.modules.get("IPython")
    if notebook is not None and hasattr(notebook.get_ipython(), "kernel"):
        notebook.display.display(notebook.display.Image(_jpeg(pixels)))
        return
    from PIL import Image as PilImage  # noqa: PLC0415 - slow to import
    from PIL import ImageShow  # noqa: PLC0415

    if not ImageShow.show(PilImage.fromarray(np.ascontiguousarray(pixels[..., ::-1]))):
        raise OutputError("there is no program here that shows pictures; use save() instead")


def table(faces: Faces, image: Image | None, order: Order) -> str:
    """Return a table of faces as HTML, with crops if there is an image."""
    width, height = faces.image_size
    count = len(faces.scores)
    more = f", the first {MAX_ROWS} of them" if count > MAX_ROWS else ""
    lines = [f"<p>{count_faces(count)} in {width}×{height}{more}</p>", "<table>"]
    names = ["", *["face"] * (image is not None), *["track"] * (faces.track_ids is not None), "score"]
    lines.append(f"<tr>{''.join(f'<th>{name}</th>' for name in [*names, 'x1', 'y1', 'x2', 'y2'])}</tr>")
    for row, box in enumerate(faces.boxes[:MAX_ROWS]):
        crop = [] if image is None else [_picture(crop_box(image, box, MARGIN), order)]
        track = [] if faces.track_ids is None else [str(faces.track_ids[row])]
        cells = [str(row), *crop, *track, f"{faces.scores[row]:.3f}", *(f"{side:.1f}" for side in box)]
        lines.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return "\n".join([*lines, "</table>"] if count else lines[:1])


def _picture(crop: Image, order: Order) -> str:
    if not crop.size:
        return ""
    scale = SIDE / max(crop.shape[:2])
    size = tuple(max(1, round(side * scale)) for side in crop.shape[1::-1])
    small = cv2.resize(_bgr(crop, order), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    data = base64.b64encode(_jpeg(small)).decode()
    return f'<img src="data:image/jpeg;base64,{data}" width="{size[0]}" height="{size[1]}">'


def _jpeg(image: Any) -> bytes:
    return bytes(cv2.imencode(".jpg", image)[1])


def _bgr(image: Image, order: Order) -> Image:
    return image if order == "bgr" else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8)
