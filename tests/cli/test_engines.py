"""Commands with an engine file, on a fake TensorRT."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scrfd_trt import OptionError, _devices
from scrfd_trt._cli import bench_gpu
from scrfd_trt._cli.bench_gpu import GpuBench
from scrfd_trt._cuda import interop
from scrfd_trt._pipelines import factory
from scrfd_trt._pipelines.cuda import timing

pytestmark = pytest.mark.slow

Run = Callable[..., Any]
Picture = Callable[..., Path]


@pytest.fixture
def plan(fakes: ModuleType, tmp_path: Path) -> Path:
    path = tmp_path / "face.plan"
    path.write_bytes(fakes.plan())
    return path


def test_detect_with_engine(run: Run, picture: Picture, gpu: Any, plan: Path) -> None:
    code, out, err = run("detect", picture(), "--model", plan, "-f", "jsonl", "--device", "cuda:1", "--verbose")
    assert code == 0
    assert json.loads(out)["image_size"] == [160, 120]
    assert "note: cuda:1: tensorrt 8.6.0 on Fake H100 (cuda:1, " in err
    assert set(gpu.runs) == {(0, (1, 3, 64, 64))}
    assert not gpu.leaks


@pytest.mark.usefixtures("known_overlays")
def test_detect_annotates_and_measures(run: Run, picture: Picture, gpu: Any, plan: Path) -> None:
    code, _, err = run("detect", picture(), "--model", plan, "--annotate", "out", "--repeat", 7, "--threshold", 1)
    assert code == 0
    assert Path("out/spot.png").is_file()
    pace, where = err.splitlines()
    assert pace.startswith("spot.png: ")
    assert pace.endswith(" ms (7 runs after one to warm up)")
    assert " images/s, median " in pace
    assert where == "annotated copies in out"
    assert gpu.calls.count("cuGraphLaunch") == 7


@pytest.mark.usefixtures("known_overlays")
def test_overlay_with_engine(run: Run, picture: Picture, gpu: Any, plan: Path) -> None:
    words = ("--overlay", "blur", "-o", "out.png", "--model", plan, "--allow-host-code", "--threshold", 1)
    assert run("overlay", picture(), *words).code == 0
    assert Path("out.png").is_file()
    assert gpu.runs


@pytest.fixture
def short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten all measurements."""
    for name, value in {"WARMING": 1.0, "MEASURED": 1.0, "WARM_UP": 1, "ROUND": 2}.items():
        monkeypatch.setattr(bench_gpu, name, value)
    monkeypatch.setattr(timing, "REPEATS", 1)


@pytest.mark.usefixtures("short_measurements")
def test_bench_with_engine(
    run: Run, picture: Picture, gpu: Any, plan: Path, fakes: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(interop, "_view", fake_view)
    words = ("--model", plan, "--runs", 2, "--batch", "1,2", "--in-flight", "2")
    code, out, err = run("bench", picture(), *words, "--device", "cuda:1")
    assert (code, err) == (0, "")
    assert "tensorrt 8.6.0 on Fake H100 (cuda:1" in out
    for word in (
        "letterbox",
        "engine waited",
        "the engine alone",
        "160×120",
        "page-locked",
        "in flight",
        " MiB of the",
    ):
        assert word in out
    assert not gpu.leaks
    report = json.loads(run("bench", picture(), *words, "--json").out)
    assert list(report["steps"]) == ["1", "2"]
    assert [each["source"] for each in report["detect"]] == ["gpu", "pinned", "numpy"] * 2
    assert "network" not in report["steps"]["1"]
    assert report["engine_beside_detect"] == report["steps"]["1"]["engine"] == fakes.MILLISECONDS["network"]
    assert all(each["p50_to_engine"] == each["p50"] / report["engine_beside_detect"] for each in report["detect"])
    assert {(each["batch"], each["in_flight"]) for each in report["stream"]} == {(1, 2), (2, 2)}
    assert report["model"] == "face.plan"
    assert not gpu.leaks


class Tensor:
    """A fake PyTorch tensor on a GPU, with a stream to wait for."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": "|u1",
            "data": (array.ctypes.data, False),
            "strides": None,
            "version": 3,
            "stream": 1,
        }


def torch_with(places: list[str], *, is_available: bool) -> SimpleNamespace:
    """Return a fake PyTorch that records the devices of tensors."""

    def to(array: Any, place: str) -> Tensor:
        places.append(place)
        return Tensor(array.copy())

    cuda = SimpleNamespace(is_available=lambda: is_available, synchronize=lambda index: None)
    return SimpleNamespace(cuda=cuda, from_numpy=lambda array: SimpleNamespace(to=lambda place: to(array, place)))


@pytest.mark.usefixtures("short_measurements")
@pytest.mark.parametrize("is_available", [True, False])
def test_bench_with_pytorch(
    run: Run, picture: Picture, gpu: Any, plan: Path, monkeypatch: pytest.MonkeyPatch, is_available: bool
) -> None:
    places: list[str] = []
    monkeypatch.setattr(interop, "_view", fake_view)
    monkeypatch.setitem(sys.modules, "torch", torch_with(places, is_available=is_available))
    gpu.lying_on = 1
    words = ("--model", plan, "--runs", 2, "--batch", "1", "--in-flight", "1", "--device", "cuda:1")
    ran = run("bench", picture(), *words)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.count("PyTorch tensor") == (2 if is_available else 0)
    assert set(places) == ({"cuda:1"} if is_available else set())


@pytest.mark.usefixtures("gpu")
def test_impossible_comparison_is_refused_before_measuring(
    run: Run, plan: Path, network_500m: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Any] = []
    monkeypatch.setattr(factory, "cuda_problem", lambda _: "")
    monkeypatch.setattr(GpuBench, "measure", lambda *arguments: measured.append(arguments))
    ran = run("bench", "--compare", "ort-cuda", "--model", plan)
    assert "name the model, with --device cuda" in ran.error
    ran = run("bench", "--compare", "ort-cuda", "--device", "cuda", "--model", network_500m)
    assert ran.code != 0
    assert 'pip install "onnxruntime-gpu[cuda,cudnn]"' in ran.error
    assert measured == []


def fake_view(image: Any, stream: Any) -> SimpleNamespace:
    """Return what cuda.core returns for an array on a GPU."""
    shown = image.__cuda_array_interface__
    return SimpleNamespace(
        device_id=stream.device.device_id,
        dtype=np.dtype(np.uint8),
        ptr=shown["data"][0],
        readonly=shown["data"][1],
        **{name: shown[name] for name in ("shape", "strides")},
    )


@pytest.mark.usefixtures("short_measurements")
def test_plot(run: Run, picture: Picture, gpu: Any, plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(interop, "_view", fake_view)
    words = ("--model", plan, "--runs", 2, "--batch", "1", "--in-flight", "1")
    assert run("bench", picture(), *words, "--plot", "figures.png").code == 0
    assert Path("figures.png").read_bytes().startswith(b"\x89PNG")
    again = run("bench", picture(), *words, "--plot", "figures.png")
    assert (again.code, "--plot figures.png already exists; name another file" in again.error) == (2, True)
    assert "name a file that ends in .png" in run("bench", picture(), *words, "--plot", "figures.jpg").error
    ran = run("bench", picture(), *words, "--plot", "no/such/folder.png")
    assert ran.code == 1
    assert "no/such/folder.png: cannot be written" in ran.error


def test_choice_of_gpu(run: Run, gpu: Any, plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bench chooses the device like detect, and reports missing files and GPUs first."""
    measured: list[Any] = []

    def measure(*_: Any) -> None:
        measured.append(0)
        raise OptionError("enough")

    monkeypatch.setattr(GpuBench, "measure", measure)
    monkeypatch.setattr(factory, "cuda_problem", lambda _: "")
    for device in ("auto", "cuda:1"):
        assert "enough" in run("bench", "--device", device).error
    assert len(measured) == 2
    assert "none.plan: there is no such file" in run("bench", "--model", "none.plan", "--compare", "ort-cuda").error
    monkeypatch.setattr(factory, "cuda_problem", lambda _: "no luck")
    assert "device 'cuda' cannot be used: no luck" in run("bench", "--device", "cuda", "--compare", "ort-cuda").error
    monkeypatch.setattr(_devices, "driver", lambda: _devices.Driver(None, (), "no NVIDIA driver"))
    assert "no NVIDIA driver" in run("bench", "--model", plan, "--plot", "x.png").error
    for words in (["--batch", "abc"], ["--in-flight", "2"]):
        assert f"{words[0]} requires a GPU" in run("bench", *words).error
    assert len(measured) == 2


def test_gpu_options_are_checked(run: Run, gpu: Any, plan: Path) -> None:
    assert "--plot requires a GPU" in run("bench", "--plot", "x.png", "--device", "cpu").error
    assert "--batch '1,x': use whole numbers" in run("bench", "--model", plan, "--batch", "1,x").error
    assert "--in-flight '0': use numbers from 1" in run("bench", "--model", plan, "--in-flight", "0").error
    assert run("bench", "--allow-host-code").error.startswith(
        "--allow-host-code applies only to engines; 500m_bnkps is"
    )


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--device", "cpu"], 2, "--device cpu: engines run on NVIDIA GPUs only; the choices are: cuda, cuda:0"),
        (["--device", "cuda:7"], 2, "cuda:7 cannot be used: the GPUs are: Fake H100 (cuda:0"),
        (["--scale", "640"], 2, "640"),
    ],
)
@pytest.mark.parametrize("command", ["detect", "bench"])
def test_usage_errors(
    run: Run, picture: Picture, gpu: Any, plan: Path, command: str, words: list[str], code: int, message: str
) -> None:
    ran = run(command, picture(), "--model", plan, *words)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.error


def test_engine_with_host_code_names_option(
    run: Run, picture: Picture, gpu: Any, plan: Path, fakes: ModuleType
) -> None:
    plan.write_bytes(fakes.plan(refuse="host code"))
    ran = run("detect", picture(), "--model", plan)
    assert ran.code == 1
    assert "set --allow-host-code if you trust its origin" in ran.error
    assert run("detect", picture(), "--model", plan, "--allow-host-code", "--threshold", 1).code == 0


def test_lean_runtime(
    run: Run, picture: Picture, gpu: Any, plan: Path, fakes: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = fakes.flavour(gpu, version="10.16.1")
    fakes.use(monkeypatch, newer)
    error = run("detect", picture(), "--model", plan).error
    assert "set --lean-runtime or TRT_LEAN_RUNTIME to its libnvinfer_lean.so.8" in error
    assert "or set --allow-host-code if one" in error
    assert "; see" not in error
    lean = plan.with_name("libnvinfer_lean.so.8")
    lean.touch()
    assert run("detect", picture(), "--model", plan, "--lean-runtime", lean, "--threshold", 1).code == 0
    assert newer.module.lean == [str(lean)]


@pytest.mark.parametrize("cut", [0, 20, 100])
def test_truncated_engine(run: Run, picture: Picture, plan: Path, cut: int) -> None:
    plan.write_bytes(plan.read_bytes()[:cut])
    ran = run("detect", picture(), "--model", plan)
    assert ran.code == 2
    assert ran.error.startswith(f"{plan}: this plan is ")


def test_engine_without_gpu(run: Run, picture: Picture, no_gpu: None, plan: Path) -> None:
    ran = run("detect", picture(), "--model", plan)
    assert ran.code == 2
    assert ran.error == f"{plan}: cuda:0 cannot be used: no NVIDIA driver: it is not here"
