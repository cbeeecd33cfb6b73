"""Options as frozen models: validated once, when they are made, with messages that fit on one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from scrfd_trt.errors import OptionError


class OptionsModel(BaseModel):
    """Base of all options: frozen, no unknown names, and :class:`OptionError` instead of pydantic's own error.

    Raises
    ------
    OptionError
        If a value is out of its range or a name is unknown; the message is one line and lists the choices.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise refusal(explain(type(self), error), error) from error


def refusal(message: str, error: ValidationError) -> OptionError:
    """Return an error with the fields and the first value that pydantic refused."""
    items = error.errors(include_url=False, include_context=False)
    fields = dict.fromkeys(".".join(map(str, item["loc"])) for item in items if item["loc"])
    return OptionError(message, fields=fields, value=items[0]["input"])


def explain(model: type[BaseModel], error: ValidationError) -> str:
    """Put a validation error into one line.

    Parameters
    ----------
    model
        The options that were refused; its field names are the choices where a name is unknown.
    error
        What pydantic found.

    Returns
    -------
    str
        For example ``Blur: strength: Input should be less than or equal to 1 (it is 3)``.
    """
    found = []
    for item in error.errors(include_url=False):
        name = ".".join(str(part) for part in item["loc"]) or "value"
        if item["type"] == "extra_forbidden":
            found.append(f"no option {name!r}; the options are: {', '.join(model.model_fields)}")
        elif item["type"] == "missing":
            found.append(f"{name} is needed, and has no default")
        else:
            found.append(f"{name}: {reason(item)} (it is {_short(item['input'])})")
    return f"{model.__name__}: " + "; ".join(dict.fromkeys(found))


def reason(item: Mapping[str, Any]) -> str:
    """Return the message of one of pydantic's errors; where a validator raised it, the validator's own."""
    own = item.get("ctx", {}).get("error")
    return str(own) if isinstance(own, Exception) else str(item["msg"])


def _short(value: object, most: int = 60) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _as_scale(value: object) -> object:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def _as_scales(value: object) -> object:
    if isinstance(value, int):
        return (value,)
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else value


def _once_each(scales: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    return tuple(dict.fromkeys(scales))


Side = Annotated[int, Field(gt=0, le=8192, multiple_of=32)]
"""A side of a network input in pixels: the coarsest stride is 32."""

Scale = Annotated[tuple[Side, Side], BeforeValidator(_as_scale)]
"""Width and height of one pass; one number stands for a square."""

Scales = Annotated[
    tuple[Scale, ...], BeforeValidator(_as_scales), AfterValidator(_once_each), Field(min_length=1, max_length=8)
]
"""The passes of one detection."""


class DetectorOptions(OptionsModel):
    """How a detector looks at its images.

    Attributes
    ----------
    threshold
        Lowest score of a face, 0 to 1.
    iou
        Two boxes whose intersection over union is above this are one face; the one with the higher score stays.
    scales
        Input sizes of the passes over each image, in pixels, multiples of 32: one number for a square, or several
        squares or (width, height) pairs in a tuple. ``None`` takes the network's own size where that is fixed, and
        otherwise 128 and 640: the small pass finds faces that fill the frame, which the anchors of the large one miss.
    max_faces
        Keep only so many faces, those with the highest scores. ``None`` keeps all.
    color
        What images are handed in: ``bgr`` or ``rgb``, the order of their channels, or ``nv12``, frames of video
        decoders as ``(H · 3/2, W)``, read as BT.601 in video range.
    max_batch
        Images that go through the network at once in ``detect_batch``, where it has a batch axis.
    """

    threshold: float = Field(0.5, ge=0.0, le=1.0)
    iou: float = Field(0.4, ge=0.0, le=1.0)
    scales: Scales | None = None
    max_faces: int | None = Field(None, ge=1)
    color: Literal["bgr", "rgb", "nv12"] = "bgr"
    max_batch: int = Field(8, ge=1, le=1024)
