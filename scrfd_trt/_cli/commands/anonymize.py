"""``scrfd-trt anonymize``: hide the faces of images and videos."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

import overlays
from scrfd_trt._cli import console, options, videos
from scrfd_trt._cli.detector import open_detector
from scrfd_trt._cli.overlay_inputs import write_copies
from scrfd_trt.errors import OptionError
from scrfd_trt.video import FacesReader, TrackingOptions

Cover = Literal["blur", "solid", "none", "img", "mosaic"]
COVERS: tuple[Cover, ...] = get_args(Cover)

THRESHOLD = 0.3
"""Lower than for other uses: to cover too much is better than too little."""
MASK_SCALE = 1.3
STEP = 32
"""Sides of a network's input are multiples of it."""

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE|DIR",
        help="Where to write: a file for one input, else a folder. Left out: NAME_anonymized beside each input.",
        show_default=False,
    ),
]
Threshold = Annotated[
    float,
    typer.Option(
        "--thresh",
        "--threshold",
        "-t",
        min=0.0,
        max=1.0,
        metavar="NUMBER",
        help="Lowest score of a face; less hides more.",
    ),
]
Scale = Annotated[
    list[str] | None,
    typer.Option(
        "--scale",
        "-s",
        metavar="WxH",
        help="Size of a pass in pixels: 640x360, or 128,640 for two. Sides are rounded up to multiples of 32. Left "
        "out: the network's own size, or 128,640 where that is free.",
        show_default=False,
    ),
]


def anonymize(
    context: typer.Context,
    inputs: options.Inputs,
    *,
    output: Output = None,
    threshold: Threshold = THRESHOLD,
    scale: Scale = None,
    replacewith: Annotated[
        str, typer.Option(metavar="|".join(COVERS), help="What hides the faces; none hides nothing.")
    ] = "blur",
    mask_scale: Annotated[
        float, typer.Option(min=0.1, max=10.0, metavar="NUMBER", help="Size of the mask in sizes of the face's box.")
    ] = MASK_SCALE,
    boxes: Annotated[bool, typer.Option("--boxes", help="Cover the whole box, not the ellipse within it.")] = False,
    replaceimg: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The picture for --replacewith img.", show_default=False),
    ] = None,
    mosaicsize: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=4096,
            metavar="PIXELS",
            help="Side of a block for --replacewith mosaic. Left out: a quarter of the face, which suits all sizes.",
            show_default=False,
        ),
    ] = None,
    keep_metadata: options.KeepMetadata = False,
    recursive: options.Recursive = False,
    network: options.ModelArgs,
    iou: options.Iou = options.IOU,
    quality: options.Quality = 95,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    video: options.CopyArgs,
) -> None:
    """Hide the faces of images and videos.

    In videos, faces are followed from frame to frame and stay covered where
    the detector misses them; sound and times are kept. Place, device and
    other metadata are dropped. The report at the end tells where a person
    should look again: no program finds every face. The exit code is 0, or 1
    if some inputs failed, or 2 for wrong use.

    For example:
      scrfd-trt anonymize street.mp4
      scrfd-trt anonymize street.mp4 -o out.mp4 --replacewith mosaic
      scrfd-trt anonymize photos/ -r -o hidden/ --thresh 0.2
      scrfd-trt anonymize talk.mp4 --detections talk.faces.jsonl --leave-tracks 1

    Who is in a video, and in which track, 'scrfd-trt tracks' shows. Cameras
    and addresses are done in one pass, without sound:
      scrfd-trt anonymize camera:0 -o me.mp4 --duration 60
      scrfd-trt anonymize rtsp://camera.local/stream -o hidden.mp4
    """
    with console.logged(quiet=quiet, verbose=verbose):
        if video.faces.faces_in is not None:
            options.refuse_looking(context)
            if video.faces.faces_out is None:  # refused below
                _warn_of_few(video.faces.faces_in)
        if not any(videos.is_address(text) for text in inputs):
            options.refuse(context, options.LIVE, "is for cameras and streams; leave it out")
        draw = cover(replacewith, mask_scale, boxes=boxes, picture=replaceimg, block=mosaicsize)
        write_copies(
            inputs,
            output,
            draw,
            video.settings(threshold, keep_metadata=keep_metadata, overwrite=overwrite),
            partial(open_detector, **vars(network), threshold=threshold, iou=iou, scale=_rounded_up(scale)),
            recursive=recursive,
            quality=quality,
            progress=video.read.progress_kind(),
            quiet=quiet,
            verbose=verbose,
            full=True,
        )


def cover(
    name: str, mask_scale: float = MASK_SCALE, *, boxes: bool = False, picture: Path | None, block: int | None
) -> overlays.Overlay:
    """Make the overlay that hides faces.

    Parameters
    ----------
    name
        One of ``COVERS``.
    mask_scale
        Size of the mask in sizes of the face's box.
    boxes
        A rectangle in the place of the ellipse.
    picture
        For ``img``.
    block
        For ``mosaic``, in pixels.

    Raises
    ------
    OptionError
        If the name is none of the choices, or does not go with the others.
    """
    options.parse_choice("--replacewith", name, COVERS)
    if (picture is not None) != (name == "img"):
        raise OptionError("--replacewith img and --replaceimg FILE belong together; give both or none")
    if block is not None and name != "mosaic":
        raise OptionError("--mosaicsize is for --replacewith mosaic")
    if name == "none":
        console.warning("--replacewith none: no face is hidden")
        return overlays.Compose()
    if name == "img":
        return overlays.create("image", picture=picture, scale=mask_scale)
    # An ellipse around the box's corners is 1.41 times as large; below 1, some of the face stays in sight.
    shape = "rectangle" if boxes else "ellipse"
    mask = {"shape": shape, "scale": min(mask_scale, 1.0), "margin": max(mask_scale - 1.0, 0.0) / 2}
    if name == "mosaic":
        return overlays.create("pixelate", block=block, **mask)
    return overlays.create(name, **mask)


def _warn_of_few(faces: Path) -> None:
    """Say that faces were looked for with a threshold that hides less than this command would."""
    with FacesReader(faces) as found:
        threshold = TrackingOptions.model_validate(found.head.tracking).threshold
    if threshold > THRESHOLD and not console.is_quiet():
        console.warning(
            f"{faces}: its faces were looked for with a threshold of {threshold:g}; with {THRESHOLD:g}, as 'anonymize' "
            "does, more are found"
        )


def _rounded_up(texts: list[str] | None) -> list[str] | None:
    """Round sides up to what networks take, so that the size of a video may be named."""
    return None if texts is None else [re.sub(r"\d{1,9}", _up, text) for text in texts]


def _up(match: re.Match[str]) -> str:
    return str(-(-int(match[0]) // STEP) * STEP)
