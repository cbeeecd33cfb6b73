"""The report on a finished video: its tracks, and the moments that a person should review."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.table import Table

from scrfd_trt._cli import console
from scrfd_trt._cli.console import count
from scrfd_trt._looks import MIN_FACE
from scrfd_trt.video import Summary, TrackSummary
from scrfd_trt.video._copy_search import CopySearch, FoundFace
from scrfd_trt.video._selection import SLACK, format_spans
from scrfd_trt.video._summary import doubt_text, low_score
from scrfd_trt.video._timestamps import format_time

MAX_MOMENTS = 6
UNCOVERED = ("not covered", "not covered")
DOUBTFUL = (
    "may be a face and is not covered; add this option if it is",
    "may be faces and are not covered; add these options if they are",
)
"""What is said about one place, and about several."""
KINDS = {"uncovered": "uncovered face", "weak": "weak cover"}
SearchedCopy = tuple[Path, Sequence[CopySearch]]  # the path of a copy, and what searches of it found


def print_written(output: Path | str, text: str, draw: object, faces: int, *, from_file: bool = False) -> None:
    """Print where a copy is, after a warning if no face was found; ``draw`` may be an empty composition."""
    is_stdout = output == Path("-")
    name = "standard output" if is_stdout else output
    if getattr(draw, "overlays", None) == ():
        text += "; no face is covered"
    elif not faces:
        hint = "detect the faces again with a lower --threshold" if from_file else "lower --threshold"
        console.warning(f"{name}: no face was found, so nothing is covered; {hint} or check the result")
    console.plain(f"wrote {'to ' if is_stdout else ''}{name}: {text}")


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


def missed_lines(summary: Summary) -> list[str]:
    """Return a line on the faces that are too small to be found, if there are such."""
    found = summary.detector_options.get("min_face") or 0
    if found <= MIN_FACE:
        return []
    return [f"faces below {found:g} pixels may be missed; --min-face {MIN_FACE} finds them"]


def report_lines(summary: Summary) -> list[str]:
    """Return lines on missing frames, tracks left uncovered and the weakest moments."""
    lines = [f"frames are missing from {format_time(start)} to {format_time(end)}" for start, end in summary.gaps()]
    if summary.spans is not None:
        lines.append(f"faces are covered only {format_spans(summary.spans)}, as requested, and visible in other frames")
    if summary.left_out:
        tracks = ", ".join(str(number) for number in sorted(summary.left_out))
        left = count(len(summary.left_out), "track")
        lines.append(f"{left} left uncovered in some or all frames, as requested: {tracks}")
    if summary.no_faces:
        tracks = ", ".join(f"track {number} (score {score:.2f})" for number, score in sorted(summary.no_faces.items()))
        lines.append(f"dropped and not covered, as requested: {tracks}")
    lines += missed_lines(summary)
    if summary.dropped:
        lines.append("no face in a second look, so not covered (--keep-doubtful covers them):")
        lines += [
            _line(track.first.pts_seconds, track.last.pts_seconds, track.number, low_score(track))
            for track in list(summary.dropped.values())[:MAX_MOMENTS]
        ]
        if len(summary.dropped) > MAX_MOMENTS:
            lines.append(f"  and {count(len(summary.dropped) - MAX_MOMENTS, 'more track')}")
    weakest = summary.moments_to_review(MAX_MOMENTS)
    if weakest:
        lines.append("review these moments:")
        lines += [_line(one.start, one.end, one.track, doubt_text(one)) for one in weakest]
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
        "dropped": [
            {
                "track": track.number,
                "start": track.first.pts_seconds,
                "end": track.last.pts_seconds,
                "score": round(track.best.score, 4),
                "box": [round(side, 2) for side in track.best.box.tolist()],
            }
            for track in summary.dropped.values()
        ],
        "dropped_by_hand": [
            {"track": number, "score": round(score, 4)} for number, score in sorted(summary.no_faces.items())
        ],
        "spans": None
        if summary.spans is None
        else [[at if math.isfinite(at) else None for at in span] for span in summary.spans],
        "converted": summary.converted,
        **summary.detector_options,
        "omitted": summary.omitted,
        "searches": [
            {"seconds": round(one.seconds, 1), "faces": [{"kind": face.kind, **vars(face)} for face in one.faces]}
            for one in summary.searches
        ],
        "weakest": [
            {"start": one.start, "end": one.end, "track": one.track, "doubt": one.doubt}
            for one in summary.moments_to_review(MAX_MOMENTS)
        ],
    }


def print_searches(results: Sequence[SearchedCopy], draw: object, *, is_video: bool, quiet: bool) -> None:
    """Print what searches of copies found: their time, weak covers, and what is not covered."""
    if not results:
        return
    subject = console.printable(results[0][0]) if len(results) == 1 else f"{len(results)} copies"
    by_round = [[one for one in each if one] for each in zip_longest(*(searches for _, searches in results))]
    last = [(name, face) for name, searches in results for face in searches[-1].faces]
    last.sort(key=lambda each: -each[1].score)
    if not quiet:
        found = [{kind: [face for one in each for face in one.of_kind(kind)] for kind in KINDS} for each in by_round]
        texts = [
            ", ".join(count(len(each[kind]), text) for kind, text in KINDS.items() if each[kind]) for each in found
        ]
        seconds = sum(one.seconds for each in by_round for one in each)
        console.plain(f"searched {subject} in {seconds:.1f} s: {'; then '.join(text or 'nothing' for text in texts)}")
        if weak := next((each["weak"] for each in found if each["weak"]), None):
            _warn_of_weak(subject, weak, sum(face.kind == "weak" for _, face in last), draw, is_video=is_video)
    for kind, label, wording in (("uncovered", "error", UNCOVERED), ("doubtful", "warning", DOUBTFUL)):
        lines = [
            f"{name}: --cover '{as_cover(one.box, (one.start, one.end) if is_video else None)}' (score {one.score:.2f}"
            f"{', large for its score, so hardly a face' if one.is_vast else ''})"
            for name, one in last
            if one.kind == kind
        ]
        if lines and (label == "error" or not quiet):
            console.listing(label, f"{count(len(lines), 'place')} {wording[len(lines) > 1]}", lines)


def _warn_of_weak(subject: str, weak: Sequence[FoundFace], left: int, draw: object, *, is_video: bool) -> None:
    overlay = " and ".join(type(one).__name__.lower() for one in getattr(draw, "overlays", (draw,)))
    worst = max(weak, key=lambda face: face.score)
    ends = f"{left} still can be found" if left else "the copy has stronger covers of these now"
    at = f" (track {worst.track} at {format_time(worst.pts_seconds)})" if is_video else ""
    console.warning(
        f"{subject}: {overlay} is weak: {count(len(weak), 'covered face')} could be found, with a score of up to "
        f"{worst.score:.2f}{at}; {ends}; next time, use solid, a larger mask or a stronger {overlay}"
    )


def as_cover(box: Sequence[float], span: tuple[float, float] | None) -> str:
    """Return the value of ``--cover`` for a box x1, y1, x2, y2 and a span in seconds."""
    x1, y1, x2, y2 = (round(side) for side in box)
    times = f"@{format_time(max(0.0, span[0] - SLACK))}-{format_time(span[1] + SLACK)}" if span else ""
    return f"{x1},{y1},{max(1, x2 - x1)},{max(1, y2 - y1)}{times}"


def place_text(box: Sequence[float], score: float) -> str:
    """Return the score, size and place of a face."""
    x, y, width, height = as_cover(box, None).split(",")
    return f"score {score:.2f}, {width}×{height} pixels at {x},{y}"


def as_region(box: Sequence[float]) -> str:
    """Return the value of ``--except-region`` for a box: its middle, so that no face beside it has its centre there."""
    x1, y1, x2, y2 = box
    x, y = (x2 - x1) / 4, (y2 - y1) / 4
    return as_cover((math.floor(x1 + x), math.floor(y1 + y), math.ceil(x2 - x), math.ceil(y2 - y)), None)


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


def _line(start: float, end: float, track: int, text: str) -> str:
    return f"  {span_text(start, end):<19}  track {track:<4} {text}"


def span_text(start: float, end: float) -> str:
    """Return ``0:05.00 to 0:07.00``, or one time if both are the same."""
    first, last = format_time(start), format_time(end)
    return first if first == last else f"{first} to {last}"
