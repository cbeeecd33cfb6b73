"""The JSON format of detections; separate because pydantic is slow to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scrfd_trt.errors import DetectionsError

if TYPE_CHECKING:
    from typing_extensions import Self

Finite = Annotated[float, Field(allow_inf_nan=False)]


class JsonDetection(BaseModel):
    """One face."""

    model_config = ConfigDict(extra="forbid")

    box: tuple[Finite, Finite, Finite, Finite]
    score: float = Field(ge=0.0, le=1.0)
    landmarks: tuple[tuple[Finite, Finite], ...] | None = Field(None, min_length=5, max_length=5)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        x1, y1, x2, y2 = self.box
        if x2 < x1 or y2 < y1:
            raise ValueError("box must be x1, y1, x2, y2 with x2 ≥ x1 and y2 ≥ y1")
        return self


class JsonDetections(BaseModel):
    """What ``Detections.to_json`` writes."""

    model_config = ConfigDict(extra="ignore")

    image_size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    landmarks: bool = True
    track_ids: list[int] | None = None
    pts_seconds: Finite | None = None
    faces: list[JsonDetection]


def parse(text: str | bytes) -> JsonDetections:
    """Return the detections in a JSON text; raise DetectionsError, which gives the place, if it is invalid."""
    try:
        return JsonDetections.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the text"
        raise DetectionsError(f"invalid JSON of detections: {where}: {first['msg']}") from error
