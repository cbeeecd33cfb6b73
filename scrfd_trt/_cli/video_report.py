"""The report on a finished video: its tracks, and the moments that a person should review."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.table import Table

from scrfd_trt._cli import console
from scrfd_trt._cli.console import count
from scrfd_trt.video import ReviewMoment, Summary, TrackSummary
from scrfd_trt.video._selection import format_spans
from scrfd_trt.video._timestamps import format_time

MAX_MOMENTS = 6


def print_written(output: Path | str, text: str, draw: object, faces: int, *, from_file: bool = False) -> None:
    """Print where a copy is, after a warning if no face was found; ``draw`` may be an empty composition."""
    if getattr(draw, "overlays", None) == ():
        text += "; no face is covered"
    elif not faces:
        hint = "detect the faces again with a lower --threshold" if from_file else "lower --threshold"
        console.warning(f"{output}: no face was found, so nothing is covered; {hint} or check the result")
    console.plain(f"wrote {output}: {text}")


def headline(summary: Summary) -> str:
    """Return the numbers of frames, tracks, interpolated and lost frames."""
    text = f"{count(summary.frames, 'frame')}, {count(len(summary.tracks) - summary.by_hand, 'track')}"
    if summary.by_hand:
        text += f", {count(summary.by_hand, 'cover')} by hand"
    if summary.bridged:
        text += f"; faces interpolated in {count(summary.bridged, 'frame')}"
    if summary.lost:
        text += f"; {count(summary.lost, 'frame')} damaged or lost"
    if summary.spans is not None:
        text += f"; faces only {format_spans(summary.spans)}"
    return text


def stream_lines(summary: Summary) -> list[str]:
    """Return a line on what is encoded in another codec, and one on what was left out."""
    lines = [f"encoded: {', '.join(summary.converted)}"] if summary.converted else []
    return lines + ([f"not kept: {', '.join(summary.omitted)}"] if summary.omitted else [])


def report_lines(summary: Summary) -> list[str]:
    """Return lines on missing frames, tracks left uncovered and the weakest moments."""
    lines = [f"frames are missing from {format_time(start)} to {format_time(end)}" for start, end in summary.gaps()]
    if summary.left_out:
        tracks = ", ".join(str(number) for number in sorted(summary.left_out))
        lines.append(f"left uncovered in some or all frames, as requested: tracks {tracks}")
    weakest = summary.moments_to_review(MAX_MOMENTS)
    if weakest:
        lines.append("review these moments:")
        lines += [f"  {_when(moment):<19}  track {moment.track:<4} {_doubt(moment)}" for moment in weakest]
    return lines


def as_dict(summary: Summary) -> dict[str, Any]:
    """Return the report for JSON; times are in seconds."""
    return {
        "frames": summary.frames,
        "frames_without_faces": summary.empty,
        "frames_bridged": summary.bridged,
        "scenes": summary.cuts + 1,
        "tracks": len(summary.tracks) - summary.by_hand,
        "covers": summary.by_hand,
        "frames_lost": summary.lost,
        "gaps": [{"start": start, "end": end} for start, end in summary.gaps()],
        "left_out": sorted(summary.left_out),
        "spans": None
        if summary.spans is None
        else [[at if math.isfinite(at) else None for at in span] for span in summary.spans],
        "converted": summary.converted,
        "omitted": summary.omitted,
        "weakest": [
            {"start": one.start, "end": one.end, "track": one.track, "doubt": one.doubt}
            for one in summary.moments_to_review(MAX_MOMENTS)
        ],
    }


def tracks_table(summary: Summary) -> Table:
    """Return a table of a video's tracks."""
    columns = (">track", ">from", ">to", ">frames", ">detected", ">filled", ">best at", ">score", ">size")
    table = console.table(*columns, padding=(0, 0, 0, 1))  # fits 80 columns
    for track in summary.tracks.values():
        table.add_row(*_row(track))
    return table


def _row(track: TrackSummary) -> list[str]:
    width, height = (track.best.box[2:] - track.best.box[:2]).tolist()
    detected = track.counts["detected"]
    return [
        str(track.number),
        format_time(track.first.pts_seconds),
        format_time(track.last.pts_seconds),
        str(track.frames),
        str(detected),
        str(track.frames - detected),
        format_time(track.best_pts_seconds),
        f"{track.best.score:.2f}",
        f"{width:.0f}×{height:.0f}",
    ]


def _when(moment: ReviewMoment) -> str:
    start, end = format_time(moment.start), format_time(moment.end)
    return start if start == end else f"{start} to {end}"


def _doubt(moment: ReviewMoment) -> str:
    if moment.doubt == "lost":
        return "ends inside the picture"
    frames = count(moment.weight, "frame")
    return f"not detected for {frames}, interpolated" if moment.doubt == "bridged" else f"low scores for {frames}"
