"""The state of a page, without a web server."""

from __future__ import annotations

import gc
import io
import weakref
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

import drawing
import overlays
from scrfd_trt import Detections, SCRFDDetector, samples
from scrfd_trt._image_files import Limits, icc
from scrfd_trt._studio import uploads
from scrfd_trt._studio.session import Budget, Layer, Session
from scrfd_trt._studio.temporary_files import TemporaryFolder
from scrfd_trt._studio.uploads import MAX_STICKER_BYTES
from scrfd_trt.errors import ImageError, OptionError

pytestmark = pytest.mark.slow

STICKER = cv2.imencode(".png", np.full((8, 8, 4), 200, np.uint8))[1].tobytes()


@pytest.fixture
def session(network_500m: Path, folder: TemporaryFolder) -> Iterator[Session]:
    with SCRFDDetector.from_onnx(network_500m, threshold=0.05) as detector:
        made = Session(detector, folder)
        yield made
        made.close()


def test_first_image_is_drawn_scene_with_skulls(session: Session) -> None:
    image, count = session.draw()
    assert count == 6
    assert (image != session.media.frames[0]).any()


def test_layers_threshold_and_image_change_result(session: Session) -> None:
    scene = drawing.scene((640, 360), 3, seed=2)
    session.open("three.png", cv2.imencode(".png", scene.image)[1].tobytes())
    session.layers = [Layer("solid", {"fill": "#102030"}), Layer("boxes")]
    image, count = session.draw()
    assert count == 3
    x, y = ((scene.faces.boxes[0, :2] + scene.faces.boxes[0, 2:]) / 2).astype(int)
    assert image[y, x].tolist() == [0x30, 0x20, 0x10]
    session.threshold = 0.99
    assert session.draw()[1] == 0
    assert (session.draw()[0] == scene.image).all()


def test_threshold_is_lower_where_an_overlay_covers_until_it_is_set(session: Session) -> None:
    assert session.threshold == 0.5
    session.layers = [Layer("skull"), Layer("blur")]
    assert session.threshold == 0.3
    assert "--threshold 0.3" in session.command()
    session.layers = [Layer("boxes")]
    assert session.threshold == 0.5
    session.threshold = 0.7
    session.layers = [Layer("solid")]
    assert session.threshold == 0.7


def test_invalid_file_keeps_image(session: Session) -> None:
    before = session.media
    with pytest.raises(ImageError, match=r"notes.txt: not a supported image"):
        session.open("notes.txt", b"words")
    assert session.media is before


def test_warnings_name_options_that_leave_face_recognisable(session: Session) -> None:
    session.layers = [Layer("blur", {"opacity": 0.4})]
    assert session.warnings() == ["opacity 0.4 leaves the face visible; use 1 to hide it"]


def test_close_deletes_files(session: Session) -> None:
    kept = session.store_sticker("../a.png", STICKER)
    assert kept.name == "a.png"
    assert kept.read_bytes() == STICKER
    session.close()
    session.close()
    assert not kept.parent.exists()


def test_sticker_size_is_limited(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    padding = MAX_STICKER_BYTES - len(STICKER)
    assert session.store_sticker("a.png", STICKER + bytes(padding)).stat().st_size == MAX_STICKER_BYTES
    with pytest.raises(ImageError, match=r"^'a.png' has more than 16 MiB: use a smaller one$"):
        session.store_sticker("a.png", STICKER + bytes(padding + 1))
    with pytest.raises(ImageError, match="not a supported image"):
        session.store_sticker("a.png", b"words")
    monkeypatch.setattr(uploads, "LIMITS", Limits(pixels=63))
    with pytest.raises(ImageError, match=r"a.png.: the image has 8×8 pixels, more than"):
        session.store_sticker("a.png", STICKER)


def test_python_reproduces_result(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("scene.png", session.media.frames[0])
    session.layers = [Layer("skull", {"opacity": 0.5}), Layer("solid", {"shape": "aligned", "margin": 0.3})]
    shown, _ = session.draw()
    exec(compile(session.python(), "python", "exec"), {})
    assert (cv2.imread("scene-overlay.png") == shown).all()
    name, content = session.download()
    assert name == "scene-overlay.png"
    assert isinstance(content, bytes)
    assert (cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) == shown).all()


def test_overlay_is_cached_until_options_change(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    create = overlays.create
    monkeypatch.setattr(overlays, "create", lambda name, **options: made.append(options) or create(name, **options))
    layer = Layer("blur")
    first = layer.overlay()
    layer.set_options({"strength": 0.5})
    assert layer.overlay() is layer.overlay() is not first
    assert made == [{}, {"strength": 0.5}]


def test_refused_options_keep_old_ones() -> None:
    layer = Layer("pixelate", {"block": 9})
    with pytest.raises(OptionError, match="block"):
        layer.set_options({"block": 1})
    assert layer.options == {"block": 9}
    assert layer.overlay() == overlays.Pixelate(block=9)


def test_options_are_accepted_while_required_one_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(STICKER)
    layer = Layer("image")
    layer.set_options({"opacity": 0.3})
    assert layer.options == {"opacity": 0.3}
    with pytest.raises(OptionError, match="opacity"):
        layer.set_options({"opacity": 3})
    with pytest.raises(OptionError, match="requires picture"):
        layer.overlay()
    layer.set_options({**layer.options, "picture": tmp_path / "a.png"})
    assert layer.overlay().opacity == 0.3


def test_invalid_option_is_refused_by_overlay(session: Session) -> None:
    session.layers = [Layer("skull", {"opacity": 3})]
    with pytest.raises(OptionError):
        session.draw()


class OneFaceDetector:
    """Finds one face in each image."""

    def detect(self, image: np.ndarray) -> Detections:
        height, width = image.shape[:2]
        return Detections([[1, 1, 30, 30]], [0.9], image_size=(width, height))


@pytest.fixture
def one_face(folder: TemporaryFolder) -> Iterator[Session]:
    opened = Session(OneFaceDetector(), folder)
    yield opened
    opened.close()


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def test_snapshot_ignores_later_changes(one_face: Session) -> None:
    one_face.layers = [Layer("solid")]
    now = one_face.snapshot()
    one_face.open("other.png", png(np.zeros((40, 40, 3), np.uint8)))
    one_face.layers[0].options["fill"] = "#ff0000"
    drawn, count = now.draw(0)
    assert drawn.shape == samples.load("group").image.shape
    assert count == 1
    assert tuple(drawn[15, 15]) != (0, 0, 255)


def test_stickers_of_same_name_are_separate_files(one_face: Session) -> None:
    one, two = png(np.zeros((4, 4, 3), np.uint8)), png(np.ones((4, 4, 3), np.uint8))
    first, second = one_face.store_sticker("a.png", one), one_face.store_sticker("a.png", two)
    assert (first.read_bytes(), second.read_bytes()) == (one, two)
    assert first.name == second.name == "a.png"


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 400, ".."])
def test_invalid_sticker_name_is_refused(one_face: Session, name: str) -> None:
    with pytest.raises(ImageError, match="give the file another name"):
        one_face.store_sticker(name, png(np.zeros((4, 4, 3), np.uint8)))


def test_close_frees_image(folder: TemporaryFolder) -> None:
    opened = Session(OneFaceDetector(), folder)
    image = weakref.ref(opened.media.frames[0])
    opened.close()
    gc.collect()
    assert image() is None


def test_command_and_python_name_model(one_face: Session) -> None:
    assert "--model" not in one_face.command()
    one_face.model = "10g_bnkps"
    assert "--model 10g_bnkps" in one_face.command()
    assert "SCRFDDetector('10g_bnkps', threshold=0.5)" in one_face.python()
    one_face.model = "mine/face.plan"
    assert "SCRFDDetector.from_engine('mine/face.plan', threshold=0.5)" in one_face.python()


def test_image_name_that_starts_with_dash(one_face: Session) -> None:
    one_face.open("-x.png", png(np.zeros((40, 40, 3), np.uint8)))
    assert one_face.command().startswith("scrfd-trt overlay ./-x.png ")
    assert one_face.command().endswith("-o ./-x-overlay.png")


def test_image_download_keeps_alpha_and_profile_and_nothing_else(session: Session) -> None:
    pixels = np.dstack([drawing.scene((64, 48), 1).image, np.full((48, 64), 255, np.uint8)])
    pixels[:10, :10, 3] = 0
    profile = icc.essential(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "A camera", 6
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", icc_profile=profile, exif=exif, pnginfo=None)
    session.open("a.png", file.getvalue())
    session.layers = []
    name, content = session.download()
    assert name == "a-overlay.png"
    assert isinstance(content, bytes)
    copy = Image.open(io.BytesIO(content))
    assert (copy.size, copy.mode) == ((48, 64), "RGBA")
    alpha = np.asarray(copy)[..., 3]
    assert (alpha[:10, -10:] == 0).all()
    assert alpha.mean() > 240
    assert copy.info["icc_profile"] == profile
    assert not copy.getexif()
    assert b"camera" not in content


def test_first_of_several_images_is_named(session: Session) -> None:
    file = io.BytesIO()
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 200)]
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    session.open("a.png", file.getvalue())
    assert session.media.truncated
    assert session.media.frames[0].mean() == 10


def test_what_pages_hold_is_limited(session: Session, folder: TemporaryFolder) -> None:
    budget = Budget(0)
    budget.per_page, budget.total = 3000, 4000
    pages = [Session(session.detector, folder, budget=budget) for _ in range(3)]

    def png(side: int) -> bytes:
        return cv2.imencode(".png", np.zeros((side, side, 3), np.uint8))[1].tobytes()

    pages[0].open("a.png", png(30))  # 2700 bytes
    with pytest.raises(ImageError, match="this page may hold 0 MiB: use a smaller file, or remove others"):
        pages[0].open("b.png", png(40))
    assert pages[0].media.name == "a.png"
    with pytest.raises(ImageError, match="all pages of the studio together hold too many files: close other pages"):
        pages[1].open("b.png", png(30))
    pages[1].open("b.png", png(20))
    pages[0].close()
    pages[2].open("c.png", png(30))
    with pytest.raises(ImageError, match="this page may hold"):
        pages[2].store_sticker("d.png", png(30) + bytes(1000))
    for page in pages:
        page.close()


def test_stickers_of_removed_overlays_are_deleted(session: Session) -> None:
    path = session.store_sticker("a.png", STICKER)
    session.layers = [Layer("skull"), Layer("image", {"picture": path})]
    session.select(["image"])
    assert path.exists()
    session.select(["skull", "skull"])
    assert not path.exists()
    assert [layer.name for layer in session.layers] == ["skull"]


def test_result_is_taken_once_by_its_key(session: Session) -> None:
    first = session.offer("a.png", b"one")
    second = session.offer("b.png", b"two")
    assert session.take(first) is None
    assert session.take(second) == ("b.png", b"two")
    assert session.take(second) is None
