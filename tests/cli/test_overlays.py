from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import cv2
import pytest

import overlays
from overlays import _registry

from .conftest import BOX

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("known_overlays")]

Run = Callable[..., Any]


def test_list(run: Run) -> None:
    code, out, err = run("overlays")
    assert (code, err) == (0, "")
    for name in overlays.names():
        assert f"\n{name} " in out
    assert max(map(len, out.splitlines())) <= 80


def test_options_of_one_overlay(run: Run) -> None:
    out = run("overlays", "skull").out
    (row,) = [line.split() for line in out.splitlines() if line.startswith("opacity")]
    assert row[:6] == ["opacity", "number,", "0", "to", "1", "1"]
    assert "Example: scrfd-trt overlay me.jpg --overlay skull:opacity=0.7 -o out.jpg" in out


@pytest.mark.parametrize("name", ["blur", "boxes", "crop", "emoji", "landmarks", "pixelate", "skull", "spotlight"])
def test_example_parses_and_differs_from_default(run: Run, name: str) -> None:
    out = run("overlays", name).out
    spec = out.rpartition("--overlay ")[2].split()[0]
    assert callable(overlays.parse(spec))
    assert overlays.parse(spec) != overlays.parse(name)


@pytest.mark.parametrize("name", ["blur", "pixelate", "solid"])
def test_example_does_not_make_faces_more_visible(run: Run, name: str) -> None:
    assert f"--overlay {name}:shape=aligned -o" in run("overlays", name).out


def test_example_names_required_options(run: Run) -> None:
    assert "--overlay image:picture=FILE -o out.jpg" in run("overlays", "image").out


def test_behaviour_without_landmarks_is_shown(run: Run) -> None:
    assert "Without landmarks: drawn upright." in run("overlays", "skull").out
    assert "Without landmarks" not in run("overlays", "boxes").out
    for name in ("blur", "pixelate", "solid", "spotlight"):
        printed = " ".join(run("overlays", name).out.split())
        assert "Without landmarks: shape=aligned works like shape=ellipse." in printed


def test_example_omits_channel_order(run: Run) -> None:
    assert "--overlay boxes:style=full -o" in run("overlays", "boxes").out
    assert "--overlay crop:side=whole -o" in run("overlays", "crop").out


def test_colour_options_have_colour_type(run: Run) -> None:
    rows = [line.split() for line in run("overlays", "landmarks").out.splitlines()]
    assert ["box_color", "colour", "green"] in [row[:3] for row in rows]


def test_overlays_that_cover_are_listed(run: Run) -> None:
    accepted = run("overlays").out.rpartition("'scrfd-trt anonymize' accepts: ")[2].partition(".")[0].split(", ")
    assert {"blur", "pixelate", "solid", "emoji", "image"} <= {*accepted}
    every = {overlay["name"]: overlay["covers"] for overlay in json.loads(run("overlays", "--json").out)}
    assert sorted(name for name, covers in every.items() if covers) == accepted
    assert every["skull"] is every["spotlight"] is False


class Function:
    """A factory of an overlay that is no class of this package."""

    covers = inner = True

    def __call__(self, level: int = 0) -> Any:
        def draw(image: Any, detections: Any) -> Any:
            out = image.copy()
            for x1, y1, x2, y2 in detections.boxes.astype(int):
                out[y1:y2, x1:x2] = level
            return out

        if self.inner is not None:
            draw.covers = self.covers and self.inner  # type: ignore[attr-defined]
        return draw


@pytest.mark.usefixtures("spots")
@pytest.mark.parametrize(
    ("covers", "inner", "error"),
    [
        (True, True, ""),
        (True, None, ""),
        (True, False, "--overlay foreign:level=7 does not hide faces with these options; change or leave them out"),
        (False, None, "--overlay foreign does not hide faces; the choices are: "),
    ],
)
def test_anonymize_takes_overlay_of_another_package_that_covers(
    run: Run, picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, covers: bool, inner: Any, error: str
) -> None:
    factory = Function()
    factory.covers, factory.inner = covers, inner
    monkeypatch.setattr(sys.modules[__name__], "foreign", factory, raising=False)
    found = _registry._scan(_registry._search_path())
    entry = EntryPoint("foreign", f"{__name__}:foreign", _registry.GROUP)
    monkeypatch.setattr(_registry, "_scan", lambda path: found | {"foreign": (entry,)})
    _registry._by_source.cache_clear()
    picture()
    ran = run("anonymize", "spot.png", "-o", "out.png", "--overlay", "foreign:level=7")
    if not error:
        assert ran.code == 0, ran.err
        assert (cv2.imread("out.png")[BOX[1] + 2 : BOX[3] - 2, BOX[0] + 2 : BOX[2] - 2] == 7).all()
        assert "foreign" in run("overlays").out.rpartition("accepts: ")[2]
    else:
        assert ran.error.startswith(error)


BROKEN = {
    "torn": [EntryPoint("torn", "torn_plugin:Torn", _registry.GROUP)],
    "twice": [EntryPoint("twice", f"{name}:Twice", _registry.GROUP) for name in ("one", "another")],
}


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """An overlay whose module is missing, and one that two distributions have, beside those that work."""
    found = _registry._scan(_registry._search_path())
    monkeypatch.setattr(_registry, "_scan", lambda path: found | BROKEN)
    _registry._by_source.cache_clear()


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("args", [("overlays",), ("overlay", "--help")])
def test_broken_overlays_are_listed_with_the_others(run: Run, args: tuple[str, ...]) -> None:
    code, out, err = run(*args)
    assert (code, err) == (0, "")
    printed = " ".join(out.split())
    assert "torn cannot be loaded: ModuleNotFoundError: No module named 'torn_plugin'" in printed
    assert "twice cannot be loaded: overlay 'twice' is installed 2 times:" in printed
    assert "\nskull " in out


@pytest.mark.usefixtures("broken")
def test_json_has_error_of_broken_overlay(run: Run) -> None:
    every = {overlay["name"]: overlay for overlay in json.loads(run("overlays", "--json").out)}
    assert set(every["torn"]) == set(every["twice"]) == {"name", "from", "error"}
    assert "cannot be loaded from torn_plugin:Torn: ModuleNotFoundError" in every["torn"]["error"]
    assert "uninstall all but one" in every["twice"]["error"]
    assert every["skull"]["options"]
    assert run("overlays", "torn", "--json").error.startswith("overlay 'torn' of an unknown distribution cannot be")


def test_json(run: Run) -> None:
    every = json.loads(run("overlays", "--json").out)
    assert [overlay["name"] for overlay in every] == list(overlays.names())
    one = json.loads(run("overlays", "blur", "--json").out)
    assert one in every
    assert one["from"].startswith("scrfd-trt ")
    method = next(option for option in one["options"] if option["name"] == "method")
    assert method["type"] == "gaussian | pixelate"
    assert method["default"] == "gaussian"


def test_unknown_overlay(run: Run) -> None:
    ran = run("overlays", "skul")
    assert ran.code == 2
    assert "no overlay 'skul'" in ran.error
    assert "skull" in ran.error


def test_no_overlays_installed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlays, "names", tuple)
    assert run("overlays").error.startswith("no overlays are installed: run pip install")


def test_option_texts_name_accepted_values(run: Run) -> None:
    rows = [" ".join(line.split()) for line in run("overlays", "landmarks").out.splitlines()]
    assert any(row.startswith("box true or false true ") for row in rows)
    assert "cool (sunglasses)" in " ".join(run("overlays", "emoji").out.split())
    assert "below 1, part of the face is changed" in " ".join(run("overlays", "spotlight").out.split())


def test_new_writes_package_under_a_name(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("overlays", "new", "party-hat")
    assert (code, out) == (0, "")
    assert err.splitlines()[1] == "install and test it: pip install -e ./party-hat pytest && python -m pytest party-hat"
    files = {path.relative_to(tmp_path).as_posix(): path.read_text("utf-8") for path in tmp_path.rglob("*.*")}
    names = ("README.md", "pyproject.toml", "src/party_hat/__init__.py", "tests/test_party_hat.py")
    assert files.keys() == {f"party-hat/{name}" for name in names}
    assert 'name = "party-hat"' in files["party-hat/pyproject.toml"]
    assert 'party-hat = "party_hat:PartyHat"' in files["party-hat/pyproject.toml"]
    assert "class PartyHat(" in files["party-hat/src/party_hat/__init__.py"]
    for name, text in files.items():
        if name.endswith(".py"):
            compile(text, name, "exec")
        assert not re.search("(?<!ixel )sunglasses|Sunglasses", text), name
    assert run("overlays", "new", "party-hat").error == "party-hat already exists; name another overlay, or remove it"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("new", "Party"), "'Party' cannot be the name of an overlay; use lower-case letters, such as party-hat"),
        (("new", "../hat"), "'../hat' cannot be the name of an overlay"),
        (("new", "class"), "'class' cannot be the name of an overlay"),
        (("new", "hat\n"), "'hat\\n' cannot be the name of an overlay"),
        (("new", "json"), "there is already a Python module named json; name another one"),
        (("new", "skull"), "there is already an overlay named skull; name another one"),
        (("new",), "name one overlay, or make one with 'scrfd-trt overlays new NAME'"),
        (("skull", "blur"), "name one overlay, or make one"),
    ],
)
def test_new_refuses(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("overlays", *words)
    assert ran.code == 2
    assert ran.error.startswith(message)
    assert not list(tmp_path.iterdir())
