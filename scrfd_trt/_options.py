"""Options as frozen pydantic models, validated at construction; errors are one line."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PydanticUserError,
    ValidationError,
    field_validator,
)

from scrfd_trt._option_names import unknown_attribute, unknown_option
from scrfd_trt.errors import OptionError, one_line, shown

logger = logging.getLogger("scrfd_trt")

MAX_PLAIN = 1e12
BOUNDS = {"le": "be at most", "ge": "be at least", "lt": "be below", "gt": "be above"}
BOUNDS |= {"min_length": "have a length of at least", "max_length": "have a length of at most"}
BOUNDS |= {"multiple_of": "be a multiple of"}
REQUIRED = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_parsing", "float_type"), "a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "true or false"),
    "string_type": "text",
    "path_type": "the path of a file",
    "tuple_type": "a list or tuple",
    "frozen_set_type": "a set or list, such as {1, 2}",
}
"""What pydantic requires, by its types of errors."""


if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass as _Checked
else:

    class _Checked(type(BaseModel)):
        def __new__(cls, name: str, *parts: Any, **options: Any) -> Any:
            try:
                return super().__new__(cls, name, *parts, **options)
            except PydanticUserError as error:
                given = re.search(r"`(\w+) = ", str(error)) if error.code == "model-field-missing-annotation" else None
                what = f"{given[1]} has no type: write {given[1]}: float = …" if given else one_line(error)
                raise OptionError(f"{name}: {what}", fields=(given and given.groups()) or ()) from error


class OptionsModel(BaseModel, metaclass=_Checked):
    """Base of all options: frozen, without unknown names. Invalid values raise OptionError, not ValidationError."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise refusal(explain(type(self), error), error) from error

    if not TYPE_CHECKING:  # type checkers know what is frozen, and that options have names

        def __new__(cls, *values: Any, **_: Any) -> Any:
            if values and getattr(getattr(cls.__init__, "__code__", None), "co_argcount", 0) == 1:
                raise OptionError(f"{cls.__name__} takes options by name, such as name=value, not {shown(values[0])}")
            return super().__new__(cls)

        def __getattr__(self, name: str) -> Any:
            try:
                return super().__getattr__(name)  # private attributes
            except AttributeError:
                return unknown_attribute(self, name)

        def __setattr__(self, name: str, value: Any) -> None:
            try:
                super().__setattr__(name, value)
            except ValidationError:
                kind, is_known = type(self).__name__, name in type(self).model_fields
                how = f"pass it to {kind}(…)" if is_known else f"declare it in the class, as {name}: float = 1.0"
                raise OptionError(f"{kind}.{name} is read-only: {how}", fields=[name], value=value) from None


def refusal(message: str, error: ValidationError) -> OptionError:
    """Return an OptionError with the fields and the first value that pydantic rejected."""
    items = error.errors(include_url=False, include_context=False)
    fields = dict.fromkeys(".".join(map(str, item["loc"])) for item in items if item["loc"])
    return OptionError(message, fields=fields, value=items[0]["input"])


LISTED = 5
"""Values that a message names."""


def explain(model: type[BaseModel], error: ValidationError) -> str:
    """Return one line, such as ``strength: must be at most 1 (it is 3)``."""
    found: dict[Any, str] = {}  # a number that stands for width and height is one
    items = error.errors(include_url=False)[:LISTED]
    flat = {item["loc"][0] for item in items if item["type"] == "tuple_type" and len(item["loc"]) == 2}
    for item in items:
        name = ".".join(str(part) for part in item["loc"]) or "value"
        if item["type"] == "extra_forbidden":
            what = unknown_option(name, model.model_fields)
        elif flat & {*item["loc"][:1]}:
            name = str(item["loc"][0])
            what = f"{name} must be a list of tuples: write {name}=[(…)]"
        elif item["type"] == "missing":
            what = f"{name} is required"
        else:
            what = f"{name}: {reason(item)} (it is {shown(item['input'])})"
        found.setdefault((item["loc"][:1], what.removeprefix(name)), what)
    rest = error.error_count() - LISTED
    return "; ".join(found.values()) + (f"; and {rest:,} more" if rest > 0 else "")


def reason(item: Mapping[str, Any]) -> str:
    """Return the message of a pydantic error; for an error of our own validators, their message."""
    context = item.get("ctx", {})
    for bound in BOUNDS.keys() & context:
        limit = context[bound]
        return f"must {BOUNDS[bound]} {_plain(limit) if isinstance(limit, float) else limit}"
    if item["type"] in REQUIRED:
        return f"must be {REQUIRED[item['type']]}"
    if item["type"] == "literal_error":
        return f"must be {context['expected']}"
    own = context.get("error")
    return str(own) if isinstance(own, Exception) else str(item["msg"])


def _plain(number: float) -> str:
    """Return a number without an exponent, unless it is very large or small."""
    return f"{number:.0f}" if number.is_integer() and abs(number) < MAX_PLAIN else f"{number:g}"


def whole_number(value: object) -> object:
    """Refuse text, and true and false, which pydantic would convert; return anything else, to be checked."""
    if isinstance(value, (str, bytes, bool)):
        raise ValueError("must be a whole number")  # noqa: TRY004 - pydantic explains ValueError
    return value


def _as_scale(value: object) -> object:
    return (value, value) if isinstance(value, (int, np.integer)) and not isinstance(value, bool) else value


def _as_tuple(value: object) -> object:
    if isinstance(value, (int, np.integer)) or (isinstance(value, np.ndarray) and not value.ndim):
        return (value.item() if isinstance(value, (np.ndarray, np.integer)) else value,)
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes)):
        raise ValueError("must be a whole number, or a list of them")  # noqa: TRY004 - pydantic explains ValueError
    return tuple(value)


def _as_scales(value: object) -> object:
    """Return a tuple; log that two numbers are two passes where they look like width and height."""
    scales = _as_tuple(value)
    if isinstance(value, tuple) and [type(side) for side in value] == [int, int]:
        low, high = sorted(value)
        if low < high < 2 * low:
            text = "scales=%s are two passes, of %d×%d and %d×%d; one pass of this width and height is scales=[%s]"
            logger.warning(text, value, value[0], value[0], value[1], value[1], value)
    return scales


def _once_each(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


Side = Annotated[int, Field(gt=0, le=8192, multiple_of=32)]
"""A side of the model input in pixels; the coarsest stride is 32."""

Scale = Annotated[tuple[Side, Side], BeforeValidator(_as_scale)]
"""Width and height of one pass; a single number means a square."""

Scales = Annotated[
    tuple[Scale, ...], BeforeValidator(_as_scales), AfterValidator(_once_each), Field(min_length=1, max_length=8)
]
"""The input sizes of all passes."""


Rotations = Annotated[
    tuple[Literal[90, 180, 270], ...], BeforeValidator(_as_tuple), AfterValidator(_once_each), Field(max_length=3)
]
"""Degrees clockwise."""


class DetectorOptions(OptionsModel):
    """Options of a detector.

    Attributes
    ----------
    threshold
        Minimum score of a face, 0 to 1.
    iou
        Maximum intersection over union of two faces, 0 to 1. Of two boxes above it, the one with the lower score is
        dropped.
    scales
        Input sizes of the passes over each image, in pixels, multiples of 32: one number for a square, or a tuple of
        squares and (width, height) pairs. ``None``: the model's own size if that is fixed, otherwise 128 and 640. The
        small pass detects faces that fill the frame, which are larger than the anchors of the large pass. On the CPU,
        models of free size run without most of the padding of an image.
    min_face
        Longer side in pixels of the smallest face that must be found, at least 4. ``None``: the passes of ``scales``
        only. Where such a face is smaller than 16 pixels in these, the model also runs over overlapping tiles of the
        image, at larger scales. Tiles have the largest size in ``scales``; on the CPU, models of free size use larger
        ones.
    rotations
        Degrees clockwise by which the image is turned for further passes: 90, 180 and 270, or some of them. They find
        faces of people who are lying down or upside down. On the CPU, faces that turned images hardly show are looked
        at again, enlarged and turned further, so that faces at angles between are found, too.
    max_faces
        Maximum number of faces; those with the highest scores are kept. ``None``: no limit.
    color
        Format of the images: ``bgr`` or ``rgb``, the channel order, or ``nv12``, video frames ``(H · 3/2, W)``, read as
        BT.601 in limited range.
    max_batch
        Maximum number of images per run of the model in ``detect_batch``, if the model has a batch axis.
    """

    threshold: float = Field(0.5, strict=True, ge=0.0, le=1.0)
    iou: float = Field(0.4, strict=True, ge=0.0, le=1.0)
    scales: Scales | None = None
    min_face: float | None = Field(None, strict=True, ge=4.0)
    rotations: Rotations = ()
    max_faces: int | None = Field(None, ge=1)
    color: Literal["bgr", "rgb", "nv12"] = "bgr"
    max_batch: int = Field(8, ge=1, le=1024)

    @field_validator("max_faces", "max_batch", mode="before")
    @classmethod
    def _check_whole(cls, value: object) -> object:
        return whole_number(value)
