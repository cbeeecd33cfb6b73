"""One face as a validated row, and the JSON format of detections; separate because pydantic is slow to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scrfd_trt._options import explain
from scrfd_trt.errors import DetectionsError

if TYPE_CHECKING:
    from typing_extensions import Self

Point = tuple[float, float]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class JsonDetection(BaseModel):
    """One face in JSON, and the fields of :class:`Detection`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    box: tuple[Finite, Finite, Finite, Finite]
    score: float = Field(ge=0.0, le=1.0)
    landmarks: tuple[tuple[Finite, Finite], ...] | None = Field(None, min_length=5, max_length=5)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        x1, y1, x2, y2 = self.box
        if x2 < x1 or y2 < y1:
            raise ValueError("box must be x1, y1, x2, y2 with x2 ≥ x1 and y2 ≥ y1")
        return self

    @property
    def width(self) -> float:
        """Width of the box in pixels."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        """Height of the box in pixels."""
        return self.box[3] - self.box[1]

    @property
    def center(self) -> Point:
        """Center of the box, x and y in pixels."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


class Detection(JsonDetection):
    """One face: a validated row of ``Detections``.

    Attributes
    ----------
    box
        x1, y1, x2, y2 in source pixels, x2 ≥ x1 and y2 ≥ y1; the box may extend beyond the image.
    score
        0 to 1.
    landmarks
        Left eye, right eye, nose, left and right mouth corner as seen in the image, x and y in source pixels; or None.

    Raises
    ------
    DetectionsError
        If a value is invalid.
    """

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise DetectionsError(explain(type(self), error)) from error


class JsonDetections(BaseModel):
    """What ``Detections.to_json`` writes."""

    model_config = ConfigDict(extra="ignore")

    image_size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    landmarks: bool = True
    track_ids: list[int] | None = None
    pts_seconds: Finite | None = None
    faces: list[JsonDetection]
