from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, Field

import overlays
from overlays import Skull
from overlays._factories import Limits, check_options, option_help
from scrfd_trt.errors import OptionError, unknown_name


class Side(Enum):
    LEFT = "left"
    RIGHT = "right"


class Odd(BaseModel):
    """Options of many kinds."""

    side: Side = Side.LEFT
    low: int = Field(0, ge=1)
    high: float = Field(0, lt=2.5)
    most: float = Field(0, le=2.5)
    above: Annotated[float, Field(gt=0)] | None = None
    files: list[Path] = Field(default_factory=list)
    must: str


def test_types_and_ranges_from_schema() -> None:
    found = {option.name: (option.type, option.range, option.required) for option in option_help(Odd)}
    assert found == {
        "side": ("left | right", "", False),
        "low": ("integer", "at least 1", False),
        "high": ("number", "below 2.5", False),
        "most": ("number", "at most 2.5", False),
        "above": ("number", "above 0", False),
        "files": ("list", "", False),
        "must": ("text", "", True),
    }


def test_choices_and_limits_from_schema() -> None:
    found = {option.name: option for option in option_help(Odd)}
    assert {name: option.choices for name, option in found.items() if option.choices} == {"side": ("left", "right")}
    limits = {name: option.limits for name, option in found.items() if option.limits != Limits()}
    assert limits == {"low": Limits(ge=1), "high": Limits(lt=2.5), "most": Limits(le=2.5), "above": Limits(gt=0)}


@pytest.mark.parametrize("name", overlays.names())
def test_every_option_of_built_in_overlays_is_described(name: str) -> None:
    model = overlays.load(name)
    described = option_help(model)
    assert [option.name for option in described] == list(model.model_fields)
    assert all(option.description.endswith(".") and option.type != "any" for option in described)


def test_defaults() -> None:
    assert {option.name: option.default for option in option_help(Skull)} == {
        "opacity": 1.0,
        "blending": "linear",
        "color": "bgr",
        "scale": 1.0,
        "image": None,
    }


def test_callables_without_signature_take_any_options() -> None:
    assert option_help(dict) == ()
    assert check_options("dict", dict, {"a": "1"}) == {"a": "1"}


def test_text_is_converted_and_other_values_are_left() -> None:
    def factory(count: int, /, size: int = 3, *, ratio: float = 1.0) -> None: ...

    assert check_options("f", factory, {"size": "4", "ratio": "0.5"}) == {"size": 4, "ratio": 0.5}
    assert check_options("f", factory, {"size": 2.5}) == {"size": 2.5}
    with pytest.raises(OptionError, match="no option 'count'; the options are: size, ratio"):
        check_options("f", factory, {"count": "1"})


def test_unknown_name_lists_choices() -> None:
    assert unknown_name("overlay", "skul", ("blur", "skull")) == (
        "no overlay 'skul'; did you mean 'skull'? the overlays are: blur, skull"
    )
    assert unknown_name("overlay", "x", ("blur",)) == "no overlay 'x'; the overlays are: blur"
    assert unknown_name("option", "x", ()) == "no option 'x'; there are no options"
