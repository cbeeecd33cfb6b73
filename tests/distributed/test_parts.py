"""Piles in parts: planning, reading, and results that are there whole or not at all."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scrfd_trt import SCRFDDetector
from scrfd_trt._files import locked_if_free
from scrfd_trt.distributed import _stores
from scrfd_trt.distributed._parts import Output, Part, detect_part, plan_parts, read_part
from scrfd_trt.errors import ImageError, OptionError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
Spot = Callable[[int], bytes]


def names(parts: list[Part]) -> list[list[str]]:
    return [[Path(uri).name for uri in part.uris] for part in parts]


@pytest.fixture
def pictures(tmp_path: Path, spot: Spot) -> Path:
    folder = tmp_path / "in"
    (folder / "b" / ".hidden").mkdir(parents=True)
    for number, name in enumerate(["a.png", "c.JPG", "b/d.png", "b/e.png", "b/.f.png", "notes.txt", "clip.mp4"]):
        (folder / name).write_bytes(spot(number))
    (folder / "loop").symlink_to(folder)
    return folder


def test_parts_of_a_folder(pictures: Path) -> None:
    left_out = Counter[str]()
    parts = list(plan_parts(str(pictures), 3, left_out=left_out))
    assert names(parts) == [["a.png", "c.JPG", "d.png"], ["e.png"]]
    assert [part.index for part in parts] == [0, 1]
    reasons = [".txt files", ".mp4 files", "hidden files", "hidden folders", "links to folders"]
    assert left_out == Counter(reasons)
    assert parts == list(plan_parts(pictures.as_uri(), 3))
    (pictures / "a.png").write_bytes(b"changed")
    again = list(plan_parts(str(pictures), 3))
    assert again[0].uris == parts[0].uris
    assert [one.digest == other.digest for one, other in zip(again, parts, strict=True)] == [False, True]
    assert names(list(plan_parts(str(pictures), 9, skip=[str(pictures / "b")]))) == [["a.png", "c.JPG"]]
    assert names(list(plan_parts(str(pictures), 9, suffixes=(".mp4",)))) == [["clip.mp4"]]


def test_lists_are_read_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("\ufeffa b.jpg\n\n/x/ü.jpg\r\ns3://bucket/k%23.jpg\n", encoding="utf-8")
    Path("list.csv").write_text('id,uri\n1,"a b.jpg"\n2,/x/ü.jpg\n3,s3://bucket/k%23.jpg\n', encoding="utf-8")
    expected = [str(tmp_path / "a b.jpg"), "/x/ü.jpg", "s3://bucket/k%23.jpg"]
    pq.write_table(pa.table({"image": ["a b.jpg", *expected[1:], None]}), "list.parquet")
    for source in ("list.txt", "list.csv", "list.parquet"):
        assert [uri for part in plan_parts(source, 2) for uri in part.uris] == expected
    Path("long.txt").write_text("a.jpg\n" * 10 + "\0\0\n")
    plan = plan_parts("long.txt", 5)
    assert len(next(plan).uris) == 5
    with pytest.raises(OptionError, match=r"long\.txt: this is no list of pictures"):
        list(plan)


@pytest.mark.parametrize("kind", ["bytes", "image", "struct", "named"])
def test_rows_of_parquet(kind: str, tmp_path: Path, spot: Spot, spot_detector: SCRFDDetector) -> None:
    content: list[Any] = [spot(number) for number in range(5)]
    content[3] = None
    if kind == "struct":
        columns = {"image": [{"bytes": one, "path": "x.png"} for one in content]}
    else:
        columns = {"image" if kind == "image" else "bytes": content}
    columns |= {"path": [f"p{number}" for number in range(5)]} if kind == "named" else {}
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "data" / "one.parquet", row_group_size=2)
    parts = list(plan_parts(str(tmp_path / "data"), 3))
    assert [len(part.uris) for part in parts] == [2, 3]  # row groups are not divided
    table, errors = detect_part(parts[1], spot_detector)
    expected = ["p2", "p4", "p3"] if kind == "named" else [parts[1].uris[number] for number in (0, 2, 1)]
    assert table["image"].to_pylist() + errors["image"].to_pylist() == expected
    assert errors["error"].to_pylist() == ["the row has no picture"]
    assert [face["x1"] for faces in table["faces"].to_pylist() for face in faces] == pytest.approx([4, 6], abs=1)
    lost = [picture.content for picture in read_part(Part(0, [f"{tmp_path / 'data' / 'one.parquet'}#row=7"]))]
    assert isinstance(lost[0], ImageError)


def test_results_are_those_of_detect(pictures: Path, spot_detector: SCRFDDetector) -> None:
    (pictures / "a.png").write_text("no image")
    (part,) = plan_parts(str(pictures), 10)
    table, errors = detect_part(part, spot_detector)
    assert errors["image"].to_pylist() == [str(pictures / "a.png")]
    assert table.column_names == ["image", "page", "width", "height", "faces"]
    for row in table.to_pylist():
        (face,) = spot_detector.detect(row["image"])
        assert (row["width"], row["height"], row["faces"][0]["x1"]) == (80, 60, face.box[0])


@pytest.fixture(params=["here", "elsewhere"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Output:
    _stores._store.cache_clear()
    return Output(str(tmp_path / "out") if request.param == "here" else "mock://store/out")


def test_a_run_goes_on(pictures: Path, spot_detector: SCRFDDetector, output: Output) -> None:
    (pictures / "a.png").write_text("no image")
    output = pickle.loads(pickle.dumps(output))
    settings = {"threshold": "0.5", "model": "m"}
    plan = list(plan_parts(str(pictures), 2))
    with output.begun(settings):
        assert [part.index for part in output.left(plan)] == [0, 1]
        for part in plan[:1] * 2:
            output.write_part(part, *detect_part(part, spot_detector))
    with output.begun(settings):
        assert output.done() == {0: plan[0].digest}
        (part,) = output.left(plan)
        output.write_part(part, *detect_part(part, spot_detector))
    assert output.totals() == {"parts": 2, "pictures": 4, "failures": 1, "faces": 3}
    entries = output.place.join("errors").entries()
    assert [entry.name for entry in entries] == [plan[0].file_name]
    output.write_part(plan[0], *detect_part(Part(0, plan[1].uris), spot_detector))
    assert output.place.join("errors").entries() == []
    with pytest.raises(OptionError, match=r"begun with threshold 0\.5, and now it is 0\.3; .* name another folder"):
        output.begun({**settings, "threshold": "0.3"}).__enter__()
    for changed in (plan[:1], [*plan[:1], Part(1, plan[1].uris, "0" * 12)]):
        with pytest.raises(OptionError, match="the source has changed: part 1 "):
            list(output.left(changed))


def test_another_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(OptionError, match=r"holds other files, and no run\.json"):
        Output(str(tmp_path)).begun({}).__enter__()
    output = Output(str(tmp_path / "out"))
    with output.begun({}), pytest.raises(OptionError, match="another run is at work"):
        output.begun({}).__enter__()
    with locked_if_free(tmp_path / "out" / ".scrfd-trt-batch.lock") as is_free:
        assert is_free


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothere", "there is no such file or folder"),
        ("ftp://host/x", r"ftp://host/x: it cannot be opened: .*; use s3://"),
        ("a.png", "a.png: this is one picture"),
        ("x.csv", "x.csv: a column uri or path or image is required; the columns are: id, name"),
        ("x.parquet", "x.parquet: a column bytes or image or uri or path is required; the columns are: id"),
        ("broken.parquet", "broken.parquet: the file cannot be read: "),
    ],
)
def test_sources_that_are_none(source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png").touch()
    Path("x.csv").write_text("id,name\n1,2\n")
    Path("broken.parquet").write_text("no Parquet")
    pq.write_table(pa.table({"id": [1]}), "x.parquet")
    with pytest.raises(OptionError, match=message):
        list(plan_parts(source, 5))
