"""Real engines, built by TensorRT-RTX, which builds without a GPU."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scrfd_trt._engine import flavours
from scrfd_trt._engine import plan as files
from scrfd_trt._engine.build import build_plan, write_engine
from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._engine.onnx.rewrite import PreparedModel, prepare
from scrfd_trt.errors import BackendError, ModelFormatError, OptionError

pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

pytestmark = [pytest.mark.rtx, pytest.mark.slow]

RTX = flavours.choose(name="tensorrt_rtx", can_build=True)
BITS = {"7.5": 1, "8.0": 2, "8.6": 4, "8.9": 8, "12.0": 16, "12.1": 32}
Networks = Callable[[str], Path]


def header(plan: bytes) -> tuple[bytes, int, bytes, int]:
    """Return a plan's magic, size, release, and compute capabilities (one bit each)."""
    magic, size, version, capabilities = struct.unpack_from("<4s12xQ4s4xI", plan)
    return magic, size, version, capabilities


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Networks:
    def find(name: str) -> Path:
        if name == "500m":
            path: Path = request.getfixturevalue("network_500m")
            return path
        models: dict[str, Path] = request.getfixturevalue("models_2_5g")
        return models[name]

    return find


@pytest.fixture(scope="module")
def small(network_500m: Path) -> PreparedModel:
    return prepare(network_500m, sizes=((128, 128),), batch=(1, 1, 1), precision="fp32")


def test_int8_engine(network_500m: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrfd_trt._engine.onnx.quantize._Quantizer.choose_kept", lambda self, progress: ())  # quick
    options = BuildOptions(precision="int8", sizes=[160], compute_capabilities=("8.9",))
    out = write_engine(network_500m, tmp_path / "int8.plan", options, flavour=RTX)
    record = files.read_record(out)
    assert record is not None
    assert record.notes[-2:][0] == "INT8 but for 0 of 60 convolutions"


@pytest.mark.parametrize("name", ["500m", "grid", "flat"])
def test_real_engines_of_all_models(name: str, network: Networks, tmp_path: Path) -> None:
    source = network(name)
    sizes = {}
    for precision in ("fp32", "fp16"):
        stages: list[str] = []

        class Told:
            def phase(self, stage: str, total: int | None, /, stages: list[str] = stages) -> None:
                stages.append(stage)

            def step(self, done: int, detail: str, /) -> None:
                assert 0 <= done <= 1000

            def done(self) -> None: ...

        out = write_engine(
            source, tmp_path / f"{precision}.plan", BuildOptions(precision=precision), flavour=RTX, progress=Told()
        )
        plan = out.read_bytes()
        assert header(plan)[:3] == (b"vtrt", len(plan), bytes(int(part) for part in RTX.version.split(".")))
        assert stages == ["preparing the model", "comparing it with the original", f"building with {RTX}"]
        record = files.read_record(out)
        assert record is not None
        assert record.plan == files.FileHash(name=out.name, sha256=hashlib.sha256(plan).hexdigest())
        assert record.onnx.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
        assert (record.flavour, record.version, record.gpu) == (RTX.name, RTX.version, None)
        assert record.options.precision == precision
        assert len(record.ranges) == (4 if name == "500m" else 2)
        assert len(record.outputs) == 9
        sizes[precision] = len(plan)
    # FP16 halves the weights; the rest of a plan is code, which has one more variant.
    assert sizes["fp16"] < sizes["fp32"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{precision}.plan{suffix}" for precision in sizes for suffix in ("", ".json")
    )


def test_compute_capabilities(small: PreparedModel) -> None:
    for capabilities in (("7.5",), ("8.6", "12.0")):
        plan = build_plan(small, BuildOptions(precision="fp32", compute_capabilities=capabilities), flavour=RTX)
        assert header(plan)[3] == sum(BITS[item] for item in capabilities)
    plan = build_plan(small, BuildOptions(precision="fp32"), flavour=RTX)
    assert header(plan)[3] & BITS["8.6"]
    assert not header(plan)[3] & BITS["7.5"]
    with pytest.raises(OptionError, match=r"compute capability 9\.0; the choices are: .*8\.6.*"):
        build_plan(small, BuildOptions(compute_capabilities=("9.0",)), flavour=RTX)


def test_failed_build_reports_the_reason(small: PreparedModel) -> None:
    with pytest.raises(BackendError, match=r"could not build the engine: .*(workspace|OutOfMemory)") as caught:
        build_plan(small, BuildOptions(precision="fp32", workspace_mib=1), flavour=RTX)
    assert "\n" not in str(caught.value)
    assert "/_src/" not in str(caught.value)


def test_unsupported_operator_is_named(small: PreparedModel) -> None:
    model = onnx.load_from_string(small.model)
    model.graph.node[0].op_type, model.graph.node[0].name = "Quux", "first_of_all"
    broken = PreparedModel(
        model.SerializeToString(), small.precision, small.input, small.outputs, small.ranges, small.notes
    )
    with pytest.raises(ModelFormatError, match=r"cannot read the model: node 0 first_of_all Quux: ") as caught:
        build_plan(broken, flavour=RTX)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\0" * 1000, b"not an ONNX model at all"])
def test_invalid_onnx_is_refused(content: bytes, small: PreparedModel) -> None:
    broken = PreparedModel(content, small.precision, small.input, small.outputs, small.ranges, small.notes)
    with pytest.raises(ModelFormatError):
        build_plan(broken, flavour=RTX)


def test_interrupted_build_writes_nothing(network_500m: Path, tmp_path: Path) -> None:
    class Interrupted:
        stage = ""

        def phase(self, name: str, total: int | None, /) -> None:
            self.stage = name

        def step(self, done: int, detail: str, /) -> None:
            raise KeyboardInterrupt

        def done(self) -> None: ...

    progress = Interrupted()
    options = BuildOptions(sizes=(128,), batch=(1, 1, 1))
    with pytest.raises(KeyboardInterrupt):
        write_engine(network_500m, tmp_path / "x.plan", options, flavour=RTX, progress=progress)
    assert progress.stage.startswith("building")
    assert not list(tmp_path.iterdir())


def test_failing_check_writes_nothing(network_500m: Path, tmp_path: Path) -> None:
    seen: list[Any] = []

    def check(plan: bytes, prepared: PreparedModel, flavour: flavours.Flavour) -> None:
        seen.append((header(plan)[0], prepared.sizes, flavour))
        raise BackendError("the faces differ")

    old = tmp_path / "x.plan"
    old.write_text("as it was")
    options = BuildOptions(sizes=(128,), batch=(1, 1, 1))
    with pytest.raises(BackendError, match="the faces differ"):
        write_engine(network_500m, old, options, flavour=RTX, check=check, overwrite=True)
    assert seen == [(b"vtrt", ((128, 128),), RTX)]
    assert [path.name for path in tmp_path.iterdir()] == ["x.plan"]
    assert old.read_text() == "as it was"


def test_existing_file_is_not_replaced(network_500m: Path, tmp_path: Path) -> None:
    old = tmp_path / "x.plan"
    old.write_text("as it was")
    with pytest.raises(OptionError, match="already exists"):
        write_engine(network_500m, old, flavour=RTX)
    assert old.read_text() == "as it was"
