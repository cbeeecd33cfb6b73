from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scrfd_trt import models

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(models.HOME_VARIABLE, str(tmp_path))
    return tmp_path


def test_table(run: Run, home: Path) -> None:
    code, out, err = run("models")
    assert (code, err) == (0, "")
    for model in models.list_models():
        (row,) = [line.split() for line in out.splitlines() if line.startswith(f"{model.name} ")]
        assert row[1:4] == [f"{value:.2f}" for value in model.ap]
        assert ("five" if model.landmarks else "none") in row
    assert f"Files are stored in {home};" in out
    assert models.WEIGHTS_LICENCE in out
    table = out.split("\n\n")[0]
    assert max(map(len, table.splitlines())) <= 80


def test_json(run: Run) -> None:
    found = {model["name"]: model for model in json.loads(run("models", "--json").out)}
    assert list(found) == [model.name for model in models.list_models()]
    known = models.get("2.5g_bnkps")
    described = found["2.5g_bnkps"]
    assert described["ap"] == {"easy": 93.80, "medium": 92.02, "hard": 77.13}
    assert described["sha256"] == list(known.sha256)
    assert described["licence"] == models.WEIGHTS_LICENCE
    assert described["path"] is None
    assert {place["source"] for place in described["sources"]} >= {"home", "download"}


def test_damaged_file_is_reported(run: Run, home: Path) -> None:
    (home / "det_10g.onnx").write_bytes(b"half")
    out = run("models").out
    (row,) = [line for line in out.splitlines() if line.startswith("10g_bnkps ")]
    assert row.endswith("cannot be used")
    (reason,) = [line for line in out.splitlines() if line.startswith("10g_bnkps: ")]
    assert str(home / "det_10g.onnx") in reason
    assert "SHA-256" in reason


def test_available_model(run: Run, network_500m: Path) -> None:
    (row, path) = [line for line in run("models").out.splitlines() if line.startswith("500m_bnkps")]
    assert row.endswith("installed package")
    assert path == f"500m_bnkps: {network_500m}"
    assert run("models", "--fetch", "500m_bnkps").out == f"{network_500m}\n"
    assert json.loads(run("models", "--fetch", "500m_bnkps", "--json").out)["path"] == str(network_500m)


@pytest.mark.parametrize(
    ("name", "message"),
    [("nope", "no model 'nope'"), ("500m", "500m is not on this machine, and no release contains it")],
)
def test_unavailable_model(run: Run, name: str, message: str) -> None:
    ran = run("models", "--fetch", name)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.error
