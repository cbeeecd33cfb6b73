from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import overlays

pytestmark = pytest.mark.usefixtures("known_overlays")

Run = Callable[..., Any]


def test_a_list_for_people(run: Run) -> None:
    code, out, err = run("overlays")
    assert (code, err) == (0, "")
    for name in overlays.names():
        assert f"\n{name} " in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_options_of_one(run: Run) -> None:
    out = run("overlays", "skull").out
    (row,) = [line.split() for line in out.splitlines() if line.startswith("opacity")]
    assert row[:6] == ["opacity", "number,", "0", "to", "1", "1"]
    assert "For example: scrfd-trt overlay me.jpg --overlay skull:opacity=1 -o out.jpg" in out


@pytest.mark.parametrize("name", ["blur", "landmarks", "skull"])
def test_the_example_works(run: Run, name: str) -> None:
    out = run("overlays", name).out
    spec = out.rpartition("--overlay ")[2].split()[0]
    assert callable(overlays.parse(spec))


def test_the_example_names_what_is_needed(run: Run) -> None:
    assert "--overlay image:picture=PATH -o out.jpg" in run("overlays", "image").out


def test_what_happens_without_landmarks_is_told(run: Run) -> None:
    assert "Without landmarks: It stands upright on the box." in run("overlays", "skull").out
    assert "Without landmarks" not in run("overlays", "boxes").out


def test_json_for_machines(run: Run) -> None:
    every = json.loads(run("overlays", "--json").out)
    assert [overlay["name"] for overlay in every] == list(overlays.names())
    one = json.loads(run("overlays", "blur", "--json").out)
    assert one in every
    assert one["from"].startswith("scrfd-trt ")
    method = next(option for option in one["options"] if option["name"] == "method")
    assert method["type"] == "gaussian | pixelate"
    assert method["default"] == "gaussian"


def test_an_unknown_one(run: Run) -> None:
    ran = run("overlays", "skul")
    assert ran.code == 2
    assert "no overlay 'skul'" in ran.error
    assert "skull" in ran.error


def test_none_at_all(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlays, "names", tuple)
    assert run("overlays").error.startswith("no overlays are installed: run pip install")
