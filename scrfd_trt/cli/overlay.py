"""``scrfd-trt overlay``: draw over the faces of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

import overlays
from scrfd_trt.cli import files, messages, options, writing
from scrfd_trt.cli.exits import FAILED
from scrfd_trt.cli.network import open_detector
from scrfd_trt.cli.work import Tally, count, each
from scrfd_trt.detections import Detections
from scrfd_trt.errors import OptionError

Specs = Annotated[
    list[str],
    typer.Option(
        "--overlay",
        metavar="NAME:OPTION=VALUE,...",
        help="What to draw; 'scrfd-trt overlays' lists what there is. Given again, the next one is drawn over it.",
        show_default=False,
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE|DIR",
        help="Where to write: for one image a file, known by its suffix, and otherwise a folder, which is made "
        "where it is missing.",
        show_default=False,
    ),
]


def overlay(
    inputs: options.Inputs,
    *,
    specs: Specs,
    output: Output,
    recursive: options.Recursive = False,
    model: options.ModelName = options.DEFAULT_MODEL,
    device: options.Device = "auto",
    lean_runtime: options.LeanRuntime = None,
    allow_host_code: options.AllowHostCode = False,
    threshold: options.Threshold = options.THRESHOLD,
    iou: options.Iou = options.IOU,
    scale: options.Scale = None,
    max_faces: options.MaxFaces = None,
    quality: options.Quality = 95,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Draw over the faces of images: a skull, a blur, landmarks, or all.

    Copies keep their names and kind of file; they are upright and have no
    EXIF data and no alpha. An image without faces is copied, too. To hide
    people, take '--threshold 0.3' or lower: a face that is not found is not
    covered. The exit code is 0, or 1 if some inputs failed, or 2 for wrong
    use.

    For example:
      scrfd-trt overlay me.jpg --overlay skull -o skull.jpg
      scrfd-trt overlay me.jpg --overlay skull:opacity=0.7 -o skull.jpg
      scrfd-trt overlay photos/ --overlay blur --overlay landmarks -o out/
    """
    with messages.logged(quiet=quiet, verbose=verbose):
        draw = overlays.Compose(*(overlays.parse(spec) for spec in specs))
        sources = files.find(inputs, recursive=recursive, skip=output)
        places = _places(inputs, sources, output, overwrite=overwrite)

        def save(source: files.Source, image: NDArray[np.uint8], faces: Detections) -> None:
            writing.save_image(draw(image, faces), places[source], overwrite=overwrite, quality=quality)

        tally = Tally()
        with open_detector(
            model,
            device,
            threshold=threshold,
            iou=iou,
            scale=scale,
            max_faces=max_faces,
            lean_runtime=lean_runtime,
            allow_host_code=allow_host_code,
        ) as detector:
            if verbose:
                messages.note(detector.description)
            try:
                for _ in each(sources, detector, save, tally, bar=not quiet):
                    pass
            finally:
                tally.tell_failures()
        if tally.images and not quiet:
            _say_where(tally, output)
        if tally.failures:
            raise typer.Exit(FAILED)


def _places(
    inputs: list[str], sources: list[files.Source], output: Path, *, overwrite: bool
) -> dict[files.Source, Path]:
    """Settle what each copy is called: ``output`` itself for one image that was named, else a file below it."""
    single = len(inputs) == len(sources) == 1 and not files.is_folder(Path(inputs[0]).expanduser())
    if single and not files.is_folder(output) and output.suffix:
        writing.check_kind(output)
        writing.check_free(output, overwrite=overwrite)
        return dict.fromkeys(sources, output)
    if output.suffix.lower() in files.SUFFIXES and not files.is_folder(output):
        raise OptionError(
            f"{output} is the name of an image file, but a folder or several images come in; name a folder"
        )
    if files.is_plain_file(output):
        raise OptionError(f"{output} is a file, and there are several images; name a folder")
    writing.check_folder(output)
    return writing.targets(sources, output, overwrite=overwrite)


def _say_where(tally: Tally, output: Path) -> None:
    without = f"; {tally.empty} without a face" if tally.empty else ""
    found = tally.summary() if tally.images > 1 else count(tally.faces, "face")
    messages.plain(f"wrote {output}: {found}{without}")
