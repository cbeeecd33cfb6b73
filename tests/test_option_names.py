"""Options have one list of names and types: signatures, type checkers and editors show them."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest

import overlays
import scrfd_trt
from scrfd_trt import (
    Detection,
    Detections,
    DetectorOptions,
    OptionError,
    SCRFDDetector,
    ScrfdError,
    samples,
    video,
)
from scrfd_trt._option_names import DEFAULTS, OTHER_NAMES, DetectorKeywords
from scrfd_trt.backends import RecordedBackend

PLAIN = {"Scales | None": "int | Sequence[int | tuple[int, int]] | None", "Rotations": "int | Sequence[int]"}
"""What callers pass for types that are read from plain ones."""


def test_keywords_are_the_fields_of_the_options():
    fields = DetectorOptions.model_fields
    assert {name: field.default for name, field in fields.items()} == {name: DEFAULTS.get(name) for name in fields}
    types = {name: getattr(kind, "__forward_arg__", kind) for name, kind in DetectorKeywords.__annotations__.items()}
    given = {name: PLAIN.get(kind, kind) for name, kind in DetectorOptions.__annotations__.items()}
    assert types == given


@pytest.mark.parametrize("method", ["__init__", "from_pretrained", "from_onnx", "from_engine", "from_backend"])
def test_signatures_show_each_option(method):
    shown = inspect.signature(getattr(SCRFDDetector, method)).parameters
    options = DetectorOptions()
    assert {name: shown[name].default for name in vars(options)} == vars(options)
    assert all(each.kind is not each.VAR_KEYWORD for each in shown.values())
    assert {"threshold", "device"} <= inspect.signature(SCRFDDetector).parameters.keys()


@pytest.mark.slow
def test_mypy_checks_every_option_of_a_script(root, tmp_path):
    """``nox -s types`` checks the same script, where mypy is not installed for the tests."""
    pytest.importorskip("mypy")
    text = (root / "tests/typed/script.py").read_text(encoding="utf-8")
    right = re.sub(r"  # type: ignore.*", "", text)
    wrong = {number for number, line in enumerate(text.splitlines(), 1) if "# type: ignore" in line}
    (tmp_path / "script.py").write_text(right, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(map(int, re.findall(r"^script\.py:(\d+): error: ", run.stdout, re.MULTILINE))) == wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conf": 0.3, "det_size": 640}, "conf: did you mean threshold?; det_size: did you mean scales?"),
        ({"ctx_id": 0}, "ctx_id: did you mean device?"),
        (
            {"batch": 8, "nms": 0.4, "min_score": 0.3},
            "batch: did you mean max_batch?; nms: did you mean iou?; min_score: did you mean threshold?",
        ),
        (
            {"xy": 1},
            "no option 'xy'; the options are: name, threshold, iou, scales, min_face, rotations, max_faces, color",
        ),
        ({"model": "2.5g_bnkps"}, "model: did you mean name?"),
    ],
)
def test_names_of_other_libraries_are_answered(options, message):
    with pytest.raises(OptionError) as caught:
        SCRFDDetector(**options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("detector(image, 0.3)", "SCRFDDetector object: pass 0.3 by name: threshold=…, max_faces=…"),
        ("detector.detect_batch(image=[image])", "no option 'image'; did you mean 'images'?"),
        (
            "faces.plot(labels=False)",
            "no option 'labels'; the options are: image, color; overlays.create",
        ),
        ("faces.crop(padding=0.2)", "no option 'padding'; did you mean 'margin'?"),
        ("faces.align(image_size=112)", "no option 'image_size'; did you mean 'size'?"),
        ("faces.nms(threshold=0.3)", "no option 'threshold'; did you mean 'iou'?"),
        (
            "faces.to_csv('a.csv')",
            "to_csv(…): pass 'a.csv' by name: image=…; it returns text, which Path",
        ),
        ("faces.save('a.jpg', exist_ok=True)", "no option 'exist_ok'; did you mean 'overwrite'?"),
        ("faces.inside(0, 0, 9, 9)", "inside(…) takes region, and not also 0; write inside((x1, y1, x2, y2))"),
        ("Detections.concat(faces, faces)", "concat(…) takes parts, and not also <Detections: "),
        ("Detections(xyxy=[], image_size=(1, 1))", "no option 'xyxy'; did you mean 'boxes'?"),
        ("Detection(bbox=(1, 2, 3, 4))", "no option 'bbox'; did you mean 'box'?"),
        ("Detections.from_rows([(0, 0)], (9, 9))", "rows must be Detection objects or dicts"),
        ("Detections.from_rows([row], image.shape[:2])", "boxes lie outside of 720×1280, and inside of 1280×720"),
        ("overlays.create('blur', 3)", "create(…) takes name, and not also 3; options follow by name"),
        ("overlays.create('blur')(image, faces, output=3)", "no option 'output'; did you mean 'out'?"),
        ("overlays.create('blur', strength='x')", "overlay 'blur': strength: must be a number (it is 'x')"),
        ("overlays.create('image', picture=image)", "overlay 'image': picture: must be the path of a file (it is arr"),
        (
            "overlays.create('boxes', box_color=(255, 0, 0))",
            "overlay 'boxes': box_color: use '#ff0000' if these numbers are RGB, '#0000ff' if they are BGR (it is ",
        ),
        (
            "overlays.create('blur')(PIL.Image.fromarray(image), faces)",
            "the image is a Pillow image: pass numpy.asarray(P",
        ),
        ("overlays.create('blur')(image / 255, faces)", "an image must have shape (H, W, 3) and type uint8, not (720"),
        ("SCRFDDetector(threshold=True)", "threshold: must be a number (it is True)"),
        ("SCRFDDetector(threshold='0.4')", "threshold: must be a number (it is '0.4')"),
        ("SCRFDDetector(max_faces=True)", "max_faces: must be a whole number (it is True)"),
        ("scrfd_trt.video.TrackingOptions(every='2')", "every: must be a whole number (it is '2')"),
        ("overlays.create('mosaic')", "no overlay 'mosaic'; did you mean 'pixelate'?"),
        ("overlays.create('pixelate', size=9)", "overlay 'pixelate': no option 'size'; did you mean 'block'?"),
        (
            "overlays.parse('skull,blur')",
            "'skull,blur' is several overlays: use Compose(parse('skull'), ",
        ),
        ("overlays.parse('solid:fill=255,0,0')", "'0,0' in 'solid:fill=255,0,0' is not option=value: write OPTION=VAL"),
        ("scrfd_trt.FaceDetector()", "module 'scrfd_trt' has no attribute 'FaceDetector'; use SCRFDDetector()"),
        ("scrfd_trt.video.open_source(0)", "name must be a path or an address, not 0; open_source('camera:0') op"),
        (
            "scrfd_trt.video.overlay_video('a', 'b', overlays.create('blur'), detector)",
            "detector must be a det",
        ),
        ("overlays.Blur(0.3)", "Blur takes options by name, such as name=value, not 0.3"),
        ("overlays.draw_box(image, colour='red')", "no option 'colour'; did you mean 'color'?"),
        ("type('Mine', (overlays.OverlayModel,), {'level': 3})", "Mine: level has no type: write level: float = …"),
        ("scrfd_trt.video.detect_video('a.mp4', output='b', detector=1)", "no option 'output'; did you mean 'faces_"),
        ("scrfd_trt.video.VideoReader(path='a.mp4')", "no option 'path'; did you mean 'source'?"),
        ("Detections([], [])", "Detections(boxes, scores, image_size) requires image_size, too"),
        ("scrfd_trt.video.detect_video('a.mp4', detector)", "detect_video(source, faces_file, detector) requires face"),
        (
            "scrfd_trt.video.overlay_video('a.mp4', detector, len)",
            "overlay_video(source, output, detector, overlay) requires output",
        ),
        ("scrfd_trt.video.overlay_video('a', 'b', detector, len, verify=True)", "verify: only the command"),
        ("overlays.create('blur:strength=2')", "'blur:strength=2' has options: use overlays.parse('blur"),
        ("overlays.create(['blur', 'landmarks'])", "the name of an overlay is required, not"),
        ("SCRFDDetector(scrfd_trt.DetectorOptions())", "options follow by name: SCRFDDetector(**options.model_dump())"),
        ("detector(image.tobytes())", "the bytes are not a supported image (JPEG, PNG, WebP, BMP, TIFF, …): convert"),
        ("scrfd_trt.video.VideoReader('camera:0')", "open_source('camera:0') opens a camera"),
        ("scrfd_trt.video.TrackSelection(except_tracks=1)", "except_tracks: must be a set or list, such as {1, 2}"),
        ("scrfd_trt.video.Cover(boxes=(1, 2, 3, 4))", "boxes must be a list of tuples: write boxes=[(…)]"),
        ("faces[0]['bbox']", "'Detection has no item 'bbox'; use box'"),
        ("faces[0]['box']", "'Detection has no item 'box'; use .box'"),
        ("faces[0].box.astype(int)", "'Box' object has no attribute 'astype'; it is a tuple of numbers; boxes and"),
        ("faces[0].box.width", "'Box' object has no attribute 'width'; it is of the face: face.width, face.height"),
        ("overlays.from_supervision(overlays.Blur)", "Blur is a class: write Blur(…)"),
        ("SCRFDDetector('cuda:0')", "pass the device by name: device='cuda:0'"),
        ("SCRFDDetector('yolov8n.pt')", "yolov8n.pt is a checkpoint of PyTorch: export it to ONNX"),
        ("detector.detectFaces(image)", "'SCRFDDetector' object has no attribute 'detectFaces'; there is detect"),
        ("faces.iloc[0]", "'Detections' object has no attribute 'iloc'; use to_pa"),
        ("detector('a.jpg', 'b.jpg')", "SCRFDDetector object: for several images, pass a list: detect_batch([first"),
        ("detector.detect_batch(image, image)", "detect_batch(…): for several images, pass a list: detect_batch(["),
        ("detector(image, scales=640)", "scales: it is an option of SCRFDDetector(…)"),
        (
            "overlays.create('blur')(image, faces, strength=0.5)",
            "strength: pass it when the overlay is created, overlays.create('blur', strength=0.5)",
        ),
        (
            "overlays.create('crop')(image, faces, margin=0.5)",
            "margin: pass it when the overlay is created, overlays.create('crop', margin=0.5)",
        ),
        (
            "overlays.create('blur')(image, Detections([], [], image_size=image.shape[:2]))",
            "these faces belong to an image of 720×1280, but this one is 1280×720: image_size is (width, height), ima",
        ),
        (
            "scrfd_trt.video.render_video('a.mp4', 'faces.jsonl', 'b.mp4', overlays.create('blur'))",
            "faces.jsonl is no video: pass the output before the faces file",
        ),
        ("overlays.create('emoji', emoji='😀')", "overlay 'emoji': no option 'emoji'; the options are: "),
        ("overlays.create('landmarks', line_width=2)", "overlay 'landmarks': no option 'line_width'; the options are"),
        ("detector('data:image/jpeg;base64,/9j/')", "a data URL is not read: pass base64.b64decode(url.partition("),
        ("detector('~/no.jpg')", f"{Path('~/no.jpg').expanduser()}: there is no such file"),
        ("detector.detect_batch(['~/no.jpg'])", f"image 0: {Path('~/no.jpg').expanduser()}: there is no such file"),
        ("scrfd_trt.video.VideoReader('~/no.mp4')", f"{Path('~/no.mp4').expanduser()}: cannot be read as a video"),
        ("scrfd_trt.video.FacesReader('~/no.jsonl')", f"{Path('~/no.jsonl').expanduser()} cannot be read: "),
        ("scrfd_trt.video.TrackSelection(keep={1})", "keep: except_tracks leaves these visible, only_tracks covers"),
        ("SCRFDDetector(half=True)", "half: build=BuildOptions(precision=…) sets the precision on a GPU"),
        ("SCRFDDetector(verbose=False)", "verbose: leave it out; nothing is printed"),
        (
            "tracker.push(faces)",
            "observation must be a FrameObservation, such as FrameObservation(number, seconds, detector(image)), not",
        ),
        (
            "tracker.update(faces)",
            "'Tracker' object has no attribute 'update'; use push(FrameObservation(number, seconds, detector(image)))",
        ),
        *(
            (f"faces[{index}]", "a single bool is no mask: compare a column; track_ids is None without tracks")
            for index in ("faces.track_ids != 1", "False", "faces.scores[0] > 0.1")
        ),
        *(
            (f"faces[{index}]", "rows are indexed by integers, booleans or a slice: use a mask: faces[faces.scores > ")
            for index in ("[row for row in faces]", "lambda row: row.score > 0.1", "None")
        ),
        ("Detections([], [], (1280, 720))", "Detections(boxes, scores, image_size) requires image_size, too: write im"),
        (
            "video.FrameFaces.of(faces).detections((720, 1280))",
            "boxes lie outside of 720×1280, and inside of 1280×720: image_size is width, height",
        ),
        ("faces.empty", "'Detections' object has no attribute 'empty'; write len(faces) == 0, or not len(faces); "),
        ("faces.copy()", "'Detections' object has no attribute 'copy'; use copy.copy(faces), or copy.deepcopy"),
        ("faces.sorted()", "'Detections' object has no attribute 'sorted'; index: faces[(-faces.areas).argsort()[:5]]"),
        ("faces.crop(image, size=112)", "no option 'size'; the options are: image, margin; align(size=112) returns"),
        ("faces.xywhn", "'Detections' object has no attribute 'xywhn'; use xyxyn"),
        (
            "faces.to_yolo()",
            "'Detections' object has no attribute 'to_yolo'; the command scrfd-trt detect writes it with the",
        ),
        ("faces.width", "'Detections' object has no attribute 'width'; faces have it: face.width"),
        ("faces.iou(faces)", "'Detections' object has no attribute 'iou'; nms(iou=…) drops faces that overlap"),
        ("detector.info()", "'SCRFDDetector' object has no attribute 'info'; description names the model's runtime"),
        (
            "detector.anonymize('a.jpg')",
            "'SCRFDDetector' object has no attribute 'anonymize'; import overlays; overlays.",
        ),
        (
            "faces.blur()",
            "'Detections' object has no attribute 'blur'; import overlays; overlays.create('blur')",
        ),
        ("faces.plot(overlay='blur')", "no option 'overlay'; the options are: image, color; overlays.create('blur')("),
        ("detector(scrfd_trt.samples.load('portrait'))", "this is a scene: pass its image"),
        ("overlays.skull(image, faces)", "module 'overlays' has no attribute 'skull'; use overlays.create('skull')"),
    ],
)
def test_wrong_calls_are_answered_in_one_line(root, line, message):
    row = Detection((1000, 9, 1100, 99), 0.5)
    names: dict[str, Any] = {"overlays": overlays, "scrfd_trt": scrfd_trt, "image": np.zeros((720, 1280, 3), np.uint8)}
    with SCRFDDetector.from_backend(RecordedBackend(root / "tests/data/recorded/500m_fp16.npz")) as detector:
        names |= {
            "PIL": PIL,
            "SCRFDDetector": SCRFDDetector,
            "Detection": Detection,
            "Detections": Detections,
            "detector": detector,
            "row": row,
            "video": video,
            "tracker": video.Tracker(video.TrackingOptions(), 25),
        }
        with pytest.raises((ScrfdError, AttributeError, LookupError)) as caught:
            eval(line, names | {"faces": Detections.from_rows([row], (1280, 720))})
    assert str(caught.value).replace('"', "'").startswith(message)
    assert "\n" not in str(caught.value)
    assert overlays.create("boxes", box_color=(0, 255, 0)) == overlays.create("boxes", box_color="#00ff00")


def test_what_is_no_path_of_a_video_is_answered():
    hints = {
        "pass the path of the video": cv2.VideoCapture(),
        "overlays.create('blur')(image, detector(image)) hides the faces of an image": np.zeros((9, 9, 3), np.uint8),
    }
    for hint, source in hints.items():
        with pytest.raises(OptionError, match=f"^source must be a path or an address, not .*; {re.escape(hint)}$"):
            video.VideoReader(source)


@pytest.mark.parametrize(
    "function",
    [
        *(
            getattr(Detections, name)
            for name in vars(Detections)
            if name[0] != "_" and callable(getattr(Detections, name))
        ),
        *(SCRFDDetector, SCRFDDetector.from_pretrained, SCRFDDetector.from_onnx, SCRFDDetector.from_engine),
        *(SCRFDDetector.detect, SCRFDDetector.stream, SCRFDDetector.submit, SCRFDDetector.warmup, SCRFDDetector.pinned),
        *(member for name in video.__all__ if inspect.isfunction(member := getattr(video, name))),
        *(video.VideoReader, video.VideoWriter, video.LiveReader, video.Tracker, video.FacesReader, video.FacesWriter),
        *(scrfd_trt.build_engine, scrfd_trt.inspect_engine, scrfd_trt.models.fetch, scrfd_trt.YUVImage),
    ],
)
def test_unknown_arguments_name_what_there_is(function):
    first = next(iter(inspect.signature(function).parameters), "")
    with pytest.raises(OptionError, match=r"^no option 'nothing_like_it'; the(re are no)? options"):
        function(nothing_like_it=1) if first != "self" else function(None, nothing_like_it=1)


@pytest.mark.parametrize("path", [5, None, "", b"face.onnx"])
def test_a_path_that_is_none_is_an_invalid_option(path):
    for method in (SCRFDDetector.from_onnx, SCRFDDetector.from_engine):
        with pytest.raises(OptionError, match="path must be the path of a model's file, not ") as caught:
            method(path)
        assert caught.value.fields == ("path",)


def test_names_of_other_libraries_are_answered_by_methods(root):
    with SCRFDDetector.from_backend(RecordedBackend(root / "tests/data/recorded/500m_fp16.npz")) as detector:
        for method in (detector.detect, detector.detect_batch, detector.stream, detector.submit):
            with pytest.raises(OptionError, match=r"^conf: did you mean threshold\?$"):
                method([], conf=0.3)
            with pytest.raises(OptionError, match=r"^imgsz: did you mean scales, an option of SCRFDDetector"):
                method([], imgsz=640)


@pytest.mark.parametrize("name", ["threshold", "conf", "scales", "options"])
def test_options_of_a_detector_are_read_only(root, name):
    with SCRFDDetector.from_backend(RecordedBackend(root / "tests/data/recorded/500m_fp16.npz")) as detector:
        with pytest.raises(OptionError, match=f"^{name} of a detector is read-only: "):
            setattr(detector, name, 0.1)
        detector.mine = 1


def test_arguments_without_names_and_batches_of_streams(root):
    with pytest.raises(OptionError, match=r"^SCRFDDetector\(…\): pass 'cpu' by name: device=…$"):
        SCRFDDetector("500m_bnkps", "cpu")  # type: ignore[call-arg, misc]
    backend = RecordedBackend(root / "tests/data/recorded/500m_fp16.npz")
    with (
        SCRFDDetector.from_backend(backend) as detector,
        pytest.raises(OptionError, match=r"^batch_size: did you mean batch\?$"),
    ):
        detector.stream([], batch_size=2)  # type: ignore[call-overload]


def test_two_numbers_that_look_like_a_size_are_named(caplog):
    for scales in ((128, 640), [640, 480], ((640, 480),)):
        DetectorOptions(scales=scales)
    assert not caplog.text
    DetectorOptions(scales=(640, 480))
    assert (
        "are two passes, of 640×640 and 480×480; one pass of this width and height is scales=[(640, 480)]"
        in caplog.text
    )
    assert (
        DetectorOptions(scales=np.int64(640)).scales == DetectorOptions(scales=np.array([640])).scales == ((640, 640),)
    )


def test_docs_list_all_names_of_other_libraries(root: Path):
    page = (root / "docs/how-to/move.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (`\w+`.*?) \|", page, re.MULTILINE))
    assert {ours: tuple(re.findall(r"`(\w+)`", others)) for ours, others in rows.items()} == {
        ours: tuple(others.split()) for ours, others in OTHER_NAMES.items()
    }


def test_twenty_lines_of_the_docs(root: Path, network_500m, tmp_path, monkeypatch):
    """Each line of the table runs, and gives what the table shows as code."""
    page = (root / "docs/how-to/move.md").read_text(encoding="utf-8").split("## Twenty lines of Python")[1]
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \|", page.split("## Names of options")[0], re.MULTILINE)
    assert len(rows) == 20
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.jpg", samples.load("group").image)
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], names)
    same = doctest.OutputChecker().check_output
    for line, result in rows:
        try:
            value = repr(eval(line, names))
        except SyntaxError:  # a statement
            exec(line, names)
            value = repr(names.get(line.split(" = ")[0]))
        if shown := re.match("`(.+?)`(,|$)", result):
            assert same(shown[1].replace("…", "..."), value, doctest.ELLIPSIS), f"{line}: {value}"
