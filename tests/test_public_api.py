from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from importlib import import_module, metadata, resources
from pathlib import Path

import pytest

import overlays
import scrfd_trt

OPTIONAL_OR_SLOW = {
    "av",
    "cuda",
    "fastapi",
    "fiftyone",
    "filelock",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "pandas",
    "pillow_heif",
    "platformdirs",
    "polars",
    "pooch",
    "prometheus_client",
    "pyarrow",
    "ray",
    "requests",
    "rich",
    "scipy",
    "starlette",
    "supervision",
    "tensorrt",
    "typer",
    "uvicorn",
}


def public_modules() -> set[str]:
    """Every module whose path has no part with a leading underscore."""
    found = {"overlays", "scrfd_trt"}
    for package in (overlays, scrfd_trt):
        walked = pkgutil.walk_packages(package.__path__, f"{package.__name__}.", onerror=lambda name: None)
        found |= {module.name for module in walked if not re.search(r"\._", module.name)}
    return found


def test_public_names_are_those_on_record(root: Path):
    record = (root / "tests/data/public_names.txt").read_text(encoding="utf-8").split()
    found = [f"{name}:{member}" for name in public_modules() for member in import_module(name).__all__]
    assert sorted(found) == record


@pytest.mark.parametrize("name", sorted(public_modules()))
def test_public_names_exist_once(name):
    module = import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, member) for member in module.__all__)


@pytest.mark.parametrize("package", ["scrfd_trt", "overlays"])
def test_import_loads_no_optional_or_slow_package(package, tmp_path):
    code = f"import sys, {package}; print(*sys.modules, sep='\\n')"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert package in loaded
    assert not loaded & OPTIONAL_OR_SLOW


def test_all_names_and_the_command_line_load_without_optional_packages(tmp_path):
    required = {"filelock", "platformdirs", "rich", "typer"}
    missing = sorted(OPTIONAL_OR_SLOW - required)
    code = f"""
import sys
sys.modules.update(dict.fromkeys({missing}))
import overlays, scrfd_trt, scrfd_trt.video, scrfd_trt._cli.application
for package in (scrfd_trt, overlays, scrfd_trt.video):
    for name in package.__all__:
        getattr(package, name)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.mark.parametrize("package", [scrfd_trt, overlays])
def test_package_is_typed(package):
    assert resources.files(package).joinpath("py.typed").is_file()


def test_every_error_is_a_scrfd_error():
    errors = [
        value
        for name in scrfd_trt.__all__
        if isinstance(value := getattr(scrfd_trt, name), type) and name.endswith("Error")
    ]
    assert len(errors) == 18
    assert all(issubclass(error, scrfd_trt.ScrfdError) for error in errors)


@pytest.fixture
def distribution():
    try:
        return metadata.distribution("scrfd-trt")
    except metadata.PackageNotFoundError:
        pytest.skip("scrfd-trt is not installed")


def test_version_is_the_installed_one(distribution):
    assert scrfd_trt.__version__ == distribution.version


def test_built_in_overlays_are_entry_points(distribution):
    found = {entry.name: entry.load() for entry in distribution.entry_points.select(group="scrfd_trt.overlays")}
    assert found == {
        "blur": overlays.Blur,
        "boxes": overlays.Boxes,
        "crop": overlays.CropSheet,
        "emoji": overlays.Emoji,
        "image": overlays.Sticker,
        "landmarks": overlays.Landmarks,
        "pixelate": overlays.Pixelate,
        "skull": overlays.Skull,
        "solid": overlays.Solid,
        "spotlight": overlays.Spotlight,
    }


def test_changelog_has_an_entry_for_this_version(root: Path):
    assert f"## [{scrfd_trt.__version__}]" in (root / "CHANGELOG.md").read_text(encoding="utf-8")
