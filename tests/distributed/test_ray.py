"""Detection in Ray: the objects that it hands out, and a cluster whose workers, nodes and driver end."""

from __future__ import annotations

import gc
import logging
import os
import re
import sys
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from scrfd_trt import Detections, SCRFDDetector, samples
from scrfd_trt._cli.application import app
from scrfd_trt._cli.commands import batch
from scrfd_trt._devices import Gpu
from scrfd_trt._engine import cache
from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._engine.flavours import Flavour
from scrfd_trt.distributed import FaceDetection, _cluster, detect_dataset, read_pictures
from scrfd_trt.distributed._parts import Output, Part
from scrfd_trt.errors import BackendError, DeviceError, ImageError, OptionError

pytest.importorskip("ray.data")
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.cluster_utils import Cluster
from ray.data._internal.delegating_block_builder import DelegatingBlockBuilder
from ray.data.block import BlockAccessor

from scrfd_trt.distributed._cluster import DetectParts, run_parts
from scrfd_trt.distributed._ray import choose_gpu

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SCALE = 160
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_log_monitor": False}
HEALTH = {"initial_delay_ms": 500, "period_ms": 400, "failure_threshold": 5}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """40 pictures of several sizes with a drawn face or two."""
    folder, scene = tmp_path_factory.mktemp("pictures"), samples.load("group")
    for number in range(40):
        x1, y1, x2, y2 = scene.faces.boxes[number % len(scene.faces)].astype(int)
        margin = (number + 20) * (y2 - y1) // 100
        crop = scene.image[max(0, y1 - margin) : y2 + margin, max(0, x1 - 2 * margin) : x2 + margin]
        assert cv2.imwrite(str(folder / f"{number:03}.png"), crop)
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="module")
def expected(pictures: list[str], network_500m: Path) -> dict[str, Detections]:
    with SCRFDDetector(network_500m, device="cpu", scales=SCALE) as detector:
        found = dict(zip(pictures, detector.detect_batch(pictures), strict=True))
    assert sum(map(len, found.values())) > 30
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A node that says that it has two GPUs; a lost one is noticed after some seconds."""
    settings = {f"health_check_{name}": number for name, number in HEALTH.items()}
    settings["worker_niceness"] = 0  # otherwise, workers wait for all other programs of the machine
    head = NODE | {"num_gpus": 2, "include_dashboard": False, "no_monitor": True, "_system_config": settings}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
        logging.getLogger("ray").propagate = False  # its threads outlive the cluster, and log during other tests
        ray.data.DataContext.get_current().enable_progress_bars = False
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def check_row(row: dict[str, Any], faces: Detections) -> None:
    assert row["error"] is None
    assert (row["width"], row["height"]) == faces.image_size
    np.testing.assert_array_equal(np.array(row["boxes"], np.float32).reshape(-1, 4), faces.boxes)
    np.testing.assert_array_equal(np.array(row["scores"], np.float32), faces.scores)
    np.testing.assert_array_equal(np.array(row["landmarks"], np.float32).reshape(-1, 5, 2), faces.landmarks)


def test_batches_as_ray_hands_them_out(cluster: Cluster, pictures: list[str], expected: dict[str, Detections]) -> None:
    names = pictures[:4]
    contents = [Path(name).read_bytes() for name in names]
    arrays = [np.ascontiguousarray(cv2.imread(name)[..., ::-1]) for name in names]
    columns = {
        "bytes": contents,
        "image": arrays,
        "path": names,
        "uri": [Path(name).as_uri() for name in names],
        "pil": [Image.fromarray(array) for array in arrays],
        "hf": [{"bytes": content, "path": None} for content in contents],
    }
    builder = DelegatingBlockBuilder()  # as from_items() and take_batch(), without the actors of a data set
    for row in zip(*columns.values(), strict=True):
        builder.add(dict(zip(columns, row, strict=True)))
    block = BlockAccessor.for_block(builder.build())
    batches = [block.to_batch_format(kind) for kind in ("numpy", "pandas", "pyarrow")]
    for column in (None, *columns):
        detect = FaceDetection(column=column, device="cpu", scales=SCALE)
        for rows in batches:
            table = detect(rows)
            kept = [name for name in columns if name not in {"bytes", "image", column} or name in {"path", "uri"}]
            assert table.column_names == [*kept, "boxes", "scores", "landmarks", "width", "height", "error"]
            for row in table.select([name for name in table.column_names if name != "pil"]).to_pylist():
                check_row(row, expected[row["path"]])


def test_one_bad_picture_costs_itself_only(expected: dict[str, Detections], pictures: list[str]) -> None:
    image = np.ascontiguousarray(cv2.imread(pictures[0])[..., ::-1])
    detect = FaceDetection(device="cpu", scales=SCALE, keep=True, column="image")
    bad: list[Any] = [None, b"no picture", "/no/such/file", np.zeros((4, 5, 6, 7)), image]
    values = np.empty(len(bad), object)
    values[:] = bad
    rows = (
        detect({"image": values[[4]], "vector": np.eye(1)}).to_pylist()
        + detect({"uri": ["x"], "image": [image]}).to_pylist()
    )
    for row in rows:
        check_row(row, expected[pictures[0]])
        assert row["image"] is not None
    del detect
    table = FaceDetection(device="cpu", scales=SCALE)({"image": values})
    *failed, good = table.to_pylist()
    check_row(good, expected[pictures[0]])
    assert [(row["boxes"], row["width"]) for row in failed] == [([], None)] * 4
    reasons = ["the row has no picture", "not a supported image", "there is no such file", "a batch"]
    assert all(reason in row["error"] for reason, row in zip(reasons, failed, strict=True))
    with pytest.raises(OptionError, match="it has a, b"):
        FaceDetection(device="cpu", scales=SCALE)({"a": [1], "b": [2]})


def test_batches_are_freed_without_the_garbage_collector(pictures: list[str]) -> None:
    """Otherwise, an actor holds many of them; pictures that fail hold none, either."""

    class Batch(dict[str, Any]):
        pass

    detect = FaceDetection(device="cpu", scales=SCALE)
    for good in (True, False):
        batch = Batch(path=[*pictures[:3], *([] if good else ["/no/such/file", None, __file__])])
        alive = weakref.ref(batch)
        gc.disable()
        try:
            assert len(detect(batch)) == len(batch["path"])
            del batch
            assert alive() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_stages_of_data_sets(
    cluster: Cluster, pictures: list[str], expected: dict[str, Detections], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stage takes what the one before it returns; to run them in Ray takes half a minute."""
    monkeypatch.setattr("scrfd_trt.distributed._ray.FaceDetection", OnCpu)
    uris = [*pictures[:8], "/no/such/file.png"]
    monkeypatch.setattr(ray.data, "from_arrow", lambda blocks: Stages(pa.concat_tables(blocks)))
    stages = detect_dataset(read_pictures(uris), device=device, scales=SCALE)
    slots = (
        {"num_gpus": 1, "num_cpus": 0} if device == "cuda" else {"num_cpus": 0}
    )  # of the only CPU, for which it waits
    assert stages.how.items() >= slots.items()
    rows = {row["uri"]: row for row in stages.table.to_pylist()}
    assert sorted(rows) == sorted(uris)
    for name in uris[:-1]:
        check_row(rows[name], expected[name])
    assert rows[uris[-1]]["error"] == "there is no such file"


class Stages:
    """A data set whose stages run at once."""

    def __init__(self, table: Any, how: Any = None) -> None:
        self.table, self.how = table, how

    def map_batches(
        self, work: Any, *, fn_constructor_args: Any = (), fn_constructor_kwargs: Any = None, **how: Any
    ) -> Stages:
        work = work(*fn_constructor_args, **fn_constructor_kwargs) if isinstance(work, type) else work
        found = work(self.table)
        return Stages(found if isinstance(found, pa.Table) else pa.concat_tables(found), how)


class OnCpu(FaceDetection):
    def __init__(self, *arguments: Any, device: str, **options: Any) -> None:
        super().__init__(*arguments, device="cpu", **options)


def meet(file: Path, line: str) -> None:
    """Note a line, and wait until two processes, the second word of the lines, have come here."""
    with file.open("a") as log:
        log.write(f"{line}\n")
    end = time.monotonic() + 600
    while len({line.split()[1] for line in file.read_text().splitlines() if line}) < 2:
        assert time.monotonic() < end, "the other process has not come"
        time.sleep(0.02)


class Noted(DetectParts):
    """Notes which process on which node has begun which part; none goes on before two have begun one."""

    def __call__(self, device: str) -> Any:
        work = super().__call__(device)
        about = ray.get_runtime_context()

        def noted(part: Part, pictures: Any) -> Any:
            meet(Path(f"{self.output.uri}.begun"), f"{part.index} {os.getpid()} {about.get_node_id()}")
            return work(part, pictures)

        return noted


def begun(output: Output) -> list[list[str]]:
    return [line.split() for line in Path(f"{output.uri}.begun").read_text().splitlines()]


def check_output(output: Output, expected: dict[str, Detections]) -> None:
    rows = pq.read_table(output.place.join("faces").path).to_pylist()
    assert sorted(row["image"] for row in rows) == sorted(expected)
    for row in rows:
        faces = expected[row["image"]]
        boxes = [[face[name] for name in ("x1", "y1", "x2", "y2", "score")] for face in row["faces"]]
        wanted = np.concatenate([faces.boxes, faces.scores[:, None]], axis=1)
        np.testing.assert_array_equal(np.array(boxes, np.float32).reshape(-1, 5), wanted)


class Seed(str):
    """A name that arrives in an actor as one that ends the process that it is sent to from there."""

    def __reduce__(self) -> Any:
        return Deadly, (str(self),)


class Deadly(str):
    def __reduce__(self) -> Any:
        return os._exit, (1,)


def open_with_engine(home: Path, device: str) -> SCRFDDetector:
    """Open an engine that is built if it is not in the cache, and a detector on the CPU in its place."""
    assert device == "cuda"
    os.environ["SCRFD_TRT_HOME"] = str(home)
    cache._rebuild_reason = lambda _key, path: "" if path.exists() else "none is cached"
    (model := home / f"{os.getpid()}.onnx").write_bytes(b"a model")
    flavour, gpu = Flavour("tensorrt", "10.0", ModuleType("tensorrt"), True), Gpu(0, "NVIDIA H200", (9, 0))
    key = cache.EngineKey.of(model, flavour, gpu, BuildOptions())
    key = replace(key, onnx=home / "model.onnx")
    meet(home / "opening", f"- {os.getpid()}")

    def build(path: Path) -> None:
        with (home / "builds").open("a") as log:
            log.write(f"{os.getpid()}\n")
        time.sleep(0.5)
        path.touch()

    cache.open_or_build(key, build, Path.read_bytes)
    return SCRFDDetector(device="cpu", scales=SCALE)


def test_gpus_of_a_node(cluster: Cluster, pictures: list[str], expected: dict[str, Detections], tmp_path: Path) -> None:
    """Two actors build one engine; a picture may end the process that decodes it."""
    output = Output(str(tmp_path / "out"))
    names = pictures[:6]
    parts = [Part.of(0, [(name, "") for name in names]), Part(1, [Seed("deadly.png")], "0" * 12)]
    done = run_parts(parts, Noted(output, partial(open_with_engine, tmp_path)), device="cuda")
    assert sorted(part.index for part, _ in done) == [0, 1]
    assert len({process for _, process, _ in begun(output)}) == 2
    assert len((tmp_path / "builds").read_text().splitlines()) == 1
    check_output(output, {name: expected[name] for name in names})
    (failure,) = pq.read_table(output.place.join("errors").path).to_pylist()
    assert failure["image"] == "deadly.png"
    assert "the process that decodes it ended" in failure["error"]


def test_a_picture_that_ends_a_process_costs_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(call: list[str]) -> list[tuple[str, str]]:
        if "deadly.png" in call:
            raise ray.exceptions.WorkerCrashedError
        return [(name, "pixels") for name in call]

    monkeypatch.setattr(ray, "get", get)
    names = ["a.png", "deadly.png", "b.png"]
    found = list(_cluster._taken(names, names, list))
    assert [picture.name for picture in found] == names
    assert isinstance(found[1].content, ImageError)
    assert [found[0].content, found[2].content] == ["pixels"] * 2


def test_lost_nodes_and_drivers(
    cluster: Cluster,
    pictures: list[str],
    expected: dict[str, Detections],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = Output(str(tmp_path / "out"))
    node = cluster.add_node(**NODE)
    monkeypatch.setattr(batch, "DetectParts", Noted)

    def interrupted(*arguments: Any, **options: Any) -> Iterator[tuple[Part, Any]]:
        done = run_parts(*arguments, **options)
        with closing(done):
            yield from islice(done, 3)
            assert len({place for _, _, place in begun(output)}) == 2
            cluster.remove_node(node, allow_graceful=False)
            yield from islice(done, 2)
            raise KeyboardInterrupt

    command = ["batch", Path(pictures[0]).parent, output.uri, "--part-size", 4, "--scale", SCALE]
    command += ["--address", cluster.address, "--device", "cpu"]
    command = [*map(str, command)]

    monkeypatch.setattr(batch, "run_parts", interrupted)
    with pytest.raises(SystemExit, match="130"):
        app(command)
    done = output.done()
    assert 5 <= len(done) < 10
    monkeypatch.setattr(batch, "run_parts", run_parts)
    with pytest.raises(SystemExit, match="0"):
        app(command)
    (before,) = re.findall(r"skipped (\d+) parts done before", capsys.readouterr().err)
    assert len(done) <= int(before) < 10  # a worker may have ended its part after the driver
    check_output(output, expected)
    times = Counter(int(index) for index, _, _ in begun(output))
    assert sum(times.values()) - len(times) <= 1 + 2  # of the node, and when the driver ended


def test_a_cluster_may_start_its_gpus_later(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = SimpleNamespace(cluster_resources=dict)
    pool: Any = partial(_cluster._Pool, empty, None, iter(()), True, None)
    assert pool()._room() == 1
    monkeypatch.setattr(_cluster, "GPU_SECONDS", -60.0)
    with pytest.raises(DeviceError, match="has no GPU, and has started none within"):
        pool()._room()
    with pytest.raises(OptionError, match="auto, cpu or cuda"):
        choose_gpu("gpu", {}, None)


def test_errors_of_workers_reach_the_driver() -> None:
    ended: list[Any] = []
    here = SimpleNamespace(kill=ended.append, exceptions=ray.exceptions)
    pool: Any = _cluster._Pool(here, None, iter(()), False, None)  # type: ignore[arg-type]
    part = Part(0, ["a.png"])
    for _ in range(2):
        pool._failed("worker", part, BackendError("out of memory"))
    assert [*pool.again] == [part, part]
    with pytest.raises(BackendError, match="out of memory"):
        pool._failed("worker", part, BackendError("out of memory"))
    with pytest.raises(OptionError, match="scales"):  # another worker raises it, too
        pool._failed("worker", None, OptionError("scales must be multiples of 32"))
    assert ended == ["worker"] * 4
