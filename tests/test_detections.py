from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrfd_trt import Detection, Detections, DetectionsError, OptionError
from scrfd_trt._formats import CSV_COLUMNS, json_categories, json_coco, json_faces, wider_block, yolo_lines

SIZE = (640, 480)


def some(count=4, landmarks=True, seed=0):
    rng = np.random.default_rng(seed)
    boxes = np.sort(rng.uniform(-10, 600, (count, 2, 2)).astype(np.float32), axis=1).reshape(count, 4)
    points = rng.uniform(0, 600, (count, 5, 2)) if landmarks else None
    return Detections(boxes, np.sort(rng.random(count))[::-1], points, image_size=SIZE)


def test_columns_have_the_documented_types():
    found = some()
    assert found.boxes.dtype == found.scores.dtype == found.landmarks.dtype == np.float32
    assert (found.boxes.shape, found.scores.shape, found.landmarks.shape) == ((4, 4), (4,), (4, 5, 2))
    assert found.image_size == SIZE
    assert "4 faces in 640×480" in repr(found)


def test_rows_keep_the_order_that_the_caller_gives():
    found = Detections([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]], [0.2, 0.9, 0.5], image_size=SIZE)
    assert found.boxes[:, 2].tolist() == [1, 2, 3]
    assert found[found.areas.argsort()[::-1]].boxes[:, 2].tolist() == [3, 2, 1]
    assert found[::-1].scores.tolist() == pytest.approx([0.5, 0.9, 0.2])
    assert found[[2, 0]].boxes[:, 2].tolist() == [3, 1]
    assert Detections.concat([found[1:], found[:1]]).boxes[:, 2].tolist() == [2, 3, 1]
    assert Detections.from_rows(found, SIZE) == Detections.from_json(found.to_json()) == found
    assert found.nms().boxes[:, 2].tolist() == [2, 1]
    assert "best score 0.90" in repr(found)


def test_json_of_scores_that_are_no_shares_is_refused():
    found = some()
    found.scores *= 2
    with pytest.raises(DetectionsError, match="scores must lie between 0 and 1"):
        found.to_json()


def test_rows_are_detections():
    found = some()
    face = found[1]
    assert isinstance(face, Detection)
    assert face.box == pytest.approx(tuple(found.boxes[1]))
    assert face.landmarks.nose == pytest.approx(tuple(found.landmarks[1, 2]))
    assert face.track_id is None
    assert [row.score for row in found] == pytest.approx(found.scores.tolist())
    assert found[-1] == list(found)[-1]
    assert (face.width, face.height) == pytest.approx((face.box[2] - face.box[0], face.box[3] - face.box[1]))
    assert face.center[0] == pytest.approx((face.box[0] + face.box[2]) / 2)
    with pytest.raises(IndexError):
        found[4]


@pytest.mark.parametrize("landmarks", [True, False])
def test_selections_are_copies(landmarks):
    found = some(landmarks=landmarks)
    assert len(found[:2]) == 2
    assert found[found.scores > 2] == Detections.empty(SIZE, landmarks=landmarks)
    assert found[[]] == Detections.empty(SIZE, landmarks=landmarks)
    assert found[[0, 2]].boxes.tolist() == found.boxes[[0, 2]].tolist()
    with pytest.raises(IndexError, match="no face 100; there are"):
        found[100]
    with pytest.raises(IndexError, match="one axis"):
        found[np.zeros((1, 1), int)]
    part = found[:]
    part.boxes[:] = 0
    assert found.boxes.any()


@pytest.mark.parametrize("name", ["boxes", "scores", "landmarks", "image_size", "track_ids", "pts_seconds"])
def test_fields_are_read_only(name):
    found = some()
    with pytest.raises(DetectionsError, match=f"^{name} is read-only: "):
        setattr(found, name, 1)
    found.boxes += 1
    assert np.array_equal(found.boxes, some().boxes + 1)


@pytest.mark.parametrize("write", ["to_csv", "to_json", "to_coco", "to_pandas", "to_polars", "to_arrow"])
def test_a_path_is_no_column(write):
    with pytest.raises(OptionError, match=rf"^{write}\(…\): pass 'faces.csv' by name: "):
        getattr(some(), write)("faces.csv")


def test_equality():
    assert some() == some()
    assert some() != some(seed=1)
    assert some() != some(landmarks=False)
    assert some() != "something else"
    with pytest.raises(TypeError):
        hash(some())


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([[0, 0, 1]], [0.5]), r"boxes must have shape \(N, 4\)"),
        (([[0, 0, 1, 1]], [0.5, 0.4]), "as many rows"),
        (([[0, 0, 1, 1]], [0.5], np.zeros((2, 5, 2))), "as many rows"),
        (([[0, 0, 1, 1]], [0.5], np.zeros((1, 4, 2))), r"\(N, 5, 2\)"),
        (([[0, 0, np.nan, 1]], [0.5]), "finite"),
        (([[0, 0, 1, 1]], [1.5]), "between 0 and 1"),
        (([[5, 0, 1, 1]], [0.5]), "x2 ≥ x1"),
        ((["box"], [0.5]), "array of numbers"),
    ],
)
def test_invalid_columns_are_rejected(columns, message):
    with pytest.raises(DetectionsError, match=message):
        Detections(*columns, image_size=SIZE)


@pytest.mark.parametrize(
    "row",
    [
        {"box": (0, 0, 1), "score": 0.5},
        {"box": (5, 0, 1, 1), "score": 0.5},
        {"box": (0, 0, 1, 1), "score": 1.5},
        {"box": (0, 0, 1, float("nan")), "score": 0.5},
        {"box": (0, 0, 1, 1), "score": 0.5, "landmarks": ((1, 1),)},
        {"box": (0, 0, 1, 1), "score": 0.5, "nose": 1},
    ],
)
def test_invalid_rows_are_rejected(row):
    with pytest.raises(DetectionsError):
        Detections.from_rows([row], SIZE)


class Failing:
    """A foreign array that fails."""

    def __array__(self, *_, **__):
        raise LookupError("no data")


@pytest.mark.parametrize(
    "columns",
    [
        ([[0, 0, 1e300, 1]], [0.5]),
        ([[0, 0, 10**400, 1]], [0.5]),
        ([[0, 0, 1 + 1j, 1]], [0.5]),
        (Failing(), [0.5]),
        ([[0, 0, 1, 1]], Failing()),
        ([[0, 0, 1, 1]], [0.5], Failing()),
        ([[0, 0, 1, 1]], [0.5], [[[0, 1e300]] * 5]),
    ],
)
def test_numbers_that_exceed_float32_and_foreign_errors_are_rejected(columns):
    with pytest.raises(DetectionsError) as caught:
        Detections(*columns, image_size=SIZE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "size",
    [
        (0, 1),
        (2**31, 1),
        pytest.param((10**5000, 1), id="5,001 digits"),
        (1.5, 1),
        (1,),
        (1, 2, 3),
        None,
        "ab",
        5,
        (float("nan"), 1),
    ],
)
def test_invalid_image_sizes_are_rejected(size):
    with pytest.raises(DetectionsError, match="image_size must be"):
        Detections.empty(size)
    with pytest.raises(DetectionsError):
        Detections.from_rows([5], size)


@pytest.mark.parametrize("other", [5, None, object(), np.zeros((2, 4))])
def test_what_is_no_supervision_detections_is_rejected(other):
    with pytest.raises(DetectionsError, match=r"a supervision\.Detections is required"):
        Detections.from_supervision(other, SIZE)


finite = st.floats(-1e6, 1e6, width=32)
rows = st.lists(
    st.tuples(
        st.tuples(finite, finite, finite, finite), st.floats(0, 1, width=32), st.lists(finite, min_size=10, max_size=10)
    ),
    max_size=5,
)


@given(rows, st.booleans())
def test_json_keeps_the_numbers(values, landmarks):
    boxes = [(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)) for (x1, y1, x2, y2), _, _ in values]
    points = np.array([five for *_, five in values]).reshape(-1, 5, 2) if landmarks else None
    found = Detections(boxes, [score for _, score, _ in values], points, image_size=SIZE)
    again = Detections.from_json(found.to_json())
    assert np.array_equal(again.boxes, found.boxes)
    assert np.array_equal(again.scores, found.scores)
    assert again == found


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "invalid JSON of detections: Expecting value"),
        ("[]", "an object is required"),
        ("[" * 100_000, "JSON"),
        ('{"image_size": [1, 1], "faces": [5]}', r"faces\.0: rows must be"),
        ('{"image_size": [1, 1], "faces": 5}', "rows must be"),
        ('{"image_size": [1, 1], "faces": [{"box": [0, 0, 1, NaN], "score": 0.5}]}', r"faces\.0: boxes must be finite"),
        ('{"image_size": [1, 1], "faces": [], "track_ids": [4]}', "track_ids"),
        ('{"image_size": [1, 1]}', "'faces' is missing"),
        ('{"faces": []}', "image_size"),
        ('{"image_size": [1, 1], "faces": [{"box": [0, 0, 1, 1], "score": 7}]}', r"faces\.0: scores must"),
        ('{"image_size": [1, 1], "faces": [{"box": [9, 0, 1, 1], "score": 0.7}]}', r"faces\.0: boxes must be x1"),
        ('{"image_size": [0, 1], "faces": []}', "detections: image_size must be"),
    ],
)
def test_error_of_invalid_json_names_the_field(text, where):
    with pytest.raises(DetectionsError, match=where) as caught:
        Detections.from_json(text)
    assert "\n" not in str(caught.value)


def test_rows_with_and_without_landmarks_do_not_mix():
    one = Detection(box=(0, 0, 1, 1), score=0.5)
    other = Detection(box=(0, 0, 1, 1), score=0.5, landmarks=((0, 0),) * 5)
    with pytest.raises(DetectionsError, match="1 of 2 rows"):
        Detections.from_rows([one, other], SIZE)
    assert Detections.from_rows([other], SIZE).landmarks.shape == (1, 5, 2)
    assert len(Detections.from_rows([], SIZE)) == 0


def test_numbers_are_rounded_to_float32_precision():
    found = Detections([[0.1, 0.2, 0.3, 0.4]], [0.7], image_size=SIZE)
    assert found.to_dicts() == [{"box": [0.1, 0.2, 0.3, 0.4], "score": 0.7, "landmarks": None}]


@pytest.mark.parametrize("landmarks", [True, False])
def test_csv(landmarks):
    found = some(landmarks=landmarks)
    lines = list(csv.reader(io.StringIO(found.to_csv(image='odd, "name".jpg'))))
    assert tuple(lines[0]) == CSV_COLUMNS
    assert len(lines) == 5
    assert lines[1][0] == 'odd, "name".jpg'
    assert [float(cell) for cell in lines[1][1:6]] == pytest.approx([*found.boxes[0], found.scores[0]])
    assert (lines[1][6:] == [""] * 10) is not landmarks


def test_coco():
    found = some()
    notes = found.to_coco(image_id=7, first_id=3)
    assert [note["id"] for note in notes] == [3, 4, 5, 6]
    x1, y1, x2, y2 = found.boxes[0].tolist()
    assert notes[0]["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1])
    assert notes[0]["area"] == pytest.approx((x2 - x1) * (y2 - y1))
    assert len(notes[0]["keypoints"]) == 15
    assert "keypoints" not in some(landmarks=False).to_coco()[0]
    assert json.loads(json_categories())[0]["name"] == "face"
    note = Detections([[24.04363, 66.501015, 75.34077, 133.70467]], [0.5], image_size=SIZE).to_coco()[0]
    assert (note["bbox"], note["area"]) == ([24.04363, 66.501015, 51.29714, 67.20365], 3447.355043)


def test_yolo_labels_lie_within_the_image():
    boxes = [[10, 20, 50, 60], [-10, 0, 30, 40], [200, 200, 210, 210]]  # inside, across the border, outside
    found = Detections(boxes, [0.9, 0.8, 0.7], image_size=(100, 200))
    assert yolo_lines(found) == ("0 0.300000 0.200000 0.400000 0.200000\n0 0.150000 0.100000 0.300000 0.200000\n")
    assert yolo_lines(Detections.empty(SIZE)) == ""


def test_results_in_the_format_of_wider_face():
    found = Detections([[10.5, 20, 50, 60], [0.1, 0.2, 0.3, 0.4]], [0.9, 0.8], image_size=SIZE)
    block = wider_block(found, "0--Parade/a.jpg")
    assert block == "0--Parade/a.jpg\n2\n10.5 20.0 39.5 40.0 0.9\n0.1 0.2 0.2 0.2 0.8\n"
    assert wider_block(Detections.empty(SIZE), "a.jpg") == "a.jpg\n0\n"


def shortest(values):
    """The fewest digits that restore a float32, as NumPy writes them one by one."""
    return values.astype("U").astype(np.float64).tolist()


@pytest.mark.parametrize("landmarks", [True, False])
@pytest.mark.parametrize("edge", [None, 0.0, -0.0, 1e-5, -0.00999, 1e7, 16777216.0, 1e15, 1e16])
def test_text_of_numbers(landmarks, edge):
    rng = np.random.default_rng(0)
    n = 400
    numbers = [
        rng.random(n) * 10 ** rng.uniform(-1, 7, n),
        np.round(rng.random(n) * 2000, rng.integers(0, 4)),
        np.ldexp(1 + rng.integers(-2, 3, n) * 2.0**-24, rng.integers(-6, 23, n)),  # around powers of two
        np.ldexp(rng.integers(1, 2**24, n), -rng.integers(1, 17, n)),
    ]
    corners = np.maximum(np.stack(numbers, axis=1), 0.01).astype(np.float32) * rng.choice(
        np.array([-1, 1], np.float32), (n, 1)
    )
    if edge is not None:
        corners[1, 0] = edge
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    points = rng.permutation(np.resize(corners, (n * 10,))).reshape(n, 5, 2) if landmarks else None
    found = Detections(boxes, rng.random(n) * 0.98 + 0.02, points, image_size=SIZE)
    rows = found.to_dicts()
    assert [row["box"] for row in rows] == shortest(found.boxes)
    assert [row["score"] for row in rows] == shortest(found.scores)
    assert [row["landmarks"] for row in rows] == (shortest(found.landmarks) if landmarks else [None] * n)
    exact = str if edge not in {1e-5, 1e15, 1e16} else json.loads  # orjson writes 1e-5, not 1e-05
    assert exact(json_faces(found)) == exact(json.dumps(rows))
    assert exact(f"[{json_coco(found, 3, 8)}]") == exact(json.dumps(found.to_coco(image_id=3, first_id=8)))
    cells = [
        [*row["box"], row["score"], *np.ravel(row["landmarks"]).tolist()][: 15 if landmarks else 5] for row in rows
    ]
    lines = [",".join(map(repr, row)) + "," * (15 - len(row)) for row in cells]
    if exact is str:
        assert found.to_csv(image="%s").splitlines()[1:] == [f"%s,{line}" for line in lines]


@pytest.mark.parametrize("write", [json_faces, lambda found: json_coco(found, 1, 1), lambda found: found.to_csv()])
def test_text_of_no_faces(write):
    assert write(Detections.empty(SIZE)).strip() in {"[]", "", ",".join(CSV_COLUMNS)}


@pytest.mark.parametrize("landmarks", [True, False])
def test_supervision_round_trip(landmarks):
    pytest.importorskip("supervision")
    found = some(landmarks=landmarks)
    theirs = found.to_supervision()
    assert theirs.xyxy.shape == (4, 4)
    assert (theirs.class_id == 0).all()
    assert theirs["class_name"].tolist() == ["face"] * len(theirs)
    assert Detections.from_supervision(theirs, SIZE) == found
    theirs.confidence = None
    assert (Detections.from_supervision(theirs, SIZE).scores == 1).all()
    empty = Detections.empty(SIZE).to_supervision()
    assert len(Detections.from_supervision(empty, SIZE)) == 0
