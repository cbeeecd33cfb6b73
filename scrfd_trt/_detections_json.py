"""The JSON format of detections; separate because pydantic is slow to import."""

from __future__ import annotations

from math import inf
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from scrfd_trt._detection_row import Detection
from scrfd_trt.errors import DetectionsError


def _checked(face: Detection) -> Detection:
    x1, y1, x2, y2 = face.box
    if not (-inf < x1 <= x2 < inf and -inf < y1 <= y2 < inf):
        raise ValueError("box must be finite x1, y1, x2, y2 with x2 ≥ x1 and y2 ≥ y1")
    if not 0.0 <= face.score <= 1.0:
        raise ValueError("score must lie between 0 and 1")
    if face.track_id is not None:
        raise ValueError("the track numbers of all faces are in the key track_ids of the whole")
    return face


class JsonDetections(BaseModel):
    """What ``Detections.to_json`` writes."""

    image_size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    landmarks: bool = True
    track_ids: list[int] | None = None
    pts_seconds: float | None = None
    faces: list[Annotated[Detection, AfterValidator(_checked)]]


def parse(text: str | bytes) -> JsonDetections:
    """Return the detections in a JSON text; raise DetectionsError, which gives the place, if it is invalid."""
    try:
        return JsonDetections.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the text"
        what = first["msg"].removeprefix("Value error, ")
        raise DetectionsError(f"invalid JSON of detections: {where}: {what}") from error
