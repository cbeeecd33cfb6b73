"""Choose output paths, and write files completely or not at all. Existing files are replaced only on request."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cli.inputs import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    Source,
    exists,
    is_folder,
    is_regular_file,
    same_file_key,
)
from scrfd_trt._files import atomic_file
from scrfd_trt._image_files.native import captured_stderr
from scrfd_trt.errors import OptionError, OutputError, one_line
from scrfd_trt.video._writer import SUFFIXES as WRITABLE_VIDEO_SUFFIXES
from scrfd_trt.video._writer import check_suffix

QUALITY_FLAGS = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY}
SAME_FORMAT = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg"}
METADATA_FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
"""Pillow's names of the formats whose metadata is kept."""
EXIF_ORIENTATION = 0x0112


def plan_outputs(
    inputs: Sequence[str], sources: Sequence[Source], output: Path | None, *, overwrite: bool
) -> dict[Source, Path]:
    """Choose the path of each copy before anything is written; sources that cannot be read may be missing.

    ``inputs`` are the texts of the command line, ``sources`` the files found. ``output`` is a file for a single input
    file, a folder, or None for ``clip_anonymized.mp4`` beside ``clip.mp4``. Raises OptionError if the inputs do not fit
    the output or a file would be overwritten, and OutputError if permissions do not allow writing.
    """
    folder = next((text for text in inputs if is_folder(Path(text).expanduser())), None)
    if output is None:
        if folder is not None:
            raise OptionError(f"{folder} is a folder; name another one for the copies with --output")
        return _plan_beside(sources, overwrite=overwrite)
    if is_folder(output):
        return plan_folder(sources, output, overwrite=overwrite)
    if len(inputs) == len(sources) == 1 and folder is None and output.suffix:
        _check_single(sources[0], output, overwrite=overwrite)
        return {sources[0]: output}
    if output.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
        raise OptionError(
            f"{output} is the name of a file, but the inputs are a folder or several files; name a folder"
        )
    if is_regular_file(output):
        raise OptionError(f"{output} is a file, but there are several inputs; name a folder")
    return plan_folder(sources, output, overwrite=overwrite)


def plan_folder(sources: Sequence[Source], folder: Path, *, overwrite: bool) -> dict[Source, Path]:
    """Choose the path of each copy below a folder, as :func:`plan_outputs` does."""
    check_folder(folder)
    outputs = {source: folder / _copy_name(source) for source in sources if not source.problem}
    # Many file systems ignore case.
    _check_outputs(
        outputs, lambda path: same_file_key(path).casefold(), "each to its own folder", "folder", overwrite=overwrite
    )
    return outputs


def _plan_beside(sources: Sequence[Source], *, overwrite: bool) -> dict[Source, Path]:
    outputs = {}
    for source in sources:
        if not source.problem:
            name = _copy_name(source)
            outputs[source] = source.path.with_name(f"{name.stem}_anonymized{name.suffix}")
    _check_outputs(outputs, same_file_key, "or name a folder with --output", "file with --output", overwrite=overwrite)
    return outputs


def _copy_name(source: Source) -> Path:
    """Return the path below the output folder; a video format that is not written becomes MP4."""
    name = source.relative_path
    return name.with_suffix(".mp4") if source.is_video and name.suffix.lower() not in WRITABLE_VIDEO_SUFFIXES else name


def _check_outputs(
    outputs: Mapping[Source, Path], file_key: Callable[[Path], str], hint: str, what: str, *, overwrite: bool
) -> None:
    inputs = {same_file_key(source.path): source for source in outputs}
    taken: dict[str, Source] = {}
    for source, output in outputs.items():
        other = taken.setdefault(file_key(output), source)
        if other is not source:
            raise OptionError(
                f"{other.path} and {source.path} would both become {output}; process them one by one, {hint}"
            )
        if inputs.get(same_file_key(output), source) is not source:
            raise OptionError(
                f"{output} is an input, and the copy of {source.path} would replace it; name another folder"
            )
        if is_folder(output.parent):  # a missing folder will be made
            check_free(output, overwrite=overwrite, what=what)
        if source.is_video:
            _check_not_input(source, output, "folder")


def _check_single(source: Source, output: Path, *, overwrite: bool) -> None:
    if source.is_video:
        check_suffix(output)
        _check_not_input(source, output, "file")
    else:
        check_image_suffix(output)
    check_free(output, overwrite=overwrite)


def _check_not_input(source: Source, output: Path, what: str) -> None:
    """Refuse to replace a video by its copy: covered faces cannot be restored."""
    if same_file_key(output) == same_file_key(source.path):
        raise OptionError(f"{output} is the input; name another {what}")


def check_free(path: Path, *, overwrite: bool, what: str = "file") -> None:
    """Check that a file can and may be written.

    Raises OptionError if it is a folder or a device, exists without ``overwrite``, or its folder is missing, and
    OutputError if it is write-protected.
    """
    if is_folder(path):
        raise OptionError(f"{path} is a folder; name a file")
    if not exists(path):
        if not is_folder(path.parent):
            raise OptionError(f"cannot write {path}: there is no folder {path.parent}; create it first")
        return
    if not is_regular_file(path):
        raise OptionError(f"{path} is not a regular file; name another one, or - for standard output")
    if not overwrite:
        raise OptionError(f"{path} already exists; name another {what}, or add --overwrite to replace it")
    if not os.access(path, os.W_OK):
        raise OutputError(f"{path} is write-protected; change its permissions, or name another file")


def check_folder(path: Path) -> None:
    """Check that a folder can be written to or created.

    Raises OptionError if a file has its name, and OutputError if permissions do not allow it.
    """
    existing = next((folder for folder in (path, *path.absolute().parents) if exists(folder)), Path())
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
def atomic_output(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` when the block ends without an error.

    Raises the errors of :func:`check_free`, and OutputError if the file cannot be written.
    """
    check_free(path, overwrite=overwrite)
    with atomic_file(path, overwrite=overwrite) as file:
        yield file


def save_image(
    image: NDArray[np.uint8], path: Path, *, overwrite: bool, quality: int = 95, metadata_from: Path | None = None
) -> None:
    """Write a ``(H, W, 3)`` uint8 BGR image in the format of the suffix; create its folder if needed.

    ``quality``, 1 to 100, is for JPEG and WebP. ``metadata_from`` is an image file whose EXIF data and colour profile
    are copied (JPEG, PNG, WebP and TIFF). Raises OptionError if the file exists without ``overwrite``, and OutputError
    if it cannot be written or the metadata cannot be read.
    """
    if metadata_from is None:
        data = encode(image, path, quality)
    else:
        data = _encode_with_metadata(image, path, metadata_from, quality)
    make_folder(path.parent)
    with atomic_output(path, overwrite=overwrite) as file:
        file.write(data)


def encode(image: NDArray[np.uint8], path: Path, quality: int = 95) -> bytes:
    """Return the content of an image file; raise OutputError if OpenCV cannot write this format or size."""
    suffix = _format_suffix(path)
    if not _is_writable(suffix):
        raise OutputError(
            f"cannot write {path}: OpenCV does not write {path.suffix or 'files without a suffix'}; use .png or .jpg"
        )
    try:
        with captured_stderr() as lines:
            done, data = cv2.imencode(
                suffix, image, [QUALITY_FLAGS[suffix], quality] if suffix in QUALITY_FLAGS else []
            )
    except cv2.error as error:
        raise OutputError(f"cannot write {path}: {one_line(error)}") from error
    if not done:
        reason = lines[0] if lines else f"{image.shape[1]}×{image.shape[0]} pixels do not fit"
        raise OutputError(f"cannot write {path} as {suffix}: {reason}")
    return data.tobytes()


def _encode_with_metadata(image: NDArray[np.uint8], path: Path, source: Path, quality: int) -> bytes:
    from PIL import Image  # noqa: PLC0415 - slow to import

    name = METADATA_FORMATS.get(_format_suffix(path))
    if name is None:
        raise OutputError(
            f"cannot write {path}: metadata is kept in {', '.join(METADATA_FORMATS)} files only; use one of these"
        )
    try:
        with Image.open(source) as original:
            exif, profile = original.getexif(), original.info.get("icc_profile")
    except (OSError, Image.DecompressionBombError) as error:
        raise OutputError(f"cannot keep the metadata of {source}: {error}") from error
    if EXIF_ORIENTATION in exif:
        exif[EXIF_ORIENTATION] = 1
    options = {"JPEG": {"quality": quality, "subsampling": 0}, "WEBP": {"quality": quality}}.get(name, {})
    data = io.BytesIO()
    rgb = Image.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    rgb.save(data, name, exif=exif, icc_profile=profile, **options)
    return data.getvalue()


def any_lossy(targets: Mapping[Source, Path]) -> bool:
    """Return whether the quality of images applies to a copy, or no copy can be planned."""
    return not targets or any(
        not source.is_video and _format_suffix(path) in QUALITY_FLAGS for source, path in targets.items()
    )


def check_image_suffix(path: Path) -> None:
    """Raise OptionError for the suffix of an image format that OpenCV does not write."""
    if not _is_writable(_format_suffix(path)):
        raise OptionError(
            f"{path}: images are not written as {path.suffix or 'files without a suffix'}; use .png or .jpg"
        )


def _format_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    return SAME_FORMAT.get(suffix, suffix)


def _is_writable(suffix: str) -> bool:
    # OpenCV crashes for a suffix with bytes that are not UTF-8.
    return suffix != "" and suffix.isascii() and bool(cv2.haveImageWriter(f"image{suffix}"))
