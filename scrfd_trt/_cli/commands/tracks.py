"""``scrfd-trt tracks``: list the tracks of a video, so that a person can select some."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from scrfd_trt._cli import console, live, options, outputs
from scrfd_trt._cli.contact_sheet import contact_sheet, face_tile
from scrfd_trt._cli.content import identify
from scrfd_trt._cli.detections_files import check_files, path_or_temporary
from scrfd_trt._cli.detector import CoverDetectArgs
from scrfd_trt._cli.folders import problem_of
from scrfd_trt._cli.inputs import is_folder, is_regular_file, is_video, local_path, same_file_key
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
        if not is_video(path) and identify(path).kind == "image":
            raise OptionError(f"{video} is an image, which has no tracks; use 'scrfd-trt detect {video}'")
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
            sheet = ImageFrame(track_sheet(path, summary, settings.damaged))
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
    if not output.suffix:
        raise OptionError(f"{output}: --output is one contact sheet; name a picture, such as {output}.jpg")
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


def track_sheet(video: Path, summary: Summary, damaged: Damaged = "stop") -> Image:
    """Return an image of the best face of each track, of which there must be one; raise VideoError if reading fails."""
    tracks = list(summary.tracks.values())
    tiles = _best_faces(video, tracks, damaged)
    spans = (f"{format_time(track.first.pts_seconds)} to {format_time(track.last.pts_seconds)}" for track in tracks)
    return contact_sheet(
        (tiles.get(track.number), f"Track {track.number}", span) for track, span in zip(tracks, spans, strict=True)
    )


def _best_faces(video: Path, tracks: list[TrackSummary], damaged: Damaged) -> dict[int, Image]:
    """Read the video up to the last best face; return tiles by track number, without those of frames not found."""
    by_frame: dict[int, list[TrackSummary]] = {}
    for track in tracks:
        by_frame.setdefault(track.best_frame, []).append(track)
    tiles: dict[int, Image] = {}
    with open_source(video, damaged=damaged) as reader:
        for frame in reader:
            for track in by_frame.pop(frame.number, ()):
                tiles[track.number] = face_tile(frame.image, track.best.box)
            if not by_frame:
                break
    return tiles
