from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def plan(fakes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("face.plan")
    path.write_bytes(fakes.plan())
    return path


def rows(out: str) -> list[tuple[str, str]]:
    """Read the table again; a label stands for what follows without one."""
    found: list[tuple[str, str]] = []
    width = out.splitlines()[1].index("tensorrt")
    for line in out.splitlines()[1:]:
        label = line[:width].strip() or found[-1][0]
        found.append((label, line[width:]))
    return found


def test_usable_engine(run: Run, gpu: Any, plan: Path) -> None:
    code, out, err = run("inspect", plan)
    assert (code, err) == (0, "")
    assert out.startswith("face.plan\n")
    table = rows(out)
    assert ("kind", "tensorrt plan") in table
    assert ("built by", "tensorrt 8.6.0.12") in table
    assert ("input", "x ?×3×64×64 float32") in table
    assert [text.split()[0] for label, text in table if label == "output"] == [
        f"{name}_{stride}" for name in ("score", "bbox", "kps") for stride in (8, 16, 32)
    ]
    assert ("profile 0", "1×3×64×64 to 4×3×64×64, tuned for 2×3×64×64") in table
    assert table[-1] == ("usable here", "yes")
    assert max(map(len, out.splitlines())) <= 80
    assert not gpu.leaks


def test_hash_is_on_one_line(run: Run, no_gpu: None, plan: Path) -> None:
    report = json.loads(run("inspect", plan, "--json").out)
    assert ("sha256", report["sha256"]) in rows(run("inspect", plan).out)


def test_unusable_engine(run: Run, no_gpu: None, plan: Path) -> None:
    code, out, err = run("inspect", plan)
    assert (code, err) == (1, "")
    args = " ".join(text for label, text in rows(out) if label == "because")
    assert "no NVIDIA driver: it is not here" in " ".join(args.split())
    assert ("usable here", "no") in rows(out)


def test_options_reach_engine(
    run: Run, gpu: Any, plan: Path, fakes: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan.write_bytes(fakes.plan(refuse="host code"))
    code, out, _ = run("inspect", plan)
    assert code == 1
    assert "--allow-host-code" in out
    assert "allow_host_code" in run("inspect", plan, "--json").out
    report = json.loads(run("inspect", plan, "--allow-host-code", "--device", "cuda:1", "--json").out)
    assert report["usable"]
    assert "cuda:1" in report["runs_on"]
    newer = fakes.flavour(gpu, version="10.16.1")
    fakes.use(monkeypatch, newer)
    Path("lean.so").touch()
    assert run("inspect", plan, "--lean-runtime", "lean.so", "--allow-host-code").code == 0
    assert newer.module.lean == [str(Path("lean.so").resolve())]


def test_several_files(run: Run, gpu: Any, plan: Path) -> None:
    Path("half.plan").write_bytes(plan.read_bytes()[:100])
    code, out, err = run("inspect", plan, "none.plan", "half.plan", "--json")
    assert code == 1
    good, missing, half = [json.loads(line) for line in out.splitlines()]
    assert (good["path"], good["usable"]) == ("face.plan", True)
    assert missing == {"path": "none.plan", "error": "none.plan: there is no such file"}
    assert "cut off" in half["reasons"][0]
    assert err == "error: none.plan: there is no such file\n"
    _, out, _ = run("inspect", plan, "half.plan")
    assert [part.splitlines()[0] for part in out.split("\n\n")] == ["face.plan", "half.plan"]
    assert run("inspect", plan, plan).code == 0


def test_onnx_model(run: Run, no_gpu: None, network_500m: Path) -> None:
    code, out, err = run("inspect", network_500m)
    assert (code, err) == (0, "")
    assert out.startswith(f"{network_500m}\n")
    assert "batched head, strides 8, 16, 32, with landmarks" in out
    report = json.loads(run("inspect", network_500m, "--json").out)
    assert (report["kind"], report["usable"]) == ("onnx", True)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["none.plan"], 1, "none.plan: there is no such file"),
        ([], 2, "Missing argument 'FILE'"),
        (["face.plan", "--device", "cpu"], 2, "--device cpu: engines run on NVIDIA GPUs only"),
    ],
)
def test_usage_errors(run: Run, plan: Path, args: list[str], code: int, message: str) -> None:
    ran = run("inspect", *args)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.error
