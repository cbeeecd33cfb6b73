"""Images as the frames of a video."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from scrfd_trt.errors import OptionError, VideoError
from scrfd_trt.video.reading import Damaged, VideoReader

KINDS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
NUMBER = re.compile(r"%0?(\d*)d")


def is_pattern(name: str) -> bool:
    """Tell whether a name is a pattern of image names, such as ``frames/%05d.png``."""
    return len(NUMBER.findall(Path(name).name)) == 1 and not Path(name).exists()


def numbers(pattern: Path) -> list[int]:
    """Return the numbers of the files that a pattern names, sorted."""
    before, width, after = NUMBER.split(pattern.name)
    digits = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    if not pattern.parent.is_dir():
        return []
    found = (digits.fullmatch(path.name) for path in pattern.parent.iterdir())
    return sorted(int(one[1]) for one in found if one and one[1] == f"{int(one[1]):0{width or 0}}")


def read_pattern(name: str, rate: Fraction, damaged: Damaged, others: Collection[str]) -> VideoReader:
    """Read an image sequence by its pattern, from its lowest number.

    Raises
    ------
    VideoError
        If there are no such images, or one is missing between others: FFmpeg would end there without a word.
    """
    found = numbers(Path(name))
    if not found:
        raise VideoError(f"{name}: there is no image of that name")
    missing = next((last + 1 for last, number in pairwise(found) if number != last + 1), None)
    if missing is not None:
        raise VideoError(
            f"{name}: image {missing} is missing, {found[-1]} is there; name the folder to take what there is"
        )
    options = {"framerate": str(rate), "start_number": str(found[0])}
    return VideoReader(name, damaged=damaged, form="image2", options=options, others=others)


def natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sort numbers in names by their value: ``a2`` before ``a10``."""
    parts = re.split(r"([0-9]+)", path.name.casefold())
    return [(0, int(part), "") if at % 2 else (1, 0, part) for at, part in enumerate(parts)], path.name


def in_folder(folder: Path) -> list[Path]:
    """Return the images of a folder, in the order of their names.

    Raises
    ------
    VideoError
        If there are none, or of several kinds, which cannot be one video.
    """
    found = sorted((p for p in folder.iterdir() if p.suffix.lower() in KINDS and p.name[0] != "."), key=natural)
    kinds = sorted({KINDS[path.suffix.lower()] for path in found})
    if len(kinds) != 1:
        what = f"images of several kinds, {', '.join(kinds)}; put them into folders" if kinds else "no images"
        raise VideoError(f"{folder}: there are {what}")
    return found


def read_folder(folder: Path, rate: Fraction, damaged: Damaged, others: Collection[str]) -> VideoReader:
    """Read the images of a folder as a video.

    Raises
    ------
    VideoError
        If there are none, of several kinds or sizes, or one cannot be read.
    """
    listed = listing([path.resolve() for path in in_folder(folder)], rate)
    with tempfile.TemporaryDirectory(prefix="scrfd-trt-") as place:
        script = Path(place, "images.ffconcat")  # FFmpeg reads it when it opens it, and never again
        script.write_bytes(os.fsencode(listed))
        return VideoReader(
            script, name=os.fspath(folder), damaged=damaged, form="concat", options={"safe": "0"}, others=others
        )


def listing(paths: Sequence[Path], rate: Fraction) -> str:
    """Write a script for FFmpeg's concat demuxer: image2's globs are not there on Windows.

    Raises
    ------
    VideoError
        If a name has a line's end in it, or one that image2 takes for a pattern.
    """
    lines = ["ffconcat version 1.0"]
    for number, path in enumerate(paths):
        name = path.as_posix()
        if "\n" in name or "\r" in name or "%" in name:
            raise VideoError(f"{name!r}: FFmpeg does not take such a name for an image; rename it")
        # Microseconds are rounded where frames begin, so that nothing adds up.
        begin, end = (round(at * 1_000_000 / rate) for at in (number, number + 1))
        quoted = name.replace("'", "'\\''")
        lines += [f"file '{quoted}'", f"option framerate {rate}", f"duration {(end - begin) / 1e6:.6f}"]
    return "\n".join([*lines, ""])


def checked_rate(rate: float | Fraction | None) -> Fraction:
    """Return frames a second as a fraction, 25 for None.

    Raises
    ------
    OptionError
        If it is not above 0.
    """
    if rate is None:
        return Fraction(25)
    if not 0 < rate < 100_000:
        raise OptionError(f"rate={rate}: take frames a second, above 0")
    return Fraction(rate).limit_denominator(1001)
