"""The code of the guide to overlays runs and passes the checks, and shows the files of the example plugin."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import overlays
from overlays.testing import CHECKS

pytestmark = pytest.mark.slow

GUIDE = Path("docs/how-to/writing-an-overlay.md")
PLUGIN = Path("examples/overlay_plugin")
EXAMPLES: dict[str, dict[str, Any]] = {
    "Monocle": {"metal": "red", "eye": "right"},
    "Hat": {"opacity": 0.8},
    "Noise": {"shape": "aligned"},
    "Halo": {},
    "Rank": {},
    "tint": {"level": 30},
}


@pytest.fixture(scope="module")
def guide(root: Path) -> str:
    if not (root / GUIDE).exists():
        pytest.skip("no documentation beside the package")
    return (root / GUIDE).read_text(encoding="utf-8")


def load(folder: Path, name: str) -> Iterator[ModuleType]:
    """Import a module from a folder, so that its classes can be pickled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield import_module(name)
        patch.delitem(sys.modules, name)


@pytest.fixture(scope="module")
def guide_module(guide: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("guide")
    blocks = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    (folder / "code_of_the_guide.py").write_text("\n".join(blocks), encoding="utf-8")
    yield from load(folder, "code_of_the_guide")


@pytest.fixture(scope="module")
def plugin_module(root: Path) -> Iterator[ModuleType]:
    yield from load(root / PLUGIN / "src", "pixel_sunglasses")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_pass_all_checks(guide_module: ModuleType, picture: Path, name: str, check: Any) -> None:
    options = EXAMPLES[name] | ({"picture": picture} if name == "Hat" else {})
    check(getattr(guide_module, name)(**options))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("options", [{}, {"size": 2.0, "shine": False}])
def test_plugin_passes_all_checks(plugin_module: ModuleType, options: dict[str, Any], check: Any) -> None:
    check(plugin_module.Sunglasses(**options))


@pytest.mark.parametrize(
    ("language", "names"),
    [("toml", ["pyproject.toml"]), ("py", ["src/pixel_sunglasses/__init__.py", "tests/test_sunglasses.py"])],
)
def test_guide_shows_parts_of_plugin_files(guide: str, root: Path, language: str, names: list[str]) -> None:
    blocks = re.findall(rf"```{language}\n(.*?)```", guide, re.DOTALL)
    files = [(root / PLUGIN / name).read_text(encoding="utf-8") for name in names]
    assert len(blocks) == len(files)
    assert all(block in file for block, file in zip(blocks, files, strict=True))


def test_guide_lists_all_checks(guide: str) -> None:
    assert re.findall(r"^\| `(check_\w+)` \|", guide, re.MULTILINE) == [check.__name__ for check in CHECKS]


def test_guide_and_plugin_import_public_names_only(guide: str, root: Path) -> None:
    text = guide + (root / "docs/gallery.md").read_text(encoding="utf-8")
    for path in (root / PLUGIN).rglob("*.py"):
        text += path.read_text(encoding="utf-8")
    assert not re.search(r"\b(overlays|scrfd_trt)\._", text)
    assert {name for name in re.findall(r"\boverlays\.(\w+)", text) if name != "md"} <= {*overlays.__all__, "testing"}


def test_reference_lists_all_public_names(root: Path) -> None:
    if not (root / "docs").exists():
        pytest.skip("no documentation beside the package")
    listed = re.findall(
        r"^::: overlays\.(\w+)$", (root / "docs/reference/api/overlays.md").read_text("utf-8"), re.MULTILINE
    )
    assert sorted(listed) == sorted([*overlays.__all__, "testing"])
