"""Files of a video's faces, as the commands for videos take and write them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from scrfd_trt.cli import outputs
from scrfd_trt.cli.inputs import Source, same_file_key
from scrfd_trt.errors import OptionError
from scrfd_trt.video import Choice, FacesReader, FollowOptions, Summary
from scrfd_trt.video.faces_file import SUFFIX

LINES = ".jsonl"


def check(faces_in: Path | None, faces_out: Path | None, others: Mapping[str, Path | None], *, overwrite: bool) -> None:
    """Refuse files of faces that cannot be, before anything is done.

    Parameters
    ----------
    faces_in, faces_out
        To draw from, and to write.
    others
        The other files of the command, by what they are.
    overwrite
        Whether a file may be replaced.

    Raises
    ------
    OptionError
        If both are given, or the one to write is another of the files, is there already or has no suffix for it.
    """
    if faces_in and faces_out:
        raise OptionError("--detections and --save-detections exclude each other: the faces are in a file already")
    if faces_out is None:
        return
    for what, other in others.items():
        if other is not None and same_file_key(other) == same_file_key(faces_out):
            raise OptionError(f"--save-detections {faces_out} is {what}; name another file, NAME{SUFFIX}")
    if faces_out.suffix.lower() != LINES:
        raise OptionError(f"--save-detections {faces_out}: JSON lines are written; name a file that ends in {SUFFIX}")
    outputs.check_free(faces_out, overwrite=overwrite)


def check_single(faces_in: Path | None, faces_out: Path | None, choice: Choice, sources: Sequence[Source]) -> None:
    """Refuse what is for one video where something else comes in.

    Raises
    ------
    OptionError
        If a file of faces or a number of a track is named, and not a single video.
    """
    if len(sources) == 1 and sources[0].is_video:
        return
    given = {
        "--detections": faces_in,
        "--save-detections": faces_out,
        "--keep-tracks": choice.keep_tracks,
        "--leave-tracks": choice.leave_tracks,
    }
    option = next((name for name, value in given.items() if value), None)
    if option is not None:
        raise OptionError(f"{option} is for a single video; run them one by one")


def summarize(faces_file: Path) -> Summary:
    """Read a file of a video's faces to its end.

    Raises
    ------
    DetectionsError
        If it is none.
    """
    with FacesReader(faces_file) as found:
        sure = FollowOptions.model_validate(found.head.follow).threshold
        summary = Summary(found.head.size, sure)
        for frame in found:
            summary.add(frame)
    return summary


def missing_tracks(choice: Choice, there: Iterable[int]) -> str:
    """Say which tracks were chosen that are not there, and which are; nothing if all are.

    Parameters
    ----------
    choice
        Of the person.
    there
        Numbers of the video's tracks.
    """
    known = set(there)
    wrong = sorted((choice.keep_tracks | choice.leave_tracks) - known)
    if not wrong:
        return ""
    has = f"the tracks are: {_ranges(sorted(known))}" if known else "the video has no tracks"
    return f"there is no track {', '.join(map(str, wrong))}; {has}"


@contextmanager
def place(path: Path | None) -> Iterator[Path]:
    """Give a place for a file of faces: the path, or one that is gone afterwards."""
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="scrfd-trt-") as folder:
        yield Path(folder, f"clip{SUFFIX}")


def _ranges(numbers: Sequence[int]) -> str:
    """Write ``1-3, 7``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
