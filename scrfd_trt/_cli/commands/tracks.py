"""``scrfd-trt tracks``: who is in a video, and when, so that a person can choose."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from scrfd_trt._cli import console, options, outputs, videos
from scrfd_trt._cli.detector import open_detector
from scrfd_trt._cli.inputs import is_regular_file, same_file_key
from scrfd_trt._cli.progress import show_progress
from scrfd_trt._cli.report import headline, tracks_table
from scrfd_trt.errors import OptionError, VideoError
from scrfd_trt.video import Summary, TrackingOptions, TrackSummary, detect_video, open_source
from scrfd_trt.video._reader import Damaged
from scrfd_trt.video._sources import is_pattern
from scrfd_trt.video._timestamps import format_time

Image = NDArray[np.uint8]

SIDE, GAP, CAPTION = 160, 12, 44
MARGIN = 0.35
"""What is shown around a face, as a share of its size."""
MOST_COLUMNS = 8
GROUND, INK, FAINT = (250, 250, 250), (20, 20, 20), (110, 110, 110)


def contact_sheet(video: Path, summary: Summary, damaged: Damaged = "stop") -> Image:
    """Make a picture of the best face of each track.

    Parameters
    ----------
    video
        Is read as far as the last of these faces.
    summary
        Its tracks; at least one.
    damaged
        As its faces were found with.

    Returns
    -------
    numpy.ndarray
        ``(H, W, 3)`` uint8 BGR.

    Raises
    ------
    VideoError
        If the video cannot be read so far.
    """
    tracks = list(summary.tracks.values())
    crops = _crops(video, tracks, damaged)
    columns = min(MOST_COLUMNS, math.ceil(math.sqrt(len(tracks) * 1.6)), len(tracks))
    rows = math.ceil(len(tracks) / columns)
    sheet = np.full((GAP + rows * (SIDE + CAPTION + GAP), GAP + columns * (SIDE + GAP), 3), GROUND, np.uint8)
    captions = []
    for place, track in enumerate(tracks):
        x = GAP + place % columns * (SIDE + GAP)
        y = GAP + place // columns * (SIDE + CAPTION + GAP)
        sheet[y : y + SIDE, x : x + SIDE] = crops[track.number]
        captions.append((x, y + SIDE + 4, track))
    return _written(sheet, captions)


def _crops(video: Path, tracks: list[TrackSummary], damaged: Damaged) -> dict[int, Image]:
    wanted: dict[int, list[TrackSummary]] = {}
    for track in tracks:
        wanted.setdefault(track.best_frame, []).append(track)
    found: dict[int, Image] = {}
    with open_source(video, damaged=damaged) as reader:
        for frame in reader:
            for track in wanted.pop(frame.number, ()):
                found[track.number] = _crop(frame.image, track.best.box)
            if not wanted:
                break
    blank = np.full((SIDE, SIDE, 3), 200, np.uint8)
    return {track.number: found.get(track.number, blank) for track in tracks}


def _crop(image: Image, box: NDArray[np.float64]) -> Image:
    """Cut a square around a face; what lies beyond the picture is black."""
    side = max(2, round(float((box[2:] - box[:2]).max()) * (1.0 + 2.0 * MARGIN)))
    left, top = np.round((box[:2] + box[2:]) / 2 - side / 2).astype(int).tolist()
    height, width = image.shape[:2]
    square = np.zeros((side, side, 3), np.uint8)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if x2 > x1 and y2 > y1:
        square[y1 - top : y2 - top, x1 - left : x2 - left] = image[y1:y2, x1:x2]
    kind = cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (SIDE, SIDE), interpolation=kind), np.uint8)


def _written(sheet: Image, captions: list[tuple[int, int, TrackSummary]]) -> Image:
    from PIL import Image as Pictures  # noqa: PLC0415 - takes long
    from PIL import ImageDraw, ImageFont  # noqa: PLC0415

    picture = Pictures.fromarray(cv2.cvtColor(sheet, cv2.COLOR_BGR2RGB))
    pen = ImageDraw.Draw(picture)
    large, small = (ImageFont.load_default(size) for size in (18, 14))
    for x, y, track in captions:
        pen.text((x, y), f"Track {track.number}", INK, large)
        times = f"{format_time(track.first.pts_seconds)} to {format_time(track.last.pts_seconds)}"
        pen.text((x, y + 22), times, FAINT, small)
    done: Any = np.asarray(picture, np.uint8)
    return np.asarray(cv2.cvtColor(done, cv2.COLOR_RGB2BGR), np.uint8)


Video = Annotated[str, typer.Argument(metavar="VIDEO", help="A video file.", show_default=False)]
Sheet = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write a picture of each track's best face (.jpg, .png).",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class DetectArgs(options.DetectArgs):
    """How faces are found; tracks begin at a threshold of their own."""

    threshold: options.Threshold = TrackingOptions.model_fields["threshold"].default


def tracks(
    context: typer.Context,
    video: Video,
    *,
    output: Sheet = None,
    as_json: options.AsJson = False,
    network: options.ModelArgs,
    detection: DetectArgs,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    faces: options.FacesFileArgs,
    follow: options.FollowArgs,
    read: options.ReadArgs,
) -> None:
    """List the faces that a video is followed by: their numbers and times.

    The numbers are what --keep-tracks and --leave-tracks of 'anonymize' and
    'overlay' take, together with the same file of detections.

    For example:
      scrfd-trt tracks talk.mp4 -o sheet.jpg --save-detections talk.faces.jsonl
      scrfd-trt anonymize talk.mp4 --detections talk.faces.jsonl --leave-tracks 1
    """
    with console.logged(quiet=quiet, verbose=verbose):
        if faces.faces_in is not None:
            options.refuse_looking(context)
        path = Path(video).expanduser()
        if not is_regular_file(path) and not is_pattern(str(path)):
            raise VideoError(f"{path}: there is no such file")
        others = {"the input": path, "the contact sheet": output}
        videos.check_detections_files(faces.faces_in, faces.faces_out, others, overwrite=overwrite)
        if output is not None:
            _check_sheet(output, path, overwrite=overwrite)
        following = follow.parsed(detection.threshold)
        kind, keep = read.progress_kind(), read.damaged_kind()
        with videos.detections_path(faces.faces_in or faces.faces_out) as place:
            if faces.faces_in is None:
                with (
                    open_detector(**vars(network), **vars(detection)) as detector,
                    show_progress(path, kind, quiet=quiet) as progressed,
                ):
                    detect_video(
                        path,
                        place,
                        detector,
                        tracking=following,
                        overwrite=overwrite,
                        damaged=keep,
                        progress=progressed,
                    )
            summary = videos.summarize(place)
        _show(path, summary, as_json=as_json, quiet=quiet)
        if output is not None and summary.tracks:
            outputs.save_image(contact_sheet(path, summary, keep), output, overwrite=overwrite)
            if not quiet:
                console.plain(f"wrote {output}")
        elif output is not None:
            console.warning(f"{output} was not written: there is no face to show")


def _check_sheet(output: Path, video: Path, *, overwrite: bool) -> None:
    if same_file_key(output) == same_file_key(video):
        raise OptionError(f"{output} is the input; name another file, a .jpg or .png")
    outputs.check_image_suffix(output)
    outputs.check_free(output, overwrite=overwrite)


def _show(path: Path, summary: Summary, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        console.write(json.dumps([_as_dict(track) for track in summary.tracks.values()], indent=2) + "\n")
        return
    if summary.tracks:
        console.show(tracks_table(summary))
    if not quiet:
        console.plain(f"{path}: {headline(summary)}")


def _as_dict(track: Any) -> dict[str, Any]:
    return {
        "track": track.number,
        "from": track.first.pts_seconds,
        "to": track.last.pts_seconds,
        "frames": track.frames,
        **track.counts,
        "best": {
            "frame": track.best_frame,
            "time": track.best_pts_seconds,
            "score": track.best.score,
            "box": track.best.box.tolist(),
        },
    }
