from __future__ import annotations

import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import pytest

import overlays
import scrfd_trt

NAMES = {
    "BackendError",
    "BuildOptions",
    "ClosedError",
    "Detection",
    "Detections",
    "DetectionsError",
    "DetectorOptions",
    "DeviceError",
    "DownloadError",
    "EngineError",
    "EngineReport",
    "ImageError",
    "MissingDependencyError",
    "ModelError",
    "ModelFormatError",
    "ModelNotFoundError",
    "OptionError",
    "OutputError",
    "OverlayError",
    "SCRFDDetector",
    "ScrfdError",
    "VideoError",
    "__version__",
    "build_engine",
    "inspect_engine",
}
OVERLAY_NAMES = {
    "Blur",
    "Boxes",
    "Compose",
    "Covering",
    "CropSheet",
    "Emoji",
    "Landmarks",
    "OptionHelp",
    "Overlay",
    "OverlayModel",
    "Pixelate",
    "Skull",
    "Solid",
    "Spotlight",
    "Sticker",
    "create",
    "describe",
    "from_supervision",
    "load",
    "names",
    "parse",
    "provider",
    "summary",
    "to_supervision",
}
OPTIONAL_OR_SLOW = {
    "av",
    "cuda",
    "fastapi",
    "filelock",
    "imagesize",
    "matplotlib",
    "nicegui",
    "onnx",
    "onnxruntime",
    "platformdirs",
    "pooch",
    "requests",
    "rich",
    "scipy",
    "supervision",
    "tensorrt",
    "typer",
}


@pytest.mark.parametrize(("package", "names"), [(scrfd_trt, NAMES), (overlays, OVERLAY_NAMES)])
def test_exported_names(package, names):
    assert set(package.__all__) == names
    assert all(hasattr(package, name) for name in names)
    assert len(package.__all__) == len(names)


@pytest.mark.parametrize("package", ["scrfd_trt", "overlays"])
def test_import_loads_nothing_optional_and_nothing_slow(package, tmp_path):
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
import overlays, scrfd_trt, scrfd_trt.video, scrfd_trt._cli.main
for package in (scrfd_trt, overlays, scrfd_trt.video):
    for name in package.__all__:
        getattr(package, name)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.mark.parametrize("package", [scrfd_trt, overlays])
def test_package_is_typed(package):
    assert resources.files(package).joinpath("py.typed").is_file()


def test_every_error_is_a_scrfd_error():
    errors = [value for name in NAMES if isinstance(value := getattr(scrfd_trt, name), type) and name.endswith("Error")]
    assert len(errors) == 16
    assert all(issubclass(error, scrfd_trt.ScrfdError) for error in errors)


@pytest.fixture
def distribution():
    try:
        return metadata.distribution("scrfd-trt")
    except metadata.PackageNotFoundError:
        pytest.skip("scrfd-trt is not installed")


def test_version_is_the_installed_one(distribution):
    assert scrfd_trt.__version__ == distribution.version


def test_built_in_overlays_are_entry_points_like_all_others(distribution):
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
