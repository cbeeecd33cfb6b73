from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import overlays
from overlays import _registry
from overlays._factories import Limits
from scrfd_trt._detections import Detections
from scrfd_trt.errors import OptionError, ScrfdError

Install = Callable[..., None]

PLUGIN = '''
from __future__ import annotations
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Optional

import numpy as np
from pydantic import BaseModel, Field

from overlays import OverlayModel

if TYPE_CHECKING:
    from nowhere import Thing


class Fill(OverlayModel):
    """Fill the image.

    More text.
    """

    level: int = Field(7, ge=0, lt=256, description="What it is filled with.")

    def draw(self, canvas, detections):
        canvas[:] = self.level


class Plain(BaseModel):
    level: int = 3

    def __call__(self, image, detections):
        return np.full_like(image, self.level)


def fill(level: int, twice: bool = False, where: Optional[Path] = None, how: Literal["a", "b"] = "a", any=1):
    """Make a filler."""
    assert isinstance(level, int) and isinstance(twice, bool)
    if level > 255:
        raise ValueError("level is\\ntoo high")
    return lambda image, detections: np.full_like(image, level * (2 if twice else 1))


def anything(**options):
    return lambda image, detections: np.full_like(image, len(options))


def unsupported(thing: Thing = None, other: slice = None):
    return lambda image, detections: image.copy()


def no_overlay():
    return 3


number = 3
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution with entry points and a module on the path, as pip does."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(distribution: str, module: str = "", source: str = PLUGIN, **entries: str) -> None:
        info = tmp_path / f"{distribution.replace('-', '_')}-2.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2.5\n")
        lines = "".join(f"{name} = {value}\n" for name, value in entries.items())
        (info / "entry_points.txt").write_text(f"[scrfd_trt.overlays]\n{lines}")
        if module:
            (tmp_path / f"{module}.py").write_text(source)
            monkeypatch.delitem(sys.modules, module, raising=False)

    return put


@pytest.fixture
def plugin(install: Install) -> None:
    names = {"fill": "Fill", "plain": "Plain", "function": "fill", "anything": "anything", "odd": "unsupported"}
    entries = {name: f"some_plugin:{value}" for name, value in names.items()}
    install("some-plugin", "some_plugin", **entries, made="some_plugin:no_overlay", number="some_plugin:number")


@pytest.fixture
def installed() -> None:
    try:
        metadata.distribution("scrfd-trt")
    except metadata.PackageNotFoundError:
        pytest.skip("the distribution scrfd-trt is not installed, so there are no entry points")


def level(overlay: overlays.Overlay) -> int:
    out = overlay(np.zeros((2, 3, 3), np.uint8), Detections.empty((3, 2)))
    assert out.min() == out.max()
    return int(out.max())


@pytest.mark.usefixtures("installed")
def test_built_in_overlays_are_found() -> None:
    assert {"blur", "landmarks", "skull"} <= set(overlays.names())
    assert overlays.load("skull") is overlays.Skull
    assert overlays.create("blur", method="pixelate") == overlays.Blur(method="pixelate")
    assert overlays.parse("landmarks:score=no,box_color=#00f") == overlays.Landmarks(score=False, box_color="#0000ff")
    assert overlays.distribution("skull").startswith("scrfd-trt ")
    for name in ("blur", "landmarks", "skull"):
        assert overlays.summary(name).endswith(".")
        assert all(option.description for option in overlays.describe(name))


@pytest.mark.usefixtures("plugin")
def test_third_party_overlays_are_found() -> None:
    assert {"fill", "plain", "function"} <= set(overlays.names())
    assert list(overlays.names()) == sorted(overlays.names())
    assert overlays.distribution("fill") == "some-plugin 2.5"
    assert overlays.summary("fill") == "Fill the image."
    assert overlays.summary("anything") == ""
    assert level(overlays.create("fill", level=9)) == 9
    assert level(overlays.parse("fill:level=9")) == 9
    assert level(overlays.parse("plain:level=9")) == 9


@pytest.mark.usefixtures("plugin")
def test_factories_can_be_plain_callables() -> None:
    assert level(overlays.create("function", level=9)) == 9
    assert level(overlays.parse("function:level=9,twice=yes,where=/a,how=b,any=x")) == 18
    assert level(overlays.create("anything", name=1, level="x")) == 2
    assert level(overlays.create("odd", other=slice(2))) == 0
    assert level(overlays.parse("odd:thing=1,other=2")) == 0


@pytest.mark.usefixtures("plugin")
def test_overlay_instead_of_name_is_rejected() -> None:
    with pytest.raises(OptionError, match="the name of an overlay is required, not "):
        overlays.create(overlays.create("function", level=9))  # type: ignore[arg-type]


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fil", "no overlay 'fil'; did you mean 'fill'\\? the overlays are: .*fill, function"),
        ("fill:levle=1", "overlay 'fill': no option 'levle'; did you mean 'level'\\? the options are: level"),
        ("solid:colour=red", "overlay 'solid': no option 'colour'; did you mean 'fill'"),
        ("image:path=a.png", "no option 'path'; did you mean 'picture'"),
        ("fill:level=x", "overlay 'fill': level: must be a whole number \\(it is 'x'\\)"),
        ("fill:level=300", "overlay 'fill': level: must be below 256"),
        ("plain:level=x", "overlay 'plain': level: must be a whole number"),
        (
            "function:levle=1",
            "overlay 'function': no option 'levle'; did you mean 'level'\\? the options are: level, tw",
        ),
        ("function", "overlay 'function' requires level: for example function:level=INTEGER$"),
        ("function:level=x", "overlay 'function': level: must be a whole number.*'x'"),
        ("function:level=1,how=c", "overlay 'function': how: must be 'a' or 'b'"),
        ("function:level=300", "overlay 'function' rejects its options: level is too high"),
    ],
)
def test_invalid_names_and_options_raise_one_line(spec: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        overlays.parse(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("made", "overlay 'made' of some-plugin 2.5 returned 3: its entry point must be a class or function"),
        ("number", "overlay 'number' of some-plugin 2.5: some_plugin:number must be a class or function"),
    ],
)
def test_entry_points_without_overlay_are_named(name: str, message: str) -> None:
    with pytest.raises(ScrfdError, match=message):
        overlays.create(name)


@pytest.mark.parametrize(
    ("value", "source", "message"),
    [
        ("broken_a:Fill", "import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("broken_a:Fill", "raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("broken_a:Fill", "def (", "SyntaxError: "),
        ("broken_a:Nothing", "", "AttributeError: .*Nothing"),
        ("not_there_either:Fill", "", "ModuleNotFoundError"),
    ],
)
def test_import_errors_name_the_distribution(install: Install, value: str, source: str, message: str) -> None:
    install("broken", "broken_a", source, broken=value)
    assert "broken" in overlays.names()
    with pytest.raises(ScrfdError, match=f"overlay 'broken' of broken 2.5 cannot be loaded .*{message}") as caught:
        overlays.create("broken")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.usefixtures("plugin")
def test_name_of_two_distributions_raises_with_both(install: Install) -> None:
    install("another", fill="another:Fill", unique="some_plugin:Fill")
    both = "overlay 'fill' is installed 2 times: another:Fill of another 2.5 and some_plugin:Fill of some-plugin 2.5"
    with pytest.raises(OptionError, match=both):
        overlays.create("fill")
    assert overlays.names().count("fill") == 1
    assert level(overlays.create("unique")) == 7


def test_uninstalled_project_error_explains_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if hasattr(finder, "find_distributions")])
    if overlays.names():
        pytest.skip("a custom finder finds the project without sys.path")
    with pytest.raises(OptionError, match=r"no overlay 'skull'; .* run pip install -e \. in its checkout"):
        overlays.create("skull")


def test_entry_point_without_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = metadata.EntryPoint("lost", "not_there_either:Fill", _registry.GROUP)
    monkeypatch.setattr(_registry, "_scan", lambda path: {"lost": (entry,)})
    with pytest.raises(ScrfdError, match="overlay 'lost' of an unknown distribution cannot be loaded"):
        overlays.create("lost")


@pytest.mark.usefixtures("plugin")
def test_describe() -> None:
    assert overlays.describe("fill") == (
        overlays.OptionHelp(
            "level", "integer", 7, False, "0 to below 256", "What it is filled with.", (), Limits(ge=0, lt=256)
        ),
    )
    described = {option.name: option for option in overlays.describe("function")}
    assert list(described) == ["level", "twice", "where", "how", "any"]
    assert described["level"].required
    assert not described["twice"].required
    kinds = {name: option.type for name, option in described.items()}
    assert kinds == {"level": "integer", "twice": "true or false", "where": "path", "how": "a | b", "any": "any"}
    assert [option.type for option in overlays.describe("odd")] == ["any", "any"]
    assert overlays.describe("anything") == ()


@pytest.mark.usefixtures("installed")
def test_entry_points_are_scanned_once_until_another_is_installed(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # it would change the folder of the distribution
    scans = []
    monkeypatch.setattr(
        _registry, "entry_points", lambda group: scans.append(group) or metadata.entry_points(group=group)
    )
    overlays.create("blur")
    before = len(scans)
    for _ in range(3):
        overlays.create("blur")
        overlays.describe("skull")
    assert len(scans) == before <= 1
    install("late", "late_plugin", late="late_plugin:Fill")
    assert level(overlays.create("late", level=3)) == 3
    assert overlays.distribution("late") == "late 2.5"
    assert len(scans) == before + 1


@pytest.mark.usefixtures("plugin")
def test_distribution_lists_all_providers(install: Install) -> None:
    install("another", fill="another:Fill")
    assert overlays.distribution("fill") == "another 2.5 and some-plugin 2.5"
