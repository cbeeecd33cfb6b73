from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from scrfd_trt import BackendError, _devices, models
from scrfd_trt._cli import console
from scrfd_trt._cli.commands.build import parse_batch, parse_capabilities
from scrfd_trt._cli.progress import build_progress
from scrfd_trt._engine import flavours
from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._engine.plan import EngineRecord, FileHash, GpuInfo, record_path
from scrfd_trt._engine.progress import stage
from scrfd_trt._pipelines import factory
from scrfd_trt._tensors import ShapeRange, TensorSpec
from scrfd_trt.errors import OptionError

Run = Callable[..., Any]
PLAN = b"a plan" * 500_000
DETECT = "scrfd-trt detect photo.jpg --model"
RANGES = (
    ShapeRange((1, 3, 64, 64), (1, 3, 64, 64), (1, 3, 64, 64)),
    ShapeRange((1, 3, 64, 64), (8, 3, 64, 64), (32, 3, 64, 64)),
)


class Builder:
    """A fake ``factory.build_engine`` that writes the same files."""

    def __init__(self) -> None:
        self.received: dict[str, Any] = {}
        self.error: BaseException | None = None

    def __call__(self, onnx: Path, out: Path, options: BuildOptions, *, progress: Any, **rest: Any) -> Path:
        self.received = {"onnx": onnx, "out": out, "options": options, **rest}
        with stage(progress, "preparing the model"):
            pass
        with stage(progress, "building with tensorrt 8.6.0", 1000):
            progress.step(500, "layer 1/2")
            if self.error is not None:
                raise self.error
        record = EngineRecord(
            plan=FileHash(name=out.name, sha256=hashlib.sha256(PLAN).hexdigest()),
            onnx=FileHash(name=onnx.name, sha256="0" * 64),
            flavour="tensorrt",
            version="8.6.0",
            gpu=GpuInfo(name="Fake H100", compute_capability=(9, 0)),
            options=options,
            input=TensorSpec("x", (None, 3, 64, 64)),
            outputs=(),
            ranges=RANGES,
            notes=(),
            made="2026-11-23T12:00:00+00:00",
            seconds=1.5,
            scrfd_trt="0.1.0",
        )
        out.write_bytes(PLAN)
        record_path(out).write_text(record.model_dump_json())
        return out


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Builder:
    """A fake builder, with ``my.onnx`` in the empty current folder."""
    monkeypatch.chdir(tmp_path)
    Path("my.onnx").write_bytes(b"\x08\x06\x12\x07pytorch")
    found = Builder()
    monkeypatch.setattr(factory, "build_engine", found)
    return found


def test_report(run: Run, builder: Builder) -> None:
    code, out, err = run("build", "my.onnx", "-o", "my face.plan")
    assert code == 0
    assert err == "preparing the model …\nbuilding with tensorrt 8.6.0 …\n"
    assert out.splitlines() == [
        "my face.plan: 2.9 MiB, 0 s with tensorrt 8.6.0",
        "  fp16 of my.onnx on Fake H100",
        "  profile 0: 1×3×64×64",
        "  profile 1: 1×3×64×64 to 32×3×64×64, tuned for 8×3×64×64",
        "Build record: my face.plan.json",
        "",
        f"Next, after copying both files to a machine with such a GPU: {DETECT} 'my face.plan'",
    ]
    assert builder.received == {
        "onnx": Path("my.onnx"),
        "out": Path("my face.plan"),
        "options": BuildOptions(),
        "device": 0,
        "overwrite": False,
    }


def test_report_on_machine_with_gpu(run: Run, builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = (_devices.Gpu(0, "Fake H100", (9, 0)),)
    monkeypatch.setattr(_devices, "driver", lambda: _devices.Driver((13, 0), gpus))
    out = run("build", "my.onnx", "-o", "face.plan").out
    assert out.splitlines()[-1] == f"Next: {DETECT} face.plan"


def test_json(run: Run, builder: Builder) -> None:
    code, out, _ = run("build", "my.onnx", "-o", "face.plan", "--json")
    assert code == 0
    report = json.loads(out)
    assert out.count("\n") == 1
    assert (report["engine"], report["size"]) == ("face.plan", len(PLAN))
    assert report["seconds"] >= 0
    assert report["record"] == json.loads(Path("face.plan.json").read_text())


def test_quiet(run: Run, builder: Builder) -> None:
    assert run("build", "my.onnx", "-o", "face.plan", "--quiet") == (0, "", "")
    assert Path("face.plan").is_file()


def test_all_options(run: Run, builder: Builder) -> None:
    words = (
        *(
            "--precision",
            "int8",
            "--calibration",
            "photos",
            "--max-face-change",
            "0.02",
            "--size",
            "128,640x384",
            "--size",
            "256",
            "--batch",
            "2, 4,8",
        ),
        *("--no-batch-one-profile", "--level", 5, "--workspace", 512, "--version-compatible"),
        *("--lean-runtime-inside", "--hardware-compatible", "--timing-cache", "times"),
        *("--compute-capability", "8.6,8.9", "--compute-capability", "12.0", "--io", "float16"),
        *("--device", "cuda:2", "--overwrite"),
    )
    assert run("build", "my.onnx", "-o", "face.plan", *words).code == 0
    assert builder.received["options"] == BuildOptions(
        precision="int8",
        calibration=Path("photos"),
        max_face_change=0.02,
        io="float16",
        sizes=[(128, 128), (640, 384), (256, 256)],
        batch=(2, 4, 8),
        batch_one_profile=False,
        optimization_level=5,
        workspace_mib=512,
        version_compatible=True,
        lean_runtime_inside=True,
        hardware_compatible=True,
        timing_cache=Path("times"),
        compute_capabilities=("8.6", "8.9", "12.0"),
    )
    assert (builder.received["device"], builder.received["overwrite"]) == (2, True)


def test_test_of_all_options_is_complete() -> None:
    names = "precision io sizes batch batch_one_profile optimization_level workspace_mib version_compatible"
    names += " lean_runtime_inside hardware_compatible timing_cache compute_capabilities"
    names += " calibration max_face_change"
    assert set(BuildOptions.model_fields) == set(names.split())


def test_model_by_name(run: Run, builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "fetch", lambda name: Path(f"fetched-{name}.onnx"))
    monkeypatch.setattr(flavours, "choose", lambda **_: None)
    assert run("build", "2.5g_bnkps", "-o", "face.plan").code == 0
    assert builder.received["onnx"] == Path("fetched-2.5g_bnkps.onnx")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nope", "-o", "x.plan"], "no model 'nope'; the models are: 500m_bnkps"),
        (["old.plan", "-o", "x.plan"], "old.plan is an engine already; name the .onnx file that it was built from"),
        (["my.onnx", "-o", "taken.plan"], "taken.plan already exists; name another file, or add --overwrite"),
        (["my.onnx", "-o", "record.plan"], "record.plan.json already exists"),
        (["my.onnx", "-o", "no/x.plan"], "there is no folder no; create it first"),
        (["my.onnx", "-o", "my.onnx", "--overwrite"], "my.onnx is the model; name another file for the engine"),
        (["my.onnx"], "Missing option '--output'"),
        (["my.onnx", "-o", "x.plan", "--size", "100"], "--size '100': sides are multiples of 32"),
        (["my.onnx", "-o", "x.plan", "--batch", "8,1"], "--batch '8,1': give one number, or min,opt,max such as"),
        (["my.onnx", "-o", "x.plan", "--device", "cpu"], "engines run on NVIDIA GPUs only; the choices are: cuda"),
        (["my.onnx", "-o", "x.plan", "--device", "tpu"], "invalid device 'tpu'; the choices are: "),
        (["my.onnx", "-o", "x.plan", "--precision", "int4"], "'int4' is not one of 'fp32', 'tf32', 'fp16', 'int8'"),
        (["my.onnx", "-o", "x.plan", "--level", "6"], "Invalid value for '--level'"),
        (["my.onnx", "-o", "x.plan", "--workspace", "0"], "Invalid value for '--workspace'"),
        (
            ["my.onnx", "-o", "x.plan", "--workspace", "9999999"],
            "--workspace: must be at most 1048576 (it is 9999999)",
        ),
        (
            ["my.onnx", "-o", "x.plan", "--compute-capability", "9"],
            "--compute-capability '9': give two numbers with a dot",
        ),
        (["my.onnx", "-o", "x.plan", "--lean-runtime-inside"], "requires --version-compatible"),
        (["my.onnx", "-o", "x.plan", "--calibration", "photos"], "--max-face-change require --precision int8"),
    ],
)
def test_usage_errors_come_before_any_work(
    run: Run, builder: Builder, fakes: ModuleType, words: list[str], message: str
) -> None:
    for name in ("taken.plan", "record.plan.json"):
        Path(name).write_text("mine")
    Path("old.plan").write_bytes(fakes.plan())
    before = sorted(Path().iterdir())
    ran = run("build", *words)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.error
    assert not builder.received
    assert sorted(Path().iterdir()) == before
    assert Path("taken.plan").read_text() == "mine"


def test_missing_tensorrt_is_reported_before_download(
    run: Run, no_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "find", lambda name: None)
    ran = run("build", "500m_bnkps", "-o", tmp_path / "face.plan")
    assert ran.code == 2
    assert "building an engine requires TensorRT, which is not installed. On the machine" in ran.error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (BackendError("tensorrt 8.6.0 could not build the engine"), 1, "tensorrt 8.6.0 could not build the engine"),
        (OptionError("not for tensorrt_rtx", fields=["optimization_level"]), 2, "not for tensorrt_rtx; see --level"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C; unfinished files were deleted"),
    ],
)
def test_failed_build_leaves_no_files(
    run: Run, builder: Builder, error: BaseException, code: int, message: str
) -> None:
    builder.error = error
    ran = run("build", "my.onnx", "-o", "face.plan")
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.splitlines()[-1] == f"error: {message}"
    assert [path.name for path in Path().iterdir()] == ["my.onnx"]


@pytest.mark.parametrize(("text", "batch"), [("8", (8, 8, 8)), ("1,8,32", (1, 8, 32)), (" 1 , 1,2", (1, 1, 2))])
def test_parse_batch(text: str, batch: tuple[int, int, int]) -> None:
    assert parse_batch(text) == batch


@pytest.mark.parametrize("text", ["", "0", "1,2", "1,2,3,4", "1,x,3", "1,2,x,3", "x", "-1", "3,2,1", "1,8,2000", "1.5"])
def test_invalid_batch_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"^--batch "):
        parse_batch(text)


def test_parse_capabilities() -> None:
    assert parse_capabilities(None) is None
    assert parse_capabilities(["8.6, 12.0", "7.5"]) == ("8.6", "12.0", "7.5")
    for text in ("", "8", "8.6,", "sm_86"):
        with pytest.raises(OptionError, match=r"^--compute-capability "):
            parse_capabilities([text])


class TestBar:
    @pytest.fixture
    def terminal_output(self, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
        """The output of a terminal."""
        output = io.StringIO()
        terminal = Console(
            file=output, force_terminal=True, width=80, soft_wrap=True, highlight=False, color_system=None
        )
        monkeypatch.setattr(console, "STDERR", terminal)
        return output

    def test_phases_with_and_without_total(self, terminal_output: io.StringIO) -> None:
        with build_progress(quiet=False) as progress:
            with stage(progress, "preparing [the] network"):
                progress.step(0, "")
            with stage(progress, "building with tensorrt_rtx 1.7.1.116", 1000):
                progress.step(250, "[bold] a phase with a name that is long 1/2\n")
                progress._bars.refresh()  # type: ignore[attr-defined]
        text = terminal_output.getvalue()
        assert "preparing [the] network" in text
        assert " 25% 0:00:00 [bold]" in text
        assert "100% 0:00:00" in text

    def test_no_line_is_wider_than_terminal(self, terminal_output: io.StringIO) -> None:
        with build_progress(quiet=False) as progress, stage(progress, "building with tensorrt_rtx 1.7.1.116", 10):
            progress.step(5, "x" * 500)
            progress._bars.refresh()  # type: ignore[attr-defined]
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal_output.getvalue())
        assert "xxx…" in text
        assert max(map(len, re.split(r"[\r\n]", text))) <= 80

    def test_quiet(self, terminal_output: io.StringIO) -> None:
        with build_progress(quiet=True) as progress, stage(progress, "building", 10):
            progress.step(5, "")
        assert terminal_output.getvalue() == ""
