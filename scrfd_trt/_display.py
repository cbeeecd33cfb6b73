"""Show the faces of an image: drawn on it, in a window, in a file, in a notebook."""

from __future__ import annotations

import base64
import os
import sys
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._crops import crop_box
from scrfd_trt._formats import Faces, count_faces
from scrfd_trt.errors import MissingDependencyError, OptionError, OutputError

Image = NDArray[np.uint8]
Order = Literal["bgr", "rgb"]
MAX_ROWS, CROP_SIDE, MARGIN = 20, 64, 0.2  # faces in a notebook; pixels of a crop, and what it shows around the box
MAX_SIDE = 2048  # pixels of an image in a notebook, which keeps it


def other_overlays() -> str:
    """Return what provides the import name ``overlays`` if it is not the package beside this one, else ``""``."""
    spec, own = find_spec("overlays"), Path(__file__).parents[1] / "overlays/__init__.py"
    found = (spec and spec.origin) or "no file"
    return "" if Path(found).resolve() == own.resolve() else found


def check_overlays() -> None:
    """Raise MissingDependencyError if the import name ``overlays`` is taken, as by a script of this name."""
    if found := other_overlays():
        what = f"{found} provides the module 'overlays' in place of scrfd-trt's: rename it, or run 'scrfd-trt doctor'"
        raise MissingDependencyError(what)


def save(image: Image, order: Order, path: Path, source: str | None, *, overwrite: bool) -> None:
    """Write an image in the format of the suffix, unless it would replace its source."""
    from scrfd_trt._files import atomic_file, check_not_input, check_target  # noqa: PLC0415 - these take long to import
    from scrfd_trt._image_files.frames import ImageFrame  # noqa: PLC0415
    from scrfd_trt._image_files.write import write_image  # noqa: PLC0415

    if path.suffix.lower() in (".json", ".csv", ".txt"):
        method = "to_json" if path.suffix.lower() == ".json" else "to_csv"
        raise OptionError(f"save() writes an image; write Path({str(path)!r}).write_text(faces.{method}())")
    check_target(path, overwrite=overwrite)
    check_not_input(path, source, "image that the faces are of")
    with atomic_file(path, overwrite=overwrite) as file:
        try:
            write_image(file, [ImageFrame(in_order(image, order, "bgr"))], path.suffix)
        except OutputError as error:
            raise error.within(f"cannot write {path}") from error


def show(image: Image, order: Order) -> None:
    """Show an image in the notebook, or with the system's program for pictures."""
    notebook = sys.modules.get("IPython")
    if notebook is not None and hasattr(notebook.get_ipython(), "kernel"):
        notebook.display.display(notebook.display.Image(_jpeg(image, order, MAX_SIDE)))
        return
    has_display = sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not has_display:  # the programs would fail, and say so in the terminal only
        raise OutputError("there is no display here to show an image on; use save() instead")
    from PIL import Image as PilImage  # noqa: PLC0415 - slow to import
    from PIL import ImageShow  # noqa: PLC0415

    if not ImageShow.show(PilImage.fromarray(in_order(image, order, "rgb"))):
        raise OutputError("there is no program here that shows pictures; use save() instead")


def table(faces: Faces, image: Image | None, order: Order, why: str = "") -> str:
    """Return a table of faces as HTML, with crops if there is an image; ``why`` says why there is none."""
    count = len(faces.scores)
    more = f", the first {MAX_ROWS} of them" if count > MAX_ROWS else ""
    more += f", without crops: {escape(why)}" if why and count else ""
    lines = ["<p>{} in {}×{}{}</p>".format(count_faces(count), *faces.image_size, more), "<table>"]
    names = ["", *["face"] * (image is not None), *["track_id"] * (faces.track_ids is not None), "score"]
    lines.append(f"<tr>{''.join(f'<th>{name}</th>' for name in [*names, 'x1', 'y1', 'x2', 'y2'])}</tr>")
    for row, box in enumerate(faces.boxes[:MAX_ROWS]):
        crop = [] if image is None else [_picture(crop_box(image, box, MARGIN), order)]
        track = [] if faces.track_ids is None else [faces.track_ids[row]]
        cells = [row, *crop, *track, f"{faces.scores[row]:.3f}", *(f"{side:.1f}" for side in box)]
        lines.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return "\n".join([*lines, "</table>"] if count else lines[:1])


def _picture(crop: Image, order: Order) -> str:
    if not crop.size:
        return ""
    data = base64.b64encode(_jpeg(crop, order, CROP_SIDE)).decode()
    longer = "height" if crop.shape[0] > crop.shape[1] else "width"
    return f'<img src="data:image/jpeg;base64,{data}" {longer}="{CROP_SIDE}">'


def _jpeg(image: Image, order: Order, max_side: int) -> bytes:
    scale = min(1.0, max_side / max(image.shape[:2]))
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    small = cv2.resize(in_order(image, order, "bgr"), size, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", small)[1])


def in_order(image: Image, order: Order, wanted: Order) -> Image:
    """Return an image whose channels are in one order in another."""
    return image if order == wanted else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8)
