"""Builds against fake modules with the names of each TensorRT release."""

from __future__ import annotations

import itertools
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scrfd_trt._engine.build import build_plan, write_engine
from scrfd_trt._engine.build_options import BuildOptions, prefer_types
from scrfd_trt._engine.runtime import _new_runtime
from scrfd_trt.errors import (
    BackendError,
    DeviceError,
    MissingDependencyError,
    ModelFormatError,
    OptionError,
    installable,
)

pytestmark = pytest.mark.slow

RELEASES = ("tensorrt-8.6", "tensorrt-10.16", "tensorrt-11.4", "tensorrt_rtx-1.7")
ON_GPU = RELEASES[:3]
LISTS = Path(__file__).parents[2] / "data" / "tensorrt"
Build = Callable[..., dict[str, Any]]
Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("release", "owner", "name"),
    [
        ("tensorrt-8.6", "NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
        ("tensorrt-8.6", "IBuilderConfig", "progress_monitor"),
        ("tensorrt-8.6", "ParserError", "node_name"),
        ("tensorrt-10.16", "IBuilderConfig", "max_workspace_size"),
        ("tensorrt-10.16", "ICudaEngine", "num_bindings"),
        ("tensorrt-11.4", "BuilderFlag", "FP16"),
        ("tensorrt-11.4", "NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"),
        ("tensorrt-11.4", "IBuilderConfig", "int8_calibrator"),
        ("tensorrt_rtx-1.7", "BuilderFlag", "FP16"),
    ],
)
def test_fake_modules_lack_the_names_that_a_release_lacks(release: str, owner: str, name: str, fake: Make) -> None:
    names = json.loads((LISTS / f"{release}.json").read_text(encoding="utf-8"))
    assert name not in {**names["enums"], **names["classes"]}[owner]
    module = fake(release)
    if hasattr(module, owner):
        kind = getattr(module, owner)
        thing = kind() if owner == "IBuilderConfig" else kind
        assert owner == "ParserError" or not hasattr(thing, name)
    if owner == "IBuilderConfig":
        with pytest.raises(AttributeError):
            setattr(fake(release).IBuilderConfig(), name, 1)


@pytest.mark.parametrize("release", ON_GPU)
def test_every_combination_of_options_is_configured(release: str, build: Build) -> None:
    choices = {
        "precision": ("fp32", "tf32", "fp16"),
        "optimization_level": (None, 0, 5),
        "workspace_mib": (None, 512),
        "version_compatible": (False, True),
        "hardware_compatible": (False, True),
    }
    for values in itertools.product(*choices.values()):
        options = dict(zip(choices, values, strict=True))
        built = build(release, **options)
        flags = {"TF32"} if options["precision"] != "fp32" else set()
        if options["precision"] == "fp16" and release == "tensorrt-8.6":
            flags.add("FP16")
        if options["version_compatible"]:
            flags |= {"VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"}
        assert set(built["flags"]) == flags
        assert built["level"] == options["optimization_level"]
        assert built["pools"] == ({"WORKSPACE": 512 << 20} if options["workspace_mib"] else {})
        assert built["hardware"] == ("AMPERE_PLUS" if options["hardware_compatible"] else None)


def test_int8_needs_flags_where_networks_are_weakly_typed(build: Build) -> None:
    assert build("tensorrt-8.6", precision="int8")["flags"] == ["FP16", "INT8", "TF32"]
    assert build("tensorrt-10.16", precision="int8")["flags"] == ["TF32"]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
def test_rtx_supports_precision_and_workspace(precision: str, build: Build, put_gpu: Make) -> None:
    put_gpu(None)
    built = build("tensorrt_rtx-1.7", precision=precision, workspace_mib=64)
    assert built["flags"] == ([] if precision == "fp32" else ["TF32"])
    assert built["pools"] == {"WORKSPACE": 64 << 20}


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("optimization_level", 0, "it selects kernels without measuring"),
        ("version_compatible", True, "run only on the release that built them"),
        ("hardware_compatible", True, "for 7.5 set compute_capabilities"),
        ("timing_cache", Path("x"), "it measures nothing"),
    ],
)
def test_rtx_refuses_other_options(option: str, value: object, reason: str, build: Build) -> None:
    with pytest.raises(OptionError, match=rf"^{option} is not supported by tensorrt_rtx 1\.7\.1\.116: .*{reason}"):
        build("tensorrt_rtx-1.7", **{option: value})


@pytest.mark.parametrize(
    ("release", "flags", "monitored"),
    [
        ("tensorrt-8.6", ["EXPLICIT_BATCH"], False),
        ("tensorrt-10.16", ["STRONGLY_TYPED"], True),
        ("tensorrt-11.4", ["STRONGLY_TYPED"], True),
        ("tensorrt_rtx-1.7", ["STRONGLY_TYPED"], True),
    ],
)
def test_network_flags_profiles_and_monitor(release: str, flags: list[str], monitored: bool, build: Build) -> None:
    built = build(release)
    assert built["network"] == flags
    assert built["monitored"] == monitored
    one = [1, 3, 640, 640]
    assert built["profiles"] == [["input.1", one, one, one], ["input.1", one, [8, 3, 640, 640], [32, 3, 640, 640]]]


@pytest.mark.parametrize("release", RELEASES)
def test_model_of_fixed_shape_has_no_profile(release: str, prepared: Make, fake: Make, put_gpu: Make) -> None:
    plan = build_plan(prepared(shape=(1, 3, 640, 640)), flavour=fake(release).flavour)
    assert json.loads(plan)["profiles"] == []


@pytest.mark.parametrize("release", ON_GPU)
def test_lean_runtime_inside(release: str, build: Build) -> None:
    flags = build(release, version_compatible=True, lean_runtime_inside=True)["flags"]
    assert "VERSION_COMPATIBLE" in flags
    assert "EXCLUDE_LEAN_RUNTIME" not in flags


def test_compute_capabilities_of_rtx(build: Build) -> None:
    assert build("tensorrt_rtx-1.7", compute_capabilities=("7.5", "12.0"))["capabilities"] == ["SM75", "SM120"]
    with pytest.raises(OptionError, match=r"does not build for compute capability 9\.0; the choices are: ") as caught:
        build("tensorrt_rtx-1.7", compute_capabilities=("8.6", "9.0"))
    choices = str(caught.value).partition("are: ")[2].split(", ")
    assert sorted(choices) == ["12.0", "12.1", "7.5", "8.0", "8.6", "8.9"]


@pytest.mark.parametrize("release", ON_GPU)
def test_compute_capabilities_require_rtx(release: str, build: Build) -> None:
    with pytest.raises(OptionError, match="compute_capabilities are not supported by tensorrt "):
        build(release, compute_capabilities=("8.6",))


@pytest.mark.parametrize("release", ON_GPU)
def test_old_gpus_lack_tf32_and_hardware_compatibility(release: str, build: Build, put_gpu: Make) -> None:
    put_gpu((7, 5))
    assert build(release, precision="fp16")["flags"]
    with pytest.raises(OptionError, match=r"TF32, which requires compute capability 8\.0; the choices are: fp32, fp16"):
        build(release, precision="tf32")
    with pytest.raises(OptionError, match=r"require compute capability 8\.0, and this is NVIDIA A GPU"):
        build(release, hardware_compatible=True)


@pytest.mark.parametrize("release", ON_GPU)
def test_no_gpu(release: str, build: Build, put_gpu: Make) -> None:
    put_gpu(None)
    with pytest.raises(DeviceError, match=r"builds only on an NVIDIA GPU: no NVIDIA driver.*tensorrt-rtx-cu13"):
        build(release)


def test_unknown_gpu(prepared: Make, fake: Make, put_gpu: Make) -> None:
    with pytest.raises(DeviceError, match=r"there is no cuda:3; the GPUs are: NVIDIA A GPU \(cuda:0"):
        build_plan(prepared(), flavour=fake("tensorrt-10.16").flavour, device=3)


def test_missing_onnx_is_reported_before_the_build(fake: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    source = tmp_path / "face.onnx"
    source.write_bytes(b"a model")
    with pytest.raises(MissingDependencyError, match=re.escape(installable('pip install "scrfd-trt[build]"'))):
        write_engine(source, tmp_path / "face.plan", flavour=fake("tensorrt_rtx-1.7").flavour)


@pytest.mark.parametrize("release", ON_GPU)
@pytest.mark.parametrize("before", [None, b"measured", b"damaged", b"foreign"])
def test_timing_cache(
    release: str, before: bytes | None, build: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "some.timing_cache"
    if before is not None:
        path.write_bytes(before)
    assert build(release, timing_cache=path)["cached"]
    start = b"measured" if before == b"measured" else b""
    # 8.6 builds each of both profiles first, and joins what was measured.
    assert path.read_bytes() == ((start + b"+") * 2 if release == "tensorrt-8.6" else start) + b"+"
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    warnings = caplog.text.count("was not measured with this TensorRT on this GPU")
    assert warnings == (before in {b"damaged", b"foreign"})


@pytest.mark.parametrize("path", ["file/x.timing_cache", "."])
def test_unwritable_timing_cache_is_only_a_warning(
    path: str, build: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert build("tensorrt-10.16", timing_cache=tmp_path / path)["cached"]
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize("release", RELEASES)
def test_parser_errors_are_reported(release: str, prepared: Make, fake: Make, put_gpu: Make) -> None:
    errors = [[index, f"Conv_{index}", f"[Conv.cpp:12] Assertion failed\n number {index}"] for index in range(5)]
    with pytest.raises(ModelFormatError) as caught:
        build_plan(prepared(errors=errors), flavour=fake(release).flavour)
    text = str(caught.value)
    assert "cannot read the model: node 0" in text
    assert "Assertion failed number 2 (and 2 more)" in text
    assert ("node 0 Conv_0 Conv: " in text) == (release != "tensorrt-8.6")
    assert "\n" not in text


@pytest.mark.parametrize("release", RELEASES)
def test_parsed_tensors_that_differ_are_an_error(release: str, prepared: Make, fake: Make, put_gpu: Make) -> None:
    with pytest.raises(ModelFormatError, match="parsed other inputs and outputs than the model has"):
        build_plan(prepared(outputs={"score_8": [1]}), flavour=fake(release).flavour)


def test_failed_build_reports_tensorrts_reason(prepared: Make, fake: Make, put_gpu: Make) -> None:
    with pytest.raises(BackendError) as caught:
        build_plan(prepared("fp16"), BuildOptions(precision="fp32"), flavour=fake("tensorrt-8.6").flavour)
    assert str(caught.value) == (
        "tensorrt 8.6.0 could not build the engine: Internal Error (fp16 precision has been set for a layer or layer "
        "output, but fp16 is not configured in the builder)"
    )


@pytest.mark.parametrize("release", RELEASES)
def test_progress_is_reported_and_a_build_can_be_interrupted(
    release: str, prepared: Make, fake: Make, put_gpu: Make
) -> None:
    events: list[Any] = []

    class Impatient:
        def phase(self, name: str, total: int | None, /) -> None:
            events.append(total)

        def step(self, done: int, detail: str, /) -> None:
            raise KeyboardInterrupt

        def done(self) -> None:
            events.append("done")

    with pytest.raises(KeyboardInterrupt):
        build_plan(prepared(), flavour=fake(release).flavour, progress=Impatient())
    assert events == [None if release == "tensorrt-8.6" else 1000, "done"]


def test_nothing_else_is_called_while_the_profiles_are_built_at_the_same_time(
    fake: Make, prepared: Make, put_gpu: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, running, most = fake("tensorrt-8.6"), threading.Semaphore(9), []
    together = threading.Barrier(2)

    def watch(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def call(*args: Any) -> Any:
            if name == "build_serialized_network":
                with running:
                    if len(args[2]._profiles) == 1:
                        together.wait(5)
                    most.append(running._value)
                    time.sleep(0.02)
                    return original(*args)
            assert running._value == 9, f"{name} beside a build"
            return original(*args)

        monkeypatch.setattr(owner, name, call)

    watch(module.Builder, "build_serialized_network")
    for owner, name in ((module.Builder, "__init__"), (module.OnnxParser, "parse"), (module.ITimingCache, "serialize")):
        watch(owner, name)
    options = BuildOptions(timing_cache=tmp_path / "some.timing_cache")
    build_plan(prepared(), options, flavour=module.flavour)
    assert most == [7, 7, 8]


def test_builders_and_runtimes_are_created_one_at_a_time(fake: Make, prepared: Make, put_gpu: Make) -> None:
    module = fake("tensorrt-8.6")
    module.Runtime = module.Builder
    with ThreadPoolExecutor() as pool:
        works = [pool.submit(_new_runtime, module.flavour) for _ in range(2)]
        works += [pool.submit(build_plan, prepared(), flavour=module.flavour) for _ in range(2)]
        for work in works:
            work.result()


def test_level_0_measures_nothing_so_the_profiles_are_built_once(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "some.timing_cache"
    build("tensorrt-8.6", timing_cache=path, optimization_level=0)
    assert path.read_bytes() == b"+"


def test_types_are_set_for_releases_that_choose_them(fake: Make) -> None:
    module = fake("tensorrt-8.6")
    kinds, types = module.LayerType, module.DataType

    class Layer:
        def __init__(self, kind: str, name: str, dtype: str = "FLOAT") -> None:
            self.type, self.precision, self.output_type = kinds[kind], None, None
            self.output = SimpleNamespace(name=name, dtype=types[dtype])

        def get_output(self, index: int) -> Any:
            return self.output

        def set_output_type(self, index: int, dtype: Any) -> None:
            self.output_type = dtype

    layers = [
        *(Layer("CONVOLUTION", "a"), Layer("ACTIVATION", "b"), Layer("SHUFFLE", "c"), Layer("REDUCE", "d")),
        *(Layer("ELEMENTWISE", "e", "INT32"), Layer("CONVOLUTION", "kps_8"), Layer("ACTIVATION", "score_8")),
    ]
    network = SimpleNamespace(
        num_outputs=2,
        num_layers=len(layers),
        get_layer=layers.__getitem__,
        get_output=lambda index: SimpleNamespace(name=("score_8", "kps_8")[index]),
    )
    config = module.IBuilderConfig()
    prefer_types(network, config, module.flavour, "fp16")
    half = types.HALF
    assert [layer.precision for layer in layers] == [half, half, None, None, None, half, types.FLOAT]
    assert [layer.output_type for layer in layers] == [half, half, None, None, None, None, None]
    assert config.get_flag(module.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
    for layer in layers:
        layer.precision = None
    prefer_types(network, config, module.flavour, "int8")
    assert [layer.precision for layer in layers] == [None] * 6 + [types.FLOAT]
