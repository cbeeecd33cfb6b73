"""Faces drawn on their image, in files, windows and notebooks."""

from __future__ import annotations

import base64
import copy
import pickle
import re
import sys
import weakref
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import overlays
from scrfd_trt import (
    Detections,
    DetectionsError,
    ImageError,
    MissingDependencyError,
    OptionError,
    OutputError,
    SCRFDDetector,
    samples,
)
from scrfd_trt._cli.application import load_command

SCENE = samples.load("portrait")
FACES, IMAGE = SCENE.faces, SCENE.image


def test_plot_is_the_overlay_in_the_order_of_the_image():
    before = IMAGE.copy()
    drawn = FACES.plot(IMAGE)
    assert np.array_equal(drawn, overlays.create("landmarks")(IMAGE, FACES))
    assert np.array_equal(IMAGE, before)
    assert np.array_equal(FACES.plot(IMAGE[..., ::-1].copy(), color="rgb")[..., ::-1], drawn)
    with pytest.raises(ImageError, match=r"^these faces do not know their image: .*; pass it"):
        FACES.plot()
    with pytest.raises(OptionError, match=r"^color must be 'bgr' or 'rgb', .*not \(255, 0, 0\); overlays\.create"):
        FACES.plot(IMAGE, color=(255, 0, 0))
    with pytest.raises(DetectionsError, match="belong to an image of"):
        FACES.plot(IMAGE[:50])


def test_other_module_of_the_name_overlays(tmp_path, monkeypatch):
    (tmp_path / "overlays.py").write_text("raise AssertionError")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "overlays")
    with pytest.raises(MissingDependencyError, match=r"overlays\.py provides the module 'overlays' in place of"):
        FACES.plot(IMAGE)
    with pytest.raises(MissingDependencyError, match="rename it, or run 'scrfd-trt doctor'"):
        load_command("anonymize")


def test_save(tmp_path):
    path = FACES.save(str(tmp_path / "faces.png"), IMAGE)
    assert np.array_equal(cv2.imread(str(path)), FACES.plot(IMAGE))
    with pytest.raises(OptionError, match=r"already exists.*overwrite=True"):
        FACES.save(path, IMAGE)
    FACES.save(path, IMAGE, color="rgb", overwrite=True)
    assert np.array_equal(cv2.imread(str(path)), FACES.plot(IMAGE, color="rgb")[..., ::-1])
    with pytest.raises(OutputError, match=r"faces\.xyz.*\.xyz"):
        FACES.save(tmp_path / "faces.xyz", IMAGE)
    with pytest.raises(OptionError, match=r"there is no folder .*new; create it first"):
        FACES.save(tmp_path / "new/faces.png", IMAGE)
    found = FACES[:]
    found.source = str(path)
    with pytest.raises(OptionError, match=r"faces\.png is the image that the faces are of; name another file"):
        found.save(path, IMAGE, overwrite=True)


def test_show_uses_the_notebook_or_a_program(monkeypatch):
    from PIL import ImageShow

    shown = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(ImageShow, "show", lambda picture: not shown.append(picture))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    FACES.show(IMAGE)
    display = SimpleNamespace(display=shown.append, Image=lambda data: np.frombuffer(data, np.uint8))
    notebook = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1), display=display)
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    FACES.show(IMAGE)
    assert np.array_equal(shown[0], FACES.plot(IMAGE)[..., ::-1])
    assert cv2.PSNR(cv2.imdecode(shown[1], cv2.IMREAD_COLOR), FACES.plot(IMAGE)) > 30
    Detections.empty((70_000, 2)).show(np.zeros((2, 70_000, 3), np.uint8))  # JPEG ends at 65,500
    assert cv2.imdecode(shown[2], cv2.IMREAD_COLOR).shape[1] == 2048
    monkeypatch.delitem(sys.modules, "IPython")
    monkeypatch.setattr(ImageShow, "show", lambda picture: False)
    with pytest.raises(OutputError, match="no program here that shows pictures"):
        FACES.show(IMAGE)
    if sys.platform == "linux":
        monkeypatch.delenv("DISPLAY")
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        with pytest.raises(OutputError, match="no display here to show an image on; use save"):
            FACES.show(IMAGE)


def test_notebooks_show_a_table():
    many = Detections.concat([FACES] * 21)
    assert "21 faces in" in many._repr_html_()
    assert many._repr_html_().count("<tr>") == 21
    assert "1 face in" in FACES._repr_html_()
    assert "img" not in FACES._repr_html_()
    assert "without crops: these faces do not know their image" in FACES._repr_html_()
    assert Detections.empty((4, 5))._repr_html_() == "<p>0 faces in 4×5</p>"
    tracked = Detections(FACES.boxes, FACES.scores, image_size=FACES.image_size, track_ids=[712])
    assert "<th>track_id</th>" in tracked._repr_html_()
    assert "<td>712</td>" in tracked._repr_html_()


@pytest.fixture(scope="module")
def detector(network_500m):
    with SCRFDDetector.from_onnx(network_500m, device="cpu") as opened:
        yield opened


def test_faces_know_their_image_as_long_as_the_caller_holds_it(detector):
    image = IMAGE.copy()
    faces = detector(image)
    assert np.array_equal(faces[:1].plot(), faces.plot(image))
    assert np.array_equal(faces.crop()[0], faces.crop(image)[0])
    assert np.array_equal(faces.align(), faces.align(image))
    picture = base64.b64decode(re.search(r'base64,([^"]+)', faces._repr_html_())[1])
    assert max(cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR).shape[:2]) == 64
    for other in (pickle.loads(pickle.dumps(faces)), copy.copy(faces)):
        assert other == faces
        with pytest.raises(ImageError, match="do not know their image"):
            other.plot()
    assert np.array_equal(Detections.concat([faces[:0], faces]).plot(), faces.plot())
    gone = weakref.ref(image)
    del image
    assert gone() is None
    with pytest.raises(ImageError, match="no longer in memory"):
        faces.plot()
    assert "img" not in faces._repr_html_()


def test_faces_know_files_and_pillow_images(detector, network_500m, tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    cv2.imwrite("a.png", IMAGE)
    faces = detector("a.png")
    monkeypatch.chdir("/")
    assert np.array_equal(faces.plot(), faces.plot(IMAGE))
    assert np.array_equal(pickle.loads(pickle.dumps(faces)).plot(), faces.plot(IMAGE))
    picture = Image.fromarray(IMAGE[..., ::-1].copy())
    with SCRFDDetector.from_onnx(network_500m, device="cpu", color="rgb") as rgb:
        for image in (picture, np.asarray(picture)):
            found = rgb(image)
            assert np.array_equal(found.plot()[..., ::-1], faces.plot())
            assert np.array_equal(cv2.imread(str(found.save(tmp_path / "b.png", overwrite=True))), faces.plot())
        assert np.array_equal(found.plot(IMAGE, color="bgr"), faces.plot())
        assert np.array_equal(found.plot(color="bgr"), faces.plot())
    for image in (tmp_path / "a.png", (tmp_path / "a.png").read_bytes(), picture, IMAGE / 255.0):
        assert np.array_equal(FACES.plot(image), FACES.plot(IMAGE))
        assert np.array_equal(FACES.align(image), FACES.align(IMAGE))
    assert np.array_equal(FACES.plot(picture, color="rgb")[..., ::-1], FACES.plot(IMAGE))
    (streamed,) = detector.stream(str(tmp_path / "*a.png"))
    assert np.array_equal(streamed.plot(), faces.plot())
    assert "img" not in detector((tmp_path / "a.png").read_bytes())._repr_html_()
    cv2.imwrite(str(tmp_path / "a.png"), IMAGE[::-1])  # another picture of the same size
    with pytest.raises(ImageError, match="has changed"):
        faces.plot()
