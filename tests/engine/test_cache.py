from __future__ import annotations

import logging
import re
import threading
import time
import types

import pytest

from scrfd_trt._devices import Gpu
from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._engine.cache import EngineKey, open_or_build
from scrfd_trt._engine.flavours import Flavour
from scrfd_trt._engine.plan import RECIPE, EngineRecord, FileHash, GpuInfo, hash_file, record_path
from scrfd_trt._tensors import TensorSpec
from scrfd_trt.errors import BackendError, EngineError, OptionError, OutputError

H100, A100 = Gpu(0, "NVIDIA H100 80GB HBM3", (9, 0)), Gpu(0, "NVIDIA A100", (8, 0))


def flavour(version="8.6.0", name="tensorrt"):
    return Flavour(name, version, types.ModuleType(name), True)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SCRFD_TRT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def onnx(tmp_path):
    path = tmp_path / "face.onnx"
    path.write_bytes(b"a network")
    return path


def key_of(onnx, *, release="8.6.0", gpu=H100, **options):
    return EngineKey.of(onnx, flavour(release), gpu, BuildOptions(**options))


class Builder:
    """Builds plans that hold a number, with their records."""

    def __init__(self, key, seconds=0.0):
        self.key, self.seconds, self.count = key, seconds, 0

    def __call__(self, path):
        self.count += 1
        time.sleep(self.seconds)
        path.write_bytes(b"plan %d" % self.count)
        key = self.key
        gpu = GpuInfo(name=key.gpu.name, compute_capability=key.gpu.compute_capability)
        record = EngineRecord(
            plan=hash_file(path),
            onnx=FileHash(name=key.onnx.name, sha256=key.sha256),
            flavour=key.flavour.name,
            version=key.flavour.version,
            gpu=gpu,
            options=key.options,
            input=TensorSpec("x", (None, 3, None, None)),
            outputs=(),
            ranges=(),
            notes=(),
            made="2026-01-01T00:00:00+00:00",
            seconds=1.0,
            scrfd_trt="0.1.0",
            recipe=RECIPE,
        )
        record_path(path).write_text(record.model_dump_json())


def read(path):
    return path.read_bytes()


def test_engine_is_built_once(onnx, home, caplog):
    build = Builder(key_of(onnx))
    with caplog.at_level(logging.WARNING, "scrfd_trt"):
        assert [open_or_build(build.key, build, read) for _ in range(3)] == [b"plan 1"] * 3
    assert build.count == 1
    assert [record.getMessage().count("none is cached") for record in caplog.records] == [1]
    assert build.key.path.parent == home / "engines"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"release": "10.16.1"}, "the cached one is for release 8.6.0"),
        ({"gpu": Gpu(0, "NVIDIA H100 80GB HBM3", (9, 1))}, "built on .*9, 0.*, not .*9, 1"),
    ],
)
def test_outdated_engine_is_rebuilt_with_the_reason(onnx, caplog, change, why):
    open_or_build(key_of(onnx), Builder(key_of(onnx)), read)
    build = Builder(key_of(onnx, **change))
    with caplog.at_level(logging.WARNING, "scrfd_trt"):
        open_or_build(build.key, build, read)
        open_or_build(build.key, build, read)
    assert build.count == 1
    assert re.search(why, caplog.text)


@pytest.mark.parametrize("change", [{"gpu": A100}, {"precision": "fp32"}, {"sizes": 320}, {"batch": 4}])
def test_other_gpus_and_options_have_their_own_path(onnx, change):
    one, other = key_of(onnx), key_of(onnx, **change)
    assert one.path != other.path
    first, second = Builder(one), Builder(other)
    for _ in range(2):
        open_or_build(one, first, read)
        open_or_build(other, second, read)
    assert (first.count, second.count) == (1, 1)


def test_calibration_images_matter_by_their_content(onnx, tmp_path):
    def path_for(name, *contents):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for number, content in enumerate(contents):
            (folder / f"{number}.jpg").write_bytes(content)
        key = key_of(onnx, precision="int8", calibration=folder)
        build = Builder(key)
        open_or_build(key, build, read)
        return key.path, build.count

    first, count = path_for("photos", b"one", b"two")
    assert count == 1
    assert path_for("same", b"one", b"two") == (first, 0)
    for contents in ((b"one", b"other"), (b"one", b"two", b"three")):
        path, count = path_for("photos", *contents)
        assert (path != first, count) == (True, 1)
    with pytest.raises(OptionError, match=r"calibration: the folder .*missing cannot be read"):
        key_of(onnx, precision="int8", calibration=tmp_path / "missing")


def test_changed_model_has_its_own_path(onnx):
    before = key_of(onnx).path
    onnx.write_bytes(b"another network")
    assert key_of(onnx).path != before


def test_path_of_the_timing_cache_is_ignored(onnx, tmp_path):
    build = Builder(key_of(onnx))
    open_or_build(build.key, build, read)
    again = key_of(onnx, timing_cache=tmp_path / "timing")
    assert again.path == build.key.path
    open_or_build(again, build, read)
    assert build.count == 1


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda plan: plan.write_bytes(b"plan"), "the cached one is damaged"),
        (lambda plan: record_path(plan).unlink(), "has no record"),
        (lambda plan: record_path(plan).write_text("{}"), "is not a valid engine record"),
    ],
)
def test_damaged_engine_is_rebuilt(onnx, caplog, damage, why):
    build = Builder(key_of(onnx))
    open_or_build(build.key, build, read)
    damage(build.key.path)
    with caplog.at_level(logging.WARNING, "scrfd_trt"):
        assert open_or_build(build.key, build, read) == b"plan 2"
    assert why in caplog.records[-1].getMessage()
    assert "\n" not in caplog.records[-1].getMessage()


def test_refused_engine_is_rebuilt_once(onnx, caplog):
    build = Builder(key_of(onnx))
    open_or_build(build.key, build, read)

    def opens(path):
        if read(path) == b"plan 1":
            raise EngineError("TensorRT cannot open it: version tag does not match")
        return read(path)

    assert open_or_build(build.key, build, opens) == b"plan 2"
    assert "version tag does not match" in caplog.text

    def never(path):
        raise EngineError("no")

    with pytest.raises(EngineError):
        open_or_build(build.key, build, never)
    assert build.count == 3


def test_failed_build_is_raised_and_retried_next_time(onnx):
    def fails(path):
        raise BackendError("out of memory")

    with pytest.raises(BackendError, match="out of memory"):
        open_or_build(key_of(onnx), fails, read)
    build = Builder(key_of(onnx))
    assert open_or_build(build.key, build, read) == b"plan 1"


def test_simultaneous_requests_build_once(onnx):
    build = Builder(key_of(onnx), seconds=0.3)
    found = []
    threads = [threading.Thread(target=lambda: found.append(open_or_build(build.key, build, read))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert build.count == 1
    assert found == [b"plan 1"] * 4


def test_unwritable_folder(onnx, home):
    home.write_text("a file is in the way")
    with pytest.raises(OutputError, match="SCRFD_TRT_HOME"):
        open_or_build(key_of(onnx), Builder(key_of(onnx)), read)


def test_engine_in_read_only_folder_is_used(onnx, monkeypatch):
    build = Builder(key_of(onnx))
    open_or_build(build.key, build, read)
    monkeypatch.setattr("scrfd_trt._engine.cache.locked", lambda path: pytest.fail("nothing needs to be written"))
    assert open_or_build(build.key, build, read) == b"plan 1"


def test_temporary_failure_keeps_the_engine(onnx):
    build = Builder(key_of(onnx))
    open_or_build(build.key, build, read)

    def no_memory(path):
        raise BackendError("out of memory")

    with pytest.raises(BackendError, match="out of memory"):
        open_or_build(build.key, build, no_memory)
    assert build.count == 1


def test_new_recipe_rebuilds(onnx, monkeypatch, caplog):
    build = Builder(key_of(onnx))
    open_or_build(build.key, build, read)
    monkeypatch.setattr("scrfd_trt._engine.cache.RECIPE", RECIPE + 1)
    open_or_build(build.key, build, read)
    assert build.count == 2
    assert "the rewriting of models has changed" in caplog.text


def test_external_weights_are_part_of_the_key(tmp_path):
    onnx = pytest.importorskip("onnx")
    import numpy as np

    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    sides = [onnx.helper.make_tensor_value_info(name, 1, [1000]) for name in "xy"]
    paths = []
    for value in (1, 2):
        weights = onnx.numpy_helper.from_array(np.full(1000, value, np.float32), "w")
        model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", sides[:1], sides[1:], [weights]))
        folder = tmp_path / str(value)
        folder.mkdir()
        onnx.save(model, folder / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=100)
        paths.append(folder / "net.onnx")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert key_of(paths[0]).path.name != key_of(paths[1]).path.name
