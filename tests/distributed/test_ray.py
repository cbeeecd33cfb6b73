"""Detection in Ray: the objects that it hands out, and a cluster whose workers, nodes and driver end."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from scrfd_trt import Detections, SCRFDDetector, samples
from scrfd_trt.distributed import FaceDetection, detect_dataset, read_pictures
from scrfd_trt.distributed._parts import Output, Part, plan_parts
from scrfd_trt.errors import OptionError

pytest.importorskip("ray.data")
import pyarrow.parquet as pq
import ray
from ray.cluster_utils import Cluster

from scrfd_trt.distributed._cluster import DetectParts, run_parts

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SCALE = 160


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """120 pictures of several sizes with a drawn face or two."""
    folder, scene = tmp_path_factory.mktemp("pictures"), samples.load("group")
    for number in range(120):
        x1, y1, x2, y2 = scene.faces.boxes[number % len(scene.faces)].astype(int)
        margin = (number + 20) * (y2 - y1) // 100
        crop = scene.image[max(0, y1 - margin) : y2 + margin, max(0, x1 - 2 * margin) : x2 + margin]
        assert cv2.imwrite(str(folder / f"{number:03}.png"), crop)
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="module")
def expected(pictures: list[str], network_500m: Path) -> dict[str, Detections]:
    with SCRFDDetector(network_500m, device="cpu", scales=SCALE) as detector:
        found = dict(zip(pictures, detector.detect_batch(pictures), strict=True))
    assert sum(map(len, found.values())) > 100
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes; one says that it has a GPU."""
    about = {"num_cpus": 1, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=about | {"include_dashboard": False})
    try:
        cluster.add_node(**about, num_gpus=1)
        cluster.add_node(**about)
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
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
    detect = FaceDetection(device="cpu", scales=SCALE)
    names = pictures[:4]
    contents = [Path(name).read_bytes() for name in names]
    arrays = [np.ascontiguousarray(cv2.imread(name)[..., ::-1]) for name in names]
    for column, values in [
        ("bytes", contents),
        ("image", arrays),
        ("image", [{"bytes": content, "path": None} for content in contents]),
        ("image", [Image.fromarray(array) for array in arrays]),
        ("path", names),
        ("uri", [Path(name).as_uri() for name in names]),
    ]:
        data = ray.data.from_items([{column: value, "n": n} for n, value in enumerate(values)], override_num_blocks=1)
        for kind in ("numpy", "pandas", "pyarrow"):
            table = detect(data.take_batch(4, batch_format=kind))
            kept = [column] if column in {"path", "uri"} else []
            assert table.column_names == [*kept, "n", "boxes", "scores", "landmarks", "width", "height", "error"]
            for name, row in zip(names, table.sort_by("n").to_pylist(), strict=True):
                check_row(row, expected[name])


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


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_data_sets(
    cluster: Cluster, pictures: list[str], expected: dict[str, Detections], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "cuda":  # decoding tasks, and an actor that has the only GPU, which is none
        monkeypatch.setattr("scrfd_trt.distributed._ray.FaceDetection", OnCpu)
    uris = [*pictures[:20], "/no/such/file.png"]
    data = read_pictures(uris)
    rows = {row["uri"]: row for row in detect_dataset(data, device=device, workers=1, scales=SCALE).take_all()}
    assert sorted(rows) == sorted(uris)
    for name in uris[:-1]:
        check_row(rows[name], expected[name])
    assert rows[uris[-1]]["error"] == "there is no such file"


class OnCpu(FaceDetection):
    def __init__(self, *arguments: Any, device: str, **options: Any) -> None:
        assert device == "cuda"
        assert ray.get_gpu_ids()
        super().__init__(*arguments, device="cpu", **options)


def open_on_cpu(device: str, scales: int = SCALE) -> SCRFDDetector:
    """Open a detector; one on the CPU stands in for one on a GPU."""
    return SCRFDDetector(device="cpu", scales=scales)


class Begins(DetectParts):
    """Notes which process has begun which part."""

    def __call__(self, device: str) -> Any:
        work = super().__call__(device)
        node = ray.get_runtime_context().get_node_id()

        def noted(part: Part, pictures: Any) -> Any:
            with Path(f"{self.output.uri}.begun").open("a") as log:
                log.write(f"{part.index} {os.getpid()} {node}\n")
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


def test_a_picture_that_ends_its_process_costs_itself_only(
    cluster: Cluster, pictures: list[str], expected: dict[str, Detections], tmp_path: Path
) -> None:
    output = Output(str(tmp_path / "out"))
    names = pictures[:12]
    parts = [Part.of(0, [(name, "") for name in names[:6]]), Part(1, [*names[6:], Seed("deadly.png")], "0" * 12)]
    done = list(run_parts(parts, Begins(output, open_on_cpu), device="cuda"))
    assert [part.index for part, _ in done] == [0, 1]
    check_output(output, {name: expected[name] for name in names})
    (failure,) = pq.read_table(output.place.join("errors").path).to_pylist()
    assert failure["image"] == "deadly.png"
    assert "the process that decodes it ended" in failure["error"]


def test_lost_workers_and_nodes(
    cluster: Cluster, pictures: list[str], expected: dict[str, Detections], tmp_path: Path
) -> None:
    output = Output(str(tmp_path / "out"))
    parts = list(plan_parts(str(Path(pictures[0]).parent), 5))
    running = run_parts(output.left(parts), Begins(output, open_on_cpu), device="cpu")
    done = {next(running)[0].index}
    os.kill(int(begun(output)[-1][1]), signal.SIGKILL)
    done |= {next(running)[0].index for _ in range(4)}
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    done |= {next(running)[0].index for _ in range(4)}
    running.close()  # as if the driver had ended
    left = [part.index for part in output.left(parts)]
    assert 0 < len(left) <= len(parts) - len(done)
    assert not done & set(left)
    again = run_parts(output.left(parts), Begins(output, open_on_cpu), device="cpu", workers=1)
    assert {part.index for part, _ in again} <= set(left)
    check_output(output, expected)
    times = Counter(index for index, _, _ in begun(output))
    assert (
        sum(times.values()) - len(times) <= 1 + 1 + 3
    )  # of the process, of the node, and of three when the driver ended


def test_errors_of_workers_reach_the_driver(cluster: Cluster, pictures: list[str], tmp_path: Path) -> None:
    parts = plan_parts(str(Path(pictures[0]).parent), 60)
    with pytest.raises(OptionError, match="scales"):
        list(
            run_parts(
                parts, DetectParts(Output(str(tmp_path)), partial(open_on_cpu, scales=33)), device="cpu", workers=1
            )
        )
    with pytest.raises(OptionError, match="auto, cpu or cuda"):
        list(run_parts(parts, DetectParts(Output(str(tmp_path)), open_on_cpu), device="gpu"))
