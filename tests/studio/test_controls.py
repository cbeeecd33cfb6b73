"""Overlay options become controls of the page."""

from __future__ import annotations

import pytest

import overlays
from scrfd_trt._studio.controls import fields


@pytest.mark.parametrize("name", overlays.names())
def test_every_option_has_control_with_its_default(name: str) -> None:
    found = {field.name: field for field in fields(name)}
    assert set(found) == {option.name for option in overlays.describe(name)} - {"color"}
    for field in found.values():
        if field.kind == "slider":
            assert field.low <= field.default <= field.high
            for value in (field.low, field.high):
                if name != "image":
                    overlays.create(name, **{field.name: int(value) if field.step == 1 else value})
        if field.kind == "choice":
            assert field.default in field.choices


def test_kinds_of_controls() -> None:
    kinds = {field.name: field.kind for field in fields("pixelate")} | {f.name: f.kind for f in fields("landmarks")}
    assert kinds["opacity"] == "slider"
    assert kinds["shape"] == "choice"
    assert kinds["block"] == "number"
    assert kinds["box"] == "switch"
    assert kinds["box_color"] == "text"
    assert {field.name: field.kind for field in fields("image")}["picture"] == "file"
