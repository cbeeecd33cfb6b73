"""``scrfd-trt tracks``: list the tracks of a video, so that a person can select some."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from scrfd_trt._cli import console, live, options, outputs
from scrfd_trt._cli.detections_files import check_files, path_or_temporary
from scrfd_trt._cli.detector import CoverDetectArgs
from scrfd_trt._cli.folders import problem_of
from scrfd_trt._cli.inputs import is_folder, is_regular_file, local_path, same_file_key
from scrfd_trt._cli.option_rules import DETECTING, OUTPUT, READING, VIDEOS, check_options
from scrfd_trt._cli.option_table import option
from scrfd_trt._cli.progress import show_progress
from scrfd_trt._cli.video_report import headline, tracks_table
from scrfd_trt._files import temporary_folder
from scrfd_trt._image_files import ImageFrame
from scrfd_trt.errors import OptionError, VideoError, redact_password
from scrfd_trt.video import Summary, TrackSummary, open_source
from scrfd_trt.video._reader import Damaged
from scrfd_trt.video._sources import is_pattern
from scrfd_trt.video._timestamps import format_time
from scrfd_trt.video._two_pass import summarize

Image = NDArray[np.uint8]

# Pixels of the contact sheet: side of a face, gap, height of a caption.
SIDE, GAP, CAPTION = 160, 12, 44
MARGIN = 0.35
"""Shown around a face, as a share of its size."""
MAX_COLUMNS = 8
BACKGROUND, INK, GREY = (250, 250, 250), (20, 20, 20), (110, 110, 110)

SHEET_HELP = "Write a contact sheet with each track's best face (.jpg, .png)."
Sheet = Annotated[Path | None, option("FILE", SHEET_HELP, "--output", "-o")]


def tracks(
    context: typer.Context,
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="Video file; - for standard input; or a URL.")],
    *,
    output: Sheet = None,
    as_json: bool = False,
    model: options.ModelArgs,
    detection: CoverDetectArgs,
    overwrite: bool = False,
    messages: options.JobMessageArgs,
    files: options.DetectionsFileArgs,
    args: options.VideoArgs,
) -> None:
    """List the tracks of a video: the number and times of each tracked face.

    The tracks are those of 'anonymize' with the same options. Use the numbers
    with --only-tracks and --except-tracks, together with the same detections
    file.

    For example:
      scrfd-trt tracks talk.mp4 -o sheet.jpg --save-detections talk.faces.jsonl
      scrfd-trt anonymize talk.mp4 --detections talk.faces.jsonl --except-tracks 1
    """
    with console.logged(**vars(messages)):
        _check_options(context, files, output)
        live.refuse([video], "tracks")
        path = local_path(video, lambda: context.with_resource(temporary_folder()))
        if is_folder(path):
            raise OptionError(f"{path} is a folder; name one video file")
        if not is_regular_file(path) and not is_pattern(str(path)):
            raise VideoError(f"{path}: {problem_of(path)}")
        check_files(files, {"the input": path, "the contact sheet": output}, overwrite=overwrite)
        if output is not None:
            _check_sheet(output, path, overwrite=overwrite)
        opener, looks = detection.search(model)
        settings = args.parse(detection.threshold, quiet=messages.quiet, overwrite=overwrite)
        with path_or_temporary(files.detections or files.save_detections, output and output.parent) as place:
            if files.detections is None:
                with (
                    opener() as detector,
                    show_progress(path, settings.progress, quiet=messages.quiet) as report,
                ):
                    with open_source(path, damaged=settings.damaged) as reader:
                        size = reader.info.size
                    settings.detect(path, place, looks.for_video(detector, size), report)
            summary = summarize(place)
        _print(redact_password(video), summary, as_json=as_json, quiet=messages.quiet)
        if output is not None and summary.tracks:
            sheet = ImageFrame(contact_sheet(path, summary, settings.damaged))
            outputs.save_image([sheet], output, overwrite=overwrite)
            if not messages.quiet:
                console.plain(f"wrote {output}")
        elif output is not None:
            console.warning(f"{output} was not written, because the video has no faces")


def _check_options(context: typer.Context, files: options.DetectionsFileArgs, output: Path | None) -> None:
    facts = {VIDEOS} | (set() if files.detections else {DETECTING, READING})
    written = {OUTPUT} if output or files.save_detections else set()
    check_options(context, facts | written | ({READING} if output else set()))


def _check_sheet(output: Path, video: Path, *, overwrite: bool) -> None:
    if same_file_key(output) == same_file_key(video):
        raise OptionError(f"{output} is the input; name another file, a .jpg or .png")
    outputs.check_image_suffix(output)
    outputs.check_free(output, kind="image", overwrite=overwrite)


def _print(path: str, summary: Summary, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        console.write_json([_as_dict(track) for track in summary.tracks.values()])
        return
    if summary.tracks:
        console.show(tracks_table(summary))
    if not quiet:
        console.plain(f"{path}: {headline(summary)}")


def _as_dict(track: TrackSummary) -> dict[str, Any]:
    return {
        "track": track.number,
        "from": track.first.pts_seconds,
        "to": track.last.pts_seconds,
        "frames": track.frames,
        **{str(kind): frames for kind, frames in track.counts.items()},
        "best": {
            "frame": track.best_frame,
            "pts_seconds": track.best_pts_seconds,
            "score": track.best.score,
            "box": track.best.box.tolist(),
        },
    }


def contact_sheet(video: Path, summary: Summary, damaged: Damaged = "stop") -> Image:
    """Return an image of the best face of each track, of which there must be one; raise VideoError if reading fails."""
    tracks = list(summary.tracks.values())
    crops = _best_faces(video, tracks, damaged)
    columns = min(MAX_COLUMNS, math.ceil(math.sqrt(len(tracks) * 1.6)), len(tracks))
    rows = math.ceil(len(tracks) / columns)
    sheet = np.full((GAP + rows * (SIDE + CAPTION + GAP), GAP + columns * (SIDE + GAP), 3), BACKGROUND, np.uint8)
    captions = []
    for index, track in enumerate(tracks):
        x = GAP + index % columns * (SIDE + GAP)
        y = GAP + index // columns * (SIDE + CAPTION + GAP)
        sheet[y : y + SIDE, x : x + SIDE] = crops[track.number]
        captions.append((x, y + SIDE + 4, track))
    return _with_captions(sheet, captions)


def _best_faces(video: Path, tracks: list[TrackSummary], damaged: Damaged) -> dict[int, Image]:
    """Read the video up to the last best face; return crops by track number, grey ones for frames not found."""
    by_frame: dict[int, list[TrackSummary]] = {}
    for track in tracks:
        by_frame.setdefault(track.best_frame, []).append(track)
    crops: dict[int, Image] = {}
    with open_source(video, damaged=damaged) as reader:
        for frame in reader:
            for track in by_frame.pop(frame.number, ()):
                crops[track.number] = _crop(frame.image, track.best.box)
            if not by_frame:
                break
    blank = np.full((SIDE, SIDE, 3), 200, np.uint8)
    return {track.number: crops.get(track.number, blank) for track in tracks}


def _crop(image: Image, box: NDArray[np.float64]) -> Image:
    """Return a square around a face, black outside the image."""
    side = max(2, round(float((box[2:] - box[:2]).max()) * (1.0 + 2.0 * MARGIN)))
    left, top = np.round((box[:2] + box[2:]) / 2 - side / 2).astype(int).tolist()
    height, width = image.shape[:2]
    square = np.zeros((side, side, 3), np.uint8)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if x2 > x1 and y2 > y1:
        square[y1 - top : y2 - top, x1 - left : x2 - left] = image[y1:y2, x1:x2]
    interpolation = cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (SIDE, SIDE), interpolation=interpolation), np.uint8)


def _with_captions(sheet: Image, captions: list[tuple[int, int, TrackSummary]]) -> Image:
    from PIL import Image as PilImage  # noqa: PLC0415 - slow import
    from PIL import ImageDraw, ImageFont  # noqa: PLC0415

    image = PilImage.fromarray(cv2.cvtColor(sheet, cv2.COLOR_BGR2RGB))
    draw = ImageDraw.Draw(image)
    large, small = (ImageFont.load_default(size) for size in (18, 14))
    for x, y, track in captions:
        draw.text((x, y), f"Track {track.number}", INK, large)
        draw.text(
            (x, y + 22), f"{format_time(track.first.pts_seconds)} to {format_time(track.last.pts_seconds)}", GREY, small
        )
    drawn: Any = np.asarray(image, np.uint8)
    return np.asarray(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), np.uint8)
