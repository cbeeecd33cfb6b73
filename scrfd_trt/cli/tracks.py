"""``scrfd-trt tracks``: who is in a video, and when, so that a person can choose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from scrfd_trt.cli import faces_files, given, messages, options, outputs, stdout, video_options
from scrfd_trt.cli.contact_sheet import contact_sheet
from scrfd_trt.cli.inputs import is_regular_file, same_file_key
from scrfd_trt.cli.network import open_detector
from scrfd_trt.cli.video_bar import told
from scrfd_trt.cli.video_report import headline, tracks_table
from scrfd_trt.errors import OptionError, VideoError
from scrfd_trt.video import FollowOptions, Summary, detect_video
from scrfd_trt.video.images import is_pattern

THRESHOLD: float = FollowOptions.model_fields["threshold"].default

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


def tracks(
    context: typer.Context,
    video: Video,
    *,
    output: Sheet = None,
    as_json: options.AsJson = False,
    model: options.ModelName = options.DEFAULT_MODEL,
    device: options.Device = "auto",
    lean_runtime: options.LeanRuntime = None,
    allow_host_code: options.AllowHostCode = False,
    threshold: options.Threshold = THRESHOLD,
    iou: options.Iou = options.IOU,
    scale: options.Scale = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    faces_in: video_options.FacesIn = None,
    faces_out: video_options.FacesOut = None,
    every: video_options.Every = 1,
    bridge: video_options.Bridge = video_options.BRIDGE,
    extend: video_options.Extend = video_options.EXTEND,
    damaged: video_options.DamagedFrames = "stop",
    progress: video_options.ProgressName = "bar",
) -> None:
    """List the faces that a video is followed by: their numbers and times.

    The numbers are what --keep-tracks and --leave-tracks of 'anonymize' and
    'overlay' take, together with the same file of detections.

    For example:
      scrfd-trt tracks talk.mp4 -o sheet.jpg --save-detections talk.faces.jsonl
      scrfd-trt anonymize talk.mp4 --detections talk.faces.jsonl --leave-tracks 1
    """
    with messages.logged(quiet=quiet, verbose=verbose):
        if faces_in is not None:
            given.refuse_looking(context)
        path = Path(video).expanduser()
        if not is_regular_file(path) and not is_pattern(str(path)):
            raise VideoError(f"{path}: there is no such file")
        others = {"the input": path, "the contact sheet": output}
        faces_files.check(faces_in, faces_out, others, overwrite=overwrite)
        if output is not None:
            _check_sheet(output, path, overwrite=overwrite)
        follow = video_options.following(threshold, every, bridge, extend)
        kind, keep = video_options.progress_kind(progress), video_options.damaged(damaged)
        with faces_files.place(faces_in or faces_out) as place:
            if faces_in is None:
                with (
                    open_detector(
                        model,
                        device,
                        threshold=threshold,
                        iou=iou,
                        scale=scale,
                        lean_runtime=lean_runtime,
                        allow_host_code=allow_host_code,
                    ) as detector,
                    told(path, kind, quiet=quiet) as progressed,
                ):
                    detect_video(
                        path, place, detector, follow=follow, overwrite=overwrite, damaged=keep, progress=progressed
                    )
            summary = faces_files.summarize(place)
        _show(path, summary, as_json=as_json, quiet=quiet)
        if output is not None and summary.tracks:
            outputs.save_image(contact_sheet(path, summary, keep), output, overwrite=overwrite)
            if not quiet:
                messages.plain(f"wrote {output}")
        elif output is not None:
            messages.warning(f"{output} was not written: there is no face to show")


def _check_sheet(output: Path, video: Path, *, overwrite: bool) -> None:
    if same_file_key(output) == same_file_key(video):
        raise OptionError(f"{output} is the input; name another file, a .jpg or .png")
    outputs.check_image_suffix(output)
    outputs.check_free(output, overwrite=overwrite)


def _show(path: Path, summary: Summary, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        stdout.write(json.dumps([_as_dict(track) for track in summary.tracks.values()], indent=2) + "\n")
        return
    if summary.tracks:
        stdout.show(tracks_table(summary))
    if not quiet:
        messages.plain(f"{path}: {headline(summary)}")


def _as_dict(track: Any) -> dict[str, Any]:
    return {
        "track": track.number,
        "from": track.first.time,
        "to": track.last.time,
        "frames": track.frames,
        **track.counts,
        "best": {
            "frame": track.best_frame,
            "time": track.best_time,
            "score": track.best.score,
            "box": track.best.box.tolist(),
        },
    }
