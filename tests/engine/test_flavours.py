"""The installed TensorRT packages, and errors about missing ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scrfd_trt import _devices
from scrfd_trt._engine import flavours
from scrfd_trt.errors import DeviceError, MissingDependencyError, OptionError

WITH_BUILDER = "__version__ = {version!r}\nclass Runtime: ...\nclass Builder: ...\nclass OnnxParser: ...\n"
RUNTIME_ONLY = "__version__ = {version!r}\nclass Runtime: ...\n"

Install = Callable[[str, str], Path]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Install]:
    """Put packages with TensorRT's names on the path instead of installed ones."""
    for name in flavours.NAMES:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.syspath_prepend(tmp_path)

    def add(name: str, code: str) -> Path:
        (tmp_path / name).mkdir()
        path = tmp_path / name / "__init__.py"
        path.write_text(code, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
        flavours._load.cache_clear()
        return path

    flavours._load.cache_clear()
    yield add
    flavours._load.cache_clear()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    card = _devices.Gpu(0, "NVIDIA H100", (9, 0))
    monkeypatch.setattr(_devices, "driver", lambda: _devices.Driver((12, 4), (card,)))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_devices, "driver", lambda: _devices.Driver(None, (), "no NVIDIA driver"))


def test_nothing_installed(install: Install, gpu: None) -> None:
    assert flavours.installed() == ()
    assert set(flavours.problems()) == set(flavours.NAMES)
    with pytest.raises(MissingDependencyError, match=r"pip install tensorrt-cu12$") as caught:
        flavours.choose()
    assert "\n" not in str(caught.value)
    assert all(f"{name}: not installed" in str(caught.value) for name in flavours.NAMES)


def test_requested_flavour_is_recommended(install: Install, gpu: None) -> None:
    with pytest.raises(MissingDependencyError) as caught:
        flavours.choose(name="tensorrt_lean")
    assert str(caught.value) == (
        "tensorrt_lean cannot be used (tensorrt_lean: not installed): pip install tensorrt-lean-cu12"
    )


def test_jetpack_installs_with_apt(
    install: Install, gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(flavours, "JETPACK", tmp_path)
    with pytest.raises(MissingDependencyError, match="sudo apt install python3-libnvinfer"):
        flavours.choose()


def test_rtx_is_recommended_without_a_gpu(install: Install, no_gpu: None) -> None:
    with pytest.raises(
        MissingDependencyError, match=r"GPU: pip install tensorrt-cu13\. For RTX cards, .* tensorrt-rtx-cu13$"
    ):
        flavours.choose(can_build=True)


def test_flavours_are_in_order_of_preference(install: Install, gpu: None) -> None:
    for name in reversed(flavours.NAMES):
        code = WITH_BUILDER if name in {"tensorrt", "tensorrt_rtx"} else RUNTIME_ONLY
        install(name, code.format(version="10.16.1.11"))
    found = flavours.installed()
    assert tuple(flavour.name for flavour in found) == flavours.NAMES
    assert [flavour.can_build for flavour in found] == [True, False, False, True]
    assert not flavours.problems()
    assert flavours.choose().name == "tensorrt"
    assert flavours.choose(name="tensorrt_lean").name == "tensorrt_lean"
    assert str(flavours.choose(name="tensorrt_rtx")) == "tensorrt_rtx 10.16.1.11"


def test_builder_is_required_to_build(install: Install, gpu: None) -> None:
    install("tensorrt_lean", RUNTIME_ONLY.format(version="10.16.1.11"))
    assert flavours.choose().name == "tensorrt_lean"
    with pytest.raises(MissingDependencyError, match=r"tensorrt_lean: 10\.16\.1\.11, runs engines but has no builder"):
        flavours.choose(can_build=True)
    with pytest.raises(OptionError, match="cannot build any; the choices are: tensorrt, tensorrt_rtx"):
        flavours.choose(can_build=True, name="tensorrt_lean")
    install("tensorrt_rtx", WITH_BUILDER.format(version="1.7.1.116"))
    assert flavours.choose(can_build=True).name == "tensorrt_rtx"


def test_only_rtx_builds_without_a_gpu(install: Install, no_gpu: None) -> None:
    for name, version in (("tensorrt", "10.16.1.11"), ("tensorrt_rtx", "1.7.1.116")):
        install(name, WITH_BUILDER.format(version=version))
    assert flavours.choose(can_build=True).name == "tensorrt_rtx"
    assert flavours.choose().name == "tensorrt"


@pytest.mark.parametrize(
    "line",
    [
        'raise ImportError("libcublas.so.12: cannot open shared object file: No such file or directory")',
        'raise OSError("libcublas.so.12: cannot open shared object file: No such file or directory\\nand more")',
        'raise RuntimeError("libcublas.so.12 does not fit")',
        "import libcublas.so.12",
    ],
)
def test_broken_package_reports_why_on_one_line(install: Install, gpu: None, line: str) -> None:
    install("tensorrt", line.replace("import libcublas.so.12", "import libcublas_so_12"))
    reason = flavours.problems()["tensorrt"]
    assert reason.startswith("installed, but cannot be loaded: ")
    assert "libcublas" in reason
    assert "\n" not in reason
    with pytest.raises(DeviceError, match="libcublas") as caught:
        flavours.choose()
    assert "\n" not in str(caught.value)


def test_package_is_imported_once(install: Install, gpu: None, tmp_path: Path) -> None:
    log = tmp_path / "log"
    count = f"import pathlib\nwith pathlib.Path({str(log)!r}).open('a') as file: file.write('x')\n"
    install("tensorrt", count + WITH_BUILDER.format(version="8.6.0"))
    for _ in range(3):
        flavours.installed()
    assert log.read_text() == "x"


def test_folder_of_that_name_is_not_tensorrt(install: Install, gpu: None, tmp_path: Path) -> None:
    install("tensorrt", "").unlink()
    reason = flavours.problems()["tensorrt"]
    assert reason == f"not installed; {tmp_path / 'tensorrt'} is another package of that name"
    with pytest.raises(MissingDependencyError, match="another package of that name"):
        flavours.choose()


def test_too_old_release(install: Install, gpu: None) -> None:
    install("tensorrt", WITH_BUILDER.format(version="8.5.3.1"))
    assert flavours.problems()["tensorrt"] == "8.5.3.1 is too old; 8.6 or newer is required"


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(OptionError, match="unknown TensorRT flavour 'trt'; the choices are: tensorrt, tensorrt_lean"):
        flavours.choose(name="trt")


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("8.6.0", (8, 6, 0)),
        ("10.13.3.9.post1", (10, 13, 3)),
        ("11.4", (11, 4, 0)),
        ("1.7.1.116", (1, 7, 1)),
        ("", (0, 0, 0)),
    ],
)
def test_release_of(version: str, release: tuple[int, int, int]) -> None:
    assert flavours.release_of(version) == release


@pytest.mark.rtx
def test_real_rtx_is_found() -> None:
    real = pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    found = flavours.choose(name="tensorrt_rtx", can_build=True)
    assert found.module is real
    assert found.version == real.__version__
    assert found.release[0] == 1
