"""Detections as objects of other libraries, and back."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from scrfd_trt import Detections, DetectionsError, MissingDependencyError, OptionError, SCRFDDetector

SIZE = (640, 480)
BOXES, SCORES = [[10, 20, 50, 60], [0.1, 0.2, 300, 400]], [0.9, 0.8]
POINTS = [[[20, 30], [40, 30], [30, 40], [22, 50], [38, 50]]] * 2
FACES = {
    "landmarks": Detections(BOXES, SCORES, POINTS, image_size=SIZE),
    "tracked": Detections(BOXES, SCORES, image_size=SIZE, track_ids=[7, 3], pts_seconds=0.25),
    "empty": Detections.empty(SIZE),
}
TABLES = {"pandas": "to_pandas", "polars": "to_polars", "pyarrow": "to_arrow"}


@pytest.mark.parametrize("library", TABLES)
@pytest.mark.parametrize("faces", FACES.values(), ids=FACES)
def test_tables(library, faces):
    pytest.importorskip(library)
    table = getattr(faces, TABLES[library])(image="a.jpg")
    header = faces.to_csv(image="a.jpg").splitlines()[0].split(",")
    assert list(getattr(table, "column_names", table.columns))[:16] == header
    assert [str(name) for name in table["image"]] == ["a.jpg"] * len(faces)
    names = header[1:6] if faces.landmarks is None else header[1:]
    rows = np.array([np.asarray(table[name]) for name in names]).T
    assert np.array_equal(rows[:, :5], np.column_stack([faces.boxes, faces.scores]))
    assert faces.landmarks is None or np.array_equal(rows[:, 5:].reshape(-1, 5, 2), faces.landmarks)
    assert len(getattr(faces, TABLES[library])()) == len(faces)


def test_images_are_named_by_their_source():
    faces = FACES["landmarks"][:]
    assert faces.to_csv().splitlines()[1].startswith(",")
    faces.source = "a.jpg"
    assert faces.to_csv() == faces.to_csv(image="a.jpg") != faces.to_csv(image="b.jpg")
    pytest.importorskip("pandas")
    assert faces.to_pandas()["image"].tolist() == ["a.jpg"] * len(faces)


def test_what_is_missing_is_missing():
    polars = pytest.importorskip("polars")
    pytest.importorskip("pandas")
    faces = FACES["tracked"]
    assert faces.to_polars()["nose_x"].null_count() == 2
    assert faces.to_pandas()["nose_x"].isna().all()
    assert faces.to_pandas()["track_id"].tolist() == [7, 3]
    assert polars.concat([FACES[name].to_polars(image="a") for name in ("empty", "landmarks")]).height == 2


@pytest.mark.parametrize("library", [*TABLES, "fiftyone", "supervision"])
def test_missing_libraries_are_named(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf"^to_\w+\(\) requires {library}: .*pip install "):
        getattr(FACES["landmarks"], TABLES.get(library, f"to_{library}"))()


def test_fiftyone_labels():
    fo = pytest.importorskip("fiftyone")
    found = FACES["landmarks"].to_fiftyone()
    assert isinstance(found, fo.Detections)
    assert found.detections[0].bounding_box == pytest.approx([10 / 640, 20 / 480, 40 / 640, 40 / 480])
    assert (found.detections[0].label, found.detections[0].confidence) == ("face", pytest.approx(0.9))
    assert FACES["tracked"].to_fiftyone().detections[0].index == 7
    points = FACES["landmarks"].to_fiftyone(landmarks=True)
    assert isinstance(points, fo.Keypoints)
    assert points.keypoints[1].points[2] == pytest.approx([30 / 640, 40 / 480])
    assert FACES["tracked"].to_fiftyone(landmarks=True).keypoints == []
    assert FACES["empty"].to_fiftyone().detections == []


def test_other_forms_of_boxes():
    faces = FACES["landmarks"]
    assert faces.xywh[0].tolist() == [10, 20, 40, 40]
    assert faces.xyxyn[0] == pytest.approx([10 / 640, 20 / 480, 50 / 640, 60 / 480])
    assert faces.centers[0].tolist() == [30, 40]
    assert faces.areas[0] == 1600
    assert {getattr(faces, name).dtype for name in ("xywh", "xyxyn", "centers", "areas")} == {np.dtype(np.float32)}
    assert faces.landmarks[0, faces.landmark_names.index("nose")].tolist() == [30, 40]


def test_masks_by_size_and_region():
    faces = FACES["landmarks"]
    assert faces[faces.sizes > 41] == faces[[1]]
    assert faces[faces.inside((0, 0, 100, 100)) & (faces.areas == 1600)] == faces[[0]]
    assert FACES["empty"].inside((0, 0, 1, 1)).shape == FACES["empty"].sizes.shape == (0,)
    for region in ((1, 2), (9, 0, 5, 5), (0, 0, float("nan"), 5)):
        with pytest.raises(OptionError, match="region must be x1, y1, x2, y2"):
            faces.inside(region)


def test_joined_detections_without_repeated_faces():
    faces, tracked, empty = FACES.values()
    both = Detections.concat([faces, empty, faces])
    assert both.scores.tolist() == faces.scores.tolist() * 2
    assert both.nms() == faces
    assert len(both.nms(iou=1.0)) == 4
    assert Detections.concat([tracked, tracked]).pts_seconds == 0.25
    assert Detections.concat([empty]) == empty
    with pytest.raises(OptionError, match="iou must lie between 0 and 1"):
        faces.nms(7)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "at least one"),
        (5, r"at least one Detections: Detections\.concat\(\[a, b\]\)"),
        ([FACES["landmarks"], 5], "at least one"),
        ([FACES["landmarks"], Detections.empty((4, 5))], "different size"),
        ([FACES["landmarks"], FACES["tracked"]], "1 of 2 detections have landmarks"),
    ],
)
def test_what_cannot_be_joined(parts, message):
    with pytest.raises(DetectionsError, match=message):
        Detections.concat(parts)


@pytest.mark.parametrize(
    ("found", "name", "hint"),
    [
        (FACES["landmarks"], "bbox", "; use boxes"),
        (FACES["landmarks"], "orig_shape", "; use image_size, which is width and height"),
        (FACES["landmarks"], "predict", ""),
        (FACES["landmarks"][0], "bbox", "; use box"),
        (FACES["landmarks"][0], "crop", r"; use box, or crop\(\) of the Detections"),
        (FACES["landmarks"], "orig_img", "; use source, the path or address"),
        (FACES["landmarks"], "cpu", "; use boxes, which is a NumPy array"),
        (
            SCRFDDetector.__new__(SCRFDDetector),
            "track",
            r"; use detect\(image\), and scrfd_trt.video.detect_video for tracks",
        ),
        (SCRFDDetector.__new__(SCRFDDetector), "predict", r"; use detect\(image\)"),
        (
            SCRFDDetector.__new__(SCRFDDetector),
            "threshold",
            r"; use detect\(image, threshold=…\), or options.threshold to read it",
        ),
    ],
)
def test_names_of_other_libraries_are_answered(found, name, hint):
    with pytest.raises(AttributeError, match=f"'{type(found).__name__}' object has no attribute '{name}'{hint}$"):
        getattr(found, name)
