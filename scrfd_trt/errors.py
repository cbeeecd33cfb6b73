"""Errors of scrfd_trt, one tree: ``except ScrfdError`` catches everything that the library raises.

::

    ScrfdError
    ├── ImageError (ValueError)             an image cannot be read or used
    │   └── ImageNotFoundError (FileNotFoundError)   the file does not exist
    ├── VideoError (ValueError)             a video cannot be read, or not to its end
    │   └── VideoNotFoundError (FileNotFoundError)   the file does not exist
    ├── OptionError (ValueError)            an option is out of range, or a name is unknown
    ├── DetectionsError (ValueError)        columns or rows are not valid detections
    ├── ModelError
    │   ├── ModelNotFoundError (FileNotFoundError)   the file does not exist, or is not available offline
    │   ├── ModelFormatError                the file is not a SCRFD model, or not the expected file
    │   └── DownloadError (OSError)         a download failed, was cut off or has the wrong hash
    ├── DeviceError (RuntimeError)          the device does not exist or cannot be used
    ├── BackendError (RuntimeError)         the model cannot be loaded or run
    │   └── EngineError                     this TensorRT or this GPU cannot run the engine
    ├── ClosedError (RuntimeError)          the object was used after ``close()``
    ├── OverlayError (RuntimeError)         an overlay failed, or did not return an image
    ├── MissingDependencyError (ImportError)  an optional package is required; the message names it
    └── OutputError (OSError)               a result cannot be written

Errors of other libraries are translated at the edge and kept as ``__cause__``. Every message is one line that says what
is wrong and what to do; if a choice is invalid, it lists the choices. Messages use the Python names of options;
:attr:`ScrfdError.fields` lists these names, so that a front end can add its own.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Self

ErrorType = TypeVar("ErrorType", bound=Exception)

__all__ = [
    "BackendError", "ClosedError", "DetectionsError", "DeviceError", "DownloadError", "EngineError", "ImageError",
    "ImageNotFoundError",
    "MissingDependencyError", "ModelError", "ModelFormatError", "ModelNotFoundError", "OptionError", "OutputError",
    "OverlayError", "ScrfdError", "VideoError", "VideoNotFoundError",
]  # fmt: skip


OUT_OF_MEMORY = (
    "bad_alloc",
    "Failed to allocate",
    "Insufficient memory",
    "failed to map segment",
    os.strerror(errno.ENOMEM),
)
LONGEST = 900
"""Of a message, which may name what a caller passed."""
LINE_ENDS = {ord(end): repr(end)[1:-1] for end in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"}


class ScrfdError(Exception):
    """Base of all errors that scrfd_trt and its overlays raise.

    Parameters
    ----------
    reason
        What is wrong and what to do about it, one line.
    subject
        What the error is about, such as a file; the message starts with it.
    fields
        Python names of the options that the reason is about or suggests; ``scales.0`` is an item of an option.
    """

    def __init__(self, reason: str = "", *, subject: str = "", fields: Iterable[str] = ()) -> None:
        reason, subject = _escaped(installable(reason)), _escaped(subject)
        super().__init__(f"{subject}: {reason}" if subject else reason)
        self.reason = reason
        self.subject = subject
        self.fields = tuple(fields)

    def within(self, subject: object) -> Self:
        """Return the same error with a subject before its whole message."""
        error = type(self)(str(self), subject=str(subject))
        error.__dict__.update(self.__dict__, reason=error.reason, subject=error.subject)
        return error


class ImageError(ScrfdError, ValueError):
    """An image cannot be read or used."""


class VideoError(ScrfdError, ValueError):
    """A video cannot be read, or not to its end; the reason gives the frame."""


class ImageNotFoundError(ImageError, FileNotFoundError):
    """An image file does not exist."""


class VideoNotFoundError(VideoError, FileNotFoundError):
    """A video file does not exist."""


class OptionError(ScrfdError, ValueError):
    """An option is out of range, or a name is not one of the choices.

    Parameters
    ----------
    reason, subject, fields
        As for :class:`ScrfdError`.
    value
        The invalid value.
    choices
        The valid values; empty if they cannot be listed.
    """

    def __init__(
        self,
        reason: str = "",
        *,
        subject: str = "",
        fields: Iterable[str] = (),
        value: Any = None,
        choices: Iterable[Any] = (),
    ) -> None:
        super().__init__(reason, subject=subject, fields=fields)
        self.value = value
        self.choices = tuple(choices)


class DetectionsError(ScrfdError, ValueError):
    """Columns or rows are not valid detections."""


class ModelError(ScrfdError):
    """A model cannot be found, downloaded or read."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """A model file does not exist, or is not available offline."""


class ModelFormatError(ModelError):
    """A file is not a SCRFD model, or not the expected file."""


class DownloadError(ModelError, OSError):
    """A download failed, was cut off, or has the wrong hash."""


class DeviceError(ScrfdError, RuntimeError):
    """The requested device does not exist or cannot be used."""


class BackendError(ScrfdError, RuntimeError):
    """The model cannot be loaded or run."""


class EngineError(BackendError):
    """An engine cannot be run by this TensorRT or this GPU."""


class ClosedError(ScrfdError, RuntimeError):
    """An object was used after its ``close()``."""


class OverlayError(ScrfdError, RuntimeError):
    """An overlay failed, or did not return an image."""


class MissingDependencyError(ScrfdError, ImportError):
    """A required package is not installed; the message gives the command that installs it."""


class OutputError(ScrfdError, OSError):
    """A result cannot be written."""


def installable(text: str) -> str:
    """Return a text in which ``pip install "scrfd-trt[extra]"`` is what works here, such as for a checkout."""
    return _EXTRA.sub(lambda found: _requirement(*found.groups()), text) if '"scrfd-trt[' in str(text) else text


_EXTRA = re.compile(r'(?<!uv )(pip install )?"(scrfd-trt\[[\w,-]+\])"')


def _requirement(pip: str | None, requirement: str) -> str:
    import json  # noqa: PLC0415 - for errors only, as the others
    from importlib import metadata, util  # noqa: PLC0415
    from urllib.parse import urlsplit  # noqa: PLC0415
    from urllib.request import url2pathname  # noqa: PLC0415

    command = "uv pip install " if pip and not util.find_spec("pip") else pip or ""
    try:
        origin = json.loads(metadata.distribution("scrfd-trt").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:
        origin = {}
    url = origin.get("url", "")
    path = url2pathname(urlsplit(url).path) if url.startswith("file:") else ""
    if path and not os.path.exists(path):  # noqa: PTH110
        return f'{command}"{requirement}"'
    if "dir_info" in origin:
        editable = "-e " if origin["dir_info"].get("editable") else ""
        return f'{command}{editable}"{path}{requirement[len("scrfd-trt") :]}"'
    if how := origin.get("vcs_info"):
        url = f"{how['vcs']}+{url}@{how.get('requested_revision') or how['commit_id']}"
    return f'{command}"{requirement}{url and " @ "}{url}"'


def _escaped(text: str) -> str:
    """Write what ends a line as escapes, since a file's name may contain it; drop the middle of a very long text."""
    line = str(text).translate(LINE_ENDS)
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 3 :]}"


def out_of_memory(doing: str) -> BackendError:
    """Return the error for a lack of memory of the host; ``doing`` begins the message."""
    return BackendError(f"{doing} failed: there is not enough memory; use smaller images, batches or scales")


def without_frames(error: ErrorType) -> ErrorType:
    """Return an error that is kept as a result, without the tracebacks, whose frames keep images alive."""
    each: BaseException | None = error
    seen = set()
    while each is not None and id(each) not in seen:  # causes may form a ring
        seen.add(id(each))
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means a lack of memory, for which OpenCV, ONNX Runtime and the loader have others."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or any(hint in str(error) for hint in OUT_OF_MEMORY)


@contextmanager
def memory_errors(doing: str) -> Iterator[None]:
    """Translate MemoryError to BackendError; ``doing`` begins the message."""
    try:
        yield
    except MemoryError as error:
        raise out_of_memory(doing) from error


def shown(value: object, longest: int = 60) -> str:
    """Return a value as messages show it: its repr on one line, shortened to ``longest`` characters."""
    if type(value) in {str, bytes, bytearray, list, tuple}:
        value = value[: longest + 1]  # type: ignore[index]  # the repr of all of it may take seconds
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 - Python refuses integers of more than 4,300 digits, and a foreign repr may fail
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= longest else text[: longest - 1] + "…"


def one_line(error: BaseException, longest: int = 500) -> str:
    """Return the message of an error on one line, shortened to ``longest`` characters; without message, its type."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= longest else text[: longest - 1] + "…"


def redact_password(source: str) -> str:
    """Return a path, or an address without the password before its host."""
    return re.sub(r"^([a-z][\w+.-]*://[^/@:]*):[^/]*@", r"\1:***@", source, flags=re.IGNORECASE)


def unknown_name(kind: str, name: str, choices: Collection[str], meant: str = "") -> str:
    """Return that there is no such name, with what is meant or the closest choice, and all choices."""
    close = meant or next(iter(get_close_matches(name.lower(), choices, 1, 0.76)), "")
    hint = f"did you mean {close!r}? " if close else ""
    known = f"the {kind}s are: {', '.join(choices)}" if choices else f"there are no {kind}s"
    return f"no {kind} {shown(name)}; {hint}{known}"
