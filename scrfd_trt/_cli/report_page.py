"""Write a page about finished videos: a picture of each doubtful moment, and the command that mends it."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from scrfd_trt._cli import outputs
from scrfd_trt._cli.console import count
from scrfd_trt._cli.option_rules import given_options
from scrfd_trt._cli.video_report import as_cover, doubt_text, headline, low_score, span_text
from scrfd_trt._jobs.stages import prefetched
from scrfd_trt.errors import OptionError
from scrfd_trt.video import Summary, open_source
from scrfd_trt.video._reader import Damaged
from scrfd_trt.video._timestamps import format_time

SHOWN, WIDTH = 4.0, 240  # side of a picture in sides of the face, and in pixels
MOMENTS, DROPPED = 20, 100  # most pictures of a video
AFTER = 1.0  # seconds for which a lost face is covered by hand
OUTLINE = (0, 220, 255)
NOT_REPEATED = {"output", "overwrite", "report", "recursive", "jobs", "files_from", "shard", "resume", "dry_run"}
"""Options that a command for a single video does not repeat."""

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; overflow-wrap: anywhere; }
.note { border-left: 4px solid #d90; padding: .3rem .8rem; background: var(--soft); }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem; }
figure { margin: 0; padding: .8rem; border: 1px solid var(--line); border-radius: .5rem; }
img { display: block; max-width: 100%; height: 12rem; object-fit: contain; background: var(--soft); }
figcaption { margin-top: .5rem; } p { margin: .3rem 0; }
code { display: block; padding: .3rem .5rem; background: var(--soft); font-size: .8rem; overflow-wrap: anywhere; }
"""
HEAD = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Doubtful moments</title><style>{STYLE}</style></head><body>
<h1>Doubtful moments</h1>
<p class="note">The pictures show the originals, with uncovered faces. Keep this page as safe as the originals.</p>
<p>Each command writes a copy again. To mend several moments, add the options of all of them to one command.
For each video, at most {DROPPED} tracks that are not covered and {MOMENTS} other moments are shown.</p>
"""


class Doubtful(NamedTuple):
    """A moment to look at: where its picture is, what to write below, and what mends it, with options to add."""

    seconds: float
    box: Sequence[float]
    title: str
    text: str
    mends: Sequence[tuple[str, Sequence[str]]]


class Finished(NamedTuple):
    """A video that was copied."""

    source: Path
    target: Path
    summary: Summary


def check_page(page: Path, others: Sequence[Path], *, overwrite: bool) -> None:
    """Raise OptionError, before any work, if the page cannot be written."""
    if page.suffix.lower() not in {".html", ".htm"}:
        raise OptionError(f"--report {page}: the report is a page; name a file that ends in .html")
    outputs.check_free(page, kind="text", overwrite=overwrite)
    if page in others:
        raise OptionError(f"--report {page} is another file of this command; name another file")


def write_page(
    page: Path, videos: Sequence[Finished], context: typer.Context, damaged: Damaged, *, skipped: int = 0
) -> None:
    """Write the page, which only its owner can read; ``skipped`` inputs were finished before.

    Raise OutputError if that fails, and VideoError if a video cannot be read again.
    """
    overwrite = bool(context.params.get("overwrite"))
    with outputs.atomic_output(page, kind="text", overwrite=overwrite) as file:
        Path(file.name).chmod(0o600)
        file.write(HEAD.encode())
        if skipped:
            file.write(f"<p>{count(skipped, 'input')} finished by an earlier run: not shown here.</p>".encode())
        for video in videos:
            command = repeated_command(context, video)
            file.write(f"<h2>{escape(str(video.source))}</h2><p>{escape(headline(video.summary))}</p>".encode())
            for start, end in video.summary.gaps():
                file.write(f"<p>Frames are missing from {format_time(start)} to {format_time(end)}.</p>".encode())
            moments = [*_dropped(video.summary), *_to_review(video.summary), *_found_later(video.summary)]
            pictures = _pictures(video.source, moments, damaged)
            file.write(b'<div class="grid">' if moments else b"<p>No moment is doubtful.</p>")
            for moment, picture in zip(moments, pictures, strict=True):
                file.write(_figure(moment, picture, command).encode("utf-8", "replace"))
            file.write(b"</div>" if moments else b"")
        file.write(b"</body></html>\n")


def repeated_command(context: typer.Context, video: Finished) -> list[str]:
    """Return the command that writes the copy of a video again, with the same options."""
    words = ["scrfd-trt", context.info_name or "", str(video.source), "--output", str(video.target), "--overwrite"]
    for parameter, flag in given_options(context):
        value = context.params.get(parameter.name)
        if parameter.param_type_name != "option" or parameter.name in NOT_REPEATED:
            continue
        for each in value if isinstance(value, list | tuple) else [value]:
            words += [flag] if isinstance(each, bool) else [flag, str(each)]
    return words


def _dropped(summary: Summary) -> Iterator[Doubtful]:
    for track in list(summary.dropped.values())[:DROPPED]:
        others = sorted(set(summary.dropped) - {track.number})
        only = ["--drop-tracks", ",".join(map(str, others))] if others else []
        when = span_text(track.first.pts_seconds, track.last.pts_seconds)
        text = f"Not covered: no face in a second look; {low_score(track)}."
        mends = [("This is a face: cover it, and none of the other dropped ones", ["--keep-doubtful", *only])]
        yield Doubtful(track.best_pts_seconds, track.best.box.tolist(), f"Track {track.number}, {when}", text, mends)


def _to_review(summary: Summary) -> Iterator[Doubtful]:
    for moment in summary.moments_to_review(MOMENTS):
        seconds, box = moment.shown
        end = moment.end + (AFTER if moment.doubt == "lost" else 0.0)
        cover = as_cover(box, (moment.start, end))
        mends = [
            ("A face is left open here: cover this place", ["--cover", cover]),
            ("This is no face: leave it uncovered", ["--drop-tracks", str(moment.track)]),
        ]
        title = f"Track {moment.track}, {span_text(moment.start, moment.end)}"
        yield Doubtful(seconds, box, title, f"{doubt_text(moment).capitalize()}.", mends)


def _found_later(summary: Summary) -> Iterator[Doubtful]:
    for face in summary.searches[-1].faces[:DROPPED] if summary.searches else ():
        mends = [("This is a face: cover it", ["--cover", as_cover(face.box, (face.start, face.end))])]
        text = f"Still looks like a face in the copy ({face.kind}, score {face.score:.2f})."
        yield Doubtful(face.pts_seconds, face.box, f"At {span_text(face.start, face.end)}", text, mends)


def _figure(moment: Doubtful, picture: bytes, command: Sequence[str]) -> str:
    image = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(picture).decode()}">' if picture else ""
    mends = "".join(
        f"<p>{escape(what)}:</p><code>{escape(shlex.join([*command, *words]))}</code>" for what, words in moment.mends
    )
    title, text = escape(moment.title), escape(moment.text)
    return f"<figure>{image}<figcaption><b>{title}</b><p>{text}</p>{mends}</figcaption></figure>\n"


def _pictures(video: Path, moments: Sequence[Doubtful], damaged: Damaged) -> list[bytes]:
    """Return a JPEG of each moment, empty if the video has no such frame; read the video up to the last one."""
    found = [b""] * len(moments)
    waiting = sorted(range(len(moments)), key=lambda number: -moments[number].seconds)
    if not waiting:
        return found
    with open_source(video, damaged=damaged) as reader, prefetched(reader, 2) as frames:
        for frame in frames:
            while waiting and moments[waiting[-1]].seconds <= frame.pts_seconds + 1e-3:
                number = waiting.pop()
                found[number] = picture(frame.image, moments[number].box)
            if not waiting:
                break
    return found


def picture(image: NDArray[np.uint8], box: Sequence[float]) -> bytes:
    """Return the surroundings of a box, with its outline, as a JPEG; empty if the box lies outside of the image."""
    low, high = np.array(box[:2]), np.array(box[2:])
    reach = max(float((high - low).max()), 8.0) * SHOWN / 2
    left, top = np.maximum((low + high) / 2 - reach, 0).astype(int).tolist()
    right, bottom = np.maximum((low + high) / 2 + reach, 0).astype(int).tolist()
    part = image[top:bottom, left:right]
    if not part.size:
        return b""
    scale = WIDTH / max(part.shape[:2])
    size = [max(1, round(side * scale)) for side in part.shape[1::-1]]
    drawn: Any = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    corners = [np.round((corner - (left, top)) * scale).astype(int).tolist() for corner in (low, high)]
    cv2.rectangle(drawn, corners[0], corners[1], OUTLINE, 2)
    return cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
