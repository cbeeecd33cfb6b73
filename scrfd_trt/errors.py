"""The errors of scrfd_trt: one tree, so that ``except ScrfdError`` catches all that this library raises.

::

    ScrfdError
    ├── ImageError (ValueError)             an image that cannot be read or used
    ├── VideoError (ValueError)             a video that cannot be read, or not to its end
    ├── OptionError (ValueError)            an option out of its range, or a name that nobody knows
    ├── DetectionsError (ValueError)        columns or rows that do not make up detections
    ├── ModelError
    │   ├── ModelNotFoundError (FileNotFoundError)   no such file, or not to be had offline
    │   ├── ModelFormatError                the file is no SCRFD network, or not the file it should be
    │   └── DownloadError (OSError)         a download that failed, was cut off or has the wrong hash
    ├── DeviceError (RuntimeError)          the device asked for is not there or cannot be used
    ├── BackendError (RuntimeError)         the network could not be run
    │   └── EngineError                     this TensorRT or this GPU cannot run this engine
    ├── ClosedError (RuntimeError)          used after ``close()``
    ├── OverlayError (RuntimeError)         an overlay failed while drawing, or returned no image
    ├── MissingDependencyError (ImportError)  an optional package is needed; the message says which
    └── OutputError (OSError)               a result that cannot be written

Errors of other libraries are translated where they come in, and kept as ``__cause__``. Every message is one line that
says what is wrong and what to do about it; one that refuses a choice lists the choices. Messages name options by their
Python names; :attr:`ScrfdError.fields` lists these names, so that a front end can add its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


class ScrfdError(Exception):
    """The root of all errors that scrfd_trt and its overlays raise.

    Parameters
    ----------
    reason
        What is wrong and what to do about it, one line.
    subject
        What the error is about, a file say; it precedes the reason in the message.
    fields
        Python names of the options that the reason is about or advises; a dot precedes a part of one: ``scales.0``.
    """

    def __init__(self, reason: str = "", *, subject: str = "", fields: Iterable[str] = ()) -> None:
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
    """An image that cannot be read or used."""


class VideoError(ScrfdError, ValueError):
    """A video that cannot be read, or not to its end; the reason says at which frame."""


class OptionError(ScrfdError, ValueError):
    """An option out of its range, or a name that is none of the choices.

    Parameters
    ----------
    reason, subject, fields
        As for :class:`ScrfdError`.
    value
        The value that is refused.
    choices
        The values that are allowed; empty where they cannot be listed.
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
    """Columns or rows that do not make up detections."""


class ModelError(ScrfdError):
    """A network that cannot be found, fetched or understood."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """A network file that is not where it was looked for."""


class ModelFormatError(ModelError):
    """A file that is no SCRFD network, or not the one that it should be."""


class DownloadError(ModelError, OSError):
    """A download that was refused, cut off, or brought something else."""


class DeviceError(ScrfdError, RuntimeError):
    """The device asked for is not there, or cannot be used."""


class BackendError(ScrfdError, RuntimeError):
    """The network could not be loaded or run."""


class EngineError(BackendError):
    """An engine that this TensorRT, or this GPU, cannot run."""


class ClosedError(ScrfdError, RuntimeError):
    """Something was used after its ``close()``."""


class OverlayError(ScrfdError, RuntimeError):
    """An overlay failed while drawing, or returned no image."""


class MissingDependencyError(ScrfdError, ImportError):
    """A package that this needs is not installed; the message names it and the command that installs it."""


class OutputError(ScrfdError, OSError):
    """A result that cannot be written."""


def one_line(error: BaseException, longest: int = 500) -> str:
    """Return the message of another library's error on one line, cut to a length; the error's type if it has none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= longest else text[: longest - 1] + "…"
