"""Choose output paths, and write files completely or not at all. Existing files are replaced only on request."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from scrfd_trt._cli import console
from scrfd_trt._cli.content import VIDEO_SUFFIXES, Kind, identify
from scrfd_trt._cli.inputs import Source, exists, folded, is_folder, is_regular_file, same_file_key
from scrfd_trt._engine.plan import ENGINE_SUFFIXES
from scrfd_trt._files import atomic_file, temporary_folder, user_path
from scrfd_trt._image_files import ImageFile, ImageFrame
from scrfd_trt._image_files.metadata import Metadata
from scrfd_trt._image_files.pillow_codec import HEIF_COMMAND
from scrfd_trt._image_files.read import IMAGE_SUFFIXES
from scrfd_trt._image_files.write import (
    ANIMATION_SUFFIXES,
    NO_COLOR,
    NO_METADATA,
    errors_about,
    format_suffix,
    is_writable,
    write_image,
)
from scrfd_trt._jobs.profile import measured
from scrfd_trt.errors import OptionError, OutputError, ScrfdError
from scrfd_trt.video._writer import SUFFIXES as WRITABLE_VIDEO_SUFFIXES
from scrfd_trt.video._writer import check_suffix

LOSSY_SUFFIXES = (".jpg", ".webp", ".avif", ".heic")
LABELS = ".txt"
TAKEN = " already exists; name another "
SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}")
"""Of a suffix that is one, unlike the rest of ``v1.2 final``."""
SUFFIX_OF_KIND = {"jpeg": ".jpg", "tiff": ".tif", "pnm": ".ppm"} | {
    kind: f".{kind}" for kind in ("png", "webp", "gif", "avif", "heic", "bmp", "jp2", "pfm", "hdr", "ras")
}
SUFFIXES_OF_KIND: dict[Kind, tuple[str, ...]] = {
    "image": IMAGE_SUFFIXES,
    "video": VIDEO_SUFFIXES,
    "model": (".onnx", *ENGINE_SUFFIXES),
    "parquet": (".parquet",),
}
KIND_NAMES: dict[Kind, str] = {
    "image": "an image",
    "unsupported image": "an image",
    "video": "a video",
    "model": "a model",
    "parquet": "a Parquet file",
    "text": "text",
    "unknown": "other data",
}


def plan_outputs(
    inputs: Sequence[str],
    sources: Sequence[Source],
    output: Path | None,
    *,
    overwrite: bool,
    ending: str = "_copy",
    typed: str = "the command",
) -> dict[Source, Path]:
    """Choose the path of each copy before anything is written; sources that cannot be read may be missing.

    ``inputs`` are the texts of the command line, ``sources`` the files found. ``output`` is a file for a single input
    file, a folder, or None for ``clip_copy.mp4`` beside ``clip.mp4``, with this ending. ``typed`` is the command line
    for messages. Raises OptionError if the inputs do not fit the output or a file would be overwritten, and OutputError
    if permissions do not allow writing.
    """
    folder = next((text for text in inputs if is_folder(user_path(text))), None)
    if output is None:
        if folder is not None:
            path = user_path(folder) if Path(folder).name.strip(".") else user_path(folder).resolve()
            line = f"{typed} -o {shlex.quote(f'{path}{ending}')}"
            raise OptionError(f"{folder} is a folder; name another one for the copies: {line}")
        return _plan_beside(sources, ending, overwrite=overwrite)
    if is_folder(output):
        return plan_folder(sources, output, overwrite=overwrite)
    if len(inputs) == len(sources) == 1 and folder is None and output.suffix:
        _check_single(sources[0], output, overwrite=overwrite)
        sources[0].copy = output
        return {sources[0]: output}
    if output.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
        missing = next((source for source in sources if source.problem and not exists(source.path)), None)
        if missing is not None:
            raise OptionError(f"{missing.name}: {missing.problem}")
        raise OptionError(
            f"{output} is the name of a file, but the inputs are a folder or several files; name a folder"
        )
    if is_regular_file(output):
        raise OptionError(f"{output} is a file, but there are several inputs; name a folder")
    return plan_folder(sources, output, overwrite=overwrite)


class StandardOutput(NamedTuple):
    """A folder for one copy, and the function that writes the copy to standard output."""

    folder: Path
    send: Callable[[Path], None]


@contextmanager
def standard_output(sources: Sequence[Source], *, dry_run: bool) -> Iterator[StandardOutput]:
    """Take the copy of the only source, and send it once it is complete; what is printed goes to stderr meanwhile."""
    stream = sys.stdout
    if len(sources) != 1:
        raise OptionError(f"standard output takes one copy, and there are {len(sources)} inputs; name a folder")
    if not dry_run and stream.isatty():
        raise OptionError("standard output is a terminal; add > FILE or | COMMAND, or name a file")
    if not hasattr(stream, "buffer"):
        raise OutputError("standard output is closed, and the copy goes there; redirect it, or name a file")

    def send(path: Path) -> None:
        with path.open("rb") as file, redirect_stdout(stream):
            try:
                shutil.copyfileobj(file, stream.buffer)
                stream.flush()
            except OSError as error:
                console.raise_stdout_error(error)

    with temporary_folder() as folder, redirect_stdout(stream if dry_run else sys.stderr):
        yield StandardOutput(folder, send)


def plan_folder(
    sources: Sequence[Source], folder: Path, *, overwrite: bool, name: Callable[[Path], Path] = lambda path: path
) -> dict[Source, Path]:
    """Choose the path of each copy below a folder, as :func:`plan_outputs` does; ``name`` may change its name."""
    check_folder(folder)
    outputs = {
        source: source.copy if source.is_done and source.copy else name(folder / copy_name(source))
        for source in sources
        if not source.problem
    }
    return _without_conflicts(outputs, sources, "to another folder", "folder", overwrite=overwrite)


def _plan_beside(sources: Sequence[Source], ending: str, *, overwrite: bool) -> dict[Source, Path]:
    outputs = {}
    for source in sources:
        if source.address:
            raise OptionError(f"{source.name} requires --output FILE, or --output - for standard output")
        if not source.problem:
            name = copy_name(source)
            outputs[source] = source.path.with_name(f"{name.stem}{ending}{name.suffix}")
    hint = "and name its copy with --output"
    return _without_conflicts(outputs, sources, hint, "file with --output", overwrite=overwrite)


def copy_name(source: Source) -> Path:
    """Return the path below the output folder; its suffix is that of a format which is written."""
    name = source.relative_path
    trimmed = name.with_name(name.name.rstrip(". ") or name.name)
    if trimmed.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
        name = trimmed
    if source.is_video:
        suffix = "" if name.suffix.lower() in WRITABLE_VIDEO_SUFFIXES + ANIMATION_SUFFIXES else ".mp4"
    else:
        suffix = "" if name.suffix.lower() in IMAGE_SUFFIXES else _content_suffix(source.path)
    if not suffix:
        return name
    return name.with_suffix(suffix) if SUFFIX.fullmatch(name.suffix) else name.with_name(name.name + suffix)


def _content_suffix(path: Path) -> str:
    """Return the suffix that belongs to the content of an image; empty if it cannot be read."""
    try:
        return SUFFIX_OF_KIND.get(identify(path).name, "")
    except OSError:  # reported when the image is read
        return ""


def _without_conflicts(
    outputs: dict[Source, Path], sources: Sequence[Source], hint: str, what: str, *, overwrite: bool
) -> dict[Source, Path]:
    """Return the outputs that can be written; a conflict is its source's problem, or an error if all have one."""
    inputs = {source.key: source for source in outputs}
    taken: dict[str, list[Source]] = {}
    errors: list[ScrfdError] = []
    # What is done comes first, and then the file that already has the name of the copy.
    order = sorted(outputs.items(), key=lambda item: (not item[0].is_done, item[0].path.suffix != item[1].suffix))
    for source, output in order:
        others = taken.setdefault(folded(os.path.realpath(output)), [])
        same = next((other for other in others if _is_same_name(outputs[other], output)), None)
        try:
            _check_names(source, output, same, inputs.get(same_file_key(output)), hint)
            if is_folder(output.parent) and not source.is_done:  # a missing folder will be made
                replaces = overwrite or source.may_replace(output)
                check_free(output, kind=_kind(source, output), overwrite=replaces, what=what)
        except (OptionError, OutputError) as caught:
            error = caught
            if TAKEN in str(caught) and source.ledger is not None:
                how = "folder, or use --overwrite in place of --resume: no run with --resume wrote it"
                error = OptionError(f"{output}{TAKEN}{how}")
            errors.append(error)
            source.problem = str(error)
        else:
            others.append(source)
            source.copy = output
    if errors and len(errors) == len(sources):
        raise errors[0]
    return {source: output for source, output in outputs.items() if not source.problem}


def _check_names(source: Source, output: Path, same: Source | None, replaced: Source | None, hint: str) -> None:
    """Raise OptionError if another source has the same output, or if the output is an input, which stays as it is."""
    if same is not None:
        raise OptionError(f"{output} is the copy of {same.name}; process {source.name} alone, {hint}")
    if replaced is source:
        raise OptionError(f"{output} is the input; name another folder")
    if replaced is not None:
        raise OptionError(f"{output} is an input, and the copy of {source.name} would replace it; name another folder")


def _is_same_name(first: Path, second: Path) -> bool:
    """Return whether two paths that may differ in case or Unicode form are those of one file."""
    if first == second:
        return True
    folder = next((folder for folder in second.absolute().parents if is_folder(folder)), Path())
    ignores_case, ignores_form = _ignored_differences(os.path.realpath(folder))

    def key(path: Path) -> str:
        text = unicodedata.normalize("NFC", str(path)) if ignores_form else str(path)
        return text.casefold() if ignores_case else text

    return key(first) == key(second)


@lru_cache
def _ignored_differences(folder: str) -> tuple[bool, bool]:
    """Return whether a folder ignores case, and Unicode form, in names; both if that cannot be found out."""
    start = f".scrfd-trt-{secrets.token_hex(6)}-"
    path = Path(folder, f"{start}A\u00e9")
    try:
        path.open("xb").close()
        try:
            return Path(folder, f"{start}a\u00e9").exists(), Path(folder, f"{start}Ae\u0301").exists()
        finally:
            path.unlink()
    except (OSError, UnicodeError):
        return True, True


def _kind(source: Source, output: Path) -> Kind:
    """Return what is written; animations may be files of an image format."""
    if output.suffix == LABELS:
        return "text"
    return "video" if source.is_video and output.suffix.lower() not in IMAGE_SUFFIXES else "image"


def _check_single(source: Source, output: Path, *, overwrite: bool) -> None:
    if source.problem and not source.is_video:  # reported in place of the file, whose kind is not known
        return
    if source.is_animation:
        choices = ANIMATION_SUFFIXES + WRITABLE_VIDEO_SUFFIXES
        if output.suffix.lower() not in choices:
            what = output.suffix or "files without a suffix"
            raise OptionError(f"{output}: animated images are not written as {what}; use one of: {', '.join(choices)}")
    elif source.is_video:
        check_suffix(output)
    else:
        check_image_suffix(output)
    if same_file_key(output) == source.key:  # covered faces cannot be restored
        raise OptionError(f"{output} is the input; name another file")
    check_free(output, kind=_kind(source, output), overwrite=overwrite)


def check_free(path: Path, *, kind: Kind, overwrite: bool, what: str = "file") -> None:
    """Check that a file of a kind can and may be written; raise OptionError or OutputError."""
    if is_folder(path):
        raise OptionError(f"{path} is a folder; name a file")
    for other, suffixes in SUFFIXES_OF_KIND.items():
        if kind != other and path.suffix.lower() in suffixes:
            raise OptionError(
                f"{path} is a name for {KIND_NAMES[other]}, not for {KIND_NAMES[kind]}; name another file"
            )
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError) as error:
        if path == Path("-"):
            raise OptionError("standard output cannot be written to here; name a file") from error
        if not is_folder(path.parent):
            raise OptionError(f"cannot write {path}: there is no folder {path.parent}; create it first") from error
        return
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    if exists(path) and not is_regular_file(path):
        raise OptionError(f"{path} is not a regular file; name another one, or - for standard output")
    if not overwrite:
        raise OptionError(f"{path}{TAKEN}{what}, or add --overwrite to replace it")
    if exists(path):
        _check_content(path, kind)
        if not os.access(path, os.W_OK):
            raise OutputError(f"{path} is write-protected; change its permissions, or name another file")


def _check_content(path: Path, kind: Kind) -> None:
    """Raise OptionError if a file to replace holds something else than its new content."""
    try:
        found = identify(path).kind
    except OSError:
        found = "unknown"
    if found not in {kind, "empty"} and (found != "unknown" or kind == "text"):
        raise OptionError(
            f"{path} holds {KIND_NAMES[found]}, and {KIND_NAMES[kind]} would replace it; name another file"
        )


def check_folder(path: Path) -> None:
    """Check that a folder can be written to or created; raise OptionError or OutputError."""
    if path == Path("-") and not exists(path):
        raise OptionError("copies cannot be written to standard output; name a file or a folder")
    if path.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES and not exists(path):
        raise OptionError(f"{path} is the name of a file, and copies go to a folder: name one, such as {path.stem}")
    existing = next((folder for folder in (path, *path.absolute().parents) if exists(folder)), Path())
    if existing == path and not is_folder(path) and not is_regular_file(path):
        raise OptionError(f"{path} is not a folder; name one, or use --dry-run to write nothing")
    if not is_folder(existing):
        raise OptionError(f"{path} cannot be a folder: a file is in the way; name another folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write to the folder {existing}: permission denied; name another folder")


def make_folder(path: Path) -> None:
    """Create a folder and its parents; raise OptionError if a file has its name, and OutputError if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise OptionError(f"{path} cannot be a folder: a file is in the way; name another folder") from error
    except OSError as error:
        raise OutputError(f"cannot create the folder {path}: {error.strerror or error}") from error


@contextmanager
def atomic_output(path: Path, *, kind: Kind, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` when the block ends without an error; see :func:`check_free`."""
    check_free(path, kind=kind, overwrite=overwrite)
    with atomic_file(path, overwrite=overwrite) as file:
        yield file


def save_image(
    frames: Iterable[ImageFrame],
    path: Path,
    *,
    overwrite: bool,
    quality: int = 95,
    copy_of: ImageFile | None = None,
    metadata: Metadata = NO_METADATA,
    inspect: Callable[[Path], None] | None = None,
) -> None:
    """Write frames one by one as an image file with the colours of ``copy_of``, which ``inspect`` takes at the end."""
    color = NO_COLOR if copy_of is None else copy_of.color
    make_folder(path.parent)
    with measured("write"), atomic_output(path, kind="image", overwrite=overwrite) as file, errors_about(path):
        write_image(file, frames, path.suffix, quality=quality, color=color, metadata=metadata)
        if inspect is not None:
            file.flush()
            inspect(Path(file.name))


def any_lossy(targets: Mapping[Source, Path]) -> bool:
    """Return whether the quality of images applies to a copy, or no copy can be planned."""
    return not targets or any(format_suffix(path.suffix) in LOSSY_SUFFIXES for path in targets.values())


def any_encoded(targets: Mapping[Source, Path]) -> bool:
    """Return whether a copy is a video file, and no animated image, or no copy can be planned."""
    videos = (path for source, path in targets.items() if source.is_video)
    return not targets or any(path.suffix.lower() not in ANIMATION_SUFFIXES for path in videos)


def check_image_suffix(path: Path) -> None:
    """Raise OptionError for the suffix of an image format that is not written."""
    if not is_writable(path.suffix):
        if format_suffix(path.suffix) == ".heic":
            raise OptionError(f"{path}: name it .jpg, or install pillow-heif, which writes HEIC: {HEIF_COMMAND}")
        raise OptionError(
            f"{path}: images are not written as {path.suffix or 'files without a suffix'}; use .png or .jpg"
        )
