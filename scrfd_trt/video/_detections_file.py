"""The file of a video's faces: JSON lines, a head and then one frame a line."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from scrfd_trt._files import atomic_path
from scrfd_trt._options import reason
from scrfd_trt._tracking.faces import Face, FrameFaces, Origin
from scrfd_trt._tracking.options import TrackingOptions
from scrfd_trt.errors import DetectionsError, OutputError
from scrfd_trt.video._reader import VideoInfo

if TYPE_CHECKING:
    from typing_extensions import Self

PART = 1 << 16
"""Bytes that are read at the beginning, in the middle and at the end."""


def fingerprint(name: str) -> str | None:
    """Return the length of a file and a hash of some of its bytes, ``12345-9f86d081884c7d65``.

    Parameters
    ----------
    name
        Path, or anything else that a video goes by.

    Returns
    -------
    str or None
        None for what is no file that can be read: folders and patterns of images, cameras, addresses.
    """
    path = Path(name)
    try:
        if not path.is_file():
            return None
        size = path.stat().st_size
        found = hashlib.sha256()
        with path.open("rb") as file:
            for at in (0, size // 2, max(0, size - PART)):
                file.seek(at)
                found.update(file.read(PART))
    except (OSError, ValueError):
        return None
    return f"{size}-{found.hexdigest()[:16]}"


FACES_SUFFIX = ".faces.jsonl"

Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Head(_Line):
    """The first line.

    Attributes
    ----------
    format, version
        What kind of file it is.
    video
        Name of the video, without its folder.
    size
        Width and height of the upright frames in pixels.
    rate
        Frames a second, on average.
    tracking
        How faces were followed: values of :class:`TrackingOptions`; what that does not know is left out.
    fingerprint
        Of the video's file; None where it is no single file, and in files of earlier versions.
    """

    format: Literal["scrfd_trt.faces"] = "scrfd_trt.faces"
    version: Literal[1] = 1
    video: str
    size: tuple[int, int]
    rate: float
    tracking: dict[str, Any] = Field(default_factory=dict)
    fingerprint: str | None = None

    @field_validator("tracking")
    @classmethod
    def _known(cls, tracking: dict[str, Any]) -> dict[str, Any]:
        """Leave out what later versions may have put there, and check the rest."""
        return TrackingOptions(
            **{name: tracking[name] for name in TrackingOptions.model_fields if name in tracking}
        ).model_dump()


class _Face(_Line):
    track: int = Field(ge=0)
    box: tuple[Finite, Finite, Finite, Finite]
    score: float = Field(ge=0.0, le=1.0)
    landmarks: tuple[tuple[Finite, Finite], ...] | None = Field(None, min_length=5, max_length=5)
    origin: Origin = Field("detected", alias="from")

    def face(self) -> Face:
        points = None if self.landmarks is None else np.array(self.landmarks)
        return Face(self.track, np.array(self.box), self.score, points, self.origin)


class _Frame(_Line):
    frame: int = Field(ge=0)
    pts_seconds: Finite
    cut: bool = False
    faces: list[_Face] = Field(default_factory=list)


class FacesWriter:
    """Writes the faces of a video; the file is there when the block has ended well, and not at all otherwise.

    Parameters
    ----------
    path
        Where to; its folder must be there.
    info, options
        Of the video, and how its faces were followed.
    overwrite
        Whether another file may be replaced.

    Raises
    ------
    OptionError
        If a file is there already.
    OutputError
        If it cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        info: VideoInfo,
        options: TrackingOptions | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        head = Head(
            video=Path(info.name).name,
            size=info.size,
            rate=float(info.rate),
            tracking=(options or TrackingOptions()).model_dump(),
            fingerprint=fingerprint(info.name),
        )
        with ExitStack() as stack:
            place = stack.enter_context(atomic_path(self.path, overwrite=overwrite))
            with self._told():
                self._file = place.open("w", encoding="utf-8")
            stack.callback(self._close)
            self._put(head.model_dump())
            self._stack = stack.pop_all()

    def write(self, frame: FrameFaces) -> None:
        """Write the faces of the next frame.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        about: dict[str, Any] = {"frame": frame.number, "pts_seconds": round(frame.pts_seconds, 6)}
        if frame.cut:
            about["cut"] = True
        self._put(about | {"faces": [_plain(face) for face in frame.faces]})

    def _put(self, line: dict[str, Any]) -> None:
        with self._told():
            self._file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")

    def _close(self) -> None:
        with self._told():
            self._file.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


class FacesReader:
    """Reads the faces of a video, frame by frame.

    Parameters
    ----------
    path
        What :class:`FacesWriter` wrote, or another program in its form.

    Attributes
    ----------
    head : Head
        The first line.

    Raises
    ------
    DetectionsError
        If the file cannot be read, or is none of these.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise DetectionsError(f"{self.path} cannot be read: {error.strerror}") from error
        try:
            self.head = self._parse(Head, self._file.readline(), 1)
        except BaseException:
            self._file.close()
            raise

    def __iter__(self) -> Iterator[FrameFaces]:
        """Read the frames from the first to the last.

        Raises
        ------
        DetectionsError
            If a line is no frame, or not the next one; the message says which.
        """
        self._file.seek(0)
        for number, text in enumerate(self._file, 1):
            if number == 1 or not text.strip():
                continue
            line = self._parse(_Frame, text, number)
            if line.frame != number - 2:
                raise DetectionsError(f"{self.path}, line {number}: frame {number - 2} is due here, not {line.frame}")
            yield FrameFaces(line.frame, line.pts_seconds, line.cut, [face.face() for face in line.faces])

    def _parse(self, model: type[Any], text: bytes, number: int) -> Any:
        try:
            return model.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            foreign = number == 1 and first["loc"] != ("tracking",)
            what = "it is no file of a video's faces" if foreign else reason(first)
            raise DetectionsError(f"{self.path}, line {number}{where and ', '}{where}: {what}") from error

    def check(self, info: VideoInfo) -> None:
        """Refuse a video that these are not the faces of.

        Its size is compared, and where it is a single file, how long that is and some of its bytes.

        Raises
        ------
        DetectionsError
            If it is another video.
        """
        advice = "name the video that they were found in, or find its faces anew"
        if self.head.size != info.size:
            (width, height), (own_width, own_height) = self.head.size, info.size
            raise DetectionsError(
                f"{self.path}: the faces are those of another video, of {width}×{height}; {info.name} has "
                f"{own_width}×{own_height}: {advice}"
            )
        own = None if self.head.fingerprint is None else fingerprint(info.name)
        if own not in (None, self.head.fingerprint):
            raise DetectionsError(
                f"{self.path}: the faces are those of another video, {self.head.video} as it was; {info.name} is "
                f"another file: {advice}"
            )

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _plain(face: Face) -> dict[str, Any]:
    points = None if face.landmarks is None else np.round(face.landmarks, 2).tolist()
    return {
        "track": face.track,
        "box": np.round(face.box, 2).tolist(),
        "score": round(face.score, 4),
        "landmarks": points,
        "from": face.origin,
    }
