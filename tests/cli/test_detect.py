from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from scrfd_trt import Detections, OptionError, OutputError
from scrfd_trt._cli import outputs
from scrfd_trt._cli.inputs import Source
from scrfd_trt.errors import installable

pytestmark = pytest.mark.usefixtures("spots")
BOX = [40.0, 30.0, 90.0, 100.0]

Run = Callable[..., Any]
Picture = Callable[..., Path]


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_table(run: Run, picture: Picture) -> None:
    code, out, err = run("detect", picture())
    assert (code, err) == (0, "")
    heading, columns, _, face = out.strip().splitlines()
    assert heading.startswith("spot.png  160×120, 1 face, ")
    assert columns.split() == ["#", "score", "x1", "y1", "x2", "y2", "width", "height"]
    number, score, *sides = face.split()
    assert (number, score) == ("1", "0.875")
    np.testing.assert_allclose([float(side) for side in sides], [*BOX, 50, 70], atol=1.0)
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_image_without_faces(run: Run, picture: Picture) -> None:
    code, out, _ = run("detect", picture(box=None))
    assert code == 0
    assert out.startswith("spot.png  160×120, no faces, ")
    assert out.count("\n") == 1


def test_json_lines_hold_detections(run: Run, picture: Picture) -> None:
    code, out, err = run("detect", picture("a.png"), picture("b.png", box=None), "-f", "jsonl")
    assert code == 0
    assert err == "2 images, 1 face\n"
    first, second = lines(out)
    assert first["image"] == "a.png"
    faces = Detections.from_json(json.dumps(first))
    assert faces.image_size == (160, 120)
    np.testing.assert_allclose(faces.boxes, [BOX], atol=1.0)
    assert faces.landmarks is not None
    np.testing.assert_allclose(faces.landmarks[0, 0], [55, 58], atol=1.0)
    assert second == {"image": "b.png", "threshold": 0.5, "image_size": [160, 120], "faces": []}


def test_csv(run: Run, picture: Picture) -> None:
    _, out, _ = run("detect", picture("a, b.png"), "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["image"] == "a, b.png"
    assert float(row["x2"]) == pytest.approx(90, abs=1.0)
    assert float(row["score"]) == 0.875


def test_parquet_has_a_row_for_each_image(run: Run, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("scrfd_trt._parquet.MAX_IMAGES", 2)
    Path("broken.png").write_bytes(picture("a.png").read_bytes()[:60])
    inputs = ("a.png", "broken.png", picture("b.png", box=None), picture("c.png"))
    code, _, err = run("detect", *inputs, "-o", "faces.parquet")
    assert code == 1, err
    file = parquet.ParquetFile("faces.parquet")
    assert file.num_row_groups == 2
    assert file.schema_arrow.metadata[b"scrfd_trt.threshold"] == b"0.5"
    assert file.schema_arrow.field("width").metadata[b"unit"] == b"pixel"
    rows = file.read().to_pylist()
    assert [(row["image"], row["page"], row["width"], row["height"]) for row in rows] == [
        *(("a.png", None, 160, 120), ("broken.png", None, None, None)),
        *(("b.png", None, 160, 120), ("c.png", None, 160, 120)),
    ]
    assert [None if row["faces"] is None else len(row["faces"]) for row in rows] == [1, None, 0, 1]
    assert [row["error"] is None for row in rows] == [True, False, True, True]
    face = lines(run("detect", "c.png", "-f", "jsonl").out)[0]["faces"][0]
    values = np.array(list(rows[3]["faces"][0].values()), np.float64)
    np.testing.assert_allclose(values[:5], [*face["box"], face["score"]], atol=1e-4)
    np.testing.assert_allclose(values[5:], np.ravel(face["landmarks"]), atol=1e-4)
    assert run("detect", "a.png", "-o", "faces.parquet", "--overwrite").code == 0
    assert parquet.read_table("faces.parquet").num_rows == 1


def test_parquet_requires_pyarrow_and_a_file(run: Run, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--format parquet requires --output FILE" in run("detect", picture(), "-f", "parquet").err
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    code, _, err = run("detect", "spot.png", "-o", "faces.parquet")
    assert code == 2
    assert installable('pip install "scrfd-trt[parquet]"') in err


def test_coco_numbers_images_and_annotations(run: Run, picture: Picture) -> None:
    run("detect", picture("a.png"), picture("b.png", box=None), picture("c.png"), "-f", "coco", "-o", "faces.json")
    coco = json.loads(Path("faces.json").read_text(encoding="utf-8"))
    assert [(image["id"], image["file_name"]) for image in coco["images"]] == [(1, "a.png"), (2, "b.png"), (3, "c.png")]
    assert [(note["id"], note["image_id"]) for note in coco["annotations"]] == [(1, 1), (2, 3)]


@pytest.mark.parametrize(
    ("name", "start"),
    [("x.csv", "image,x1"), ("x.jsonl", '{"image"'), ("x.json", '{"images"'), ("x.txt", "spot.png  ")],
)
def test_output_suffix_selects_format(run: Run, picture: Picture, name: str, start: str) -> None:
    code, out, err = run("detect", picture(), "-o", name)
    assert (code, out) == (0, "")
    assert err == f"wrote {name}{' (COCO)' if name == 'x.json' else ''}: 1 image, 1 face\n"
    assert Path(name).read_text(encoding="utf-8").startswith(start)


def test_dash_means_stdout(run: Run, picture: Picture) -> None:
    assert run("detect", picture(), "-f", "jsonl", "-o", "-").out.startswith('{"image"')


def test_json_is_one_array(run: Run, picture: Picture) -> None:
    inputs = (picture("a.png"), "none.png", picture("b.png", box=None))
    assert json.loads(run("detect", *inputs, "--json").out) == lines(run("detect", *inputs, "-f", "jsonl").out)
    assert run("detect", *inputs, "--csv").out == run("detect", *inputs, "-f", "csv").out
    Path("empty").touch()
    run("detect", "--files-from", "empty", "-f", "json", "-o", "empty.json")
    assert json.loads(Path("empty.json").read_bytes()) == []


def test_wider_face_blocks(run: Run, picture: Picture) -> None:
    name, number, face, *others = run("detect", picture("a.png"), picture("b.png", box=None), "-f", "wider").out.split(
        "\n"
    )
    assert (name, number, others) == ("a.png", "1", ["b.png", "0", ""])
    np.testing.assert_allclose([float(text) for text in face.split(" ")], [40, 30, 50, 70, 0.875], atol=1.0)
    assert max(map(len, face.split(" "))) <= 11  # digits of float32


def test_yolo_has_a_file_for_each_image(run: Run, picture: Picture) -> None:
    picture("in/a.png")
    picture("in/a.jpg")
    picture("in/deep/b.png", box=None)
    Image.new("RGB", (9, 9)).save("in/pages.tif", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    args = ("detect", "in", "-r", "-f", "yolo", "-o", "in/labels")
    code, out, err = run(*args)
    assert (code, out) == (1, "")
    assert "in/a.png: in/labels/a.txt is the copy of in/a.jpg" in err
    written = {path.relative_to("in/labels").as_posix(): path.read_text() for path in Path("in").rglob("*.txt")}
    (face,) = written.pop("a.txt").splitlines()
    assert written == {"deep/b.txt": "", "pages_page1.txt": "", "pages_page2.txt": ""}
    np.testing.assert_allclose(
        [float(text) for text in face.split(" ")], [0, 65 / 160, 65 / 120, 50 / 160, 70 / 120], atol=0.01
    )
    assert "3 copies already exist, such as in/labels/a.txt; name another folder" in run(*args).err


class TestCrops:
    """Pictures of faces."""

    def test_each_face_is_a_file_without_metadata(self, run: Run, picture: Picture) -> None:
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "secret"
        Image.open(picture("in/a.png")).rotate(90, expand=True).save("in/deep.jpg", exif=exif, quality=95)
        picture("in/none.png", box=None)
        code, _, err = run("detect", "in", "--save-crops", "in/faces", "-f", "csv")
        assert (code, err) == (0, "3 images, 2 faces\npictures of faces in in/faces\n")
        assert sorted(path.name for path in Path("in/faces").iterdir()) == ["a_1.png", "deep_1.jpg"]
        for path in Path("in/faces").iterdir():
            assert b"secret" not in path.read_bytes()
            image = cv2.imread(str(path))
            assert abs(image.shape[0] - 98) <= 2
            assert abs(image.shape[1] - 70) <= 2
            assert image[50, 35].min() > 250
        again = run("detect", "in/a.png", "--save-crops", "in/faces")
        assert again.error.startswith("in/faces/a_1.png already exists; name another folder, or add --overwrite")

    def test_with_copies_and_labels(self, run: Run, picture: Picture) -> None:
        picture("in/a.png")
        args = ("detect", "in", "--annotate", "a", "--save-crops", "c", "-f", "yolo", "-o", "l")
        assert run(*args, "--resume").code == 0
        assert [path.as_posix() for path in sorted(Path().glob("[acl]/*[gt]"))] == ["a/a.png", "c/a_1.png", "l/a.txt"]
        assert "skipped 1 input" in run(*args, "--resume").err

    def test_labels_of_no_faces_and_of_pages_are_done(self, run: Run, picture: Picture) -> None:
        picture("in/a.png", box=None)
        Image.open(picture("b.png")).save("in/b.tif", save_all=True, append_images=[Image.new("RGB", (9, 9))])
        args = ("detect", "in", "-f", "yolo", "-o", "l", "--resume")
        assert run(*args).code == 0
        assert "skipped 2 inputs" in run(*args).err


def test_show_opens_marked_images(run: Run, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("PIL.ImageShow.show", lambda image: seen.append(np.asarray(image)[..., ::-1]) or True)
    assert run("detect", picture("a.png"), picture("b.png"), "--show").code == 0
    assert [image.shape for image in seen] == [(120, 160, 3)] * 2
    assert not any(np.array_equal(image, cv2.imread("a.png")) for image in seen)
    for number in range(11):
        picture(f"in/{number}.png")
    assert run("detect", "in", "--show").error == "--show opens at most 10 images, not 11; use --annotate DIR"
    monkeypatch.setattr("PIL.ImageShow.show", lambda _: False)
    ran = run("detect", "a.png", "--show")
    assert ran.error == "a.png: there is no program here that shows pictures; use --annotate DIR"
    assert "1 face" in ran.out


def test_one_bad_input_does_not_stop_the_others(run: Run, picture: Picture) -> None:
    Path("empty.jpg").touch()
    Path("text.jpg").write_text("hello")
    inputs = (picture("a.png"), "empty.jpg", picture("cut.jpg", keep=0.6), "text.jpg", "none.jpg", picture("z.png"))
    code, out, err = run("detect", *inputs, "-f", "jsonl")
    assert code == 1
    found = lines(out)
    assert [line["image"] for line in found] == [str(path) for path in inputs]
    assert [len(line.get("faces", [])) for line in found] == [1, 0, 0, 0, 0, 1]
    printed = err.splitlines()
    assert printed[:2] == ["2 images, 2 faces", "error: 4 of 6 inputs failed, the others succeeded:"]
    for line, printed_line in zip([line for line in found if "error" in line], printed[2:], strict=True):
        assert printed_line == f"- {line['image']}: {line['error']}"


def test_single_bad_input_gives_one_line(run: Run, picture: Picture) -> None:
    ran = run("detect", picture("cut.png", keep=0.5))
    assert (ran.code, ran.out) == (1, "")
    assert ran.error.startswith("cut.png: the file is cut off after ")


def test_results_of_good_inputs_are_written(run: Run, picture: Picture) -> None:
    assert run("detect", "none.jpg", picture(), "-o", "faces.jsonl").code == 1
    failed, found = lines(Path("faces.jsonl").read_text(encoding="utf-8"))
    assert failed == {"image": "none.jpg", "error": "there is no such file"}
    assert len(found["faces"]) == 1


@pytest.mark.usefixtures("known_overlays")
class TestAnnotate:
    def test_copies_have_names_and_sizes_of_images(self, run: Run, picture: Picture) -> None:
        picture("in/a.png")
        picture("in/deep/b.jpg")
        code, _, err = run("detect", "in", "--recursive", "--annotate", "in/out", "-f", "jsonl")
        assert code == 0
        assert err == "2 images, 2 faces\nannotated copies in in/out\n"
        for name in ("a.png", "deep/b.jpg"):
            before, after = cv2.imread(f"in/{name}"), cv2.imread(f"in/out/{name}")
            assert before is not None
            assert after is not None
            assert after.shape == before.shape
            assert (after != before).any()
        assert len(lines(run("detect", "in", "-r", "--annotate", "in/out", "--overwrite", "-f", "jsonl").out)) == 2

    def test_copy_over_existing_file_is_refused(self, run: Run, picture: Picture) -> None:
        path = picture("a.png")
        before = path.read_bytes()
        ran = run("detect", path, "--annotate", ".")
        assert (ran.code, ran.out) == (2, "")
        assert ran.error == "a.png is the input; name another folder"
        assert path.read_bytes() == before

    def test_faces_are_printed_if_copy_fails(self, run: Run, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OutputError("cannot write out/a.png: No space left on device")

        monkeypatch.setattr(outputs, "save_image", fail)
        ran = run("detect", picture("a.png"), "--annotate", "out", "-f", "jsonl")
        assert ran.code == 1
        assert len(lines(ran.out)[0]["faces"]) == 1
        assert ran.error == "a.png: cannot write out/a.png: No space left on device"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model", "nope"], "no model 'nope'"),
        (["--model", "nope", "--format", "csv"], "no model 'nope'"),
        (["--model", "nope", "--output", "new.csv"], "no model 'nope'"),
        (["--model", "none.onnx"], "none.onnx"),
        (["--format", "xml"], "--format xml: the choices are: table, json, jsonl, csv, coco, parquet, yolo, wider"),
        (["--output", "faces.xyz"], "the suffix does not select a format; add --format table|json|jsonl|csv|coco"),
        (["--format", "yolo"], "--format yolo requires --output DIR"),
        (["--format", "yolo", "-o", "taken.csv"], "taken.csv cannot be a folder: a file is in the way"),
        (["--save-crops", "taken.csv"], "taken.csv cannot be a folder"),
        (["--show", *["spot.png"] * 2], "--show requires a display, and there is none; use --annotate DIR"),
        (["--output", "nowhere/faces.csv"], "there is no folder nowhere; create it first"),
        (["--output", "spot.png", "-f", "jsonl", "--overwrite"], "spot.png is an input"),
        (["--output", "taken.csv"], "taken.csv already exists; name another file, or add --overwrite to replace it"),
        (["--annotate", "taken.csv"], "taken.csv cannot be a folder"),
        (["--scale", "9000"], "--scale '9000': sides are multiples of 32"),
        (["--scale", "640,"], "--scale '': sides are multiples of 32"),
        (["--scale", "640x"], "--scale '640x': sides are multiples of 32"),
        (["--threshold", "1.5"], "Invalid value for '--threshold'"),
        (["--threshold", "nan"], "threshold"),
        (["--max-faces", "0"], "Invalid value for '--max-faces'"),
        (["--colour"], "there is no option --colour"),
    ],
)
def test_usage_error_gives_one_line_before_any_work(run: Run, picture: Picture, args: list[str], message: str) -> None:
    if "none.onnx" in args:
        pytest.importorskip("onnxruntime")
    picture()
    Path("taken.csv").write_text("mine")
    ran = run("detect", "spot.png", *args)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.error
    assert Path("taken.csv").read_text() == "mine"
    assert sorted(path.name for path in Path().iterdir()) == ["spot.png", "taken.csv"]


@pytest.mark.usefixtures("known_overlays")
def test_no_folder_is_created_before_model_opens(run: Run, picture: Picture) -> None:
    assert run("detect", picture(), "--annotate", "new", "--model", "nope").code == 2
    assert not Path("new").exists()


def test_missing_input(run: Run) -> None:
    ran = run("detect")
    assert ran.code == 2
    assert ran.error == (
        "Missing argument 'INPUT': name files or folders, - for standard input, or a list with --files-from; "
        "see 'scrfd-trt detect --help'"
    )


def test_overwrite_replaces_file(run: Run, picture: Picture) -> None:
    Path(picture().parent, "faces.csv").write_text("mine")
    assert run("detect", "spot.png", "-o", "faces.csv", "--overwrite").code == 0
    assert Path("faces.csv").read_text().startswith("image,x1")


def test_options_reach_detector(run: Run, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    path = picture()
    assert "no faces" in run("detect", path, "--threshold", "0.9").out
    _, _, err = run("detect", path, "--scale", "640x384,128", "--scale", "256", "--verbose")
    assert "640×384 + 128×128 + 256×256" in err


def test_thin_image_gives_warning_with_path(run: Run, picture: Picture) -> None:
    picture()
    Path("strip.png").write_bytes(cv2.imencode(".png", np.zeros((1, 100_000, 3), np.uint8))[1].tobytes())
    code, out, err = run("detect", "strip.png", "--scale", "640")
    assert code == 0
    assert out.startswith("strip.png  100000×1, no faces")
    assert err.startswith("warning: strip.png: an image of 100000×1 pixels is scaled to 640×1 for the model")
    assert err.count("\n") == 1
    assert run("detect", "strip.png", "--quiet").err == ""


def test_path_with_control_characters_is_escaped(run: Run, picture: Picture) -> None:
    code, out, _ = run("detect", picture("a\nb\x1b[31m.png"))
    assert code == 0
    assert out.startswith("a b\\x1b[31m.png  160×120")


@pytest.fixture
def mixed(picture: Picture, film: Callable[..., Path]) -> list[Path]:
    """Two images and a video."""
    return [picture("a.png"), film("b.mp4", frames=3), picture("c.png")]


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("-f", "csv"), "CSV output is for images only; for videos use table, jsonl, or a file NAME.faces.jsonl"),
        (("-f", "coco"), "COCO output is for images only; for videos use table, jsonl"),
        (("-o", "faces.jsonl"), "faces.jsonl can hold the faces of one video; give each video"),
        (("-o", "faces.txt"), "faces.txt can hold the faces of one video; give each video"),
    ],
)
def test_video_does_not_stop_images(
    run: Run, mixed: list[Path], monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], reason: str
) -> None:
    ran = run("detect", ".", *args)
    assert ran.code == 1
    assert "error: 1 of 3 inputs failed, the others succeeded:\n" in ran.err
    assert f"- b.mp4: {reason}" in ran.err
    text = ran.out or Path(args[1]).read_text(encoding="utf-8")
    assert "a.png" in text
    assert "c.png" in text


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_frames_of_animations_among_images_are_pages(run: Run, picture: Picture, kind: str) -> None:
    spot = Image.open(picture()).convert("RGB")
    frames = [spot, Image.new("RGB", spot.size)]
    for name in ("b.gif", "c.gif"):
        frames[0].save(name, save_all=True, append_images=frames[1:])
    ran = run("detect", ".", "--format", kind, "-o", "faces")
    assert (ran.code, "wrote faces: 3 images, 5 pages, 3 faces" in ran.err) == (0, True)
    text = Path("faces").read_text(encoding="utf-8")
    assert [name in text for name in ("b.gif#page=1", '"b.gif", "threshold": 0.5, "page": 2')] == [
        kind == "csv",
        kind == "jsonl",
    ]
    assert run("detect", "b.gif", "--format", "csv").code == 2  # a video alone stays one


def test_videos_alone_are_refused_before_work(run: Run, film: Callable[..., Path]) -> None:
    film("b.mp4", frames=3)
    film("c.mp4", frames=3)
    assert (run("detect", "b.mp4", "c.mp4", "-f", "csv").code, run("detect", ".", "-o", "x.jsonl").code) == (2, 2)


def test_lack_of_memory_for_one_input(run: Run, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(source: Source) -> None:
        if source.path.name == "b.png":
            raise MemoryError("Unable to allocate 9.00 GiB")

    monkeypatch.setattr(Source, "check", check)
    ran = run("detect", picture("a.png"), picture("b.png"), picture("c.png"), "-f", "jsonl")
    assert ran.code == 1
    assert "- b.png: there is not enough memory: Unable to allocate 9.00 GiB; use smaller" in ran.err
    assert [line["image"] for line in lines(ran.out)] == ["a.png", "b.png", "c.png"]


def test_option_that_does_not_fit_one_input(run: Run, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(source: Source) -> None:
        if source.path.name == "b.png":
            raise OptionError("b.png: this option does not fit")

    monkeypatch.setattr(Source, "check", check)
    ran = run("detect", picture("a.png"), picture("b.png"), "-f", "jsonl")
    assert (ran.code, [line["image"] for line in lines(ran.out)]) == (1, ["a.png", "b.png"])
    assert run("detect", "b.png").code == 2


@pytest.mark.skipif(os.name == "nt", reason="file names of POSIX")
def test_names_that_are_not_utf8_are_escaped(run: Run, picture: Picture) -> None:
    name = os.fsdecode(b"x\xff.png")
    picture("a.png").rename(name)
    (line,) = lines(run("detect", name, "-f", "jsonl").out)
    assert os.fsencode(line["image"]) == b"x\xff.png"
    assert run("detect", name, "-f", "csv", "-o", "x.csv").code == 0
    assert Path("x.csv").read_text(encoding="utf-8").splitlines()[1].startswith("x\\udcff.png,")
    assert run("detect", name, "-f", "coco", "-o", "x.json").code == 0
    (image,) = json.loads(Path("x.json").read_text(encoding="utf-8"))["images"]
    assert os.fsencode(image["file_name"]) == b"x\xff.png"
    Path(name).write_bytes(b"words")
    assert run("detect", name).error.startswith("x\\udcff.png: not a supported image")


@pytest.mark.parametrize(
    "name", ["~a.png", "~nobody-of-this-name.png", "-x.png", "[1].png", "new\nline.png", "12:30.png", "http:", "a.png."]
)
@pytest.mark.skipif(os.name == "nt", reason="file names of POSIX")
def test_file_names(run: Run, picture: Picture, name: str) -> None:
    picture("a.png").rename(name)
    ran = run("detect", "-f", "jsonl", "--", name)
    assert (ran.code, ran.err) == (0, "")
    (line,) = lines(ran.out)
    assert (line["image"], len(line["faces"])) == (name, 1)


def test_unknown_home(run: Run, picture: Picture) -> None:
    picture()
    assert run("detect", "~nobody-of-this-name/x.png").error.startswith("~nobody-of-this-name/x.png: there is no such")
    assert run("detect", "spot.png", "--model", "~nobody-of-this-name/x.onnx").code == 2


def test_table_of_tracks_is_written_whole_or_not_at_all(
    run: Run, film: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    film("a.mp4", frames=3)

    def fail(*_: object, **__: object) -> str:
        raise OutputError("cannot write x.txt: No space left on device")

    assert run("detect", "a.mp4", "-o", "x.txt").code == 0
    assert "1 track" in Path("x.txt").read_text(encoding="utf-8")
    before = sorted(Path().iterdir())
    Path("x.txt").write_text("old")
    monkeypatch.setattr("scrfd_trt._files.os.link", fail)
    monkeypatch.setattr(Path, "replace", fail)
    assert run("detect", "a.mp4", "-o", "x.txt", "--overwrite").code == 1
    assert Path("x.txt").read_text() == "old"
    assert sorted(Path().iterdir()) == before


def test_results_stay_if_the_output_appears_meanwhile(
    run: Run, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(_: Source) -> None:
        Path("x.csv").write_text("of another")

    monkeypatch.setattr(Source, "check", check)
    ran = run("detect", picture(), "-o", "x.csv")
    assert ran.code == 2
    assert ran.err.splitlines()[-1] == "the results so far are in x.csv.part"
    assert Path("x.csv").read_text() == "of another"
    assert Path("x.csv.part").read_text(encoding="utf-8").count("\n") == 2


@pytest.mark.parametrize(("output", "code"), [((), 1), (("-o", "x.faces.jsonl"), 0), (("-o", "x.txt"), 0)])
def test_no_writable_temporary_folder(
    run: Run, film: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, output: tuple[str, ...], code: int
) -> None:
    film("a.mp4", frames=3)
    monkeypatch.setattr("tempfile.tempdir", str(Path("none").absolute()))
    monkeypatch.setattr("scrfd_trt._files.SHARED_MEMORY", Path("nowhere"))
    ran = run("detect", "a.mp4", *output)
    assert ran.code == code
    if code:
        assert "there is no writable folder for temporary files; set the environment variable TMPDIR" in ran.error
