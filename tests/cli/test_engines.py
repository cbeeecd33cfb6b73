"""Commands on an engine, which a stand-in for TensorRT runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Run = Callable[..., Any]
Picture = Callable[..., Path]


@pytest.fixture
def plan(fakes: ModuleType, tmp_path: Path) -> Path:
    path = tmp_path / "face.plan"
    path.write_bytes(fakes.plan())
    return path


def test_detect(run: Run, picture: Picture, gpu: Any, plan: Path) -> None:
    code, out, err = run("detect", picture(), "--model", plan, "--json", "--device", "cuda:1", "--verbose")
    assert code == 0
    assert json.loads(out)["image_size"] == [160, 120]
    assert "note: cuda:1: tensorrt 8.6.0 on Fake H100 (cuda:1, " in err
    assert gpu.runs == [(0, (1, 3, 64, 64))]
    assert not gpu.leaks


@pytest.mark.usefixtures("known_overlays")
def test_image_in_annotated_image_out_and_images_a_second(run: Run, picture: Picture, gpu: Any, plan: Path) -> None:
    code, _, err = run("detect", picture(), "--model", plan, "--annotate", "out", "--repeat", 7, "--threshold", 1)
    assert code == 0
    assert Path("out/spot.png").is_file()
    pace, where = err.splitlines()
    assert pace.startswith("spot.png: ")
    assert pace.endswith(" ms (7 runs after one to warm up)")
    assert " images/s, median " in pace
    assert where == "annotated copies in out"
    assert len(gpu.runs) == 8


@pytest.mark.usefixtures("known_overlays")
def test_overlay(run: Run, picture: Picture, gpu: Any, plan: Path) -> None:
    words = ("--overlay", "blur", "-o", "out.png", "--model", plan, "--allow-host-code", "--threshold", 1)
    assert run("overlay", picture(), *words).code == 0
    assert Path("out.png").is_file()
    assert gpu.runs


def test_bench_in_the_engines_own_size(run: Run, picture: Picture, gpu: Any, plan: Path) -> None:
    code, out, err = run("bench", picture(), "--model", plan, "--runs", 2, "--device", "cuda:1")
    assert (code, err) == (0, "")
    assert "cuda:1: tensorrt 8.6.0 on Fake H100" in out
    assert "the network's own run" in out
    assert not gpu.leaks
    told = json.loads(run("bench", picture(), "--model", plan, "--runs", 2, "--json").out)
    assert told["scales"] == [[64, 64]]
    assert told["network"] == "face.plan"


def test_a_network_is_not_measured_on_the_gpu(run: Run, network_500m: Path) -> None:
    ran = run("bench", "--model", network_500m, "--device", "cuda")
    assert ran.code == 2
    assert f"scrfd-trt build {network_500m} -o face.plan" in ran.error
    assert run("bench", "--allow-host-code").error.startswith("--allow-host-code is for engines, and 500m_bnkps is")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--device", "cpu"], 2, "--device cpu: engines run on NVIDIA GPUs only; the choices are: cuda, cuda:0"),
        (["--device", "cuda:7"], 2, "cuda:7 cannot be used: the GPUs are: Fake H100 (cuda:0"),
        (["--scale", "640"], 2, "640"),
    ],
)
@pytest.mark.parametrize("command", ["detect", "bench"])
def test_wrong_use_is_told_in_one_line(
    run: Run, picture: Picture, gpu: Any, plan: Path, command: str, words: list[str], code: int, message: str
) -> None:
    ran = run(command, picture(), "--model", plan, *words)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.error


def test_an_engine_with_code_inside_names_the_option(
    run: Run, picture: Picture, gpu: Any, plan: Path, fakes: ModuleType
) -> None:
    plan.write_bytes(fakes.plan(refuse="host code"))
    ran = run("detect", picture(), "--model", plan)
    assert ran.code == 1
    assert "set --allow-host-code if you trust" in ran.error
    assert run("detect", picture(), "--model", plan, "--allow-host-code", "--threshold", 1).code == 0


def test_a_lean_runtime(
    run: Run, picture: Picture, gpu: Any, plan: Path, fakes: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = fakes.flavour(gpu, version="10.16.1")
    fakes.use(monkeypatch, newer)
    assert "with --lean-runtime or TRT_LEAN_RUNTIME" in run("detect", picture(), "--model", plan).error
    lean = plan.with_name("libnvinfer_lean.so.8")
    lean.touch()
    assert run("detect", picture(), "--model", plan, "--lean-runtime", lean, "--threshold", 1).code == 0
    assert newer.module.lean == [str(lean)]


@pytest.mark.parametrize("cut", [0, 20, 100])
def test_half_an_engine(run: Run, picture: Picture, plan: Path, cut: int) -> None:
    plan.write_bytes(plan.read_bytes()[:cut])
    ran = run("detect", picture(), "--model", plan)
    assert ran.code == 2
    assert ran.error.startswith(f"{plan}: this plan is ")


def test_an_engine_without_a_gpu(run: Run, picture: Picture, no_gpu: None, plan: Path) -> None:
    ran = run("detect", picture(), "--model", plan)
    assert ran.code == 2
    assert ran.error == f"{plan}: cuda:0 cannot be used: no NVIDIA driver: it is not here"
