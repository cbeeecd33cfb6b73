"""``scrfd-trt overlay``: draw over the faces of images and videos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

import overlays
from scrfd_trt.cli import given, live, messages, options, video_options
from scrfd_trt.cli.copies import write_copies
from scrfd_trt.cli.network import open_detector
from scrfd_trt.detector import SCRFDDetector

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
        help="Where to write: for one input a file, known by its suffix, and otherwise a folder, which is made "
        "where it is missing.",
        show_default=False,
    ),
]


def overlay(
    context: typer.Context,
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
    keep_metadata: video_options.KeepMetadata = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    faces_in: video_options.FacesIn = None,
    faces_out: video_options.FacesOut = None,
    keep_tracks: video_options.KeepTracks = None,
    leave_tracks: video_options.LeaveTracks = None,
    keep_regions: video_options.KeepRegions = None,
    leave_regions: video_options.LeaveRegions = None,
    keep_spans: video_options.KeepSpans = None,
    leave_spans: video_options.LeaveSpans = None,
    every: video_options.Every = 1,
    bridge: video_options.Bridge = video_options.BRIDGE,
    extend: video_options.Extend = video_options.EXTEND,
    delay: video_options.Delay = video_options.LOOK_AHEAD,
    duration: video_options.Duration = None,
    codec: video_options.CodecName = "auto",
    crf: video_options.Crf = None,
    preset: video_options.Preset = None,
    keep_audio: video_options.KeepAudio = True,
    keep_subtitles: video_options.KeepSubtitles = True,
    damaged: video_options.DamagedFrames = "stop",
    progress: video_options.ProgressName = "bar",
) -> None:
    """Draw over the faces of images and videos: a skull, a blur, or both.

    Copies of images keep their names and kind of file; they are upright and
    have no alpha. An image without faces is copied, too. In videos, faces
    are followed, and covered where the detector misses them for a moment.
    To hide people, 'scrfd-trt anonymize' is made. The exit code is 0, or 1
    if some inputs failed, or 2 for wrong use.

    For example:
      scrfd-trt overlay me.jpg --overlay skull -o skull.jpg
      scrfd-trt overlay me.jpg --overlay skull:opacity=0.7 -o skull.jpg
      scrfd-trt overlay photos/ --overlay blur --overlay landmarks -o out/
      scrfd-trt overlay clip.mp4 --overlay skull -o skulls.mp4
      scrfd-trt overlay camera:0 --overlay skull -o me.mp4 --duration 60
    """
    with messages.logged(quiet=quiet, verbose=verbose):
        if faces_in is not None:
            given.refuse_looking(context)
        if not any(live.is_address(text) for text in inputs):
            given.refuse(context, given.LIVE, "is for cameras and streams; leave it out")
        draw = overlays.Compose(*(overlays.parse(spec) for spec in specs))
        settings = video_options.ClipSettings(
            follow=video_options.following(threshold, every, bridge, extend),
            choice=video_options.choosing(
                (keep_tracks, leave_tracks), (keep_regions, leave_regions), (keep_spans, leave_spans)
            ),
            encode=video_options.encoding(codec, crf, preset),
            damaged=video_options.damaged(damaged),
            keep=video_options.kept_streams(audio=keep_audio, subtitles=keep_subtitles),
            keep_metadata=keep_metadata,
            overwrite=overwrite,
            faces_in=faces_in,
            faces_out=faces_out,
            delay=delay,
            duration=duration,
        )

        @contextmanager
        def opened() -> Iterator[SCRFDDetector]:
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
                yield detector

        write_copies(
            inputs,
            output,
            draw,
            settings,
            opened,
            recursive=recursive,
            quality=quality,
            progress=video_options.progress_kind(progress),
            quiet=quiet,
        )
