"""What is told of a video when it is done: its tracks, and where a person should look again."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table

from scrfd_trt._cli.images import count
from scrfd_trt.video import ReviewMoment, Summary, TrackSummary
from scrfd_trt.video._timestamps import format_time

SHOWN = 6
"""Moments that are listed."""


def headline(summary: Summary) -> str:
    """Return frames, tracks and what was filled, in a few words."""
    text = f"{count(summary.frames, 'frame')}, {count(len(summary.tracks), 'track')}"
    if summary.bridged:
        text += f"; a face was filled in between sightings in {count(summary.bridged, 'frame')}"
    if summary.lost:
        text += f"; {count(summary.lost, 'frame')} damaged or lost"
    return text


def report(summary: Summary) -> list[str]:
    """Return lines on frames that are missing, tracks that were left out and the weakest moments."""
    lines = [f"frames are missing from {format_time(start)} to {format_time(end)}" for start, end in summary.gaps()]
    if summary.left_out:
        tracks = ", ".join(str(number) for number in sorted(summary.left_out))
        lines.append(f"not drawn over in some frames or all, as you asked: tracks {tracks}")
    weakest = summary.moments_to_review(SHOWN)
    if weakest:
        lines.append("look again at:")
        lines += [f"  {_when(moment):<19}  track {moment.track:<4} {_what(moment)}" for moment in weakest]
    return lines


def as_dict(summary: Summary) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "frames": summary.frames,
        "frames_without_faces": summary.empty,
        "frames_bridged": summary.bridged,
        "scenes": summary.cuts + 1,
        "tracks": len(summary.tracks),
        "frames_lost": summary.lost,
        "gaps": [{"start": start, "end": end} for start, end in summary.gaps()],
        "left_out": sorted(summary.left_out),
        "weakest": [
            {"start": one.start, "end": one.end, "track": one.track, "doubt": one.doubt}
            for one in summary.moments_to_review(SHOWN)
        ],
    }


def tracks_table(summary: Summary) -> Table:
    """Make the table of a video's tracks."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for name in ("track", "from", "to", "frames", "seen", "filled", "best at", "score", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    for track in summary.tracks.values():
        table.add_row(*_row(track))
    return table


def _row(track: TrackSummary) -> list[str]:
    width, height = (track.best.box[2:] - track.best.box[:2]).tolist()
    seen = track.counts["detected"]
    return [
        str(track.number),
        format_time(track.first.pts_seconds),
        format_time(track.last.pts_seconds),
        str(track.frames),
        str(seen),
        str(track.frames - seen),
        format_time(track.best_pts_seconds),
        f"{track.best.score:.2f}",
        f"{width:.0f}×{height:.0f}",
    ]


def _when(moment: ReviewMoment) -> str:
    start, end = format_time(moment.start), format_time(moment.end)
    return start if start == end else f"{start} to {end}"


def _what(moment: ReviewMoment) -> str:
    if moment.doubt == "lost":
        return "ends inside of the picture"
    frames = count(moment.weight, "frame")
    return f"not seen for {frames}, filled" if moment.doubt == "bridged" else f"hardly seen for {frames}"
