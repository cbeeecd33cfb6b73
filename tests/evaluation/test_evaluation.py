"""Labels and predictions are read and compared as the benchmarks define it."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from scrfd_trt import Detections, DetectionsError, evaluation
from scrfd_trt.evaluation import Predictions

pytestmark = pytest.mark.slow  # does not depend on the versions of Python and the libraries

A, B = "0--Parade/a.jpg", "1--Shop/b.jpg"


def cells(values: list[Any]) -> Any:
    column = np.empty((len(values), 1), object)
    column[:, 0] = values
    return column


@pytest.fixture
def wider(tmp_path: Path) -> Path:
    """Two images: a.jpg has a face that counts in two subsets, and a small one; b.jpg has one."""
    io_ = pytest.importorskip("scipy.io")
    folder = tmp_path / "ground_truth"
    folder.mkdir()
    shared = {
        "event_list": cells(["0--Parade", "1--Shop"]),
        "file_list": cells([cells(["a"]), cells(["b"])]),
        "face_bbx_list": cells(
            [cells([np.array([[10, 10, 40, 50], [200, 20, 9, 9]])]), cells([np.array([[5, 5, 60, 60]])])]
        ),
    }
    io_.savemat(folder / "wider_face_val.mat", shared)
    for name, rows in {"easy": ([2], []), "medium": ([1], [1]), "hard": ([1, 2], [1])}.items():
        numbers = [np.array(each, np.uint8).reshape(-1, 1) for each in rows]
        io_.savemat(folder / f"wider_{name}_val.mat", {"gt_list": cells([cells([each]) for each in numbers])})
    return folder


FOUND = {
    A: Predictions(
        np.array([[10, 10, 50, 60], [400, 0, 450, 50], [11, 10, 50, 60], [200, 20, 209, 29]], np.float32),
        np.array([0.9, 0.8, 0.7, 0.6], np.float32),
    ),
    B: Predictions(np.array([[5, 5, 65, 70]], np.float32), np.array([0.1], np.float32)),
}
"""The large face of a.jpg, nothing, the large face again, the small one; and the face of b.jpg."""


def test_wider_face_worked_out_by_hand(wider: Path) -> None:
    # hard: precision 1, 1/2, 1/3, 2/4, 3/5 at recalls of thirds: 1/3 · (1 + 3/5 + 3/5). medium, without the small face:
    # 1, 1/2, 1/3 and 2/4 at b.jpg's: 1/2 · (1 + 1/2). easy, without the large ones: 0 and 1/2.
    found = evaluation.evaluate(evaluation.read_ground_truth(wider), FOUND)
    assert found.ap == pytest.approx({"easy": 1 / 2, "medium": 3 / 4, "hard": 11 / 15})
    assert found.scores == pytest.approx([0.9, 0.6, 0.1])
    assert found.false_scores == pytest.approx([0.8, 0.7])
    assert (found.recall(0.5), found.precision(0.5)) == (2 / 3, 2 / 4)
    assert found.recall_by_size(0.5) == [(8, 16, 1, 1), (32, 64, 2, 1)]


def test_wider_face_agrees_with_the_evaluation_in_common_use(shared: Path) -> None:
    folder = shared / "widerface"
    if not folder.is_dir():
        pytest.skip("no ground truth of WIDER FACE")
    truth = evaluation.read_ground_truth(folder)
    with np.load(folder / "predictions.npz") as made:
        event, image, boxes, scores = (made[name] for name in ("event", "image", "boxes", "scores"))
    ends = np.cumsum([0] + [int((np.array([name.split("/")[0] for name in truth.names]) == each).sum()) for each in
                            dict.fromkeys(name.split("/")[0] for name in truth.names)])  # fmt: skip
    boxes[:, 2:] += boxes[:, :2]
    place = ends[event] + image
    starts = np.searchsorted(place, np.arange(len(truth.names) + 1))
    assert (np.diff(place) >= 0).all()
    found = {
        name: Predictions(boxes[start:end], scores[start:end])
        for name, start, end in zip(truth.names, starts, starts[1:], strict=False)
    }
    expected = json.loads((folder / "expected.json").read_text())
    assert evaluation.evaluate(truth, found).ap == pytest.approx(
        {name: expected[name] for name in ("easy", "medium", "hard")}, abs=1e-9
    )


def coco(tmp_path: Path, boxes: dict[str, list[list[float]]], crowds: set[tuple[str, int]] = frozenset()) -> Path:
    """Write labels of boxes x, y, width, height by file name."""
    numbers = {name: number for number, name in enumerate(boxes, 1)}
    faces = [(name, box, (name, row) in crowds) for name, each in boxes.items() for row, box in enumerate(each)]
    data = {
        "images": [{"id": number, "file_name": name, "width": 640, "height": 480} for name, number in numbers.items()],
        "annotations": [
            {
                "id": i,
                "image_id": numbers[name],
                "category_id": 7,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": int(crowd),
            }
            for i, (name, box, crowd) in enumerate(faces, 1)
        ],
        "categories": [{"id": 7, "name": "face"}],
    }
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(data))
    return path


def test_coco_agrees_with_pycocotools(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(3)
    boxes, found, rows, crowds = {}, {}, [], set()
    for number in range(1, 21):
        name = f"{number}.jpg"
        labelled = np.concatenate([rng.uniform(0, 120, (12, 2)), rng.uniform(10, 60, (12, 2))], axis=1).round(1)
        shifted = np.repeat(labelled, 2, axis=0) + rng.normal(0, 3, (24, 4)).round(1)
        shifted[:, 2:] = np.maximum(shifted[:, 2:], 2)
        boxes[name], scores = labelled.tolist(), rng.permutation(24 * 20)[:24] / 481 + number / 1e6
        crowds |= {(name, 3)} if number % 3 else set()
        rows += [
            {"image_id": number, "category_id": 7, "bbox": box, "score": float(score)}
            for box, score in zip(shifted.tolist(), scores, strict=True)
        ]
        found[name] = Predictions(np.concatenate([shifted[:, :2], shifted[:, :2] + shifted[:, 2:]], axis=1), scores)
    path = coco(tmp_path, boxes, crowds)
    with redirect_stdout(io.StringIO()):
        labels = COCO(str(path))
        judge = COCOeval(labels, labels.loadRes(rows), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    ours = evaluation.evaluate(evaluation.read_ground_truth(path), found)
    assert 0.2 < ours.ap["AP"] < 0.9
    assert (ours.ap["AP"], ours.ap["AP50"]) == pytest.approx((judge.stats[0], judge.stats[1]), abs=1e-9)
    whole = [each for each in judge.evalImgs if each and each["aRng"] == [0, 1e10]]
    matched = sum(int(((each["gtMatches"][0] > 0) & (each["gtIgnore"] == 0)).sum()) for each in whole)
    assert (ours.scores > 0).sum() == matched


def test_yolo_and_coco_labels_of_the_same_faces_are_equal(tmp_path: Path) -> None:
    images, labels = tmp_path / "images" / "x", tmp_path / "labels" / "x"
    for folder in (images, labels):
        folder.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(images / name), np.zeros((200, 400, 3), np.uint8))
    (labels / "a.txt").write_text("0 0.5 0.5 0.1 0.2\n\n0 0.25 0.25 0.05 0.1" + " 0.3" * 15 + "\n")
    truth = evaluation.read_ground_truth(tmp_path / "labels", tmp_path / "images")
    other = evaluation.read_ground_truth(
        coco(tmp_path, {"x/a.png": [[180, 80, 40, 40], [90, 40, 20, 20]], "x/b.png": []})
    )
    assert truth.names == other.names == ("x/a.png", "x/b.png")
    assert (truth.unlabelled, other.unlabelled) == (1, 0)
    assert truth.boxes == pytest.approx(other.boxes)
    assert truth.images.tolist() == other.images.tolist() == [0, 0]
    (labels / "b.txt").write_text("0 0.1 0.1 0.2 0.1 0.2 0.2\n")
    with pytest.raises(DetectionsError, match="line is not a class and a box"):
        evaluation.read_ground_truth(tmp_path / "labels", tmp_path / "images")
    (labels / "b.txt").write_text("3 0.5 0.5 0.1 0.1\n")
    with pytest.raises(DetectionsError, match="there are 0, 3"):
        evaluation.read_ground_truth(tmp_path / "labels", tmp_path / "images")
    assert len(evaluation.read_ground_truth(tmp_path / "labels", tmp_path / "images", category=3).boxes) == 1


def test_text_form_and_json_lines_give_the_same_predictions(tmp_path: Path) -> None:
    faces = Detections(FOUND[A].boxes + np.float32(0.3), FOUND[A].scores, image_size=(640, 480))
    empty = Detections.empty((640, 480))
    evaluation.write_wider_face(tmp_path / "text", {A: faces, B: empty, "../../c.jpg": empty})
    assert (tmp_path / "text" / "c.txt").read_text() == "c.jpg\n0\n"
    assert (tmp_path / "text" / "0--Parade" / "a.txt").read_text().startswith("a.jpg\n4\n10.3 10.3 40.0 50.0 0.9\n")
    lines = [{"image": f"val/{A}", "faces": faces.to_dicts()}, {"image": B, "error": "lost"}]
    (tmp_path / "run.jsonl").write_text("\n".join(map(json.dumps, lines)))
    read = evaluation.read_predictions(tmp_path / "text")
    assert [*read] == [A, B, "c.jpg"]
    (named,) = evaluation.read_predictions(tmp_path / "run.jsonl").values()
    assert read[A].boxes == pytest.approx(named.boxes, abs=1e-4)
    assert read[A].scores.tolist() == named.scores.tolist()
    (tmp_path / "one.txt").write_text(f"{A}\n1\n1 2 3 4 0.5\n{B}\n0\n")
    assert {name: len(each.scores) for name, each in evaluation.read_predictions(tmp_path / "one.txt").items()} == {
        A: 1,
        B: 0,
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "a.jpg\n2\n1 2 3 4 0.5\n", "line 1: a name, the number of faces"),
        ("a.jsonl", '{"image": "a.jpg"}', "line 1: these are not the faces"),
        ("a.txt", "a.jpg\n1\n1 2 3 4 nan\n", "a number is not finite"),
        ("a.jsonl", "", "no predictions"),
    ],
)
def test_invalid_predictions_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DetectionsError, match=message):
        evaluation.read_predictions(tmp_path / name)


def test_paths_belong_to_the_image_whose_name_they_end_with(tmp_path: Path) -> None:
    truth = evaluation.read_ground_truth(coco(tmp_path, {"a.jpg": [[0, 0, 9, 9]], "x/a.jpg": [], "b.c.png": []}))
    face = Predictions(np.array([[0, 0, 9, 9]]), np.array([0.5]))
    for path in ("a.jpg", "photos/a.jpg", "photos\\a.jpeg", "a"):
        assert evaluation.evaluate(truth, {path: face}).ap["AP50"] == pytest.approx(1.0)
    found = evaluation.evaluate(truth, {"/y/x/a.jpg": face, "b.c": face, "lost.jpg": face})
    assert (found.unknown, [*found.predictions], found.scores.tolist()) == (
        ("lost.jpg",),
        ["x/a.jpg", "b.c.png"],
        [-np.inf],
    )
    with pytest.raises(DetectionsError, match=r"two predictions are of a\.jpg, the second one of q/a\.jpg"):
        evaluation.evaluate(truth, {"a.jpg": face, "q/a.jpg": face})
    with pytest.raises(DetectionsError, match=r"such as z\.jpg of a\.jpg"):
        evaluation.evaluate(truth, {"z.jpg": face})


def test_invalid_labels_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, message in {
        "[]": "not valid",
        '{"images": [{"id": 1}]}': "there is no 'file_name'",
        '{"images": [], "annotations": [{"image_id": 7}]}': "not listed: image_id 7",
        '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}': "1 .a., 2",
    }.items():
        (tmp_path / "labels.json").write_text(text)
        with pytest.raises(DetectionsError, match=message):
            evaluation.read_ground_truth(tmp_path / "labels.json")
    with pytest.raises(DetectionsError, match="these are no labels"):
        evaluation.read_ground_truth(tmp_path)
    with pytest.raises(DetectionsError, match="has no labels"):
        evaluation.read_ground_truth(tmp_path, tmp_path)
    (tmp_path / "wider_face_val.mat").write_bytes(b"no")
    with pytest.raises(DetectionsError, match="not valid"):
        evaluation.read_ground_truth(tmp_path / "wider_face_val.mat")
