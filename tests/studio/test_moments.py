from __future__ import annotations

import gc
import weakref

import cv2
import numpy as np
import pytest

from scrfd_trt import Detections, ImageError, samples
from scrfd_trt._studio.session import Layer, Session


class Finder:
    """Finds one face in each picture."""

    def detect(self, image):
        height, width = image.shape[:2]
        return Detections([[1, 1, 30, 30]], [0.9], image_size=(width, height))


@pytest.fixture
def session():
    opened = Session(Finder())
    yield opened
    opened.close()


def png(image):
    return cv2.imencode(".png", image)[1].tobytes()


def test_a_download_is_what_was_shown_when_it_began(session, monkeypatch):
    session.layers = [Layer("solid")]
    now = session._now()
    session.open("other.png", png(np.zeros((40, 40, 3), np.uint8)))
    session.layers[0].options["fill"] = "#ff0000"
    drawn, count = now.draw(0)
    assert drawn.shape == samples.load("group").image.shape
    assert count == 1
    assert tuple(drawn[15, 15]) != (0, 0, 255)


def test_files_of_one_name_do_not_replace_each_other(session):
    one, two = png(np.zeros((4, 4, 3), np.uint8)), png(np.ones((4, 4, 3), np.uint8))
    first, second = session.keep("a.png", one), session.keep("a.png", two)
    assert (first.read_bytes(), second.read_bytes()) == (one, two)
    assert first.name == second.name == "a.png"


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 400, ".."])
def test_names_that_cannot_be_kept(session, name):
    with pytest.raises(ImageError, match="give the file another name"):
        session.keep(name, png(np.zeros((4, 4, 3), np.uint8)))


def test_a_page_that_is_left_takes_its_picture_with_it():
    opened = Session(Finder())
    picture = weakref.ref(opened.media.frames[0])
    opened.close()
    gc.collect()
    assert picture() is None


def test_what_makes_the_result_names_the_network(session):
    assert "--model" not in session.command()
    session.model = "10g_bnkps"
    assert "--model 10g_bnkps" in session.command()
    assert "from_pretrained('10g_bnkps', threshold=0.5)" in session.python()
    session.model = "mine/face.plan"
    assert "SCRFDDetector.from_engine('mine/face.plan', threshold=0.5)" in session.python()


def test_a_picture_whose_name_begins_as_an_option_does(session):
    session.open("-x.png", png(np.zeros((40, 40, 3), np.uint8)))
    assert session.command().startswith("scrfd-trt overlay ./-x.png ")
    assert session.command().endswith("-o ./-x-overlay.png")
