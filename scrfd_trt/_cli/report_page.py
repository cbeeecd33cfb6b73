"""Write a page about finished images and videos: pictures of what is doubtful, and the options that mend it."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from scrfd_trt._cli import outputs
from scrfd_trt._cli.console import count
from scrfd_trt._cli.option_rules import given_options
from scrfd_trt._cli.video_report import as_cover, as_region, headline, place_text, span_text
from scrfd_trt._files import user_path
from scrfd_trt._image_files import Limits, open_image
from scrfd_trt._jobs.stages import prefetched
from scrfd_trt.errors import OptionError
from scrfd_trt.video import Summary, open_source
from scrfd_trt.video._copy_search import CopySearch
from scrfd_trt.video._reader import Damaged
from scrfd_trt.video._summary import MAX_DROPPED, MAX_SHOWN, doubt_text, low_score
from scrfd_trt.video._timestamps import format_time

SHOWN, WIDTH = 4.0, 480  # side of a picture in sides of the face, and in pixels
IMAGE_PICTURES = 1000  # most pictures of all images: some 30 MB
AFTER = 1.0  # seconds for which a lost face is covered by hand
OUTLINE = (0, 220, 255)
SECOND_LOOK, IN_COPY = "Not covered: no face in a second look", "Still looks like a face in the copy"
AGAIN = "This command writes the copy and a page again; add the options to it"
NOT_REPEATED = {"output", "overwrite", "recursive", "jobs", "files_from", "shard", "resume", "dry_run"}

STYLE = """
body { font: 16px/1.45 system-ui, sans-serif; max-width: 67.5rem; margin: 1.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; overflow-wrap: anywhere; }
h3 { font-size: 1rem; } h3, figure { margin: 0; } p { margin: .5rem 0 .2rem; }
.note { border-left: 4px solid #d90; padding: .4rem .8rem; background: #8882; }
div { display: flex; flex-wrap: wrap; gap: 1rem; align-items: start; margin-top: 1rem; }
section { padding: .8rem; border: 1px solid #8886; border-radius: .5rem; }
figure { width: 320px; } img { display: block; width: 100%; border-radius: .3rem; }
code { display: block; padding: .4rem .6rem; background: #8882; overflow-wrap: anywhere; user-select: all; }
@media (max-width: 45rem) { section, figure { width: 100%; box-sizing: border-box; } }
"""
HEAD = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex"><meta name="color-scheme" content="light dark"><title>Doubtful faces</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>{STYLE}</style></head><body>
<h1>Doubtful faces</h1>
<p class="note">The pictures show the originals, with uncovered faces. Keep this page as safe as the originals.</p>
<p>Most of them need no change. To change some, add all their options to the one command of the image or video, and run
it. For each file, at most {MAX_DROPPED} places or tracks that are not covered and {MAX_SHOWN} others are shown.</p>
"""


class Doubtful(NamedTuple):
    """What to look at: where in a video (seconds) or an image (page), and HTML on what mends it and its group."""

    group: str
    at: float
    box: Sequence[float]
    text: str
    mend: str
    mend_group: str = ""


class ImageFace(NamedTuple):
    """A face of an image to look at: on which page, from 1 on, and whether it is covered."""

    page: int
    box: tuple[float, ...]
    score: float
    is_covered: bool


class Finished(NamedTuple):
    """An image or a video that was copied; a video has a summary."""

    source: Path
    target: Path
    summary: Summary | None = None
    faces: Sequence[ImageFace] = ()
    """Of an image."""
    searches: Sequence[CopySearch] = ()


def check_page(page: Path, others: Sequence[Path], *, overwrite: bool) -> None:
    """Raise OptionError, before any work, if the page cannot be written."""
    if page.suffix.lower() not in {".html", ".htm"}:
        raise OptionError(f"--report {page}: the report is a page; name a file that ends in .html")
    outputs.check_free(page, kind="text", overwrite=overwrite)
    if page in others:
        raise OptionError(f"--report {page} is another file of this command; name another file")


def write_page(
    page: Path,
    copies: Sequence[Finished],
    context: typer.Context,
    damaged: Damaged,
    *,
    limits: Limits,
    skipped: int = 0,
) -> None:
    """Write the page, which only its owner can read; raise OutputError, or MediaError if an input cannot be read."""
    shown = [copy for copy in copies if copy.summary is not None or copy.faces or len(copies) == 1]
    left = IMAGE_PICTURES
    with outputs.atomic_output(page, kind="text", overwrite=bool(context.params.get("overwrite"))) as file:
        Path(file.name).chmod(0o600)
        file.write(HEAD.encode())
        if skipped:
            file.write(f"<p>{count(skipped, 'input')} finished by an earlier run: not shown here.</p>".encode())
        if sure := len(copies) - len(shown):
            file.write(f"<p>{count(sure, 'image')} without a doubtful face: not shown here.</p>".encode())
        for number, copy in enumerate(shown, 1):
            command = repeated_command(context, copy, page, number)
            if copy.summary is None:
                moments = list(_image_moments(copy))
                pictures = _image_pictures(copy.source, moments[:left], damaged, limits)
                left -= len(pictures)
                parts = _image_parts(copy, command, moments, pictures)
            else:
                parts = _video_parts(copy.source, copy.summary, command, damaged)
            for part in parts:
                file.write(part.encode("utf-8", "replace"))
        file.write(b"</body></html>\n")


def repeated_command(context: typer.Context, copy: Finished, page: Path, number: int) -> list[str]:
    """Return the command that writes a copy again, with the same options; a page about several stays."""
    alone = [user_path(text) for text in context.params.get("inputs") or ()] == [copy.source]
    own_page = page if alone else page.with_stem(f"{page.stem}-{number}")
    words = ["scrfd-trt", context.info_name or "", str(copy.source), "--output", str(copy.target), "--overwrite"]
    for parameter, flag in given_options(context):
        if parameter.param_type_name != "option" or parameter.name in NOT_REPEATED:
            continue
        value = own_page if parameter.name == "report" else context.params.get(parameter.name)
        for each in value if isinstance(value, list | tuple) else [value]:
            words += [flag] if isinstance(each, bool) else [flag, str(each)]
    return words


def _dropped(summary: Summary) -> Iterator[Doubtful]:
    keep = _mend("If one of them is a face, add this option, which covers them all", "--keep-doubtful")
    for track in list(summary.dropped.values())[:MAX_DROPPED]:
        when = span_text(track.first.pts_seconds, track.last.pts_seconds)
        drop = _mend("With --keep-doubtful, add if this is no face", "--drop-tracks", str(track.number))
        text, box = f"Track {track.number}, {when}: {low_score(track)}.", track.best.box.tolist()
        yield Doubtful(SECOND_LOOK, track.best_pts_seconds, box, text, drop, keep)


def _to_review(summary: Summary) -> Iterator[Doubtful]:
    for moment in sorted(summary.moments_to_review(MAX_SHOWN), key=lambda moment: (moment.track, moment.start)):
        seconds, box = moment.shown
        end = moment.end + (AFTER if moment.doubt == "lost" else 0.0)
        cover = _mend("If a face is still visible here, add", "--cover", as_cover(box, (moment.start, end)))
        drop = _mend("If this track is no face, add", "--drop-tracks", str(moment.track))
        text = f"{span_text(moment.start, moment.end)}: {doubt_text(moment)}."
        yield Doubtful(f"Track {moment.track}: covered", seconds, box, text, cover, drop)


def _found_later(summary: Summary) -> Iterator[Doubtful]:
    for face in summary.searches[-1].faces[:MAX_DROPPED] if summary.searches else ():
        cover = _mend("If this is a face, add", "--cover", as_cover(face.box, (face.start, face.end)))
        text = f"{span_text(face.start, face.end)}: {face.kind}, score {face.score:.2f}."
        yield Doubtful(IN_COPY, face.pts_seconds, face.box, text, cover)


def _mend(sentence: str, *words: str) -> str:
    return f"<p>{escape(sentence)}:</p><code>{escape(shlex.join(words))}</code>"


def _video_parts(video: Path, summary: Summary, command: Sequence[str], damaged: Damaged) -> Iterator[str]:
    """Yield the HTML about a video: the command, and its moments by group."""
    yield f"<h2>{escape(str(video))}</h2><p>{escape(headline(summary))}</p>"
    for start, end in summary.gaps():
        yield f"<p>Frames are missing from {format_time(start)} to {format_time(end)}.</p>"
    moments = [*_dropped(summary), *_to_review(summary), *_found_later(summary)]
    yield _mend(AGAIN, *command) if moments else "<p>No moment is doubtful.</p>"
    yield from _figures(moments, _pictures(video, moments, damaged) if moments else ())


def _image_parts(
    image: Finished, command: Sequence[str], moments: Sequence[Doubtful], pictures: Sequence[bytes]
) -> Iterator[str]:
    """Yield the HTML about an image: the command, and its faces by group."""
    yield f"<h2>{escape(str(image.source))}</h2>"
    yield _mend(AGAIN, *command) if moments else "<p>No face is doubtful.</p>"
    if left := len(image.faces) + sum(len(search.faces) for search in image.searches[-1:]) - len(moments):
        yield f"<p>{count(left, 'more face')} not shown; the file of --save-detections lists all.</p>"
    yield from _figures(moments, [*pictures, *[b""] * (len(moments) - len(pictures))])


def _image_moments(image: Finished) -> Iterator[Doubtful]:
    faces = sorted(image.faces, key=lambda face: face.score)
    keep = _mend("This option covers them all", "--keep-doubtful")
    for face in [face for face in reversed(faces) if not face.is_covered][:MAX_DROPPED]:
        cover = _mend("If this is a face, add", "--cover", as_cover(face.box, None))
        yield Doubtful(SECOND_LOOK, face.page, face.box, _place(face.page, face.box, face.score), cover, keep)
    for face in [face for face in faces if face.is_covered][:MAX_SHOWN]:
        region = _mend("If this is no face, add", "--except-region", as_region(face.box))
        yield Doubtful("Covered, with low scores", face.page, face.box, _place(face.page, face.box, face.score), region)
    for found in image.searches[-1].faces[:MAX_DROPPED] if image.searches else ():
        cover = _mend("If this is a face, add", "--cover", as_cover(found.box, None))
        text, page = f"{found.kind.capitalize()}, {_place(1, found.box, found.score)}", round(found.pts_seconds) + 1
        yield Doubtful(IN_COPY, page, found.box, text, cover)


def _place(page: int, box: Sequence[float], score: float) -> str:
    return f"{f'page {page}, ' if page > 1 else ''}{place_text(box, score)}."


def _figures(moments: Sequence[Doubtful], pictures: Sequence[bytes]) -> Iterator[str]:
    """Yield the HTML of moments, by group."""
    yield "<div>"
    shown = zip(moments, pictures, strict=True)
    for (group, mend), members in groupby(shown, key=lambda each: (each[0].group, each[0].mend_group)):
        yield f"<section><h3>{escape(group)}</h3>{mend}<div>"
        for moment, jpeg in members:
            image = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">' if jpeg else ""
            yield f"<figure>{image}<figcaption><p>{escape(moment.text)}</p>{moment.mend}</figcaption></figure>\n"
        yield "</div></section>\n"
    yield "</div>"


def _image_pictures(image: Path, moments: Sequence[Doubtful], damaged: Damaged, limits: Limits) -> list[bytes]:
    """Return a JPEG of each face; read the image again."""
    found = [b""] * len(moments)
    if not moments:
        return found
    for page, frame in enumerate(open_image(image, limits=limits, damaged=damaged).frames(), 1):
        for number, moment in enumerate(moments):
            if moment.at == page:
                found[number] = picture(frame.visible(), moment.box)
    return found


def _pictures(video: Path, moments: Sequence[Doubtful], damaged: Damaged) -> list[bytes]:
    """Return a JPEG of each moment, empty if the video has no such frame; read the video up to the last one."""
    found = [b""] * len(moments)
    waiting = sorted(enumerate(moments), key=lambda each: -each[1].at)
    with open_source(video, damaged=damaged) as reader, prefetched(reader, 2) as frames:
        for frame in frames:
            while waiting and waiting[-1][1].at <= frame.pts_seconds + 1e-3:
                number, moment = waiting.pop()
                found[number] = picture(frame.image, moment.box)
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
